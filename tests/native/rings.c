/*
 * rings.c - a doorbell rings behind what the guest sent before it, also behind what came with descriptors,
 * after which the kernel ends a recvmsg: served by a thread of its own, and by a poller.
 */
#include "harness.h"

enum { WRITTEN = 64, BELL = 72, MAPS = 3, RECORDS = 64 };

static wb_device *device;
static wb_poller *poller;       /* NULL: wb_serve() */
static struct stub stub;
static int pair[2];

static void *serve(void *unused)
{
    CHECK(!(poller ? wb_poller_serve(poller, device, pair[1]) : wb_serve(device, pair[1])));
    return unused;
}

static void *poll_all(void *unused)
{
    wb_poller_run(poller);
    return unused;
}

/* Neither is answered. */
static void post(uint64_t value)
{
    struct {
        struct wire_header header;
        uint64_t offset;
        uint32_t region, count;
        uint64_t value;
    } write = {{1, 10, sizeof write, 0x10, 0}, WRITTEN, WB_BAR0, 8, value};

    put(pair[0], &write, sizeof write, NULL, 0);
}

static void post_map(uint64_t iova)
{
    struct {
        struct wire_header header;
        uint32_t argsz, flags;
        uint64_t offset, iova, size;
    } map = {{1, 2, sizeof map, 0x10, 0}, 32, 3, 0, iova, 4096};
    int file = sealed_file(4096);

    put(pair[0], &map, sizeof map, &file, 1);
    close(file);
}

/* In the log: writes by messages until the doorbell's own. */
static int written_before_the_ring(void)
{
    wb_record records[RECORDS];
    uint64_t since = 0, seen = 0;
    int writes = 0;

    for (;;) {
        uint32_t count = wb_log_copy(device, &since, records, RECORDS);

        for (uint32_t i = 0; i < count; i++) {
            if (records[i].kind == WB_KIND_WRITE && records[i].flags & WB_SIGNALLED)
                return writes;
            writes += records[i].kind == WB_KIND_WRITE;
        }
        seen += count;
        CHECK(wb_log_wait(device, seen, 60000));
    }
}

/* All of it is there before the server looks: it waits at the gate. */
static void once(void)
{
    pthread_t server;
    int bell;

    device = make_device(&stub);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    CHECK(!pthread_create(&server, NULL, serve, NULL));
    CHECK(!ask(pair[0], 1, "\0\0\0", 4, NULL, 0));
    bell = wb_doorbell_open(device, WB_BAR0, BELL, 8, 5);
    CHECK(bell >= 0);
    wb_gate_pause(device, 1);
    post(1);
    while (!wb_gate_waiting(device))
        usleep(100);
    for (uint64_t i = 0; i < MAPS; i++) {
        post_map((i + 1) << 20);
        post(2 + i);
    }
    CHECK(!eventfd_write(bell, 1));
    wb_gate_pause(device, 0);
    CHECK(written_before_the_ring() == 1 + MAPS);
    CHECK(wb_dma_list(device, NULL, 0) == MAPS);
    shutdown(pair[0], SHUT_RDWR);
    CHECK(!pthread_join(server, NULL));
    close(pair[0]);
    close(pair[1]);
    wb_device_free(device);
}

int main(void)
{
    pthread_t thread;

    once();
    poller = wb_poller_new(0);
    CHECK(poller && !pthread_create(&thread, NULL, poll_all, NULL));
    once();
    wb_poller_stop(poller);
    CHECK(!pthread_join(thread, NULL));
    wb_poller_free(poller);
    return 0;
}
