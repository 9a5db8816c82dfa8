/*
 * native.c - hooks in machine code: found, called without Python and without the lock, counted, swapped.
 *
 * The slots of a region are sorted by offset, and a register has at most 8 bytes: those that an access
 * touches follow one another and are found by bisection. All of them are pinned (`running`) under the lock
 * before the first is called, so that each access is answered by one revision of each, and whoever takes a
 * slot out knows when it is idle. One thread at a time runs native hooks; it may come back to them through an
 * access of its own.
 */
#include "planes.h"

#include <stdlib.h>

enum {
    MOST = 24,                  /* registers that 8 bytes can touch: two may share each */
    DEPTH = 32,                 /* hooks within hooks */
    HOLD_SECONDS = 1
};

/* ---- what a hook may call ---- */

static uint64_t peek(const wb_native *wb, uint32_t region, uint64_t offset, uint32_t size)
{
    uint64_t word = 0;

    if (size > 8 || wb_region_get(wb->device, region, WB_VALUE, offset, (uint8_t *)&word, size))
        return 0;
    return word;
}

static int poke(const wb_native *wb, uint32_t region, uint64_t offset, uint64_t value, uint32_t size)
{
    return wb_region_poke(wb->device, region, WB_VALUE, offset, value, UINT64_MAX, size, WB_DEVICE);
}

static int trigger(const wb_native *wb, uint32_t vector)
{
    return wb_irq_trigger(wb->device, WB_IRQ_ANY, vector, WB_DEVICE);
}

static int level(const wb_native *wb, uint32_t source, int up)
{
    return wb_irq_level(wb->device, source, up, WB_DEVICE);
}

static int dma_read(const wb_native *wb, uint64_t iova, void *bytes, uint64_t size)
{
    return wb_dma_read(wb->device, iova, bytes, size, WB_DEVICE);
}

static int dma_write(const wb_native *wb, uint64_t iova, const void *bytes, uint64_t size)
{
    return wb_dma_write(wb->device, iova, bytes, size, WB_DEVICE);
}

/* Once: Python may be asked for a slot, and call it, that is not in the table yet or never will be. */
static void equip_locked(wb_device *device, wb_native_slot *slot)
{
    if (slot->wb.device == device)
        return;
    slot->wb.device = device;
    slot->wb.peek = peek;
    slot->wb.poke = poke;
    slot->wb.trigger = trigger;
    slot->wb.level = level;
    slot->wb.dma_read = dma_read;
    slot->wb.dma_write = dma_write;
    slot->wb.now = wb_clock;
}

/* ---- the tables ---- */

/* The first slot that may reach to the offset: none is longer than 8 bytes. */
static uint32_t first_near(const struct wb_natives *natives, uint64_t offset)
{
    uint64_t from = offset < 7 ? 0 : offset - 7;
    uint32_t low = 0, high = natives->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (natives->slots[middle]->offset < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline int touches(const wb_native_slot *slot, uint64_t offset, uint64_t size)
{
    return slot->offset < offset + size && slot->offset + slot->size > offset;
}

static struct wb_natives *table_of(wb_device *device, const wb_native_slot *slot)
{
    return &device->natives[slot->region][slot->write];
}

static void take_out_locked(struct wb_natives *natives, const wb_native_slot *slot)
{
    for (uint32_t i = first_near(natives, slot->offset); i < natives->count; i++) {
        if (natives->slots[i] != slot)
            continue;
        natives->count--;
        memmove(natives->slots + i, natives->slots + i + 1, (natives->count - i) * sizeof *natives->slots);
        return;
    }
}

static void put_in_locked(struct wb_natives *natives, wb_native_slot *slot)
{
    uint32_t at = first_near(natives, slot->offset);

    while (at < natives->count && natives->slots[at]->offset <= slot->offset)
        at++;
    memmove(natives->slots + at + 1, natives->slots + at, (natives->count - at) * sizeof *natives->slots);
    natives->slots[at] = slot;
    natives->count++;
}

static int make_room_locked(struct wb_natives *natives)
{
    uint32_t room = natives->room ? 2 * natives->room : 8;
    wb_native_slot **slots;

    if (natives->count < natives->room)
        return 0;
    slots = realloc(natives->slots, room * sizeof *slots);
    if (!slots)
        return -ENOMEM;
    natives->slots = slots;
    natives->room = room;
    return 0;
}

/* Says of the bytes of a register who is asked: Python, and whatever slot is left there. */
static void mark_locked(wb_device *device, const wb_native_slot *of, int python)
{
    struct wb_region *region = &device->regions[of->region];
    const struct wb_natives *natives = table_of(device, of);
    uint8_t *hooks = wb_plane_at(region, WB_HOOKS, of->offset);
    uint8_t upcall = of->write ? WB_HOOK_WRITE : WB_HOOK_READ;
    uint8_t native = of->write ? WB_HOOK_NATIVE_WRITE : WB_HOOK_NATIVE_READ;

    for (uint32_t i = 0; i < of->size; i++) {
        uint64_t page = (of->offset + i) / WB_PAGE;

        region->programmed[page / 64] |= UINT64_C(1) << (page % 64);
        hooks[i] = (uint8_t)((hooks[i] & ~(upcall | native)) | (python ? upcall : 0));
    }
    for (uint32_t n = first_near(natives, of->offset); n < natives->count; n++) {
        const wb_native_slot *slot = natives->slots[n];

        if (slot->offset >= of->offset + of->size)
            return;
        for (uint32_t i = 0; i < of->size; i++)
            if (touches(slot, of->offset + i, 1))
                hooks[i] |= native;
    }
}

static int unfit(wb_device *device, const wb_native_slot *slot)
{
    struct wb_region *region;
    int result = find_region(device, slot->region, slot->offset, slot->size, &region);

    return result || !slot->size || slot->size > 8 || slot->write > 1;
}

int wb_native_swap(wb_device *device, wb_native_slot *before, wb_native_slot *after, int python)
{
    int result = 0;

    if ((!before && !after) || (before && unfit(device, before))
        || (after && (unfit(device, after) || !after->hook)))
        return -EINVAL;
    wb_lock(device);
    if (after) {
        equip_locked(device, after);
        result = make_room_locked(table_of(device, after));
    }
    if (!result && before)
        take_out_locked(table_of(device, before), before);
    if (!result && after)
        put_in_locked(table_of(device, after), after);
    if (!result && before)
        mark_locked(device, before, python);
    if (!result && after)
        mark_locked(device, after, python);
    wb_unlock(device);
    return result;
}

int wb_native_busy(wb_device *device, const wb_native_slot *slot)
{
    int busy;

    wb_lock(device);
    busy = slot->running != 0;
    wb_unlock(device);
    return busy;
}

void wb_native_free(wb_device *device)
{
    for (unsigned i = 0; i < WB_REGIONS; i++) {
        free(device->natives[i][0].slots);
        free(device->natives[i][1].slots);
    }
}

/* ---- running ---- */

/* One thread at a time; 0: it is this one's turn, and it says so by leave_locked(). */
static int enter_locked(wb_device *device)
{
    while (device->native_depth && !pthread_equal(device->native_thread, pthread_self())) {
        device->native_waiters++;
        pthread_cond_wait(&device->native_over, &device->lock);
        device->native_waiters--;
    }
    if (device->native_depth >= DEPTH)
        return -ELOOP;
    device->native_thread = pthread_self();
    device->native_depth++;
    return 0;
}

static void leave_locked(wb_device *device)
{
    if (!--device->native_depth && device->native_waiters)
        pthread_cond_signal(&device->native_over);
}

int wb_native_hold_locked(wb_device *device)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += HOLD_SECONDS;
    while (device->native_depth && !pthread_equal(device->native_thread, pthread_self())) {
        int late;

        device->native_waiters++;
        late = pthread_cond_timedwait(&device->native_over, &device->lock, &until);
        device->native_waiters--;
        if (late)
            return 0;
    }
    device->native_thread = pthread_self();
    device->native_depth++;
    return 1;
}

void wb_native_release_locked(wb_device *device, int held)
{
    if (held)
        leave_locked(device);
}

static inline uint64_t shifted(uint64_t value, int bits)
{
    return bits >= 0 ? value << bits : value >> -bits;
}

/* The access as the register of the slot would show it; the bytes it did not touch are as they are stored. */
static wb_touch touch_locked(const struct wb_region *region, const wb_native_slot *slot,
                             const wb_access *told)
{
    int shift = 8 * (int)((int64_t)told->offset - (int64_t)slot->offset);
    uint64_t whole = size_mask(slot->size), stored = load(region, WB_VALUE, slot->offset) & whole;
    uint64_t mask = shifted(size_mask(told->size), shift) & whole;

    return (wb_touch){
        .offset = told->offset, .size = told->size, .index = slot->index, .mask = mask,
        .value = told->write ? shifted(told->value, shift) & whole : stored,
        .old = (shifted(told->old, shift) & mask) | (stored & ~mask),
        .region = told->region, .origin = told->origin, .write = told->write,
    };
}

static void count_locked(wb_native_slot *slot, int result)
{
    if (slot->began) {
        uint32_t took = wb_elapsed(slot->began);

        slot->times[slot->calls / WB_NATIVE_SAMPLED % WB_NATIVE_TIMES] = took;
        slot->longest = took > slot->longest ? took : slot->longest;
        slot->began = 0;
    }
    slot->calls++;
    if (result) {
        slot->errors++;
        slot->result = result;
    }
}

/* What a hook says will be answered, and by which way: what it pokes itself is there already. */
static void answer_locked(wb_device *device, const wb_native_slot *slot, uint64_t value)
{
    struct access access = {.device = device, .region = &device->regions[slot->region]};

    store(access.region, WB_VALUE, slot->offset, value, size_mask(slot->size));
    touch_control_locked(&access, slot->offset, slot->size);
}

/* Calls a pinned slot and unpins it; what it returned. */
static int call_locked(wb_device *device, wb_native_slot *slot, const wb_access *told)
{
    int result = enter_locked(device), entered = !result;
    wb_touch touch = touch_locked(&device->regions[slot->region], slot, told);
    uint64_t before = touch.value;

    if (entered) {
        if (slot->calls % WB_NATIVE_SAMPLED == 0 && !slot->began)
            slot->began = wb_clock();
        wb_unlock(device);
        result = slot->hook(&slot->wb, &touch);
        wb_lock(device);
        leave_locked(device);
    }
    if (!result && !told->write && touch.value != before)
        answer_locked(device, slot, touch.value);
    count_locked(slot, result);
    slot->running--;
    return result;
}

void wb_native_run_locked(wb_device *device, wb_access *told)
{
    const struct wb_natives *natives = &device->natives[told->region][told->write];
    wb_native_slot *found[MOST];
    uint32_t count = 0;

    told->flags = 0;
    for (uint32_t i = first_near(natives, told->offset); i < natives->count && count < MOST; i++) {
        wb_native_slot *slot = natives->slots[i];

        if (slot->offset >= told->offset + told->size)
            break;
        if (touches(slot, told->offset, told->size)) {
            slot->running++;
            found[count++] = slot;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint16_t revision = found[i]->revision;

        told->flags |= WB_HOOK_RAN | (call_locked(device, found[i], told) ? WB_HOOK_FAILED : 0);
        told->revision = revision;
    }
}

int wb_native_call(wb_device *device, wb_native_slot *slot, const wb_access *access)
{
    int result;

    if (slot->region != access->region || !touches(slot, access->offset, access->size))
        return -EINVAL;
    wb_lock(device);
    equip_locked(device, slot);
    slot->running++;
    result = call_locked(device, slot, access);
    wb_unlock(device);
    return result;
}
