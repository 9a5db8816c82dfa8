/*
 * dma.c - guest memory by I/O address: the table of ranges.
 *
 * Ranges are sorted by IOVA and never overlap. Ranges of one file share one descriptor and, if it can
 * be mapped, one mapping: 65535 ranges cost no more than one.
 *
 * A copy runs without the lock. It pins the ranges it needs; an unmap marks its ranges as leaving,
 * which hides them from new copies, and waits until the pins are gone. So a pinned range stays where
 * it is, though the table around it may move. What goes by messages pins nothing: the serving loop,
 * which an unmap holds up, must be free to take the replies.
 */
#include "dmafile.h"

#include <stdlib.h>
#include <unistd.h>

uint32_t wb_range_find_locked(const wb_device *device, uint64_t iova)
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
    if (old->leaving || memcmp(&old->at, range, sizeof *range))
        return 0;
    return !old->file || wb_file_is(old->file, status, mode);
}

/* Inserts the range, unless it is there already; takes *fd, which is -1 then, if it is needed. */
static int insert_locked(wb_device *device, const wb_dma_range *range, int *fd, const struct stat *status,
                         int mode)
{
    uint32_t place = wb_range_find_locked(device, range->iova);
    struct wb_range *added;
    int result;

    if (place < device->range_count && device->ranges[place]->at.iova <= range->iova + (range->size - 1))
        return same_map(device->ranges[place], range, status, mode) ? 0 : -EEXIST;
    result = grow_locked(device);
    if (result)
        return result;
    added = calloc(1, sizeof *added);
    if (!added)
        return -ENOMEM;
    added->at = *range;
    if (*fd >= 0) {
        result = wb_file_use_locked(device, status, mode, fd, range->offset + range->size, &added->file);
        if (result) {
            free(added);
            return result;
        }
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
        result = wb_file_check(&wanted, fd, &status, &mode);
        wanted.flags |= WB_DMA_HAS_FD;
    }
    if (!result) {
        wb_lock(device);
        result = insert_locked(device, &wanted, &fd, &status, mode);
        wb_unlock(device);
    }
    if (fd >= 0)                    /* not under the lock: its file system may take its time */
        close(fd);
    return result;
}

/* Removes the ranges marked with the number, once nobody copies there any more. */
static void remove_leaving_locked(wb_device *device, uint64_t number, struct wb_file **dead)
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
            wb_file_drop_locked(device, range->file, dead);
            free(range);
        } else {
            device->ranges[kept++] = range;
        }
    }
    device->range_count = kept;
}

/* As above for one range, without a walk over the whole table. */
static void remove_one_locked(wb_device *device, struct wb_range *range, struct wb_file **dead)
{
    uint32_t place;

    while (range->pins)
        pthread_cond_wait(&device->left, &device->lock);
    place = wb_range_find_locked(device, range->at.iova);
    device->range_count--;
    memmove(device->ranges + place, device->ranges + place + 1,
            (device->range_count - place) * sizeof *device->ranges);
    wb_file_drop_locked(device, range->file, dead);
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
    struct wb_file *dead = NULL;
    uint64_t number;
    uint32_t place;
    int result = 0;

    wb_lock(device);
    number = ++device->departures;
    place = wb_range_find_locked(device, iova);
    if (all) {
        iova = 0;
        size = mark_all_locked(device, number);
        remove_leaving_locked(device, number, &dead);
    } else if (place < device->range_count && device->ranges[place]->at.iova == iova
               && device->ranges[place]->at.size == size && !device->ranges[place]->leaving) {
        device->ranges[place]->leaving = number;
        remove_one_locked(device, device->ranges[place], &dead);
    } else {
        result = -ENOENT;
    }
    if (!result && size)
        wb_event_locked(device, WB_KIND_UNMAP, WB_GUEST, iova, size);
    wb_unlock(device);
    wb_file_free(dead);
    return result;
}

int wb_range_get_locked(wb_device *device, uint64_t iova, uint32_t access, struct wb_range **range)
{
    uint32_t place = wb_range_find_locked(device, iova);

    *range = place < device->range_count ? device->ranges[place] : NULL;
    if (!*range || (*range)->leaving || (*range)->at.iova > iova)
        return -EFAULT;
    return ((*range)->at.flags & access) == access ? 0 : -EPERM;
}

static uint32_t reach(const struct wb_range *range)
{
    const struct wb_file *file = range->file;

    return !file ? 0 : file->private ? WB_DMA_PRIVATE : file->bytes ? WB_DMA_MAPPED : 0;
}

uint32_t wb_dma_list(wb_device *device, wb_dma_range *ranges, uint32_t room)
{
    uint32_t count;

    wb_lock(device);
    count = device->range_count;
    for (uint32_t i = 0; i < count && i < room; i++) {
        ranges[i] = device->ranges[i]->at;
        ranges[i].flags |= reach(device->ranges[i]);
    }
    wb_unlock(device);
    return count;
}

int wb_dma_distrust(wb_device *device, uint64_t iova)
{
    struct wb_range *range;
    int result;

    wb_lock(device);
    result = wb_range_get_locked(device, iova, 0, &range);
    if (!result && !range->file)
        result = -ENXIO;
    if (!result)
        wb_file_distrust_locked(device, range->file);
    wb_unlock(device);
    return result;
}

void wb_dma_forget(wb_device *device)
{
    struct wb_file *dead = NULL;

    wb_dma_unmap(device, 0, 0, 1);
    wb_lock(device);
    wb_file_forget_locked(device, &dead);
    wb_unlock(device);
    wb_file_free(dead);
}

void wb_dma_free(wb_device *device)
{
    wb_dma_forget(device);
    free(device->ranges);
}
