/*
 * kernel_vfio.c - a machine that has VFIO hardware: /dev/vfio and KVM's VFIO device, as libc would show them.
 *
 * Preloaded behind the library under test, so that what reaches it has got past the hooks. Each call
 * leaves a line on stderr.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_ours(int fd)
{
    struct stat status;
    char link[64], target[64] = "";

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return !fstat(fd, &status) && readlink(link, target, sizeof target - 1) > 0 &&
           strstr(target, "kernel's ");
}

int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list list;
    int mode;

    va_start(list, flags);
    mode = flags & O_CREAT ? va_arg(list, int) : 0;
    va_end(list);
    if (!strncmp(path, "/dev/vfio/", 10) || !strcmp(path, "/dev/kvm")) {
        fprintf(stderr, "open %s\n", path);
        return memfd_create(strcmp(path, "/dev/kvm") ? "kernel's vfio" : "kernel's kvm", MFD_CLOEXEC);
    }
    if (!real)
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    return real(path, flags, mode);
}

int ioctl(int fd, unsigned long number, ...)
{
    static int (*real)(int, unsigned long, ...);
    va_list list;
    void *argument;

    va_start(list, number);
    argument = va_arg(list, void *);
    va_end(list);
    if (is_ours(fd)) {
        if (number == KVM_CREATE_DEVICE)
            ((struct kvm_create_device *)argument)->fd = (uint32_t)memfd_create("kernel's device", 0);
        else
            fprintf(stderr, "ioctl %#lx\n", number);
        return 0;
    }
    if (!real)
        real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return real(fd, number, argument);
}
