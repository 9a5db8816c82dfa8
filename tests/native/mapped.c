/*
 * mapped.c - shared pages: a client that stores into its own mapping, pokes and messages beside it, watches.
 */
#include "harness.h"

enum { SIZE = 4 * 4096, SHARED = 4096, ROUNDS = 20000 };

static wb_device *device;
static int over;

static int running(void)
{
    return !__atomic_load_n(&over, __ATOMIC_RELAXED);
}

/* The bytes in front of the shared page, and its second word; never the first, which is the client's. */
static void *beside(void *unused)
{
    uint8_t bytes[16] = {0};

    for (uint64_t i = 0; running(); i++) {
        CHECK(!wb_region_poke(device, WB_BAR0, WB_VALUE, SHARED - 4, i, UINT32_MAX, 4, WB_NOTEBOOK));
        CHECK(!wb_region_write(device, WB_BAR0, SHARED - 3, (uint8_t *)&i, 3, WB_GUEST));
        CHECK(!wb_region_poke(device, WB_BAR0, WB_VALUE, SHARED + 4, i, UINT32_MAX, 4, WB_NOTEBOOK));
        CHECK(!wb_region_write(device, WB_BAR0, SHARED + 8, bytes, sizeof bytes, WB_GUEST));
        CHECK(!wb_region_read(device, WB_BAR0, SHARED - 8, bytes, sizeof bytes, WB_GUEST));
        CHECK(!wb_region_get(device, WB_BAR0, WB_VALUE, SHARED, bytes, sizeof bytes));
        if (i % 16 == 0)
            wb_device_reset(device, WB_RESET_NOTEBOOK);
    }
    return unused;
}

static void *watch(void *watch)
{
    wb_watch_run(watch);
    return watch;
}

static void *come_and_go(void *unused)
{
    while (running()) {
        wb_watch *short_lived;
        wb_watch_counts counts;
        pthread_t thread;

        CHECK(!wb_watch_new(device, WB_BAR0, SHARED, 4096, 1000, 4, &short_lived));
        CHECK(!pthread_create(&thread, NULL, watch, short_lived));
        CHECK(wb_share_close(device) == -EBUSY);
        wb_watch_get(short_lived, &counts);
        wb_watch_stop(short_lived);
        CHECK(!pthread_join(thread, NULL));
        wb_watch_stop(short_lived);
        wb_watch_free(short_lived);
    }
    return unused;
}

static void check_refusals(void)
{
    wb_watch *none = NULL;

    CHECK(wb_region_share(device, WB_BAR0, 1, 4096) == -EINVAL);
    CHECK(wb_region_share(device, WB_BAR0, 0, 4095) == -EINVAL);
    CHECK(wb_region_share(device, WB_BAR0, 4096, UINT64_MAX - 4095) == -EINVAL);
    CHECK(wb_region_share(device, WB_REGIONS, 0, 4096) == -EINVAL);
    CHECK(wb_region_fd(device, WB_BAR0) == -ENOENT);
    CHECK(wb_watch_new(device, WB_BAR0, 0, 8, 1, 1, &none) == -EINVAL && !none);
    CHECK(wb_doorbell_open(device, WB_BAR0, SIZE - 1, 2, 0) == -EINVAL);
}

/* Client and server; the doorbell's eventfd is rung while messages come. */
static void *serve(void *socket)
{
    CHECK(!wb_serve(device, *(int *)socket));
    return NULL;
}

static void ring_doorbells(void)
{
    struct { uint64_t offset; uint32_t region, count; uint32_t data; } access = {0, WB_BAR0, 4, 1};
    int pair[2], bell;
    pthread_t thread;

    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK(!pthread_create(&thread, NULL, serve, &pair[1]));
    CHECK(!ask(pair[0], 1, "\0\0\0", 4, NULL, 0));
    bell = wb_doorbell_open(device, WB_BAR0, 16, 4, 5);
    CHECK(bell >= 0 && wb_doorbell_open(device, WB_BAR0, 16, 4, 5) == bell);
    CHECK(!ask(pair[0], 10, &access, 20, NULL, 0));     /* the loop polls from the next message on */
    for (int i = 0; i < 200; i++) {
        CHECK(!eventfd_write(bell, 1));
        CHECK(!ask(pair[0], 10, &access, 20, NULL, 0));
    }
    shutdown(pair[0], SHUT_RDWR);
    CHECK(!pthread_join(thread, NULL));
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    wb_upcalls upcalls;
    struct stub stub = {0};
    pthread_t threads[3];
    wb_watch *steady;
    wb_watch_counts counts;
    uint32_t *mine;

    upcalls = (wb_upcalls){&stub, stub_hook, stub_message, stub_trace, NULL};
    stub.device = device = wb_device_new(&upcalls, 256);
    CHECK(!wb_region_add(device, WB_BAR0, SIZE, WB_REGION_READ | WB_REGION_WRITE));
    check_refusals();
    CHECK(!wb_region_share(device, WB_BAR0, SHARED, 4096) && !wb_region_share(device, WB_BAR0, 12288, 4096));
    for (uint32_t plane = WB_READABLE; plane <= WB_WRITABLE; plane++)
        fill(device, WB_BAR0, plane, 0, 0xff, SHARED);
    CHECK(wb_region_share(device, WB_BAR0, 0, 4096) == -EBUSY);
    mine = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, wb_region_fd(device, WB_BAR0), SHARED);
    CHECK(mine != MAP_FAILED);

    CHECK(!wb_watch_new(device, WB_BAR0, SHARED, 4096, 100000, 16, &steady));
    CHECK(!pthread_create(&threads[0], NULL, watch, steady));
    CHECK(!pthread_create(&threads[1], NULL, beside, NULL));
    CHECK(!pthread_create(&threads[2], NULL, come_and_go, NULL));
    for (int i = 0; i < ROUNDS; i++)
        __atomic_store_n(mine, __atomic_load_n(mine, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
    ring_doorbells();
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    CHECK(!pthread_join(threads[1], NULL) && !pthread_join(threads[2], NULL));
    CHECK(*mine == ROUNDS);                             /* nobody wrote an older value back */
    wb_watch_stop(steady);
    CHECK(!pthread_join(threads[0], NULL));
    wb_watch_get(steady, &counts);
    CHECK(counts.samples && counts.changes);
    wb_watch_free(steady);
    CHECK(!wb_share_close(device) && wb_region_fd(device, WB_BAR0) == -ENOENT);
    CHECK(!munmap(mine, 4096));
    wb_device_free(device);
    return 0;
}
