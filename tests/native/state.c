/*
 * state.c - dirty pages against a plain model, and everything that holds a device still, from many threads.
 */
#include "harness.h"

enum { PAGE = 4096, PAGES = 256, ROUNDS = 400 };

static wb_device *device;
static int pair[2];
static int over;                /* atomic */

static unsigned next_random(void)
{
    static unsigned state = 1;

    return state = state * 1103515245u + 12345u;
}

static void map(uint64_t iova, uint64_t size, int sealed)
{
    wb_dma_range range = {.iova = iova, .size = size, .flags = WB_DMA_READABLE | WB_DMA_WRITABLE};

    CHECK(!wb_dma_map(device, &range, sealed ? sealed_file(size) : memory_file(size)));
}

/* ---- one thread: a model of bytes */

static void report(const uint8_t *model, uint64_t base, uint64_t iova, uint64_t length, uint64_t page_size)
{
    uint64_t words = (length - 1) / page_size / 64 + 1, *bits = malloc(words * sizeof *bits);

    CHECK(!wb_dirty_report(device, iova, length, page_size, bits, words));
    for (uint64_t bit = 0; bit < words * 64; bit++) {
        int wanted = 0;

        for (uint64_t at = bit * page_size; at < (bit + 1) * page_size && at < length;
             at += 512 - (iova + at) % 512)
            wanted |= model[(iova + at - base) / PAGE];
        CHECK((int)(bits[bit / 64] >> bit % 64 & 1) == wanted);
    }
    free(bits);
}

static void test_model(uint64_t base)
{
    static uint8_t model[PAGES], bytes[8 * PAGE];
    uint64_t page_size = 1;

    memset(model, 0, sizeof model);
    CHECK(!wb_dirty_start(device, &page_size, NULL, 0) && page_size == PAGE);
    CHECK(wb_dirty_start(device, &page_size, NULL, 0) == -EBUSY);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t at = next_random() % (PAGES * PAGE), size = next_random() % sizeof bytes + 1;

        if (size > PAGES * PAGE - at)
            size = PAGES * PAGE - at;
        CHECK(!wb_dma_write(device, base + at, bytes, size, WB_DEVICE));
        for (uint64_t page = at / PAGE; page <= (at + size - 1) / PAGE; page++)
            model[page] = 1;
        if (i % 8)
            continue;
        report(model, base, base + at, size, UINT64_C(512) << next_random() % 10);
        for (uint64_t page = (at + PAGE - 1) / PAGE; page < (at + size) / PAGE; page++)
            model[page] = 0;
    }
    report(model, base, base, PAGES * PAGE, PAGE);
    CHECK(!wb_dirty_stop(device) && wb_dirty_stop(device) == -EINVAL);
}

static void test_ranges(void)
{
    const wb_dma_span wrong[][2] = {
        {{0, 0}, {PAGE, PAGE}}, {{0, 2 * PAGE}, {PAGE, PAGE}}, {{UINT64_MAX - 1, 3}, {0, 1}},
    };
    const wb_dma_span last = {UINT64_MAX - PAGE + 1, PAGE};
    uint64_t page_size = PAGE, bits[4];

    for (int i = 0; i < 3; i++)
        CHECK(wb_dirty_start(device, &page_size, wrong[i], 2) == -EINVAL);
    CHECK(wb_dirty_start(device, &page_size, wrong[0], WB_MAX_LOGGED + 1) == -EINVAL);
    page_size = 3;
    CHECK(wb_dirty_start(device, &page_size, NULL, 0) == -EINVAL);
    page_size = UINT64_C(1) << 63;
    CHECK(!wb_dirty_start(device, &page_size, &last, 1) && page_size == UINT64_C(1) << 63);
    CHECK(wb_dirty_report(device, last.iova, PAGE, 0, bits, 1) == -EINVAL);
    CHECK(wb_dirty_report(device, last.iova, PAGE, 1, bits, 4) == -EINVAL);
    CHECK(wb_dirty_report(device, last.iova, PAGE + 1, PAGE, bits, 1) == -EINVAL);
    CHECK(wb_dirty_report(device, last.iova - 1, PAGE, PAGE, bits, 1) == -EINVAL);
    CHECK(!wb_dirty_report(device, last.iova, PAGE, 16, bits, 4) && !bits[0]);
    CHECK(!wb_dma_write(device, UINT64_MAX, (const uint8_t *)"x", 1, WB_DEVICE));
    CHECK(!wb_dirty_report(device, last.iova, PAGE, 16, bits, 4));
    CHECK(bits[0] == UINT64_MAX);
    CHECK(bits[3] == UINT64_MAX);
    CHECK(!wb_dirty_stop(device));
}

static void test_pages(void)
{
    uint64_t at = 0;
    unsigned found = 0;

    for (; wb_state_next(device, WB_BAR0, &at) > 0; at += PAGE)
        found |= 1u << at / PAGE;
    CHECK(found == (1 << 0 | 1 << 2 | 1 << 3));     /* of four pages one was left alone */
    at = UINT64_MAX;
    CHECK(!wb_state_next(device, WB_BAR0, &at) && wb_state_next(device, WB_ROM, &at) == -EINVAL);
    CHECK(wb_state_next(device, UINT32_MAX, &at) == -EINVAL);
}

/* ---- many threads */

static void *serve(void *unused)
{
    (void)unused;
    CHECK(!wb_serve(device, pair[1]));
    return NULL;
}

static void *copy(void *number)
{
    static const uint8_t bytes[4 * PAGE];
    uint64_t at = 100 + 8 * PAGE * (uint64_t)(uintptr_t)number;     /* each its own */

    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        int result = wb_dma_write(device, at, bytes, sizeof bytes, WB_DEVICE);

        CHECK(!result || result == -ESHUTDOWN || result == -EFAULT);
        CHECK(wb_irq_trigger(device, WB_MSIX, 1, WB_DEVICE) >= 0);
        CHECK(wb_irq_level(device, 2, 1, WB_DEVICE) >= 0);
        CHECK(wb_irq_level(device, 2, 0, WB_DEVICE) >= 0);
    }
    return NULL;
}

static void *hold(void *unused)
{
    wb_irq_state state;

    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        CHECK(!wb_gate_hold(device, 20000));
        wb_state_halt(device, WB_HALT_RESTORE, 1);
        wb_state_get(device, &state);
        wb_state_set(device, &state);
        wb_state_halt(device, WB_HALT_RESTORE, 0);
        wb_gate_release(device);
    }
    (void)unused;
    return NULL;
}

static void *log_pages(void *unused)
{
    uint64_t bits[PAGES / 64], page_size;

    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        page_size = PAGE;
        CHECK(!wb_dirty_start(device, &page_size, NULL, 0));
        CHECK(!wb_dirty_report(device, 0, PAGES * PAGE, PAGE, bits, PAGES / 64));
        wb_state_halt(device, WB_HALT_STOP, 1);
        CHECK(!wb_dirty_stop(device));
        wb_state_halt(device, WB_HALT_STOP, 0);
    }
    (void)unused;
    return NULL;
}

static void test_threads(void)
{
    void *(*const bodies[])(void *) = {serve, copy, copy, hold, hold, log_pages};
    struct { uint64_t offset; uint32_t region, count; uint8_t data[16]; } access = {32, WB_BAR0, 16, {0}};
    pthread_t threads[6];

    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    for (int i = 0; i < 6; i++)
        CHECK(!pthread_create(&threads[i], NULL, bodies[i], (void *)(uintptr_t)i));
    CHECK(!ask(pair[0], 1, "\0\0\0", 4, NULL, 0));
    for (int i = 0; i < ROUNDS / 4; i++) {
        CHECK(!ask(pair[0], 10, &access, sizeof access, NULL, 0));
        CHECK(!ask(pair[0], 9, &access, 16, NULL, 0));
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (int i = 1; i < 6; i++)
        CHECK(!pthread_join(threads[i], NULL));
    shutdown(pair[0], SHUT_RDWR);
    CHECK(!pthread_join(threads[0], NULL));
    close(pair[0]);
    close(pair[1]);
}

/* A source that the device does not have could never go down again. */
static void test_sources_that_are_not_there(void)
{
    wb_irq_state state = {.sources = {1 << 7 | 1 << 8, 1}};
    wb_irq_status status;

    wb_state_set(device, &state);
    CHECK(!wb_irq_get(device, WB_INTX, 0, &status) && status.asserted);
    CHECK(wb_irq_level(device, 7, 0, WB_DEVICE) >= 0);
    CHECK(!wb_irq_get(device, WB_INTX, 0, &status) && !status.asserted);
    wb_state_get(device, &state);
    CHECK(!state.sources[0] && !state.sources[1]);
}

int main(void)
{
    struct stub stub;
    uint64_t page_size = PAGE;

    device = make_device(&stub);
    map(0, PAGES * PAGE, 1);
    map(UINT64_C(1) << 40, PAGES * PAGE, 0);
    map(UINT64_MAX - PAGE + 1, PAGE, 1);
    test_model(0);
    test_model(UINT64_C(1) << 40);
    test_ranges();
    test_pages();
    test_sources_that_are_not_there();
    test_threads();
    CHECK(!wb_dirty_start(device, &page_size, NULL, 0));    /* freed with the device */
    wb_device_free(device);
    return 0;
}
