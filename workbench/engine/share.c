/*
 * share.c - pages of a region that the client maps: frame buffers, rings, doorbell pages.
 *
 * The VALUE plane comes first and begins on a page, so such pages are a memory file mapped over that part
 * of it, and everything that peeks finds their bytes in the usual place. The file is as long as the region
 * and sealed, so nobody can take pages away under us; what is never touched costs no memory.
 *
 * Whoever mapped the pages writes them at any time. So they are loaded and stored in whole aligned pieces,
 * and a store leaves every other byte alone.
 */
#include "internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t page_up(uint64_t size)
{
    return (size + WB_PAGE - 1) / WB_PAGE * WB_PAGE;
}

static int open_file(struct wb_region *region)
{
    uint64_t *pages = calloc((region->size - 1) / WB_PAGE / 64 + 1, sizeof *pages);
    int fd = memfd_create("workbench region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int result = fd < 0 ? -errno : 0;

    if (!pages)
        result = -ENOMEM;
    if (!result && (ftruncate(fd, (off_t)page_up(region->size))
                    || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)))
        result = -errno;
    if (!result) {
        region->share_fd = fd;
        region->shared = pages;
        return 0;
    }
    free(pages);
    if (fd >= 0)
        close(fd);
    return result;
}

static int any_programmed(const struct wb_region *region, uint64_t offset, uint64_t size)
{
    for (uint64_t at = offset; at < offset + size; at += WB_PAGE)
        if (wb_page_programmed(region, at))
            return 1;
    return 0;
}

static int share_locked(wb_device *device, struct wb_region *region, uint64_t offset, uint64_t size)
{
    int result = device->serving || any_programmed(region, offset, size) ? -EBUSY : 0;

    if (!result && !region->shared)
        result = open_file(region);
    if (result)
        return result;
    if (mmap(wb_plane_at(region, WB_VALUE, offset), page_up(size), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, region->share_fd, (off_t)offset) == MAP_FAILED)
        return -errno;
    for (uint64_t page = offset / WB_PAGE; page < page_up(offset + size) / WB_PAGE; page++)
        region->shared[page / 64] |= UINT64_C(1) << (page % 64);
    return 0;
}

int wb_region_share(wb_device *device, uint32_t index, uint64_t offset, uint64_t size)
{
    struct wb_region *region = index < WB_REGIONS ? &device->regions[index] : NULL;
    int result;

    if (!region || !region->planes || offset % WB_PAGE || !size || offset > region->size
        || size > region->size - offset || (size % WB_PAGE && offset + size != region->size))
        return -EINVAL;
    wb_lock(device);
    result = share_locked(device, region, offset, size);
    wb_unlock(device);
    return result;
}

int wb_region_fd(wb_device *device, uint32_t index)
{
    if (index >= WB_REGIONS)
        return -EINVAL;
    return device->regions[index].shared && device->regions[index].share_fd >= 0
               ? device->regions[index].share_fd : -ENOENT;
}

static void close_file(struct wb_region *region)
{
    if (region->shared && region->share_fd >= 0)
        close(region->share_fd);
    region->share_fd = -1;
}

int wb_share_close(wb_device *device)
{
    int result;

    wb_lock(device);
    result = device->serving ? -EBUSY : 0;
    for (unsigned i = 0; i < WB_REGIONS; i++)
        if (device->regions[i].watches)
            result = -EBUSY;
    for (unsigned i = 0; !result && i < WB_REGIONS; i++)
        close_file(&device->regions[i]);
    wb_unlock(device);
    return result;
}

void wb_share_free(struct wb_region *region)
{
    close_file(region);
    free(region->shared);
}

/* pread() leaves untouched pages untouched, where a load would make the kernel allocate them. */
void wb_share_get_locked(const struct wb_region *region, uint64_t offset, uint8_t *bytes, uint64_t size)
{
    if (size > 8 && pread(region->share_fd, bytes, size, (off_t)offset) == (ssize_t)size)
        return;
    wb_pieces_load(wb_plane_at(region, WB_VALUE, offset), bytes, size);
}

void wb_share_put_locked(struct wb_region *region, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
    wb_pieces_store(wb_plane_at(region, WB_VALUE, offset), bytes, size);
    wb_watch_expect_locked(region, offset, bytes, size);
}

/* Stores the bytes of `word` that have a bit in mask. */
void wb_share_merge_locked(struct wb_region *region, uint64_t offset, uint64_t word, uint64_t mask)
{
    uint32_t first = (uint32_t)__builtin_ctzll(mask) / 8, last = 7 - (uint32_t)__builtin_clzll(mask) / 8;
    uint8_t bytes[8];

    memcpy(bytes, &word, sizeof bytes);
    wb_share_put_locked(region, offset + first, bytes + first, last - first + 1);
}
