/*
 * polled.c - devices in one poller: clients that come and go, one paused, one that takes no replies, floods,
 * stop.
 */
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
    wb_gate_step(devices[0], UINT32_MAX);       /* as many as there are, and one more: not none */
    wb_gate_step(devices[0], 1);
    CHECK(get_all(waiting.pair[0], reply, sizeof reply));
    wb_gate_pause(devices[0], 0);
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

/* ---- clients that do not let go ---- */

enum { WRITES = 2000, FLOODED = 200, MOST_FLOOD = 20000 };
enum { RING = 72, FLOOD = 256, FAR = 0x100000, FAR_SIZE = 0x40000 };

static struct line loud, quiet;
static int written, seen, rung;     /* atomic, as they are looked at by other threads */

/* A write of 8 bytes that nobody answers; a read of 4. */
static void post(struct line *line, uint64_t offset)
{
    struct {
        struct wire_header header;
        struct access at;
        uint64_t data;
    } write = {{1, 10, sizeof write, 0x10, 0}, {offset, WB_BAR0, 8}, 1};

    put(line->pair[0], &write, sizeof write, NULL, 0);
}

static void look(struct line *line, uint32_t size)
{
    struct {
        struct wire_header header;
        struct access at;
    } read = {{7, 9, sizeof read, 0, 0}, {64, WB_BAR0, size}};

    put(line->pair[0], &read, sizeof read, NULL, 0);
}

static int on_write(const wb_native *wb, wb_touch *access)
{
    (void)wb, (void)access;
    if (__atomic_add_fetch(&written, 1, __ATOMIC_RELAXED) == 1)
        look(&quiet, 4);
    return 0;
}

static int on_read(const wb_native *wb, wb_touch *access)
{
    (void)wb, (void)access;
    __atomic_store_n(&seen, __atomic_load_n(&written, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    return 0;
}

/* For each message that was served another comes: they do not run out by themselves. */
static int on_flood(const wb_native *wb, wb_touch *access)
{
    (void)wb, (void)access;
    if (__atomic_add_fetch(&written, 1, __ATOMIC_RELAXED) < MOST_FLOOD
        && !__atomic_load_n(&rung, __ATOMIC_RELAXED))
        post(&loud, FLOOD);
    return 0;
}

static int on_ring(const wb_native *wb, wb_touch *access)
{
    (void)wb, (void)access;
    __atomic_store_n(&rung, __atomic_load_n(&written, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    return 0;
}

static void hook(wb_device *device, wb_native_slot *slot, wb_native_hook function, uint64_t offset,
                 uint8_t write)
{
    *slot = (wb_native_slot){.hook = function, .offset = offset, .size = 8, .write = write};
    CHECK(!wb_native_swap(device, NULL, slot, 0));
}

/* One message with many writes: the other client is answered in the middle of it. */
static void fair(void)
{
    static struct {
        struct wire_header header;
        uint64_t count;
        struct {
            struct access at;
            uint64_t data;
        } entry[WRITES];
    } writes = {{9, 15, sizeof writes, 0, 0}, WRITES, {{{0}, 0}}};
    static wb_native_slot slots[2];
    uint8_t reply[36];

    __atomic_store_n(&written, 0, __ATOMIC_RELAXED);
    for (int i = 0; i < WRITES; i++)
        writes.entry[i].at = (struct access){64, WB_BAR0, 8};
    hook(devices[0], &slots[0], on_write, 64, 1);
    hook(devices[1], &slots[1], on_read, 64, 0);
    put(loud.pair[0], &writes, sizeof writes, NULL, 0);
    CHECK(get_all(quiet.pair[0], reply, 36));
    CHECK(get_all(loud.pair[0], reply, 24) && reply[16] == WRITES % 256);
    CHECK(__atomic_load_n(&written, __ATOMIC_RELAXED) == WRITES);
    CHECK(__atomic_load_n(&seen, __ATOMIC_RELAXED) <= 128);
    CHECK(!wb_native_swap(devices[0], &slots[0], NULL, 0) && !wb_native_swap(devices[1], &slots[1], NULL, 0));
}

/* Messages without an end: a doorbell rings behind those that were there. */
static void flooded(void)
{
    static wb_native_slot slots[2];
    int bell = wb_doorbell_open(devices[0], WB_BAR0, RING, 8, 1);

    __atomic_store_n(&written, 0, __ATOMIC_RELAXED);
    hook(devices[0], &slots[0], on_flood, FLOOD, 1);
    hook(devices[0], &slots[1], on_ring, RING, 1);
    CHECK(bell >= 0 && write(bell, &(uint64_t){1}, 8) == 8);
    for (int i = 0; i < FLOODED; i++)
        post(&loud, FLOOD);
    touch(loud.pair[0]);
    CHECK(__atomic_load_n(&rung, __ATOMIC_RELAXED));
    CHECK(__atomic_load_n(&rung, __ATOMIC_RELAXED) < MOST_FLOOD / 2);
    CHECK(!wb_native_swap(devices[0], &slots[0], NULL, 0) && !wb_native_swap(devices[0], &slots[1], NULL, 0));
}

static char order[8];           /* the serving thread's, until `turns` says that it is there */
static int turns, bell_of_order;

static int note(char what)
{
    order[turns] = what;
    return __atomic_add_fetch(&turns, 1, __ATOMIC_RELEASE) > 6;
}

/* In the middle of what is served now another message comes, and a ring after it. */
static int on_first(const wb_native *wb, wb_touch *access)
{
    (void)wb, (void)access;
    post(&loud, FLOOD + 8);
    CHECK(write(bell_of_order, &(uint64_t){1}, 8) == 8);
    return note('1');
}

static int on_second(const wb_native *wb, wb_touch *access)
{
    (void)wb, (void)access;
    return note('2');
}

static int on_bell(const wb_native *wb, wb_touch *access)
{
    (void)wb, (void)access;
    return note('r');
}

/* "1r2r", or "12r": rings that nobody has heard yet are one. */
static int in_order(void)
{
    size_t count = (size_t)__atomic_load_n(&turns, __ATOMIC_ACQUIRE);

    return count && memchr(order, '2', count) && order[count - 1] == 'r';
}

/*
 * Each ring comes behind what was sent before it, also one that comes while the ring before is carried out.
 */
static void ordered(void)
{
    static wb_native_slot slots[3];

    turns = 0;
    bell_of_order = wb_doorbell_open(devices[0], WB_BAR0, RING, 8, 1);
    hook(devices[0], &slots[0], on_first, FLOOD, 1);
    hook(devices[0], &slots[1], on_second, FLOOD + 8, 1);
    hook(devices[0], &slots[2], on_bell, RING, 1);
    wb_gate_pause(devices[0], 1);
    post(&loud, 64);
    while (!wb_gate_waiting(devices[0]))
        touch(quiet.pair[0]);
    CHECK(write(bell_of_order, &(uint64_t){1}, 8) == 8);
    post(&loud, FLOOD);
    wb_gate_pause(devices[0], 0);
    for (int i = 0; i < MOST_FLOOD && !in_order(); i++)
        touch(loud.pair[0]);
    CHECK(in_order());
    for (int i = 0; i < 3; i++)
        CHECK(!wb_native_swap(devices[0], &slots[i], NULL, 0));
}

static void *write_far(void *result)
{
    static uint8_t bytes[FAR_SIZE];

    *(int *)result = wb_dma_write(devices[0], FAR, bytes, FAR_SIZE, WB_NOTEBOOK);
    return NULL;
}

static uint64_t used(pthread_t thread)
{
    struct timespec time;
    clockid_t clock;

    CHECK(!pthread_getcpuclockid(thread, &clock) && !clock_gettime(clock, &time));
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/*
 * Its client takes nothing: questions of the server's fill the socket, and hold the way out for as long as an
 * answer may take; then it is hung up on, as one took half a message. Meanwhile the poller sleeps or serves.
 */
static void stalled(pthread_t polling)
{
    struct { uint32_t argsz, flags; uint64_t offset, iova, size; } map = {32, 3, 0, FAR, FAR_SIZE};
    pthread_t askers[4];
    uint64_t before;
    int results[5];

    CHECK(!ask(loud.pair[0], 2, &map, sizeof map, NULL, 0));
    wb_peer_patience(devices[0], 300);
    before = used(polling);
    for (int i = 0; i < 4; i++)
        CHECK(!pthread_create(&askers[i], NULL, write_far, &results[i]));
    for (int i = 0; i < FLOODED; i++)
        look(&loud, 4096);
    touch(quiet.pair[0]);
    for (int i = 0; i < 4; i++)
        CHECK(!pthread_join(askers[i], NULL));
    write_far(&results[4]);
    touch(quiet.pair[0]);
    for (int i = 0; i < 5; i++)
        CHECK(results[i] == -ETIMEDOUT || results[i] == -ECONNRESET || results[i] == -ENOTCONN
              || results[i] == -EFAULT);
    CHECK(used(polling) - before < 150);
}

static void hostile(pthread_t polling)
{
    dial(&loud, devices[0]);
    dial(&quiet, devices[1]);
    fair();
    flooded();
    ordered();
    stalled(polling);
    hang_up(&loud, 0);
    hang_up(&quiet, 0);
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
    hostile(thread);
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
