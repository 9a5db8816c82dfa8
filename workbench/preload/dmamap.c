/*
 * dmamap.c - the guest's memory by DMA address, as QEMU mapped it; serves a server's DMA messages.
 *
 * Who changes the table holds the container's order and, for the change itself, the write lock; a
 * copy holds the read lock. So whoever holds the order may read without the lock.
 */
#include "preload.h"

#include <linux/vfio.h>
#include <stdlib.h>

enum { LIMIT = 65535 };         /* what QEMU assumes when a container names no limit */

void wbp_maps_begin(struct wbp_maps *maps)
{
    pthread_rwlock_init(&maps->lock, NULL);
}

void wbp_maps_end(struct wbp_maps *maps)
{
    pthread_rwlock_destroy(&maps->lock);
    free(maps->list);
}

size_t wbp_maps_first(const struct wbp_maps *maps, uint64_t iova)
{
    size_t low = 0, high = maps->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct wbp_map *map = &maps->list[middle];

        if (map->iova + (map->size - 1) < iova)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int wbp_maps_add(struct wbp_maps *maps, const struct wbp_map *map)
{
    size_t i = wbp_maps_first(maps, map->iova);
    int result = 0;

    if (i < maps->count && maps->list[i].iova <= map->iova + (map->size - 1))
        return -EEXIST;
    if (maps->count >= LIMIT)
        return -ENOSPC;
    pthread_rwlock_wrlock(&maps->lock);
    if (maps->count == maps->room) {
        size_t room = maps->room ? 2 * maps->room : 64;
        struct wbp_map *list = realloc(maps->list, room * sizeof *list);

        if (list) {
            maps->list = list;
            maps->room = room;
        } else {
            result = -ENOMEM;
        }
    }
    if (!result) {
        memmove(maps->list + i + 1, maps->list + i, (maps->count - i) * sizeof *maps->list);
        maps->list[i] = *map;
        maps->count++;
    }
    pthread_rwlock_unlock(&maps->lock);
    return result;
}

void wbp_maps_remove(struct wbp_maps *maps, size_t first, size_t count)
{
    pthread_rwlock_wrlock(&maps->lock);
    memmove(maps->list + first, maps->list + first + count,
            (maps->count - first - count) * sizeof *maps->list);
    maps->count -= count;
    pthread_rwlock_unlock(&maps->lock);
}

/* All of it is there and may be used so, or nothing is copied. */
static int check(const struct wbp_maps *maps, size_t i, uint64_t iova, uint64_t size, int write)
{
    uint32_t needed = write ? VFIO_DMA_MAP_FLAG_WRITE : VFIO_DMA_MAP_FLAG_READ;

    for (; size; i++) {
        const struct wbp_map *map = &maps->list[i];
        uint64_t there;

        if (i >= maps->count || map->iova > iova)
            return -EFAULT;
        if (!(map->flags & needed))
            return -EACCES;
        there = map->size - (iova - map->iova);
        if (there > size)
            there = size;
        iova += there;
        size -= there;
    }
    return 0;
}

int wbp_maps_copy(struct wbp_maps *maps, uint64_t iova, void *data, uint64_t size, int write)
{
    uint64_t last;
    uint8_t *bytes = data;
    int result;
    size_t i;

    if (!size)
        return 0;
    if (__builtin_add_overflow(iova, size - 1, &last))
        return -EFAULT;
    pthread_rwlock_rdlock(&maps->lock);
    i = wbp_maps_first(maps, iova);
    result = check(maps, i, iova, size, write);
    while (!result && size) {
        const struct wbp_map *map = &maps->list[i++];
        uint64_t at = iova - map->iova;
        uint64_t n = map->size - at < size ? map->size - at : size;

        memcpy(write ? map->at + at : bytes, write ? bytes : map->at + at, n);
        iova += n;
        bytes += n;
        size -= n;
    }
    pthread_rwlock_unlock(&maps->lock);
    return result;
}
