/*
 * hooks.c - the names of libc that the library stands in for, and nothing else.
 *
 * Each finds out by descriptor or path whether the call is ours, and otherwise leaves it to libc.
 * The list is checked against what QEMU binaries import by tests/preload.
 */
#include "preload.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))
#define ALIAS(name) __attribute__((visibility("default"), alias(#name)))

/* ---- open and close ---- */

static mode_t mode_of(int flags, va_list list)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;
    int fd;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    wbp_ready();
    fd = wbp_vfio_open(path);
    return fd == -2 ? wbp_real.open(path, flags, mode) : fd;
}

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    va_list list;
    mode_t mode;
    int fd;

    va_start(list, flags);
    mode = mode_of(flags, list);
    va_end(list);
    wbp_ready();
    fd = wbp_vfio_open(path);
    return fd == -2 ? wbp_real.openat(directory, path, flags, mode) : fd;
}

/* What fortified programs call when there is no mode. */
EXPORT int __open_2(const char *path, int flags)
{
    return open(path, flags, 0);
}

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    return openat(directory, path, flags, 0);
}

EXPORT int close(int fd)
{
    wbp_ready();
    return wbp_fd_close(fd);
}

/* ---- ioctl ---- */

#ifdef __GLIBC__
EXPORT int ioctl(int fd, unsigned long number, ...)
#else
EXPORT int ioctl(int fd, int number, ...)
#endif
{
    va_list list;
    void *argument;

    va_start(list, number);
    argument = va_arg(list, void *);
    va_end(list);
    wbp_ready();
    return wbp_vfio_ioctl(fd, (unsigned int)number, argument);
}

/* ---- read and write ---- */

static struct wbp_object *device_of(int fd)
{
    struct wbp_object *object;

    wbp_ready();
    object = wbp_fd_get(fd);
    if (object && object->kind != WBP_DEVICE) {
        wbp_object_put(object);
        return NULL;
    }
    return object;
}

static ssize_t transfer(struct wbp_object *device, void *data, size_t size, off_t offset, int write)
{
    ssize_t result = wbp_device_access(device, data, size, offset, write);
    int error = errno;

    wbp_object_put(device);
    errno = error;
    return result;
}

EXPORT ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    struct wbp_object *device = device_of(fd);

    return device ? transfer(device, data, size, offset, 0) : wbp_real.pread(fd, data, size, offset);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct wbp_object *device = device_of(fd);

    return device ? transfer(device, (void *)data, size, offset, 1) : wbp_real.pwrite(fd, data, size, offset);
}

EXPORT ssize_t __pread_chk(int fd, void *data, size_t size, off_t offset, size_t room)
{
    if (size > room)
        abort();
    return pread(fd, data, size, offset);
}

/* ---- mappings ---- */

EXPORT void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    struct wbp_object *device = flags & MAP_ANONYMOUS ? NULL : device_of(fd);
    void *mapped;

    wbp_ready();
    if (device) {
        mapped = wbp_device_mmap(device, at, size, prot, flags, offset);
        int error = errno;

        wbp_object_put(device);
        errno = error;
        return mapped;
    }
    mapped = wbp_real.mmap(at, size, prot, flags, fd, offset);
    if (mapped != MAP_FAILED)
        wbp_ram_map(mapped, size, prot, flags, fd, offset);
    return mapped;
}

/* Before the call: once it has returned, another thread may have mapped something else there. */
EXPORT int munmap(void *at, size_t size)
{
    wbp_ready();
    wbp_ram_unmap(at, size);
    return wbp_real.munmap(at, size);
}

/* What moves or changes its size is not tracked any more: it goes by messages. */
EXPORT void *mremap(void *at, size_t before, size_t size, int flags, ...)
{
    va_list list;
    void *wanted;

    va_start(list, flags);
    wanted = flags & MREMAP_FIXED ? va_arg(list, void *) : NULL;
    va_end(list);
    wbp_ready();
    wbp_ram_unmap(at, before);
    if (flags & MREMAP_FIXED)
        wbp_ram_unmap(wanted, size);
    return wbp_real.mremap(at, before, size, flags, wanted);
}

/* ---- paths ---- */

/* The link to a group; -1: not a server's. */
static ssize_t group_link(const char *path, char *data, size_t size)
{
    unsigned number = wbp_group_of(path, "iommu_group");
    char text[64];
    size_t length;

    if (!number)
        return -1;
    length = (size_t)snprintf(text, sizeof text, "../../kernel/iommu_groups/%u", number);
    if (length > size)
        length = size;
    memcpy(data, text, length);
    return (ssize_t)length;
}

EXPORT ssize_t readlink(const char *path, char *data, size_t size)
{
    ssize_t length;

    wbp_ready();
    length = group_link(path, data, size);
    return length < 0 ? wbp_real.readlink(path, data, size) : length;
}

EXPORT ssize_t readlinkat(int directory, const char *path, char *data, size_t size)
{
    ssize_t length = -1;

    wbp_ready();
    if (path && (directory == AT_FDCWD || *path == '/'))
        length = group_link(path, data, size);
    return length < 0 ? wbp_real.readlinkat(directory, path, data, size) : length;
}

EXPORT ssize_t __readlink_chk(const char *path, char *data, size_t size, size_t room)
{
    if (size > room)
        abort();
    return readlink(path, data, size);
}

EXPORT ssize_t __readlinkat_chk(int directory, const char *path, char *data, size_t size, size_t room)
{
    if (size > room)
        abort();
    return readlinkat(directory, path, data, size);
}

/* As a mediated device: QEMU then leaves out what only real hardware needs. */
EXPORT char *realpath(const char *path, char *resolved)
{
    static const char bus[] = "/sys/bus/mdev";

    wbp_ready();
    if (!wbp_group_of(path, "subsystem"))
        return wbp_real.realpath(path, resolved);
    return resolved ? memcpy(resolved, bus, sizeof bus) : strdup(bus);
}

EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room)
{
    if (room < PATH_MAX)
        abort();
    return realpath(path, resolved);
}

EXPORT char *canonicalize_file_name(const char *path)
{
    return realpath(path, NULL);
}

/* ---- the same for programs that ask for large files by name: glibc has both ---- */

#ifdef __GLIBC__
int open64(const char *path, int flags, ...) ALIAS(open);
int openat64(int directory, const char *path, int flags, ...) ALIAS(openat);
int __open64_2(const char *path, int flags) ALIAS(__open_2);
int __openat64_2(int directory, const char *path, int flags) ALIAS(__openat_2);
ssize_t pread64(int fd, void *data, size_t size, off_t offset) ALIAS(pread);
ssize_t __pread64_chk(int fd, void *data, size_t size, off_t offset, size_t room) ALIAS(__pread_chk);
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) ALIAS(pwrite);
void *mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset) ALIAS(mmap);
#endif
