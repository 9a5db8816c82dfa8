/*
 * region.c - the bytes of a region, as the workbench sees them: described, peeked, poked, reset.
 *
 * A region is WB_PLANES byte arrays in one lazily backed mapping. The planes lie 64 bytes off a page
 * multiple apart, since planes a whole number of pages apart would all fall into the same set of the
 * first-level cache.
 *
 * A bitmap knows the pages that were ever programmed. All others are never touched: they read as
 * zero, swallow writes and are flagged as unmapped, so a large BAR costs what is described of it.
 * Another bitmap knows the pages that the client maps (share.c): bytes are copied there, no rule applies.
 */
#include "planes.h"
#include "wb_python.h"

enum { RESET_PIECE = 64 };      /* pages reset while the lock is held */

static void program_page(struct wb_region *region, uint64_t offset)
{
    uint64_t page = offset / WB_PAGE;

    region->programmed[page / 64] |= UINT64_C(1) << (page % 64);
}

static int all_zero(const uint8_t *bytes, uint64_t size)
{
    return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

int wb_region_set(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset,
                  const uint8_t *bytes, uint64_t size)
{
    struct access access = {.device = device};
    int result = plane < WB_PLANES ? find_region(device, region, offset, size, &access.region) : -EINVAL;

    for (uint64_t done = 0, n; !result && done < size; done += n) {
        uint64_t at = offset + done;

        n = wb_to_page_end(at, size - done);
        wb_lock(device);
        /* Zero is what an untouched page already holds. */
        if (plane == WB_VALUE && wb_page_shared(access.region, at)) {
            wb_share_put_locked(access.region, at, bytes + done, n);
        } else if (wb_page_programmed(access.region, at) || !all_zero(bytes + done, n)) {
            program_page(access.region, at);
            memcpy(wb_plane_at(access.region, plane, at), bytes + done, n);
            touch_control_locked(&access, at, n);
        }
        wb_unlock(device);
    }
    return result;
}

int wb_region_get(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset,
                  uint8_t *bytes, uint64_t size)
{
    struct wb_region *from = NULL;
    int result = plane < WB_PLANES ? find_region(device, region, offset, size, &from) : -EINVAL;

    for (uint64_t done = 0, n; !result && done < size; done += n) {
        n = wb_to_page_end(offset + done, size - done);
        wb_lock(device);
        if (plane == WB_VALUE && wb_page_shared(from, offset + done))
            wb_share_get_locked(from, offset + done, bytes + done, n);
        else if (wb_page_programmed(from, offset + done))
            memcpy(bytes + done, wb_plane_at(from, plane, offset + done), n);
        else
            memset(bytes + done, 0, n);
        wb_unlock(device);
    }
    return result;
}

uint64_t wb_region_word(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset, uint32_t size)
{
    uint64_t word = 0;

    if (size > sizeof word || wb_region_get(device, region, plane, offset, (uint8_t *)&word, size))
        return 0;
    return word;
}

int wb_region_poke(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset,
                   uint64_t value, uint64_t mask, uint32_t size, uint32_t origin)
{
    struct access access = {.device = device};
    wb_record *record = &access.record;
    int result = find_region(device, region, offset, size, &access.region);

    if ((plane != WB_VALUE && plane != WB_LATCH) || size > 8 || origin >= WB_ORIGINS)
        return -EINVAL;
    if (result || !size)
        return result;
    *record = (wb_record){
        .time = wb_clock(), .kind = WB_KIND_POKE, .origin = (uint8_t)origin, .region = (uint8_t)region,
        .offset = offset, .size = size, .value = value & mask & size_mask(size), .plane = (uint8_t)plane,
    };
    wb_lock(device);
    program_page(access.region, offset);
    program_page(access.region, offset + size - 1);
    record->old = load(access.region, plane, offset) & size_mask(size);
    store(access.region, plane, offset, value, mask & size_mask(size));
    touch_control_locked(&access, offset, size);
    record->now = load(access.region, plane, offset) & size_mask(size);
    if (!(load(access.region, WB_KNOWN, offset) & size_mask(size)))
        record->flags = WB_UNMAPPED;
    record->latency = wb_elapsed(record->time);
    wb_log_add_locked(device, record);
    wb_unlock(device);
    return 0;
}

int wb_region_hook(wb_device *device, uint32_t region, uint64_t offset, uint64_t size, uint32_t bits, int on)
{
    struct wb_region *to = NULL;
    int result = find_region(device, region, offset, size, &to);

    if (bits & ~(uint32_t)(WB_HOOK_READ | WB_HOOK_WRITE))
        return -EINVAL;
    for (uint64_t done = 0, n; !result && done < size; done += n) {
        uint8_t *hooks = wb_plane_at(to, WB_HOOKS, offset + done);

        n = wb_to_page_end(offset + done, size - done);
        wb_lock(device);
        if (on)
            program_page(to, offset + done);
        if (wb_page_programmed(to, offset + done))
            for (uint64_t i = 0; i < n; i++)
                hooks[i] = (uint8_t)(on ? hooks[i] | bits : hooks[i] & ~bits);
        wb_unlock(device);
    }
    return result;
}

static void reset_page(struct wb_region *region, uint64_t offset, int power_cycle)
{
    static const uint8_t zero[WB_PAGE];
    uint64_t size = wb_to_page_end(offset, region->size - offset);
    const uint8_t *from[] = {
        wb_plane_at(region, WB_RESET, offset), wb_plane_at(region, WB_LATCH_RESET, offset), zero,
    };
    const uint32_t to[] = {WB_VALUE, WB_LATCH, WB_SPENT};
    const uint8_t *kept = power_cycle ? zero : wb_plane_at(region, WB_STICKY, offset);

    for (unsigned i = 0; i < 3; i++) {
        uint8_t *bytes = wb_plane_at(region, to[i], offset);

        if (!memcmp(bytes, from[i], size))      /* writing what is there already would cost a page */
            continue;
        for (uint64_t n = 0; n < size; n++)
            bytes[n] = (uint8_t)((from[i][n] & ~kept[n]) | (bytes[n] & kept[n]));
    }
}

void wb_region_reset_locked(wb_device *device, struct wb_region *region, int power_cycle)
{
    uint64_t words = (region->size - 1) / WB_PAGE / 64 + 1;
    unsigned held = 0;

    for (uint64_t word = 0; word < words; word++) {
        uint64_t bits = region->programmed[word] & ~(region->shared ? region->shared[word] : 0);

        for (; bits; bits &= bits - 1) {
            reset_page(region, (word * 64 + (uint64_t)__builtin_ctzll(bits)) * WB_PAGE, power_cycle);
            if (++held % RESET_PIECE == 0) {    /* a large memory: let the guest in between */
                wb_unlock(device);
                wb_lock(device);
            }
        }
    }
}
