/*
 * faults.c - one conversation with one of everything, again and again: each time one more system call or
 * allocation of the engine fails, until none does. Then every call is interrupted, and does less than asked.
 *
 * What fails must say so with a negative errno, change nothing, and work when it is tried again. A client
 * hears an errno or is hung up on; the values of the registers stay, and the next client is served in full.
 */
#include "client.h"
#include "wrap.h"

#include <dirent.h>
#include <signal.h>

enum { IOVA = 0x10000, OPEN = 0x20000, FAR = 0x40000, SCRATCH = 0x20, BAR_SHARED = 1,
       DOORBELLS = 6, DIRTY_BEGIN = 64, DIRTY_REPORT, HALT, USE_MEMORY };

static wb_device *device;
static struct stub stub;
static int by_poller;           /* this run */
static uint32_t scratch;        /* what SCRATCH must hold */
static int asked;               /* result of the question; atomic */
static int served;              /* of wb_serve() */
static wb_poller *poller;       /* serves the second of two rounds; NULL: wb_serve() does */

/* A call that may fail once. It says why, and is good when made again. */
#define TRY(call) \
    do { \
        int result_; \
        wrap_armed = 1; \
        result_ = (call); \
        wrap_armed = 0; \
        if (result_ < 0) { \
            CHECK(!strict && wrap_struck() && result_ > -4096); \
            wrap_armed = 1; \
            result_ = (call); \
            wrap_armed = 0; \
        } \
        CHECK(result_ >= 0); \
    } while (0)

static int open_fds(void)
{
    DIR *listing = opendir("/proc/self/fd");
    int count = 0;

    CHECK(listing);
    while (readdir(listing))
        count++;
    closedir(listing);
    return count;
}

/* ---- the device ---- */

static int use_memory(void)
{
    static uint8_t bytes[BYTES];
    const wb_dma_span spans[2] = {{IOVA, 100}, {OPEN, 5000}};
    int result;

    memset(bytes, 0x5a, sizeof bytes);
    if ((result = wb_dma_write(device, IOVA + 4000, bytes, BYTES, WB_DEVICE))
        || (result = wb_dma_write(device, OPEN + 4000, bytes, BYTES, WB_DEVICE))
        || (result = wb_dma_read(device, OPEN + 4000, bytes, BYTES, WB_DEVICE))
        || (result = wb_dma_copy(device, IOVA + 100, OPEN + 4000, 3000, WB_DEVICE))
        || (result = wb_dma_gather(device, spans, 2, bytes, WB_DEVICE)))
        return result;
    CHECK(bytes[99] == 0 && bytes[5099] == 0x5a);
    return 0;
}

static int begin_logging(void)
{
    uint64_t page_size = 4096;

    return wb_dirty_start(device, &page_size, NULL, 0);
}

/* A page too many may be told when memory is short, none too few. */
static int report(void)
{
    uint64_t bits;
    int result = wb_dirty_report(device, IOVA, 4 * 4096, 4096, &bits, 1);

    CHECK(result || (bits & 7) == 7);
    return result ? result : wb_dirty_stop(device);
}

static int halt(void)
{
    uint8_t byte;

    wb_state_halt(device, WB_HALT_STOP | WB_HALT_CLIENT, 1);
    CHECK(wb_dma_read(device, IOVA, &byte, 1, WB_DEVICE) == -ESHUTDOWN);
    wb_state_halt(device, WB_HALT_STOP | WB_HALT_CLIENT, 0);
    return 0;
}

static int message(void *context, wb_message *told)
{
    int result = 0;

    switch (told->command) {
    case 1:
        return stub_message(context, told);
    case DOORBELLS:
        for (int i = 0; i < 2 && result >= 0; i++) {
            result = wb_doorbell_open(device, WB_BAR0, SCRATCH + 16, 4, (uint64_t)i);
            told->reply_fds[told->reply_nfds++] = result;
        }
        return result < 0 ? -result : 0;
    case DIRTY_BEGIN:
        result = begin_logging();
        break;
    case DIRTY_REPORT:
        result = report();
        break;
    case HALT:
        result = halt();
        break;
    case USE_MEMORY:
        result = use_memory();
        break;
    default:
        return ENOTSUP;
    }
    return result < 0 ? -result : result;
}

static int make(uint32_t records)
{
    wb_upcalls upcalls = {&stub, stub_hook, message, stub_trace, NULL};

    device = wb_device_new(&upcalls, records);
    return device ? 0 : -ENOMEM;
}

static void describe(void)
{
    const wb_irq_places places = {.msix = MSIX, .table = TABLE, .pba = PBA};
    const uint32_t both = WB_REGION_READ | WB_REGION_WRITE;

    TRY(make(256));
    memset(&stub, 0, sizeof stub);
    stub.device = device;
    TRY(wb_region_add(device, WB_BAR0, BAR_SIZE, both));
    TRY(wb_region_add(device, BAR_SHARED, 1 << 20, both));
    TRY(wb_region_add(device, WB_CONFIG, CONFIG_SIZE, both));
    TRY(wb_region_share(device, BAR_SHARED, 0, 65536));
    TRY(wb_irq_add(device, WB_INTX, 1));
    TRY(wb_irq_add(device, WB_MSIX, 8));
    TRY(wb_irq_place(device, &places));
    for (uint32_t plane = WB_READABLE; plane <= WB_WRITABLE; plane++) {
        fill(device, WB_BAR0, plane, 0, 0xff, 4096);
        fill(device, WB_CONFIG, plane, 0, 0xff, CONFIG_SIZE);
    }
    fill(device, WB_CONFIG, WB_VALUE, 4, 4, 1);
    CHECK(!wb_region_hook(device, WB_BAR0, SCRATCH + 16, 4, WB_HOOK_WRITE, 1));
    scratch = 0;
}

/* A watch sees what is written to shared pages, and pages are found when the state is saved. */
static void look(void)
{
    wb_watch_counts counts;
    wb_watch *watch = NULL;
    uint64_t offset = 0;
    uint8_t bytes[64];

    TRY(wb_watch_new(device, BAR_SHARED, 0, 65536, 1, 10, &watch));
    CHECK(pwrite(wb_region_fd(device, BAR_SHARED), "changed", 7, 8192) == 7);
    wb_watch_stop(watch);
    wrap_armed = 1;
    wb_watch_run(watch);
    CHECK(!wb_region_get(device, BAR_SHARED, WB_VALUE, 8192, bytes, sizeof bytes));
    CHECK(wb_state_next(device, BAR_SHARED, &offset) == 1);
    wrap_armed = 0;
    wb_watch_run(watch);
    wb_watch_get(watch, &counts);
    CHECK(counts.changes == 1 && !memcmp(bytes, "changed", 8));
    wb_watch_free(watch);
    CHECK(pwrite(wb_region_fd(device, BAR_SHARED), "\0\0\0\0\0\0\0", 7, 8192) == 7);
}

/* ---- the other threads ---- */

static void *serve(void *unused)
{
    wrap_armed = 1;
    served = poller ? wb_poller_serve(poller, device, pair[1]) : wb_serve(device, pair[1]);
    wrap_armed = 0;
    shutdown(pair[1], SHUT_RDWR);
    return unused;
}

static void *poll_all(void *unused)
{
    wrap_armed = 1;
    wb_poller_run(poller);
    return unused;
}

static int make_poller(void)
{
    poller = wb_poller_new(0);
    return poller ? 0 : -ENOMEM;
}

static void *ask_far(void *unused)
{
    static uint8_t bytes[BYTES];
    int result;

    wrap_armed = 1;
    result = wb_dma_write(device, FAR, bytes, BYTES, WB_DEVICE);
    if (!result)
        result = wb_dma_read(device, FAR, bytes, BYTES, WB_DEVICE);
    wrap_armed = 0;
    CHECK(result || bytes[BYTES - 1] == 0x77);
    __atomic_store_n(&asked, result ? result : 1, __ATOMIC_SEQ_CST);
    return unused;
}

/* ---- what the client asks for ---- */

static void map_all(int sealed, int open)
{
    struct { uint32_t argsz, flags; uint64_t offset, iova, size; } map = {32, 3, 0, IOVA, 4 * 4096};

    request(2, &map, sizeof map, sealed, NULL);
    map.iova = OPEN;
    request(2, &map, sizeof map, open, NULL);
    map.iova = FAR;
    request(2, &map, sizeof map, -1, NULL);
}

static void set_interrupts(int event)
{
    uint32_t set[5] = {20, 0x24, WB_INTX, 0, 1};
    int unmask = eventfd(0, EFD_NONBLOCK);
    uint64_t count;

    (void)!read(event, &count, sizeof count);   /* what an earlier conversation left */

    request(8, set, sizeof set, event, NULL);
    set[1] = 0x14;
    request(8, set, sizeof set, unmask, NULL);
    set[1] = 0x21;
    request(8, set, sizeof set, -1, NULL);
    CHECK(!strict || (read(event, &count, sizeof count) == sizeof count && count == 1));
    CHECK(write(unmask, &(uint64_t){1}, sizeof count) == sizeof count);
    close(unmask);
    set[1] = 0x24;
    set[2] = WB_MSIX;
    request(8, set, sizeof set, event, NULL);
}

static void use_registers(uint32_t value)
{
    struct { uint64_t offset; uint32_t region, count, data, pad; } access = {SCRATCH, WB_BAR0, 4, value, 0};
    uint8_t reply[64];
    uint32_t got;

    if (!request(10, &access, 20, -1, NULL))
        scratch = value;
    else if (!wb_region_get(device, WB_BAR0, WB_VALUE, SCRATCH, (uint8_t *)&got, 4) && got == value)
        scratch = value;                        /* done, but the reply was lost */
    if (!request(9, &access, 16, -1, reply)) {
        memcpy(&got, reply + 16, 4);
        CHECK(got == scratch);
    }
    access.region = BAR_SHARED;
    access.count = 4000;
    request(9, &access, 16, -1, NULL);
}

static void ring_doorbells(void)
{
    int hooks = __atomic_load_n(&stub.hooks, __ATOMIC_RELAXED);
    int bell;

    if (request(DOORBELLS, NULL, 0, -1, NULL))
        return;
    bell = wb_doorbell_open(device, WB_BAR0, SCRATCH + 16, 4, 1);   /* the same: it was opened before */
    CHECK(bell >= 0 && write(bell, &(uint64_t){3}, 8) == 8);
    request(HALT, NULL, 0, -1, NULL);
    while (strict && __atomic_load_n(&stub.hooks, __ATOMIC_RELAXED) == hooks)   /* until the alarm */
        usleep(100);
    CHECK(!strict || __atomic_load_n(&stub.hooks, __ATOMIC_RELAXED) == hooks + 1);
}

/* Far memory, and meanwhile the client answers. Ends when the asking thread has. */
static void serve_questions(void)
{
    static uint8_t payload[16 + BYTES];
    struct wire_header header;
    pthread_t thread;

    __atomic_store_n(&asked, 0, __ATOMIC_SEQ_CST);
    CHECK(!pthread_create(&thread, NULL, ask_far, NULL));
    for (int i = 0; i < 2 && !ended && __atomic_load_n(&asked, __ATOMIC_SEQ_CST) == 0; i++)
        if (recv(pair[0], &header, 1, MSG_PEEK | (strict ? 0 : MSG_DONTWAIT)) > 0)
            take_message(&header, payload);
        else if (!strict && !usleep(200))
            i--;
    CHECK(!pthread_join(thread, NULL));
    CHECK(!strict || asked == 1);
}

static void converse(int sealed, int open, int event, uint32_t value)
{
    pthread_t server;

    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    ended = 0;
    CHECK(!pthread_create(&server, NULL, serve, NULL));
    request(1, "\0\0\0", 4, -1, NULL);
    map_all(sealed, open);
    set_interrupts(event);
    use_registers(value);
    ring_doorbells();
    request(DIRTY_BEGIN, NULL, 0, -1, NULL);
    if (!request(USE_MEMORY, NULL, 0, -1, NULL))
        request(DIRTY_REPORT, NULL, 0, -1, NULL);
    serve_questions();
    request(3, &(struct { uint32_t argsz, flags; uint64_t iova, size; }){24, 2, 0, 0}, 24, -1, NULL);
    shutdown(pair[0], SHUT_RDWR);
    CHECK(!pthread_join(server, NULL));
    CHECK(served <= 0 && (!strict || !served));
    close(pair[0]);
    close(pair[1]);
}

static void check_state(void)
{
    uint32_t got;

    CHECK(!wb_region_get(device, WB_BAR0, WB_VALUE, SCRATCH, (uint8_t *)&got, 4) && got == scratch);
    CHECK(!wb_dma_list(device, NULL, 0));
}

/* Everything once with the fault, and the next client without. Returns whether the fault came. */
static unsigned run(enum wrapped which, enum fault fault, unsigned at, int error)
{
    pthread_t polling;
    int sealed = sealed_file(4 * 4096), open = memory_file(4 * 4096), event = eventfd(0, EFD_NONBLOCK);
    int before = open_fds();
    unsigned struck;

    strict = fault != FAILS && fault != CUT;
    wrap_plan(which, fault, at, error);
    describe();
    look();
    if (by_poller) {
        TRY(make_poller());
        CHECK(!pthread_create(&polling, NULL, poll_all, NULL));
    }
    converse(sealed, open, event, 0x11111111);
    check_state();
    struck = wrap_struck();
    wrap_plan(WRAPPED, FAILS, 1, 0);
    strict = 1;
    CHECK(!ftruncate(open, 0) && !ftruncate(open, 4 * 4096));
    converse(sealed, open, event, 0x22222222);
    check_state();
    if (by_poller) {
        wb_poller_stop(poller);
        CHECK(!pthread_join(polling, NULL));
        wb_poller_free(poller);
        poller = NULL;
    }
    wb_device_free(device);
    CHECK(open_fds() == before);
    close(sealed);
    close(open);
    close(event);
    return struck;
}

static const struct { enum wrapped which; int errors[2]; } failures[] = {
    {MALLOC, {ENOMEM}}, {CALLOC, {ENOMEM}}, {REALLOC, {ENOMEM}}, {MMAP, {ENOMEM, EACCES}},
    {RECVMSG, {ENOBUFS, ECONNRESET}}, {SENDMSG, {ENOBUFS, EPIPE}}, {SEND, {ENOBUFS, EPIPE}},
    {POLL, {ENOMEM}}, {EPOLL_CREATE1, {EMFILE}}, {EPOLL_CTL, {ENOMEM, ENOSPC}}, {EPOLL_WAIT, {EINVAL}},
    {EVENTFD, {EMFILE, ENOMEM}}, {MEMFD_CREATE, {EMFILE, ENOSYS}}, {FCNTL, {EPERM}}, {FTRUNCATE, {ENOSPC}},
    {FSTAT, {EIO}}, {FSTATFS, {ENOSYS}}, {PREAD, {EIO}}, {PWRITE, {ENOSPC, EIO}}, {PREADV2, {EAGAIN, ENOSYS}},
    {READ, {EAGAIN}}, {WRITE, {EAGAIN}}, {READLINK, {EACCES}}, {LSEEK, {EINVAL}}, {SYSCALL, {EAGAIN, ENOSYS}},
};

static const enum wrapped interruptible[] = {
    RECVMSG, SENDMSG, SEND, POLL, EPOLL_WAIT, PREAD, PWRITE, PREADV2,
};
static const enum wrapped shortened[] = {RECVMSG, SENDMSG, SEND, PREAD, PWRITE};

static void fail_each(enum wrapped which, int error)
{
    unsigned n = 1;

    while (run(which, FAILS, n, error))
        n++;
    printf("%s: %u calls failed with %s\n", wrap_names[which], n - 1, strerrorname_np(error));
    /* Eventfds are read and written on old kernels only. */
    CHECK(n > 1 || which == READ || which == WRITE
          || !by_poller == (which >= EPOLL_CREATE1 && which <= EPOLL_WAIT));
}

static void spoil(enum wrapped which, enum fault fault, const char *how)
{
    unsigned n = 1, all;

    while (run(which, fault, n, 0))
        n++;
    all = run(which, fault, 0, 0);
    CHECK((n > 1 && all) || (!by_poller && which == EPOLL_WAIT));
    printf("%s: %u calls %s one by one, then %u at once\n", wrap_names[which], n - 1, how, all);
}

/* Half a message goes out, and no more of it: nothing may follow. */
static void cut_each(void)
{
    unsigned n = 1;

    while (run(SENDMSG, CUT, n, ENOBUFS))
        n++;
    CHECK(n > 1);
    printf("sendmsg: %u calls were cut short and failed\n", n - 1);
}

static void run_all(void)
{
    for (unsigned i = 0; i < sizeof failures / sizeof *failures; i++)
        for (unsigned k = 0; k < 2 && failures[i].errors[k]; k++)
            fail_each(failures[i].which, failures[i].errors[k]);
    for (unsigned i = 0; i < sizeof interruptible / sizeof *interruptible; i++)
        spoil(interruptible[i], INTERRUPTED, "were interrupted");
    for (unsigned i = 0; i < sizeof shortened / sizeof *shortened; i++)
        spoil(shortened[i], SHORT, "were cut short");
    cut_each();
}

int main(void)
{
    alarm(600);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (by_poller = 0; by_poller < 2; by_poller++) {
        printf("%s\n", by_poller ? "# by a poller" : "# by a thread of its own");
        run_all();
    }
    return 0;
}
