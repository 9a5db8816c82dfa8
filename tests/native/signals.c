/*
 * signals.c - clients that fill their own eventfds, those that block too: nobody who signals them waits.
 *
 * They do it behind whoever looks before he writes: poll() says here that there was room. Needs Linux AIO.
 */
#include "harness.h"

#include <poll.h>

enum { ROUNDS = 20 };

static const uint64_t full = UINT64_MAX - 1;

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec left = {timeout / 1000, timeout % 1000 * 1000000L};

    if (count == 1 && !timeout) {
        fds->revents = POLLOUT;
        return 1;
    }
    return ppoll(fds, count, timeout < 0 ? NULL : &left, NULL);
}

/* SET_IRQS of one MSI-X vector. */
static void arm(wb_device *device, int fd)
{
    const uint32_t set[5] = {20, 0x24, WB_MSIX, 0, 1};
    int taken = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    CHECK(taken >= 0 && !wb_irq_set(device, (const uint8_t *)set, sizeof set, &taken, 1));
}

static uint64_t count_of(wb_device *device)
{
    wb_irq_status status;

    CHECK(!wb_irq_get(device, WB_MSIX, 0, &status));
    return status.count;
}

static void enable(wb_device *device)
{
    CHECK(!wb_region_poke(device, WB_CONFIG, WB_VALUE, MSIX + 2, 0x8000, 0xffff, 2, WB_NOTEBOOK));
}

/* More signals than the kernel keeps the ends of. */
static void counts(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t count;

    arm(device, fd);
    enable(device);
    for (int i = 0; i < 1000; i++)
        CHECK(wb_irq_trigger(device, WB_MSIX, 0, WB_DEVICE) == WB_IRQ_DELIVERED);
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 1000 && count_of(device) == 1000);
    close(fd);
    wb_device_free(device);
}

/* By a call, by the unmask of what is pending, by a poke that unmasks it. */
static void filled(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t count;

    CHECK(write(fd, &full, sizeof full) == sizeof full);
    arm(device, fd);
    enable(device);
    CHECK(wb_irq_trigger(device, WB_MSIX, 0, WB_DEVICE) == WB_IRQ_DELIVERED);
    CHECK(!wb_region_poke(device, WB_CONFIG, WB_VALUE, MSIX + 2, 0x4000, 0x4000, 2, WB_NOTEBOOK));
    CHECK(wb_irq_trigger(device, WB_MSIX, 0, WB_DEVICE) == WB_IRQ_MASKED);
    CHECK(!wb_region_poke(device, WB_CONFIG, WB_VALUE, MSIX + 2, 0, 0x4000, 2, WB_NOTEBOOK));
    CHECK(read(fd, &count, sizeof count) == sizeof count && count >= full);
    close(fd);
    wb_device_free(device);
}

/* ---- beside another client ---- */

static wb_poller *poller;

struct line {
    struct stub stub;
    int pair[2];
    pthread_t thread;
};

static void *serve(void *opaque)
{
    struct line *line = opaque;

    CHECK(!wb_poller_serve(poller, line->stub.device, line->pair[1]));
    close(line->pair[1]);
    return NULL;
}

static void *poll_all(void *unused)
{
    wb_poller_run(poller);
    return unused;
}

static void dial(struct line *line)
{
    make_device(&line->stub);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line->pair));
    CHECK(!pthread_create(&line->thread, NULL, serve, line));
    CHECK(!ask(line->pair[0], 1, "\0\0\0", 4, NULL, 0));
}

static void hang_up(struct line *line)
{
    close(line->pair[0]);
    CHECK(!pthread_join(line->thread, NULL));
    wb_device_free(line->stub.device);
}

/* The thread that serves both signals the one's eventfd, answers it, and answers the other. */
static void beside(void)
{
    const uint32_t trigger[5] = {20, 0x21, WB_MSIX, 0, 1};
    const struct { uint64_t offset; uint32_t region, count; } look = {64, WB_BAR0, 4};
    static struct line hostile, other;
    pthread_t polling;
    int fd = eventfd(0, EFD_CLOEXEC);

    CHECK(write(fd, &full, sizeof full) == sizeof full);
    poller = wb_poller_new(0);
    CHECK(poller && !pthread_create(&polling, NULL, poll_all, NULL));
    dial(&hostile);
    dial(&other);
    arm(hostile.stub.device, fd);
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(!ask(hostile.pair[0], 8, trigger, sizeof trigger, NULL, 0));
        CHECK(!ask(other.pair[0], 9, &look, sizeof look, NULL, 0));
    }
    hang_up(&hostile);
    hang_up(&other);
    wb_poller_stop(poller);
    CHECK(!pthread_join(polling, NULL));
    wb_poller_free(poller);
    close(fd);
}

int main(void)
{
    alarm(20);                  /* who waits is killed */
    counts();
    filled();
    beside();
    return 0;
}
