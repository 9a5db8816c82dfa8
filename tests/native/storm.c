/*
 * storm.c - clients come and go while other threads swap native hooks, log dirty pages, take the state,
 * pause, hold and halt the device, ask for far memory, watch mapped pages and read the log: everything at
 * once.
 *
 * Nothing here waits for a thread that could wait for it: whatever the order, the client's requests are
 * answered and every thread ends.
 */
#include "harness.h"

#include <sched.h>

enum { FAR = 0x40000, NEAR = 0x10000, SHARED_BAR = 1, SHARED_SIZE = 16 * 4096, BELL = 0x20, THREADS = 7 };

static wb_device *device;
static struct stub stub;
static int pair[2];
static int over;                /* atomic: the last client has gone */
static uint64_t native_calls;   /* atomic */

static int running(void)
{
    return !__atomic_load_n(&over, __ATOMIC_RELAXED);
}

/* ---- the device ---- */

static int count_call(const wb_native *wb, wb_touch *touch)
{
    __atomic_add_fetch(&native_calls, 1, __ATOMIC_RELAXED);
    wb->poke(wb, WB_BAR0, 0x30, touch->value, 4);
    return wb->trigger(wb, 1) < 0;
}

static int message(void *context, wb_message *told)
{
    if (told->command != 6)
        return stub_message(context, told);
    for (uint64_t value = 0; value < 2; value++) {
        int fd = wb_doorbell_open(device, WB_BAR0, BELL, 4, value);

        if (fd < 0)
            return -fd;
        told->reply_fds[told->reply_nfds++] = fd;
    }
    return 0;
}

static void make(void)
{
    wb_upcalls upcalls = {&stub, stub_hook, message, stub_trace, NULL};
    const wb_irq_places places = {.msix = MSIX, .table = TABLE, .pba = PBA};

    device = stub.device = wb_device_new(&upcalls, 1024);
    CHECK(device);
    CHECK(!wb_region_add(device, WB_BAR0, BAR_SIZE, 3));
    CHECK(!wb_region_add(device, WB_CONFIG, CONFIG_SIZE, 3));
    CHECK(!wb_region_add(device, SHARED_BAR, SHARED_SIZE, 3));
    CHECK(!wb_region_share(device, SHARED_BAR, 0, SHARED_SIZE));
    for (uint32_t plane = WB_READABLE; plane <= WB_WRITABLE; plane++) {
        fill(device, WB_BAR0, plane, 0, 0xff, BAR_SIZE);
        fill(device, WB_CONFIG, plane, 4, 0xff, 2);
    }
    fill(device, WB_CONFIG, WB_RESET, 4, 4, 1);
    fill(device, WB_CONFIG, WB_VALUE, 4, 4, 1);
    CHECK(!wb_region_hook(device, WB_BAR0, BELL, 4, WB_HOOK_WRITE, 1));
    CHECK(!wb_irq_add(device, WB_INTX, 1));
    CHECK(!wb_irq_add(device, WB_MSIX, 8));
    CHECK(!wb_irq_place(device, &places));
}

/* ---- threads ---- */

static void *serve(void *unused)
{
    CHECK(wb_serve(device, pair[1]) <= 0);
    shutdown(pair[1], SHUT_RDWR);
    return unused;
}

/* A slot may be freed once it is out and idle. */
static void *swap(void *unused)
{
    wb_native_slot *last = NULL;

    for (unsigned i = 0; running() || last; i++) {
        wb_native_slot *next = running() ? calloc(1, sizeof *next) : NULL;

        if (next)
            *next = (wb_native_slot){
                .hook = count_call, .offset = 0x28, .size = 4, .write = 1, .revision = 3,
            };
        CHECK(!wb_native_swap(device, last, next, (int)(i & 1)));
        while (last && wb_native_busy(device, last))
            sched_yield();
        free(last);
        last = next;
        CHECK(!wb_region_hook(device, WB_BAR0, 0x60, 4, WB_HOOK_WRITE | WB_HOOK_READ, i & 1));
    }
    return unused;
}

static void *log_pages(void *unused)
{
    const wb_dma_span spans[2] = {{NEAR, 4 * 4096}, {FAR, 4 * 4096}};
    uint64_t bits;

    for (unsigned i = 0; running(); i++) {
        uint64_t page_size = 4096 << i % 3;
        int began = wb_dirty_start(device, &page_size, spans, i % 2 * 2);

        CHECK(!began || began == -EBUSY);
        for (int k = 0; k < 5; k++) {
            int result = wb_dirty_report(device, NEAR, 4 * 4096, 4096, &bits, 1);

            CHECK(!result || result == -EINVAL);        /* a client that went took the logging along */
        }
        wb_dirty_stop(device);
    }
    return unused;
}

/* Snapshots: the device stands still, or is stopped, while its state is copied and put back. */
static void *keep_state(void *unused)
{
    static wb_irq_state state;
    uint8_t page[4096];

    for (unsigned i = 0; running(); i++) {
        int held = i % 4 ? wb_gate_hold(device, 50) : -1;

        if (i % 4 == 0)
            wb_state_halt(device, WB_HALT_STOP | WB_HALT_RESTORE, 1);
        wb_state_get(device, &state);
        for (uint32_t region = 0; region < 2; region++)
            for (uint64_t at = 0; wb_state_next(device, region, &at) == 1; at += 4096)
                CHECK(!wb_region_get(device, region, WB_VALUE, at, page, at + 4096 > BAR_SIZE ? 20 : 4096));
        wb_state_set(device, &state);
        if (i % 4 == 0)
            wb_state_halt(device, WB_HALT_STOP | WB_HALT_RESTORE, 0);
        if (i % 8 == 1)
            wb_device_reset(device, WB_RESET_NOTEBOOK);
        if (!held)
            wb_gate_release(device);
    }
    return unused;
}

static void *pause_and_step(void *unused)
{
    for (unsigned i = 0; running(); i++) {
        wb_gate_pause(device, 1);
        wb_gate_step(device, i % 3);
        (void)wb_gate_waiting(device);
        wb_gate_pause(device, 0);
        wb_serve_trace(device, i & 1);
        CHECK(wb_irq_trigger(device, WB_IRQ_ANY, i % 8, WB_DEVICE) >= 0);
        CHECK(wb_irq_level(device, 2, i & 1, WB_DEVICE) >= 0);
    }
    return unused;
}

static void *ask_far(void *unused)
{
    uint8_t bytes[8192] = {0};

    while (running()) {
        (void)wb_dma_write(device, FAR + 100, bytes, sizeof bytes, WB_DEVICE);
        (void)wb_dma_copy(device, NEAR, FAR, 6000, WB_DEVICE);
        (void)wb_dma_read(device, NEAR + 4000, bytes, 4000, WB_DEVICE);
        (void)wb_dma_peek(device, NEAR, bytes, sizeof bytes);
        sched_yield();
    }
    return unused;
}

static void *watch(void *unused)
{
    wb_watch *watch;
    wb_watch_counts counts;

    CHECK(!wb_watch_new(device, SHARED_BAR, 0, SHARED_SIZE, 100000, 4, &watch));
    while (running()) {
        CHECK(!wb_region_poke(device, SHARED_BAR, WB_VALUE, 40, 1, 1, 4, WB_NOTEBOOK));
        wb_watch_stop(watch);
        wb_watch_run(watch);
        wb_watch_get(watch, &counts);
    }
    wb_watch_free(watch);
    return unused;
}

static void *read_log(void *unused)
{
    wb_record records[100];
    uint64_t since = 0, next = 0;

    while (running()) {
        uint32_t count = wb_log_copy(device, &since, records, 100);

        for (uint32_t i = 0; i < count; next = records[i++].seq + 1)
            CHECK(records[i].seq >= next && records[i].kind < WB_KINDS);
        wb_log_wait(device, since, 1);
        CHECK(wb_log_dropped(device) <= wb_log_count(device));
    }
    return unused;
}

/* ---- the client ---- */

static void answer(const struct wire_header *asked, const uint8_t *bytes)
{
    struct wire_header reply = {asked->id, asked->command, 32, 1, 0};
    uint64_t count;

    memcpy(&count, bytes + 8, sizeof count);
    if (asked->command == 11)
        reply.size += (uint32_t)count;
    put(pair[0], &reply, 16, NULL, 0);
    put(pair[0], bytes, reply.size - 16, NULL, 0);
}

/*
 * The server's questions come between the replies. One that comes when nothing is asked any more ends in
 * time.
 */
static void request(uint16_t command, const void *payload, uint32_t size, const int *fds, size_t nfds,
                    int *bell)
{
    static uint8_t bytes[1 << 18];
    struct wire_header header = {command, command, 16 + size, 0, 0};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))];
    struct iovec vector = {&header, 16};
    struct msghdr got = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
    };

    memcpy(bytes, &header, 16);
    if (size)
        memcpy(bytes + 16, payload, size);
    put(pair[0], bytes, 16 + size, fds, nfds);
    do {
        got.msg_controllen = sizeof control;
        CHECK(recvmsg(pair[0], &got, MSG_WAITALL) == 16 && header.size - 16 <= sizeof bytes);
        CHECK(get_all(pair[0], bytes, header.size - 16));
        if (!(header.flags & 1))
            answer(&header, bytes);
    } while (!(header.flags & 1));
    CHECK(header.id == command && header.command == command);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&got); part && bell; part = CMSG_NXTHDR(&got, part))
        memcpy(bell, CMSG_DATA(part), 2 * sizeof *bell);
}

static void use(unsigned round, const int *file, const int *event, const int *bell)
{
    struct { uint32_t argsz, flags; uint64_t offset, iova, size; } map = {32, 3, 0, NEAR, 4 * 4096};
    struct { uint64_t offset; uint32_t region, count, data, pad; } access = {0x28, WB_BAR0, 4, round, 0};
    struct { uint32_t argsz, flags; uint64_t iova, size; } unmap = {24, 2, 0, 0};
    uint32_t set[5] = {20, 0x24, round & 1 ? WB_MSIX : WB_INTX, 0, 1};

    request(2, &map, sizeof map, file, 1, NULL);
    map.iova = FAR;
    request(2, &map, sizeof map, NULL, 0, NULL);
    request(8, set, sizeof set, event, 1, NULL);
    for (unsigned i = 0; i < 8; i++) {
        request(10, &access, 20, NULL, 0, NULL);
        request(9, &access, 16, NULL, 0, NULL);
        CHECK(write(bell[i & 1], &(uint64_t){1}, 8) == 8);
        CHECK(pwrite(wb_region_fd(device, SHARED_BAR), &access, 8, i * 4096 + 8) == 8);
        access.offset += 4;
    }
    set[1] = 0x11;
    if (!(round & 1))
        request(8, set, sizeof set, NULL, 0, NULL);
    if (round & 2)
        request(3, &unmap, sizeof unmap, NULL, 0, NULL);
}

static void converse(unsigned round)
{
    int file = round & 1 ? sealed_file(4 * 4096) : memory_file(4 * 4096), event = eventfd(0, EFD_NONBLOCK);
    int bell[2] = {-1, -1};
    pthread_t server;

    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !pthread_create(&server, NULL, serve, NULL));
    request(1, "\0\0\0", 4, NULL, 0, NULL);
    request(6, NULL, 0, NULL, 0, bell);
    for (unsigned i = 0; i < 3; i++)
        use(round + i, &file, &event, bell);
    shutdown(pair[0], SHUT_RDWR);
    CHECK(!pthread_join(server, NULL) && !wb_dma_list(device, NULL, 0));
    close(bell[0]);
    close(bell[1]);
    close(pair[0]);
    close(pair[1]);
    close(file);
    close(event);
}

int main(int count, char **arguments)
{
    void *(*const bodies[])(void *) = {swap, log_pages, keep_state, pause_and_step, ask_far, watch, read_log};
    unsigned rounds = count > 1 ? (unsigned)atoi(arguments[1]) : 16;
    pthread_t threads[THREADS];

    make();
    wb_peer_patience(device, 50);
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, bodies[i], NULL));
    for (unsigned i = 0; i < rounds; i++)
        converse(i);
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(threads[i], NULL));
    CHECK(native_calls && stub.hooks);
    wb_device_free(device);
    return 0;
}
