/*
 * hooks.c - native hooks: what they are told, what fails, and 10,000 swaps while others touch and reset the
 * device.
 */
#include "harness.h"

#include <sched.h>

enum { SWAPS = 10000, MAGIC = 0x5eed };

static wb_device *device;
static struct stub stub;
static uint64_t calls;          /* of native hooks; atomic */
static int over;                /* atomic */

struct memory {                 /* the state of a slot: gone with it */
    uint32_t magic;
    uint32_t calls;
};

/* ---- one thread ---- */

static int note(const wb_native *wb, wb_touch *touch)
{
    *(wb_touch *)wb->state = *touch;
    return touch->value == 0xbad ? -EINVAL : 0;
}

static int answer(const wb_native *wb, wb_touch *touch)
{
    touch->value = wb->peek(wb, 0, 24, 4) + wb->state_size;
    return 0;
}

static int again(const wb_native *wb, wb_touch *touch)
{
    (void)touch;
    return wb_region_write(wb->device, WB_BAR0, 24, (const uint8_t *)"abcd", 4, WB_DEVICE);
}

static int use_all(const wb_native *wb, wb_touch *touch)
{
    uint8_t byte = 1;

    CHECK(wb->now() > 0);
    CHECK(wb->poke(wb, 0, 48, touch->value, 4) == 0);
    CHECK(wb->peek(wb, 0, 48, 4) == touch->value);
    CHECK(wb->poke(wb, 0, UINT64_MAX, 1, 1) == -EINVAL);
    CHECK(wb->peek(wb, 99, 0, 1) == 0);
    CHECK(wb->peek(wb, 0, 0, 9) == 0);
    CHECK(wb->trigger(wb, 0) >= 0 && wb->level(wb, 0, 1) >= 0 && wb->level(wb, 0, 0) >= 0);
    return wb->dma_read(wb, 0x1000, &byte, 1) == -EFAULT ? wb->dma_write(wb, 0x1000, &byte, 1) : 1;
}

static wb_native_slot slot_of(wb_native_hook hook, uint64_t offset, uint32_t size, uint8_t write, void *state)
{
    return (wb_native_slot){
        .hook = hook, .offset = offset, .size = size, .write = write, .revision = 3, .index = 5,
        .wb = {.state = state, .state_size = 4},
    };
}

static wb_record last_record(void)
{
    uint64_t since = wb_log_count(device) - 1;
    wb_record record;

    CHECK(wb_log_copy(device, &since, &record, 1) == 1);
    return record;
}

static void tell(void)
{
    uint8_t bytes[8] = {0xad, 0x0b};
    wb_touch told = {0}, other = {0};
    wb_native_slot slot = slot_of(note, 24, 4, 1, &told), next = slot_of(note, 28, 2, 1, &other);
    wb_access access = {.offset = 24, .size = 2, .write = 1, .value = 0xbad};

    CHECK(!wb_native_swap(device, NULL, &next, 0) && !wb_native_swap(device, NULL, &slot, 0));
    CHECK(!wb_region_write(device, WB_BAR0, 25, (const uint8_t *)"\1\2\3\4\5", 5, WB_GUEST));
    CHECK(told.value == 0x03020100 && told.mask == 0xffffff00 && told.offset == 25 && told.size == 5);
    CHECK(other.value == 0x0504 && other.mask == 0xffff && told.write && told.index == 5 && slot.calls == 1);
    CHECK(last_record().flags & WB_HOOK_RAN && last_record().revision == 3);
    CHECK(!wb_region_write(device, WB_BAR0, 24, bytes, 4, WB_NOTEBOOK));
    CHECK(last_record().flags & WB_HOOK_FAILED && slot.errors == 1 && slot.result == -EINVAL);
    CHECK(wb_native_call(device, &slot, &access) == -EINVAL && told.mask == 0xffff);
    CHECK(!wb_native_swap(device, &slot, NULL, 0) && !wb_native_swap(device, &next, NULL, 0));
    CHECK(!wb_region_write(device, WB_BAR0, 24, bytes, 8, WB_GUEST) && slot.calls == 3 && next.calls == 1);
    CHECK(!(last_record().flags & WB_HOOK_RAN) && !wb_native_busy(device, &slot));
}

static void answer_and_nest(void)
{
    uint8_t bytes[4] = {1, 0, 0, 0};
    wb_native_slot reads = slot_of(answer, 32, 4, 0, NULL), nested = slot_of(again, 24, 4, 1, NULL);
    wb_native_slot all = slot_of(use_all, 40, 4, 1, NULL), wrong = slot_of(note, BAR_SIZE - 1, 4, 1, NULL);
    const wb_access chosen = {.offset = 40, .size = 4, .region = WB_BAR0, .write = 1};

    CHECK(wb_native_swap(device, NULL, &wrong, 0) == -EINVAL);
    CHECK(wb_native_swap(device, NULL, NULL, 0) == -EINVAL);
    wrong.offset = 24;
    wrong.write = 2;
    CHECK(wb_native_swap(device, NULL, &wrong, 0) == -EINVAL);
    CHECK(!wb_region_write(device, WB_BAR0, 24, bytes, 4, WB_GUEST));
    CHECK(!wb_native_swap(device, NULL, &reads, 0));
    CHECK(!wb_region_read(device, WB_BAR0, 32, bytes, 4, WB_GUEST) && bytes[0] == 5 && bytes[1] == 0);
    CHECK(!wb_native_swap(device, NULL, &nested, 0));
    CHECK(!wb_region_write(device, WB_BAR0, 24, bytes, 4, WB_GUEST));
    CHECK(nested.errors == 1 && nested.result == -ELOOP && nested.calls == 33);
    CHECK(wb_native_call(device, &all, &chosen) == -EFAULT && all.calls == 1);
    CHECK(!wb_native_swap(device, NULL, &all, 0));
    CHECK(!wb_region_write(device, WB_BAR0, 40, bytes, 4, WB_GUEST));
    CHECK(all.errors == 2 && all.result == -EFAULT);
    CHECK(!wb_native_swap(device, &reads, NULL, 0) && !wb_native_swap(device, &nested, NULL, 0));
    CHECK(!wb_native_swap(device, &all, NULL, 0));
}

/* A table with many slots: put in backwards, found, taken out. */
static void crowd(void)
{
    static wb_native_slot slots[500];
    wb_touch told;
    uint8_t bytes[8] = {0};

    for (unsigned i = 500; i--;) {
        slots[i] = slot_of(note, 8 * i, 4, 0, &told);
        CHECK(!wb_native_swap(device, NULL, &slots[i], 0));
    }
    for (unsigned i = 0; i < 500; i += 2)
        CHECK(!wb_native_swap(device, &slots[i], NULL, 0));
    for (unsigned i = 2; i < 500; i++)          /* the first 16 bytes have the hooks of harness.h */
        CHECK(!wb_region_read(device, WB_BAR0, 8 * i, bytes, 8, WB_GUEST) && slots[i].calls == i % 2);
    for (unsigned i = 1; i < 500; i += 2)
        CHECK(!wb_native_swap(device, &slots[i], NULL, 0));
}

/* ---- the storm ---- */

static int count(const wb_native *wb, wb_touch *touch)
{
    struct memory *memory = wb->state;

    CHECK(memory->magic == MAGIC);
    memory->calls++;            /* one hook runs at a time: no atomic needed */
    wb->poke(wb, 0, 48, touch->value, 4);
    CHECK(wb->peek(wb, 0, 64, 4) == wb->peek(wb, 0, 10000, 4));     /* never half a reset */
    wb->poke(wb, 0, 64, 1, 4);
    wb->poke(wb, 0, 10000, 1, 4);
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    CHECK(memory->magic == MAGIC);
    return 0;
}

static void *touch(void *made)
{
    uint8_t bytes[4] = {0};

    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        CHECK(!wb_region_write(device, WB_BAR0, 24, bytes, 4, WB_GUEST));
        ++*(uint64_t *)made;
    }
    return NULL;
}

static void *reset(void *unused)
{
    for (uint64_t next = 64; !__atomic_load_n(&over, __ATOMIC_RELAXED); sched_yield()) {
        if (__atomic_load_n(&calls, __ATOMIC_RELAXED) < next)
            continue;
        wb_device_reset(device, WB_RESET_NOTEBOOK);
        next += 64;
    }
    return unused;
}

static wb_native_slot *new_slot(uint16_t revision)
{
    wb_native_slot *slot = calloc(1, sizeof *slot);
    struct memory *memory = calloc(1, sizeof *memory);

    CHECK(slot && memory);
    memory->magic = MAGIC;
    *slot = slot_of(count, 24, 4, 1, memory);
    slot->revision = revision;
    return slot;
}

/* What was taken out is freed as soon as it is idle, which the sanitizers watch. */
static void retire(wb_native_slot *slot)
{
    struct memory *memory = slot->wb.state;

    while (wb_native_busy(device, slot))
        sched_yield();
    CHECK(memory->calls == slot->calls);
    memset(memory, 0, sizeof *memory);
    free(memory);
    free(slot);
}

static void storm(unsigned swaps)
{
    pthread_t threads[4];
    uint64_t made[3] = {0}, all = 0;
    wb_native_slot *slot = new_slot(1), *next;

    CHECK(!wb_native_swap(device, NULL, slot, 0));
    __atomic_store_n(&stub.hooks, 0, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++)
        CHECK(!pthread_create(&threads[i], NULL, touch, &made[i]));
    CHECK(!pthread_create(&threads[3], NULL, reset, NULL));
    while (!__atomic_load_n(&calls, __ATOMIC_RELAXED))  /* a busy machine starts threads late */
        sched_yield();
    for (unsigned i = 0; i < swaps; i++) {
        next = new_slot((uint16_t)i);
        if (i % 8 == 0)         /* by way of Python */
            CHECK(!wb_native_swap(device, slot, NULL, 1) && !wb_native_swap(device, NULL, next, 0));
        else
            CHECK(!wb_native_swap(device, slot, next, 0));
        retire(slot);
        slot = next;
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(!pthread_join(threads[i], NULL));
        all += made[i];
    }
    CHECK(!pthread_join(threads[3], NULL));
    CHECK(all == calls + (uint64_t)stub.hooks && calls > 0);    /* each by one revision, none by two */
    CHECK(!wb_native_swap(device, slot, NULL, 0));
    retire(slot);
}

int main(int arguments, char **words)
{
    device = make_device(&stub);
    tell();
    answer_and_nest();
    crowd();
    storm(arguments > 1 ? (unsigned)atoi(words[1]) : SWAPS);
    wb_device_free(device);
    return 0;
}
