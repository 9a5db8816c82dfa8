/* polled.c - devices in one poller: clients that come and go, one paused, one that takes no replies, stop. */
#include "harness.h"

enum { DEVICES = 3, ROUNDS = 6, ACCESSES = 60 };

struct access {
    uint64_t offset;
    uint32_t region, count;
};

static wb_poller *poller;
static wb_device *devices[DEVICES];
static struct stub stubs[DEVICES];
static int over;                /* atomic: how many clients have finished */

static int running(void)
{
    return __atomic_load_n(&over, __ATOMIC_RELAXED) < DEVICES;
}

static void *poll_all(void *unused)
{
    wb_poller_run(poller);
    return unused;
}

struct line {
    wb_device *device;
    int pair[2], result;
    pthread_t thread;
};

static void *serve(void *opaque)
{
    struct line *line = opaque;

    line->result = wb_poller_serve(poller, line->device, line->pair[1]);
    close(line->pair[1]);
    return NULL;
}

static void dial(struct line *line, wb_device *device)
{
    line->device = device;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line->pair));
    CHECK(!pthread_create(&line->thread, NULL, serve, line));
    CHECK(!ask(line->pair[0], 1, "\0\0\0", 4, NULL, 0));
}

static void hang_up(struct line *line, int result)
{
    if (line->pair[0] >= 0)
        close(line->pair[0]);
    CHECK(!pthread_join(line->thread, NULL));
    CHECK(line->result == result);
}

static void touch(int socket)
{
    struct access read = {0, WB_BAR0, 4};
    struct {
        uint64_t count;
        struct {
            struct access at;
            uint8_t data[8];
        } entry[3];
    } writes = {3, {{{0, WB_BAR0, 4}, {1}}, {{64, WB_BAR0, 8}, {2}}, {{128, WB_BAR0, 1}, {3}}}};
    struct {
        struct access at;
        uint32_t value;
    } write = {{4, WB_BAR0, 4}, 5};

    CHECK(!ask(socket, 9, &read, sizeof read, NULL, 0));
    CHECK(!ask(socket, 10, &write, sizeof write.at + 4, NULL, 0));
    CHECK(!ask(socket, 15, &writes, sizeof writes, NULL, 0));
}

static void *client(void *number)
{
    wb_device *device = devices[(size_t)number];
    struct line line;

    for (int round = 0; round < ROUNDS; round++) {
        dial(&line, device);
        for (int i = 0; i < ACCESSES; i++)
            touch(line.pair[0]);
        hang_up(&line, 0);
    }
    __atomic_add_fetch(&over, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Device 1 is paused and stepped, all are held: nobody waits for good. */
static void *meddle(void *unused)
{
    while (running()) {
        wb_gate_pause(devices[1], 1);
        wb_gate_step(devices[1], 5);
        for (int i = 0; i < DEVICES; i++)
            if (!wb_gate_hold(devices[i], 1000)) {
                CHECK(wb_turn_now(devices[i]) == 0);
                wb_gate_release(devices[i]);
            }
        wb_gate_waiting(devices[1]);
        wb_gate_pause(devices[1], 0);
        CHECK(wb_irq_trigger(devices[0], WB_INTX, 0, WB_DEVICE) >= 0);
    }
    return unused;
}

static void crowd(void)
{
    pthread_t clients[DEVICES], other;

    CHECK(!pthread_create(&other, NULL, meddle, NULL));
    for (size_t i = 0; i < DEVICES; i++)
        CHECK(!pthread_create(&clients[i], NULL, client, (void *)i));
    for (size_t i = 0; i < DEVICES; i++)
        CHECK(!pthread_join(clients[i], NULL));
    CHECK(!pthread_join(other, NULL));
}

/* One waits at its gate in the middle of a message, and the other is answered meanwhile. */
static void paused(void)
{
    struct line waiting, other;
    struct {
        struct wire_header header;
        struct access at;
    } read = {{7, 9, sizeof read, 0, 0}, {0, WB_BAR0, 4}};
    uint8_t reply[36];

    dial(&waiting, devices[0]);
    dial(&other, devices[1]);
    wb_gate_pause(devices[0], 1);
    put(waiting.pair[0], &read, sizeof read, NULL, 0);
    while (!wb_gate_waiting(devices[0]))
        touch(other.pair[0]);
    touch(other.pair[0]);
    wb_gate_pause(devices[0], 0);
    CHECK(get_all(waiting.pair[0], reply, sizeof reply));
    CHECK(!wb_gate_waiting(devices[0]));
    hang_up(&waiting, 0);
    hang_up(&other, 0);
}

/* More replies than a socket holds, taken at last; and not taken at all. */
static void slow(void)
{
    struct line lazy, other;
    struct {
        struct wire_header header;
        struct access at;
    } read = {{7, 9, sizeof read, 0, 0}, {0, WB_BAR0, 4096}};
    static uint8_t reply[32 + 4096];

    dial(&lazy, devices[0]);
    dial(&other, devices[1]);
    for (int i = 0; i < 200; i++)
        put(lazy.pair[0], &read, sizeof read, NULL, 0);
    touch(other.pair[0]);
    for (int i = 0; i < 200; i++)
        CHECK(get_all(lazy.pair[0], reply, sizeof reply));
    for (int i = 0; i < 200; i++)
        put(lazy.pair[0], &read, sizeof read, NULL, 0);
    touch(other.pair[0]);
    hang_up(&lazy, 0);
    hang_up(&other, 0);
}

static void stopped(pthread_t thread)
{
    struct line waiting, other;
    struct wire_header broken = {1, 9, 5, 0, 0};

    dial(&waiting, devices[0]);
    CHECK(wb_poller_serve(poller, devices[0], waiting.pair[0]) == -EBUSY);
    dial(&other, devices[1]);
    put(other.pair[0], &broken, sizeof broken, NULL, 0);
    hang_up(&other, -EPROTO);
    wb_poller_stop(poller);
    CHECK(!pthread_join(thread, NULL));
    hang_up(&waiting, -ESHUTDOWN);
    CHECK(wb_poller_serve(poller, devices[0], 0) == -ESHUTDOWN);
}

static void once(uint32_t spin_us)
{
    pthread_t thread;

    over = 0;
    poller = wb_poller_new(spin_us);
    CHECK(poller && !pthread_create(&thread, NULL, poll_all, NULL));
    for (int i = 0; i < DEVICES; i++)
        devices[i] = make_device(&stubs[i]);
    crowd();
    paused();
    slow();
    stopped(thread);
    for (int i = 0; i < DEVICES; i++)
        wb_device_free(devices[i]);
    wb_poller_free(poller);
}

int main(void)
{
    once(0);
    once(30);
    return 0;
}
