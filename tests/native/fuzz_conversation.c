/*
 * fuzz_conversation.c - a client that says anything, over a socket: messages, pieces of some, descriptors of
 * all kinds, answers to questions. The device has one of everything; cold messages and hooks make calls of
 * the engine. Afterwards an honest client is served, and nothing was lost.
 *
 * The fuzzer's thread is the client. Another serves, and a third asks for memory that only messages reach.
 * Every message that wants a reply must get one, in order, until the server hangs up. An input with an odd
 * number of bytes is served by a poller.
 */
#include "fuzz_client.h"

#include <semaphore.h>

enum { BAR = 3 * 4096 + 20, SHARED = 4 * 4096, CONFIG = 256, MSI_AT = 0x90 };

static struct world world;
static sem_t serve_now, served, ask_now;
static int result;              /* of wb_serve() */
static wb_poller *poller;
static int polled;              /* it serves */

/* ---- the device ---- */

static void rules(wb_device *device)
{
    static const uint32_t planes[] = {WB_READABLE, WB_WRITABLE, WB_ACCEPT, WB_KNOWN};

    for (unsigned i = 0; i < 4; i++) {
        fill(device, WB_BAR0, planes[i], 0, 0xff, 64);
        fill(device, WB_BAR0, planes[i], 8192, 0xff, BAR - 8192);
        fill(device, WB_CONFIG, planes[i], 4, 0xff, 2);
        fill(device, WB_CONFIG, planes[i], MSIX + 2, 0xff, 2);
        fill(device, WB_CONFIG, planes[i], MSI_AT, 0xff, 24);
        fill(device, WB_CONFIG, planes[i], PMCSR, 3, 1);
        fill(device, WB_CONFIG, planes[i], CONTROL, 0xff, 2);
    }
    for (uint32_t plane = WB_ONCE; plane <= WB_KNOWN; plane++)  /* a byte each that has one rule */
        fill(device, WB_BAR0, plane, 64 + plane, 0xff, 1);
    fill(device, WB_BAR0, WB_READABLE, 64, 0xff, 64);
    fill(device, WB_CONFIG, WB_READABLE, 0, 0xff, CONFIG);
    fill(device, WB_CONFIG, WB_VALUE, 4, 4, 1);
    fill(device, WB_BAR0, WB_STICKY, 0, 0x0f, 64);
    CHECK(!wb_region_hook(device, WB_BAR0, 0, 16, WB_HOOK_READ | WB_HOOK_WRITE, 1));
}

static void describe_device(wb_device *device)
{
    const wb_irq_places places = {.msi = MSI_AT, .msix = MSIX, .table = TABLE, .pba = PBA};
    const uint32_t vectors[WB_IRQS] = {1, 4, 8, 1, 1};

    CHECK(!wb_region_add(device, WB_BAR0, BAR, WB_REGION_READ | WB_REGION_WRITE));
    CHECK(!wb_region_add(device, 1, SHARED + 4096, WB_REGION_READ | WB_REGION_WRITE));
    CHECK(!wb_region_share(device, 1, 0, SHARED));
    CHECK(!wb_region_add(device, WB_ROM, 3000, WB_REGION_READ));
    CHECK(!wb_region_add(device, WB_CONFIG, CONFIG, WB_REGION_READ | WB_REGION_WRITE));
    rules(device);
    for (uint32_t index = 0; index < WB_IRQS; index++)
        CHECK(!wb_irq_add(device, index, vectors[index]));
    CHECK(!wb_irq_place(device, &places));
    CHECK(!wb_function_add(device, PMCSR, CONTROL));
    wb_peer_patience(device, 60000);
}

/* ---- upcalls: what a guest makes the device do is part of the input, too ---- */

static void hook(void *context, wb_access *access)
{
    uint8_t script[64];
    struct input in = {script, 8};

    (void)context;
    CHECK(access->size >= 1 && access->size <= 8 && access->region < WB_REGIONS);
    access->flags = WB_HOOK_RAN;
    if (world.in[0])
        wb_native_call(world.device, &world.slots[0], access);
    if (!access->write || world.depth)
        return;
    memcpy(script, &access->value, 8);
    CHECK(!wb_region_get(world.device, WB_BAR0, WB_VALUE, 16, script + 8, 48));   /* a longer one than fits */
    in.left = script[7] == 0xff ? sizeof script : access->size;
    calls_run(&world, &in);
}

static int doorbells(wb_message *message)
{
    struct { uint32_t region, count; } wanted = {0};
    int fd;

    memcpy(&wanted, message->payload, message->size < sizeof wanted ? message->size : sizeof wanted);
    for (uint32_t i = 0; i < wanted.count % 17; i++) {
        fd = wb_doorbell_open(world.device, wanted.region, i * 4, 4, i);
        if (fd < 0)
            return fd == -ENOSPC ? ENOSPC : EINVAL;
        message->reply_fds[message->reply_nfds++] = fd;
    }
    return 0;
}

static int message(void *context, wb_message *told)
{
    struct input in = {told->payload, told->size};
    uint32_t first = (uint32_t)take(&in, 4);

    (void)context;
    for (uint32_t i = 0; i < told->nfds; i++)
        CHECK(fcntl(told->fds[i], F_GETFD) == FD_CLOEXEC);
    told->reply_size = told->size < told->reply_room ? told->size : told->reply_room;
    memcpy(told->reply, told->payload, told->reply_size);
    if (told->command == 1 && !told->size)
        return -EINVAL;
    if (told->command == 1)
        wb_serve_accept(world.device, first, first & 1);
    else if (told->command == 5 && wb_region_fd(world.device, first % WB_REGIONS) >= 0)
        told->reply_fds[told->reply_nfds++] = wb_region_fd(world.device, first % WB_REGIONS);
    else if (told->command == 6)
        return doorbells(told);
    else if (told->command == 13)
        wb_device_reset(world.device, WB_RESET_DEVICE);
    else if (told->command == 16)
        wb_state_halt(world.device, first & 7, first >> 3 & 1);
    else if (told->command >= COLD)
        calls_run(&world, &(struct input){told->payload, told->size});
    return told->command == 17 ? -EPROTO : 0;
}

/* ---- the other threads ---- */

static void *serve_forever(void *unused)
{
    for (;;) {
        sem_wait(&serve_now);
        result = polled ? wb_poller_serve(poller, world.device, pair[1]) : wb_serve(world.device, pair[1]);
        shutdown(pair[1], SHUT_RDWR);
        sem_post(&served);
    }
    return unused;
}

static void *poll_forever(void *unused)
{
    wb_poller_run(poller);
    return unused;
}

static struct {
    uint64_t iova, to, size;
    uint32_t kind;
    int busy;                   /* atomic */
    int done;                   /* eventfd */
    uint8_t bytes[ROOM];
} question;

static void *ask_forever(void *unused)
{
    for (;;) {
        sem_wait(&ask_now);
        if (question.kind == 0)
            wb_dma_read(world.device, question.iova, question.bytes, question.size, WB_DEVICE);
        else if (question.kind == 1)
            wb_dma_write(world.device, question.iova, question.bytes, question.size, WB_DEVICE);
        else if (question.kind == 2)
            wb_dma_copy(world.device, question.to, question.iova, question.size, WB_DEVICE);
        else
            wb_peer_read(world.device, question.iova, question.bytes, question.size);
        CHECK(write(question.done, &(uint64_t){1}, 8) == 8);
        __atomic_store_n(&question.busy, 0, __ATOMIC_RELEASE);
    }
    return unused;
}

static void start_threads(void)
{
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);                           /* the fuzzer's signals are for its own thread */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    sem_init(&serve_now, 0, 0);
    sem_init(&served, 0, 0);
    sem_init(&ask_now, 0, 0);
    question.done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    poller = wb_poller_new(20);
    CHECK(poller && !pthread_create(&thread, NULL, poll_forever, NULL) && !pthread_detach(thread));
    CHECK(!pthread_create(&thread, NULL, serve_forever, NULL) && !pthread_detach(thread));
    CHECK(!pthread_create(&thread, NULL, ask_forever, NULL) && !pthread_detach(thread));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- what the bytes mean ---- */

static unsigned pick_fds(struct input *in, int *fds)
{
    unsigned what = (unsigned)take(in, 1), count = what & 15, kind = what >> 4;

    if (count == 15)
        count = kind & 1 ? 253 : 17;
    for (unsigned i = 0; i < count; i++)
        fds[i] = kept_fd(&world, kind);
    return count;
}

static void one_message(struct input *in)
{
    static uint8_t payload[ROOM];
    uint16_t command = (uint16_t)take(in, 1);
    uint32_t flags = (uint32_t)take(in, 1), size;
    int fds[253];
    unsigned nfds = pick_fds(in, fds), n;

    size = (uint32_t)take(in, 1);
    if (size >= 0xf0)
        size = (size & 15) << 12 | (uint32_t)take(in, 1);
    n = in->left < size ? (unsigned)in->left : size;
    memset(payload, 0, size);
    memcpy(payload, in->at, n);
    in->at += n;
    in->left -= n;
    say_message((uint16_t)(flags >> 6 ? flags : client.last & 0xff), command, flags, payload, size, fds,
                nfds);
}

static void raw_bytes(struct input *in)
{
    size_t size = take(in, 1);
    int fds[253];
    unsigned nfds = pick_fds(in, fds);

    if (size > in->left)
        size = in->left;
    if (size)
        say(in->at, size, fds, nfds);
    in->at += size;
    in->left -= size;
}

/* A question from a thread of its own: goes on when it was asked, or needs not be. */
static void ask_client(struct input *in)
{
    struct pollfd ready[] = {{pair[0], POLLIN, 0}, {question.done, POLLIN, 0}};
    uint64_t taken;

    client.answer = (int)take(in, 1) % 6;
    if (__atomic_load_n(&question.busy, __ATOMIC_ACQUIRE))
        return;
    (void)!read(question.done, &taken, sizeof taken);
    question.kind = (uint32_t)take(in, 1) % 4;
    question.iova = number(in);
    question.to = number(in);
    question.size = at_most(in, ROOM);
    __atomic_store_n(&question.busy, 1, __ATOMIC_RELEASE);
    sem_post(&ask_now);
    while (!client.over && !ready[1].revents) {
        poll(ready, 2, -1);
        if (ready[0].revents)
            drain(0);
        if (ready[0].revents && (client.answer == 5 || client.have))
            return;
    }
}

/* Rings a doorbell, or writes shared pages. */
static void use_received(struct input *in)
{
    int fd = received[take(in, 1) % 4];
    const uint64_t bytes = 1 + take(in, 1);

    if (fd >= 0)
        (void)!pwrite(fd, &bytes, sizeof bytes, (off_t)(number(in) % SHARED));
    if (fd >= 0)
        (void)!write(fd, &bytes, sizeof bytes);
}

static void pause_and_step(struct input *in)
{
    wb_gate_pause(world.device, 1);
    one_message(in);
    wb_gate_step(world.device, (uint32_t)take(in, 1) & 3);
    CHECK(wb_gate_waiting(world.device) <= 1);
    wb_gate_pause(world.device, 0);
}

/* Calls of the engine from another thread than the serving one; questions are asked in vain. */
static void call_as_client(struct input *in)
{
    struct input some = {in->at, in->left < 64 ? in->left : 64};

    wb_peer_patience(world.device, 0);
    world.beside = 1;
    calls_run(&world, &some);
    world.beside = 0;
    wb_peer_patience(world.device, 60000);
    in->left -= (size_t)(some.at - in->at);
    in->at = some.at;
}

static void converse(struct input *in)
{
    while (in->left && !client.over) {
        unsigned what = (unsigned)take(in, 1) % 16;

        if (what < 9)
            one_message(in);
        else if (what < 11)
            raw_bytes(in);
        else if (what == 11)
            abuse_fd(&world, in);
        else if (what == 12)
            ask_client(in);
        else if (what == 13)
            pause_and_step(in);
        else if (what == 14)
            call_as_client(in);
        else
            use_received(in);
        sync_with_server();
    }
}

/* ---- one run ---- */

static void begin(void)
{
    memset(&client, 0, offsetof(__typeof__(client), expected));
    client.first = client.last = 0;
    client.got = 0;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    sem_post(&serve_now);
}

static void end(void)
{
    shutdown(pair[0], SHUT_WR);
    while (!client.over)
        drain(1);
    while (sem_wait(&served))
        CHECK(errno == EINTR);
    CHECK(result <= 0);
    while (__atomic_load_n(&question.busy, __ATOMIC_ACQUIRE))
        poll(&(struct pollfd){question.done, POLLIN, 0}, 1, -1);
    CHECK(!wb_dma_list(world.device, NULL, 0));
    close(pair[0]);
    close(pair[1]);
    for (unsigned i = 0; i < 4; i++) {
        if (received[i] >= 0)
            close(received[i]);
        received[i] = -1;
    }
}

/* An honest client comes next: it is let in, reads and writes. */
static void serve_another(void)
{
    struct { uint64_t offset; uint32_t region, count; uint8_t data[4]; } access = {0x20, WB_CONFIG, 4, {0}};

    begin();
    world.depth = 9;
    say_message(1, 1, 0, "\377\377\17\0", 4, NULL, 0);
    say_message(2, 9, 0, &access, 16, NULL, 0);
    access.region = WB_BAR0;
    say_message(3, 10, 0, &access, 20, NULL, 0);
    sync_with_server();
    CHECK(client.synced && client.first == client.last);
    world.depth = 0;
    end();
    CHECK(!result);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static int started;
    const wb_upcalls upcalls = {&world, hook, message, stub_trace, NULL};
    struct input in = {bytes, size};
    int before;

    if (!started++)
        start_threads();
    before = free_fd();
    world_begin(&world, &upcalls);
    describe_device(world.device);
    world.served = 1;
    polled = (int)(size & 1);
    wb_serve_poll(world.device, size & 2 ? 20 : 0);
    begin();
    converse(&in);
    end();
    serve_another();
    world_end(&world);
    CHECK(free_fd() == before);
    return 0;
}
