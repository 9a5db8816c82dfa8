/*
 * dma.c - guest memory by I/O address.
 *
 * A table of ranges sorted by IOVA, none overlapping. Guest memory is not mapped: copies are pread
 * and pwrite on the client's file, so that a file its owner truncates gives an error and not a
 * SIGBUS, and 65535 ranges cost no mapping. Ranges of one file share one descriptor.
 *
 * A copy runs without the lock. It first pins every range it needs; an unmap marks its ranges as
 * leaving, which hides them from new copies, and waits until the pins are gone. The table may move
 * meanwhile, so a copy looks its ranges up again by address: a pinned range cannot go, and no
 * other can take its place.
 */
#include "internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct wb_file {
    struct wb_file *next;
    dev_t device;
    ino_t inode;
    int fd;
    int mode;                   /* O_RDONLY or O_RDWR: a read-only range may not lend out more */
    uint32_t users;             /* ranges */
};

struct wb_range {
    wb_dma_range at;
    struct wb_file *file;       /* NULL: reachable by messages only */
    uint32_t pins;              /* copies under way */
    uint64_t leaving;           /* number of the unmap that takes it away; 0: stays */
};

/* ---- files ---- */

static void drop_file_locked(wb_device *device, struct wb_file *file)
{
    struct wb_file **link = &device->files;

    if (!file || --file->users)
        return;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    close(file->fd);
    free(file);
}

/* Is fd the memory that the range says it is? Gives its identity and how it was opened. */
static int check_file(const wb_dma_range *range, int fd, struct stat *status, int *mode)
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

/* Shares the file or takes fd; on failure fd stays the caller's. */
static int use_file_locked(wb_device *device, const struct stat *status, int mode, int fd,
                           struct wb_file **used)
{
    struct wb_file *file;

    for (file = device->files; file; file = file->next)
        if (file->device == status->st_dev && file->inode == status->st_ino && file->mode == mode)
            break;
    if (file) {
        close(fd);
    } else {
        file = malloc(sizeof *file);
        if (!file)
            return -ENOMEM;
        *file = (struct wb_file){
            .next = device->files, .device = status->st_dev, .inode = status->st_ino, .fd = fd, .mode = mode,
        };
        device->files = file;
    }
    file->users++;
    *used = file;
    return 0;
}

/* ---- the table ---- */

/* Index of the first range that ends behind iova. */
static uint32_t find_locked(const wb_device *device, uint64_t iova)
{
    uint32_t low = 0, high = device->range_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const wb_dma_range *at = &device->ranges[middle]->at;

        if (at->iova + (at->size - 1) < iova)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int grow_locked(wb_device *device)
{
    uint32_t room = device->range_room ? device->range_room * 2 : 64;
    struct wb_range **ranges;

    if (device->range_count >= WB_MAX_MAPS)
        return -ENOSPC;
    if (device->range_count < device->range_room)
        return 0;
    ranges = realloc(device->ranges, room * sizeof *ranges);
    if (!ranges)
        return -ENOMEM;
    device->ranges = ranges;
    device->range_room = room;
    return 0;
}

static int same_map(const struct wb_range *old, const wb_dma_range *range, const struct stat *status,
                    int mode)
{
    const struct wb_file *file = old->file;

    if (old->leaving || memcmp(&old->at, range, sizeof *range))
        return 0;
    return !file || (file->device == status->st_dev && file->inode == status->st_ino && file->mode == mode);
}

/* Inserts the range; takes fd on success, closes it when the same range is there already. */
static int insert_locked(wb_device *device, const wb_dma_range *range, int fd, const struct stat *status,
                         int mode)
{
    uint32_t place = find_locked(device, range->iova);
    struct wb_range *added;
    int result;

    if (place < device->range_count && device->ranges[place]->at.iova <= range->iova + (range->size - 1)) {
        if (!same_map(device->ranges[place], range, status, mode))
            return -EEXIST;
        if (fd >= 0)
            close(fd);
        return 0;
    }
    result = grow_locked(device);
    if (result)
        return result;
    added = calloc(1, sizeof *added);
    if (!added)
        return -ENOMEM;
    added->at = *range;
    if (fd >= 0 && (result = use_file_locked(device, status, mode, fd, &added->file))) {
        free(added);
        return result;
    }
    memmove(device->ranges + place + 1, device->ranges + place,
            (device->range_count - place) * sizeof *device->ranges);
    device->ranges[place] = added;
    device->range_count++;
    wb_event_locked(device, WB_KIND_MAP, WB_GUEST, range->iova, range->size);
    return 0;
}

int wb_dma_map(wb_device *device, const wb_dma_range *range, int fd)
{
    wb_dma_range wanted = *range;
    struct stat status = {0};
    int mode = 0, result = 0;

    wanted.flags &= ~(uint32_t)WB_DMA_HAS_FD;
    wanted.spare = 0;
    if (!wanted.size || wanted.size - 1 > UINT64_MAX - wanted.iova
        || (wanted.iova | wanted.size | wanted.offset) % WB_PAGE
        || wanted.flags & ~(uint32_t)(WB_DMA_READABLE | WB_DMA_WRITABLE))
        result = -EINVAL;
    if (!result && fd >= 0) {
        result = check_file(&wanted, fd, &status, &mode);
        wanted.flags |= WB_DMA_HAS_FD;
    }
    if (!result) {
        wb_lock(device);
        result = insert_locked(device, &wanted, fd, &status, mode);
        wb_unlock(device);
    }
    if (result && fd >= 0)
        close(fd);
    return result;
}

/* Removes the ranges marked with the number, once nobody copies there any more. */
static void remove_leaving_locked(wb_device *device, uint64_t number)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < device->range_count;) {
        if (device->ranges[i]->leaving == number && device->ranges[i]->pins) {
            pthread_cond_wait(&device->left, &device->lock);
            i = 0;                              /* the table may have changed */
        } else {
            i++;
        }
    }
    for (uint32_t i = 0; i < device->range_count; i++) {
        struct wb_range *range = device->ranges[i];

        if (range->leaving == number) {
            drop_file_locked(device, range->file);
            free(range);
        } else {
            device->ranges[kept++] = range;
        }
    }
    device->range_count = kept;
}

/* As above for one range, without a walk over the whole table. */
static void remove_one_locked(wb_device *device, struct wb_range *range)
{
    uint32_t place;

    while (range->pins)
        pthread_cond_wait(&device->left, &device->lock);
    place = find_locked(device, range->at.iova);
    device->range_count--;
    memmove(device->ranges + place, device->ranges + place + 1,
            (device->range_count - place) * sizeof *device->ranges);
    drop_file_locked(device, range->file);
    free(range);
}

static uint64_t mark_all_locked(wb_device *device, uint64_t number)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < device->range_count; i++)
        if (!device->ranges[i]->leaving) {
            device->ranges[i]->leaving = number;
            size += device->ranges[i]->at.size;
        }
    return size;
}

int wb_dma_unmap(wb_device *device, uint64_t iova, uint64_t size, int all)
{
    uint64_t number;
    uint32_t place;
    int result = 0;

    wb_lock(device);
    number = ++device->departures;
    place = find_locked(device, iova);
    if (all) {
        iova = 0;
        size = mark_all_locked(device, number);
        remove_leaving_locked(device, number);
    } else if (place < device->range_count && device->ranges[place]->at.iova == iova
               && device->ranges[place]->at.size == size && !device->ranges[place]->leaving) {
        device->ranges[place]->leaving = number;
        remove_one_locked(device, device->ranges[place]);
    } else {
        result = -ENOENT;
    }
    if (!result && size)
        wb_event_locked(device, WB_KIND_UNMAP, WB_GUEST, iova, size);
    wb_unlock(device);
    return result;
}

uint32_t wb_dma_list(wb_device *device, wb_dma_range *ranges, uint32_t room)
{
    uint32_t count;

    wb_lock(device);
    count = device->range_count;
    for (uint32_t i = 0; i < count && i < room; i++)
        ranges[i] = device->ranges[i]->at;
    wb_unlock(device);
    return count;
}

void wb_dma_free(wb_device *device)
{
    wb_dma_unmap(device, 0, 0, 1);
    free(device->ranges);
}

/* ---- copies ---- */

/* 0 when every byte from iova to last is there and may be copied so. */
static int check_copy_locked(const wb_device *device, uint64_t iova, uint64_t last, uint32_t access)
{
    uint32_t place = find_locked(device, iova);

    if (access && !(wb_command_locked(device, WB_PCI_COMMAND_MASTER) & WB_PCI_COMMAND_MASTER))
        return -EACCES;
    for (uint64_t at = iova;; place++) {
        const struct wb_range *range = place < device->range_count ? device->ranges[place] : NULL;

        if (!range || range->leaving || range->at.iova > at)
            return -EFAULT;
        if ((range->at.flags & access) != access)
            return -EPERM;
        if (!range->file)
            return -ENXIO;
        at = range->at.iova + (range->at.size - 1);
        if (at >= last)
            return 0;
        at++;
    }
}

static void pin_locked(wb_device *device, uint64_t iova, uint64_t last, int pins)
{
    uint32_t place = find_locked(device, iova);

    for (; place < device->range_count && device->ranges[place]->at.iova <= last; place++)
        device->ranges[place]->pins += (uint32_t)pins;
}

/* Moves bytes of the file that are there; never makes the file longer. */
static int copy_file(int fd, uint64_t offset, uint8_t *to, const uint8_t *from, uint64_t size)
{
    struct stat status;

    if (fstat(fd, &status) || (uint64_t)status.st_size < offset + size)
        return -EIO;
    while (size) {
        size_t piece = size < 1u << 30 ? size : 1u << 30;
        ssize_t n = to ? pread(fd, to, piece, (off_t)offset) : pwrite(fd, from, piece, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -EOPNOTSUPP : -EIO;      /* sealed, of huge pages, ... : not its end */
        if (to)
            to += n;
        else
            from += n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

/* Copies what lies in the range that contains iova, which is pinned; says in *copied how much. */
static int copy_range(wb_device *device, uint64_t iova, uint8_t *to, const uint8_t *from, uint64_t size,
                      uint64_t *copied)
{
    const struct wb_range *range;
    uint64_t offset, within;

    wb_lock(device);
    range = device->ranges[find_locked(device, iova)];
    wb_unlock(device);
    within = iova - range->at.iova;
    offset = range->at.offset + within;
    *copied = size < range->at.size - within ? size : range->at.size - within;
    return copy_file(range->file->fd, offset, to, from, *copied);
}

enum { PEEK = WB_ORIGINS };             /* an origin of our own: a copy that leaves no trace */

/* Leaves the record of a copy: what was copied, or the errno of one that was refused. */
static void log_copy_locked(wb_device *device, wb_record *record, int result, const uint8_t *first)
{
    if (record->origin == PEEK)
        return;
    if (result) {
        record->flags |= WB_REFUSED;
        record->value = (uint64_t)-result;
    } else {
        memcpy(&record->value, first, record->size < 8 ? record->size : 8);
    }
    record->latency = wb_elapsed(record->time);
    wb_log_add_locked(device, record);
}

static int copy(wb_device *device, uint64_t iova, uint8_t *to, const uint8_t *from, uint64_t size, uint32_t origin)
{
    wb_record record = {
        .time = wb_clock(), .kind = to ? WB_KIND_DMA_READ : WB_KIND_DMA_WRITE, .origin = (uint8_t)origin,
        .region = WB_NO_REGION, .offset = iova, .size = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX,
        .flags = size > 8 ? WB_LONG : 0,
    };
    const uint8_t *first = to ? to : from;
    uint32_t access = origin == PEEK ? 0 : to ? WB_DMA_READABLE : WB_DMA_WRITABLE;
    uint64_t last = iova + (size - 1), n = 0;
    int result;

    if (!size)
        return 0;
    wb_lock(device);
    result = last < iova ? -EFAULT : check_copy_locked(device, iova, last, access);
    if (result)
        log_copy_locked(device, &record, result, first);
    else
        pin_locked(device, iova, last, 1);
    wb_unlock(device);
    if (result)
        return result;
    for (uint64_t done = 0; !result && done < size; done += n)
        result = copy_range(device, iova + done, to ? to + done : NULL, from ? from + done : NULL,
                            size - done, &n);
    wb_lock(device);
    pin_locked(device, iova, last, -1);
    pthread_cond_broadcast(&device->left);
    log_copy_locked(device, &record, result, first);
    wb_unlock(device);
    return result;
}

/* As the workbench: whatever COMMAND and the client's flags say, and without a record. */
int wb_dma_peek(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size)
{
    return copy(device, iova, bytes, NULL, size, PEEK);
}

int wb_dma_read(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size, uint32_t origin)
{
    return origin < WB_ORIGINS ? copy(device, iova, bytes, NULL, size, origin) : -EINVAL;
}

int wb_dma_write(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin)
{
    return origin < WB_ORIGINS ? copy(device, iova, NULL, bytes, size, origin) : -EINVAL;
}

/* As the workbench too; but what changes the guest's memory leaves its record. */
int wb_dma_poke(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin)
{
    wb_record record = {
        .time = wb_clock(), .kind = WB_KIND_DMA_WRITE, .origin = (uint8_t)origin, .region = WB_NO_REGION,
        .offset = iova, .size = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX, .flags = size > 8 ? WB_LONG : 0,
    };
    int result;

    if (origin >= WB_ORIGINS || !size)
        return size ? -EINVAL : 0;
    result = copy(device, iova, NULL, bytes, size, PEEK);
    wb_lock(device);
    log_copy_locked(device, &record, result, bytes);
    wb_unlock(device);
    return result;
}
