/*
 * planes.h - eight bytes of a plane at once, and one access under way: for region.c and access.c.
 */
#ifndef WB_PLANES_H
#define WB_PLANES_H

#include "internal.h"

/* One access under way; the record grows chunk by chunk. */
struct access {
    wb_device *device;
    struct wb_region *region;
    wb_record record;
    int known;                  /* some byte is covered by a register */
    uint32_t due;               /* a reset to do afterwards, enum wb_reset; 0: none */
};

static inline uint64_t load(const struct wb_region *region, uint32_t plane, uint64_t offset)
{
    uint64_t bytes;

    memcpy(&bytes, wb_plane_at(region, plane, offset), sizeof bytes);
    return bytes;
}

/* Replaces the bits of mask; the bytes around are written back as they are. */
static inline void store(struct wb_region *region, uint32_t plane, uint64_t offset, uint64_t bytes,
                         uint64_t mask)
{
    uint64_t before = load(region, plane, offset);
    uint64_t after = (before & ~mask) | (bytes & mask);

    if (after == before)
        return;
    if (plane == WB_VALUE && region->shared)    /* the guest may be writing the bytes around */
        wb_share_merge_locked(region, offset, after, mask);
    else
        memcpy(wb_plane_at(region, plane, offset), &after, sizeof after);
}

static inline uint64_t size_mask(uint32_t size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
}

static inline int find_region(wb_device *device, uint32_t index, uint64_t offset, uint64_t size,
                       struct wb_region **found)
{
    struct wb_region *region;

    if (index >= WB_REGIONS)
        return -EINVAL;
    region = &device->regions[index];
    if (!region->planes || offset > region->size || size > region->size - offset)
        return -EINVAL;
    *found = region;
    return 0;
}

/* Registers of interrupts, of power and resets: they act when they are touched. */
static inline void touch_control_locked(struct access *access, uint64_t offset, uint64_t size)
{
    const struct wb_region *region = access->region;
    int by_rules = access->record.kind == WB_KIND_WRITE;
    uint32_t due;

    if (offset < region->irq_end && offset + size > region->irq_start)
        wb_irq_touch_locked(access->device, region, offset, size, by_rules);
    if (region != &access->device->regions[WB_CONFIG])
        return;
    due = wb_function_config_locked(access->device, offset, size, by_rules);
    if (due)
        access->due = due;
}

#endif
