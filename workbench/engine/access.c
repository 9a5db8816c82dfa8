/*
 * access.c - what a guest does to a region: rules, hooks, log.
 *
 * An access of up to 8 bytes loads 8 bytes of each plane at its offset, whatever the alignment, and masks
 * them to its size; so partial, unaligned and spanning accesses are no special case. A longer access is a
 * row of such chunks at 8-aligned offsets.
 */
#include "planes.h"

#define EVERY_BYTE UINT64_C(0x0101010101010101)

enum {
    PYTHON = WB_HOOK_READ | WB_HOOK_WRITE,
    READS = WB_HOOK_READ | WB_HOOK_NATIVE_READ, WRITES = WB_HOOK_WRITE | WB_HOOK_NATIVE_WRITE
};

/* 0xff in every byte that has a bit set. */
static inline uint64_t whole_bytes(uint64_t bits)
{
    const uint64_t low = 0x7f * EVERY_BYTE;

    return (((((bits & low) + low) | bits) & ~low) >> 7) * 0xff;
}

static inline int chunk_programmed(const struct wb_region *region, uint64_t offset, uint32_t size)
{
    return wb_page_programmed(region, offset) || wb_page_programmed(region, offset + size - 1);
}

/*
 * Runs the hooks with the lock released; what they changed is seen by whoever loads afterwards. `bits` are
 * those of the bytes: where there is a Python hook among them, Python runs the native ones too, in their
 * order.
 */
static void call_hook(struct access *access, uint64_t offset, uint32_t size, uint64_t value, uint64_t old,
                      uint64_t bits)
{
    wb_device *device = access->device;
    wb_access told = {
        .offset = offset, .value = value, .old = old, .size = size, .region = access->record.region,
        .origin = access->record.origin, .write = access->record.kind == WB_KIND_WRITE,
        .flags = WB_HOOK_FAILED,                /* until the callee says otherwise */
    };

    if (device->abandoned && told.origin == WB_GUEST)
        return;
    if (!(bits & PYTHON * EVERY_BYTE)) {
        wb_native_run_locked(device, &told);
    } else if (device->upcalls.hook) {
        wb_unlock(device);
        told.time = wb_clock();
        device->upcalls.hook(device->hook_context, &told);
        wb_lock(device);
    } else {
        return;
    }
    if (told.flags & WB_HOOK_ANSWERED) {
        store(access->region, WB_VALUE, offset, told.value, size_mask(size));
        touch_control_locked(access, offset, size);
    }
    access->record.flags |= told.flags & (WB_HOOK_RAN | WB_HOOK_FAILED);
    if (told.revision)
        access->record.revision = told.revision;
}

/* Adds a chunk to the record, which shows the first 8 bytes of the access. */
static inline void note(struct access *access, uint64_t offset, uint64_t old, uint64_t now)
{
    uint64_t place = offset - access->record.offset;

    if (place >= 8)
        return;
    access->record.old |= old << 8 * place;
    access->record.now |= now << 8 * place;
}

/* The hook bits of the bytes, of those asked for. */
static inline uint64_t hooked(const struct wb_region *region, uint64_t offset, uint64_t mask, uint64_t bits)
{
    return load(region, WB_HOOKS, offset) & mask & bits * EVERY_BYTE;
}

static void read_chunk(struct access *access, uint64_t offset, uint8_t *bytes, uint32_t size)
{
    struct wb_region *region = access->region;
    uint64_t mask = size_mask(size);
    uint64_t old = load(region, WB_VALUE, offset) & mask;
    uint64_t value = old, hooks = hooked(region, offset, mask, READS), answer, now;

    if (hooks) {
        call_hook(access, offset, size, 0, old, hooks);
        value = load(region, WB_VALUE, offset) & mask;
    }
    answer = value & load(region, WB_READABLE, offset);
    now = ((value & ~load(region, WB_RC, offset)) | load(region, WB_RS, offset)) & mask;
    if (now != value) {
        store(region, WB_VALUE, offset, now, mask);
        touch_control_locked(access, offset, size);
    }
    access->known |= (load(region, WB_KNOWN, offset) & mask) != 0;
    note(access, offset, old, now);
    memcpy(bytes, &answer, size);
}

/* The rules of enum wb_plane, in its order. */
static inline uint64_t written(const struct wb_region *region, uint64_t at, uint64_t value, uint64_t data)
{
    uint64_t once = load(region, WB_ONCE, at) & ~load(region, WB_SPENT, at);
    uint64_t writable = load(region, WB_WRITABLE, at) | once;

    value = (value & ~writable) | (data & writable);
    value = (value & ~(data & load(region, WB_W1C, at))) | (data & load(region, WB_W1S, at));
    value ^= data & load(region, WB_W1T, at);
    value = (value & ~(~data & load(region, WB_W0C, at))) | (~data & load(region, WB_W0S, at));
    value ^= ~data & load(region, WB_W0T, at);
    value = (value & ~load(region, WB_WCLR, at)) | load(region, WB_WSET, at);
    return value | (data & load(region, WB_PULSE, at));
}

/* What a register shows of itself: stored bits, and write-only ones as last written. */
static uint64_t shown(const struct wb_region *region, uint64_t offset, uint64_t mask)
{
    uint64_t latched = load(region, WB_WO, offset);

    return ((load(region, WB_VALUE, offset) & ~latched) | (load(region, WB_LATCH, offset) & latched)) & mask;
}

static void write_chunk(struct access *access, uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    struct wb_region *region = access->region;
    uint64_t mask = size_mask(size), data = 0, before = shown(region, offset, mask);
    uint64_t old, changed, known, pulse, hooks;

    memcpy(&data, bytes, size);
    old = load(region, WB_VALUE, offset) & mask;
    known = load(region, WB_KNOWN, offset) & mask;
    pulse = load(region, WB_PULSE, offset) & mask;
    changed = data ^ (old & load(region, WB_READABLE, offset));
    if (changed & ~load(region, WB_ACCEPT, offset) & whole_bytes(known))
        access->record.flags |= WB_VIOLATION;
    access->known |= known != 0;
    store(region, WB_VALUE, offset, written(region, offset, old, data), mask);
    store(region, WB_SPENT, offset, UINT64_MAX, load(region, WB_ONCE, offset) & mask);
    store(region, WB_LATCH, offset, data, load(region, WB_WO, offset) & mask);
    touch_control_locked(access, offset, size);
    note(access, offset, before, shown(region, offset, mask));
    hooks = hooked(region, offset, mask, WRITES);
    if (hooks)
        call_hook(access, offset, size, data, before, hooks);
    if (pulse)
        store(region, WB_VALUE, offset, 0, pulse);
}

/* Pages that the client maps have no rules. */
static void shared_chunk(struct access *access, uint64_t offset, uint8_t *out, const uint8_t *in,
                         uint32_t size)
{
    uint32_t shown = size < 8 ? size : 8;
    uint64_t old = 0, now = 0;

    wb_share_get_locked(access->region, offset, (uint8_t *)&old, shown);
    if (out)
        wb_share_get_locked(access->region, offset, out, size);
    else
        wb_share_put_locked(access->region, offset, in, size);
    memcpy(&now, out ? out : in, shown);
    access->known = 1;
    note(access, offset, out ? now : old, now);
}

/*
 * Bytes of the next chunk: the whole of a short access, else up to the next multiple of 8; of pages that are
 * not programmed, or shared, up to the page's end. Where one page is shared and the next is not, it ends.
 */
static inline uint32_t chunk_size(const struct access *access, uint64_t offset, uint32_t rest)
{
    const struct wb_region *region = access->region;
    uint32_t to_boundary = 8 - (uint32_t)(offset % 8), to_end = (uint32_t)wb_to_page_end(offset, rest);

    if (access->record.size <= 8)
        return region->shared ? to_end : rest;
    if (wb_page_shared(region, offset) || !wb_page_programmed(region, offset))
        return to_end;
    return rest < to_boundary ? rest : to_boundary;
}

static int begin(struct access *access, uint8_t kind, uint32_t region, uint64_t offset, uint32_t size,
                 uint32_t origin)
{
    uint32_t needs = kind == WB_KIND_READ ? WB_REGION_READ : WB_REGION_WRITE;
    int result = find_region(access->device, region, offset, size, &access->region);

    if (result)
        return result;
    if (size > WB_MAX_TRANSFER || origin >= WB_ORIGINS)
        return -EINVAL;
    if (!(access->region->flags & needs))
        return -EACCES;
    access->record = (wb_record){
        .time = wb_clock(), .kind = kind, .origin = (uint8_t)origin, .region = (uint8_t)region,
        .offset = offset, .size = size, .flags = size > 8 ? WB_LONG : 0,
    };
    return 0;
}

static void finish_locked(struct access *access, const uint8_t *bytes)
{
    wb_record *record = &access->record;

    memcpy(&record->value, bytes, record->size < 8 ? record->size : 8);
    if (!access->known)
        record->flags |= WB_UNMAPPED;
    record->latency = wb_elapsed(record->time);
    wb_log_add_locked(access->device, record);
}

/* The function sleeps: reads are all ones, writes are lost. */
static int sleep_through(struct access *access, uint8_t *out, const uint8_t *in)
{
    if (out)
        memset(out, 0xff, access->record.size);
    access->record.flags |= WB_ASLEEP;
    access->known = 1;
    wb_lock(access->device);
    finish_locked(access, out ? out : in);
    wb_unlock(access->device);
    return 0;
}

/* Between two pages of a long access others may have the lock. */
static inline void breathe(struct access *access, uint64_t offset)
{
    if (offset % WB_PAGE == 0 && offset != access->record.offset) {
        wb_unlock(access->device);
        wb_lock(access->device);
    }
}

/* The access in chunks; of `out` (a read) and `in` (a write) the other is NULL. */
static inline int carry_out(wb_device *device, uint32_t region, uint64_t offset, uint8_t *out,
                            const uint8_t *in, uint32_t size, uint32_t origin, uint16_t flags)
{
    struct access access = {.device = device};
    int result = begin(&access, out ? WB_KIND_READ : WB_KIND_WRITE, region, offset, size, origin);

    if (result || !size)
        return result;
    access.record.flags |= flags;
    if (wb_asleep(device) && region != WB_CONFIG)
        return sleep_through(&access, out, in);
    wb_lock(device);
    for (uint32_t done = 0, n; done < size; done += n) {
        uint64_t at = offset + done;

        breathe(&access, at);
        n = chunk_size(&access, at, size - done);
        if (wb_page_shared(access.region, at))
            shared_chunk(&access, at, out ? out + done : NULL, in ? in + done : NULL, n);
        else if (chunk_programmed(access.region, at, n) && out)
            read_chunk(&access, at, out + done, n);
        else if (chunk_programmed(access.region, at, n))
            write_chunk(&access, at, in + done, n);
        else if (out)
            memset(out + done, 0, n);
    }
    finish_locked(&access, out ? out : in);
    wb_unlock(device);
    if (access.due)
        wb_function_reset(device, access.due);
    return 0;
}

int wb_region_read(wb_device *device, uint32_t region, uint64_t offset, uint8_t *bytes,
                   uint32_t size, uint32_t origin)
{
    return carry_out(device, region, offset, bytes, NULL, size, origin, 0);
}

int wb_region_write(wb_device *device, uint32_t region, uint64_t offset, const uint8_t *bytes,
                    uint32_t size, uint32_t origin)
{
    return carry_out(device, region, offset, NULL, bytes, size, origin, 0);
}

int wb_region_signal(wb_device *device, const struct wb_doorbell *bell)
{
    return carry_out(device, bell->region, bell->offset, NULL, (const uint8_t *)&bell->value, bell->size,
                     WB_GUEST, WB_SIGNALLED);
}
