/*
 * threads.c - everything at once: a client, the loop, and threads that trigger, poke, reset, copy and wait.
 */
#include "harness.h"
#include "wb_python.h"

static wb_device *device;
static struct stub stub;
static int pair[2];
static int over;                /* atomic: the client has finished */

static int running(void)
{
    return !__atomic_load_n(&over, __ATOMIC_RELAXED);
}

/* Two of the threads share an interpreter, as those of Python do. */
static pthread_mutex_t interpreter = PTHREAD_MUTEX_INITIALIZER;

static void *let_go(void)
{
    CHECK(!pthread_mutex_unlock(&interpreter));
    return &interpreter;
}

static void take_back(void *held)
{
    CHECK(held == &interpreter && !pthread_mutex_lock(&interpreter));
}

static void hold(int on)
{
    if (on)
        CHECK(!pthread_mutex_lock(&interpreter));
    wb_thread_hold(on ? let_go : NULL, on ? take_back : NULL);
    if (!on)
        CHECK(!pthread_mutex_unlock(&interpreter));
}

static void *serve(void *unused)
{
    CHECK(!wb_serve(device, pair[1]));
    return unused;
}

static void *interrupt(void *unused)
{
    wb_irq_status status;

    wb_thread_hurry();
    for (unsigned i = 0; running(); i++) {
        hold(1);
        CHECK(wb_irq_trigger(device, WB_MSIX, i % 8, WB_DEVICE) >= 0);
        CHECK(wb_irq_trigger(device, WB_INTX, 0, WB_DEVICE) >= 0);
        CHECK(wb_irq_trigger(device, WB_IRQ_ANY, i % 8, WB_DEVICE) >= 0);
        CHECK(wb_irq_level(device, i % 8, i & 1, WB_DEVICE) >= 0);
        CHECK(!wb_irq_get(device, WB_INTX, 0, &status));
        hold(0);
    }
    return unused;
}

static void *touch(void *unused)
{
    uint8_t bytes[64] = {0};

    for (unsigned i = 0; running(); i++) {
        hold(1);
        CHECK(!wb_region_poke(device, WB_BAR0, WB_VALUE, i % 64, i, UINT64_MAX, 8, WB_NOTEBOOK));
        wb_region_word(device, WB_BAR0, WB_VALUE, i % 64, 8);
        hold(0);
        CHECK(!wb_region_get(device, WB_BAR0, WB_VALUE, 0, bytes, sizeof bytes));
        CHECK(!wb_region_hook(device, WB_BAR0, 16, 4, WB_HOOK_WRITE, i & 1));
        CHECK(!wb_region_write(device, WB_BAR0, 32, bytes, sizeof bytes, WB_NOTEBOOK));
        wb_serve_trace(device, i & 1);
        if (i % 16 == 0)
            wb_device_reset(device, WB_RESET_NOTEBOOK);
    }
    return unused;
}

static void *watch(void *unused)
{
    wb_record records[64];
    uint64_t since = 0, expected = 0;

    while (running()) {
        uint32_t count;

        wb_log_wait(device, since, 20);
        count = wb_log_copy(device, &since, records, 64);
        for (uint32_t i = 0; i < count; i++) {
            CHECK(records[i].seq >= expected);
            expected = records[i].seq + 1;
        }
    }
    return unused;
}

static void *copy(void *unused)
{
    static const int allowed[] = {0, -EFAULT, -EACCES, -EIO, -EHOSTDOWN};
    uint8_t bytes[3 * 4096];

    memset(bytes, 1, sizeof bytes);
    while (running()) {
        int written = wb_dma_write(device, 0x10800, bytes, 2 * 4096, WB_DEVICE);
        int read = wb_dma_read(device, 0x10800, bytes, 4096, WB_DEVICE);
        int known = 0;

        for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
            known |= (written == allowed[i]) | (read == allowed[i]) << 1;
        CHECK(known == 3);
    }
    return unused;
}

static void *await(void *unused)
{
    while (running())
        wb_turn_wait(device, __atomic_load_n(&stub.turn, __ATOMIC_RELAXED));
    return unused;
}

static void map_and_unmap(int file, int truncate)
{
    struct { uint32_t argsz, flags; uint64_t offset, iova, size; } map = {32, 3, 0, 0x10000, 4096};
    struct { uint32_t argsz, flags; uint64_t iova, size; }
        unmap = {24, 0, 0x10000, 4096}, all = {24, 2, 0, 0};

    for (int i = 0; i < 3; i++, map.iova += 4096, map.offset += 4096)
        CHECK(!ask(pair[0], 2, &map, sizeof map, &file, 1));
    if (truncate)
        CHECK(!ftruncate(file, 4096) && !ftruncate(file, 3 * 4096));
    CHECK(!ask(pair[0], 3, &unmap, sizeof unmap, NULL, 0));
    CHECK(!ask(pair[0], 3, &all, sizeof all, NULL, 0));
}

static void use_interrupts(unsigned round)
{
    uint32_t set[5] = {20, 0x24, round & 1 ? WB_MSIX : WB_INTX, 0, 1};
    int fd = eventfd(0, EFD_CLOEXEC);

    CHECK(!ask(pair[0], 8, set, sizeof set, &fd, 1));
    if (set[2] == WB_INTX) {
        set[1] = 0x14;
        CHECK(!ask(pair[0], 8, set, sizeof set, &fd, 1));
    }
    set[1] = round & 2 ? 0x9 : 0x21;
    CHECK(!ask(pair[0], 8, set, sizeof set, NULL, 0));
    set[1] = set[2] == WB_INTX || round & 4 ? 0x11 : 0x24;
    CHECK(!ask(pair[0], 8, set, sizeof set, NULL, 0));
    close(fd);
}

/* Enables, masks and unmasks MSI-X, as a whole and by its table. */
static void use_messages(unsigned round)
{
    struct { uint64_t offset; uint32_t region, count; uint8_t data[4]; }
        write = {MSIX + 2, WB_CONFIG, 2, {0}};

    write.data[1] = round & 1 ? 0x80 : round & 2 ? 0xc0 : 0;
    CHECK(!ask(pair[0], 10, &write, 18, NULL, 0));
    write.offset = TABLE + 12 + round % 8 * 16;
    write.region = WB_BAR0;
    write.count = 4;
    write.data[0] = round >> 3 & 1;
    write.data[1] = 0;
    CHECK(!ask(pair[0], 10, &write, 20, NULL, 0));
    CHECK(wb_irq_mode(device) == WB_MSIX || wb_irq_mode(device) == WB_INTX);
}

static void use_regions(unsigned round)
{
    struct { uint64_t offset; uint32_t region, count; uint8_t data[48]; }
        access = {round % 32, WB_BAR0, 48, {0}};
    const uint32_t size = 16;

    CHECK(!ask(pair[0], 9, &access, size, NULL, 0));
    CHECK(!ask(pair[0], 10, &access, size + 48, NULL, 0));
    access.offset = 4;
    access.region = WB_CONFIG;
    access.count = 2;
    access.data[0] = 4;
    access.data[1] = round & 1 ? 4 : 0;
    CHECK(!ask(pair[0], 10, &access, size + 2, NULL, 0));
}

/* Sleep, be read, wake up, which resets; now and then a function-level reset. */
static void use_power(unsigned round)
{
    struct { uint64_t offset; uint32_t region, count; uint8_t data[2]; }
        access = {PMCSR, WB_CONFIG, 1, {3, 0}};
    const uint32_t size = 16;

    CHECK(!ask(pair[0], 10, &access, size + 1, NULL, 0));
    use_regions(round);
    access.data[0] = 0;
    CHECK(!ask(pair[0], 10, &access, size + 1, NULL, 0));
    if (round % 3)
        return;
    access.offset = CONTROL;
    access.count = 2;
    access.data[1] = 0x80;
    CHECK(!ask(pair[0], 10, &access, size + 2, NULL, 0));
}

int main(int count, char **arguments)
{
    void *(*const bodies[])(void *) = {serve, interrupt, touch, watch, copy, await};
    unsigned rounds = count > 1 ? (unsigned)atoi(arguments[1]) : 200;
    pthread_t threads[6];
    int file = memory_file(3 * 4096);

    device = make_device(&stub);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    for (int i = 0; i < 6; i++)
        CHECK(!pthread_create(&threads[i], NULL, bodies[i], NULL));
    CHECK(!ask(pair[0], 1, "\0\0\0", 4, NULL, 0));
    for (unsigned i = 0; i < rounds; i++) {
        use_regions(i);
        use_power(i);
        use_interrupts(i);
        use_messages(i);
        map_and_unmap(file, i % 4 == 0);
    }
    shutdown(pair[0], SHUT_RDWR);
    CHECK(!pthread_join(threads[0], NULL));
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (int i = 1; i < 6; i++)
        CHECK(!pthread_join(threads[i], NULL));
    CHECK(!wb_dma_list(device, NULL, 0) && stub.hooks > 0);
    close(pair[0]);
    close(pair[1]);
    close(file);
    wb_device_free(device);
    return 0;
}
