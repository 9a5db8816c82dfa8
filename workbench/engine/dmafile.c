/*
 * dmafile.c - files of guest memory: who shares one, and how its bytes are reached.
 *
 * A file that is sealed against shrinking (a memfd with F_SEAL_SHRINK, as QEMU makes them) is mapped
 * once, whole, and copied with memcpy: its owner cannot take bytes away from under us. Any other is
 * copied with pread and pwrite, so that truncation gives an error and not a SIGBUS. A sealed file on
 * hugetlbfs is mapped because it has no pwrite, but a page punched out of it may be missing when the
 * pool is empty: process_vm_readv and its sister on ourselves answer that with an error too.
 */
#include "dmafile.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Bytes of addresses for all files of a device: how long they are says the client. */
#define MOST_MAPPED (UINT64_C(1) << 43)

/*
 * Maps the whole file if its size can only grow; without a mapping all works, but slower. It is measured once
 * the seal was seen: it may have been cut short of `end` after it was checked.
 */
static void map_sealed_locked(wb_device *device, struct wb_file *file, uint64_t end)
{
    int seals = fcntl(file->fd, F_GET_SEALS);
    int rights = file->mode == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ;
    struct statfs system;
    struct stat status;
    uint64_t size;
    void *bytes;

    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(file->fd, &status) || fstatfs(file->fd, &system))
        return;
    size = (uint64_t)status.st_size;
    if (size < end || size > SIZE_MAX || size > MOST_MAPPED - device->mapped)
        return;
    bytes = mmap(NULL, (size_t)size, rights, MAP_SHARED, file->fd, 0);
    if (bytes == MAP_FAILED)
        return;
    file->bytes = bytes;
    file->mapped = size;
    device->mapped += size;
    file->huge = system.f_type == HUGETLBFS_MAGIC;
}

int wb_file_check(const wb_dma_range *range, int fd, struct stat *status, int *mode)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, status))
        return -EINVAL;
    *mode = flags & O_ACCMODE;
    /* O_APPEND would make pwrite ignore the address. */
    if (!S_ISREG(status->st_mode) || flags & (O_APPEND | O_PATH) || *mode == O_WRONLY)
        return -EINVAL;
    if (range->flags & WB_DMA_WRITABLE && *mode != O_RDWR)
        return -EINVAL;
    if (range->offset > INT64_MAX || range->size > INT64_MAX - range->offset
        || (uint64_t)status->st_size < range->offset + range->size)
        return -EINVAL;
    return 0;
}

int wb_file_is(const struct wb_file *file, const struct stat *status, int mode)
{
    return file->device == status->st_dev && file->inode == status->st_ino && file->mode == mode;
}

static struct wb_file **list_of(wb_device *device, ino_t inode)
{
    return &device->files[inode % WB_FILE_LISTS];
}

/* A file that grew since it was mapped is mapped again beside the old mapping, which copies may use. */
static struct wb_file *known_locked(wb_device *device, const struct stat *status, int mode, uint64_t end)
{
    struct wb_file *file;

    for (file = *list_of(device, status->st_ino); file; file = file->next)
        if (wb_file_is(file, status, mode) && (file->private || !file->bytes || end <= file->mapped))
            break;
    return file;
}

int wb_file_use_locked(wb_device *device, const struct stat *status, int mode, int *fd, uint64_t end,
                       struct wb_file **used)
{
    struct wb_file *file = known_locked(device, status, mode, end), **list = list_of(device, status->st_ino);

    if (!file) {
        file = malloc(sizeof *file);
        if (!file)
            return -ENOMEM;
        *file = (struct wb_file){
            .next = *list, .link = list, .device = status->st_dev, .inode = status->st_ino, .fd = *fd,
            .mode = mode,
        };
        map_sealed_locked(device, file, end);
        if (*list)
            (*list)->link = &file->next;
        *list = file;
        *fd = -1;
    }
    file->users++;
    *used = file;
    return 0;
}

/* A private file is remembered until the client goes: it may be mapped again at any time. */
void wb_file_drop_locked(wb_device *device, struct wb_file *file, struct wb_file **dead)
{
    if (!file || --file->users || file->private)
        return;
    *file->link = file->next;
    if (file->next)
        file->next->link = file->link;
    device->mapped -= file->mapped;
    file->next = *dead;
    *dead = file;
}

static void forget_list_locked(wb_device *device, struct wb_file *list, struct wb_file **dead)
{
    for (struct wb_file *file = list, *next; file; file = next) {
        next = file->next;
        if (file->private && !file->users) {
            file->private = 0;
            file->users = 1;
            wb_file_drop_locked(device, file, dead);
        }
    }
}

void wb_file_forget_locked(wb_device *device, struct wb_file **dead)
{
    for (unsigned i = 0; i < WB_FILE_LISTS; i++)
        forget_list_locked(device, device->files[i], dead);
}

void wb_file_distrust_locked(wb_device *device, const struct wb_file *of)
{
    for (struct wb_file *file = *list_of(device, of->inode); file; file = file->next)
        if (file->device == of->device && file->inode == of->inode)
            file->private = 1;
}

void wb_file_free(struct wb_file *dead)
{
    while (dead) {
        struct wb_file *next = dead->next;

        if (dead->bytes)
            munmap(dead->bytes, (size_t)dead->mapped);
        close(dead->fd);
        free(dead);
        dead = next;
    }
}

/* ---- copies ---- */

enum { PIECE = 1 << 30 };       /* no system call moves more than 2 GiB */

/* Moves bytes of the file that are there; never makes the file longer. */
static int copy_unmapped(int fd, uint64_t offset, uint8_t *to, const uint8_t *from, uint64_t size)
{
    struct stat status;

    if (fstat(fd, &status) || (uint64_t)status.st_size < offset + size)
        return -EIO;
    while (size) {
        size_t piece = size < PIECE ? size : PIECE;
        ssize_t n = to ? pread(fd, to, piece, (off_t)offset) : pwrite(fd, from, piece, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -EOPNOTSUPP : -EIO;      /* sealed, opened to be read, ... : not its end */
        if (to)
            to += n;
        else
            from += n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

static int copy_huge(uint8_t *guest, uint8_t *to, const uint8_t *from, uint64_t size)
{
    uint8_t *own = to ? to : (uint8_t *)(uintptr_t)from;

    while (size) {
        size_t piece = size < PIECE ? size : PIECE;
        struct iovec ours = {own, piece}, theirs = {guest, piece};
        ssize_t n = to ? process_vm_readv(getpid(), &ours, 1, &theirs, 1, 0)
                       : process_vm_writev(getpid(), &ours, 1, &theirs, 1, 0);

        if (n <= 0)
            return -EIO;
        own += n;
        guest += n;
        size -= (uint64_t)n;
    }
    return 0;
}

int wb_file_copy(const struct wb_file *file, uint64_t offset, uint8_t *to, const uint8_t *from, uint64_t size)
{
    if (from && file->mode != O_RDWR)
        return -EOPNOTSUPP;
    if (!file->bytes)
        return copy_unmapped(file->fd, offset, to, from, size);
    if (file->huge)
        return copy_huge(file->bytes + offset, to, from, size);
    if (to)
        memcpy(to, file->bytes + offset, size);
    else
        memcpy(file->bytes + offset, from, size);
    return 0;
}
