/*
 * clock.c - CLOCK_MONOTONIC, read from the processor's time stamp counter where that is what the kernel does.
 *
 * clock_gettime() is half of what a short access costs. On x86-64, with an invariant counter that the kernel
 * uses for its own clock (and so has compared between cores), a thread anchors the counter to CLOCK_MONOTONIC
 * about once a millisecond, and in between multiplies. Elsewhere this is clock_gettime().
 *
 * The anchor is a thread's own, so nothing is shared. It is taken again when its two readings are too far
 * apart, so that no preemption comes between them. Its rate is that of the time since the anchor before, and
 * counts only when two in a row agree: at first, and after the counter or the clock jumped, clock_gettime()
 * answers. A thread never sees time go back. Off by less than a microsecond: tests/native/clock.c.
 */
#include "internal.h"

struct timespec wb_clock_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

static uint64_t kernel_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <fcntl.h>
#include <unistd.h>
#include <x86intrin.h>

enum {
    EVERY = 1000000,            /* ns between two anchors */
    LONGEST = 2000000000,       /* ns over which a rate is taken; shifted by 32 bits it fits into 64 */
    APART = 600,                /* ticks between the readings of an anchor */
    TRIES = 4
};

struct anchor {
    uint64_t ticks, ns;         /* one moment by both clocks */
    uint64_t span;              /* ticks for which it holds; 0: the rate is not known */
    uint64_t rate;              /* ns a tick, times 2^32, between the last two anchors */
    uint64_t last;              /* ns that were told last */
};

static _Thread_local struct anchor of_thread;
static int usable;
static pthread_once_t looked = PTHREAD_ONCE_INIT;

/* Both clocks at one moment; 0 when something came between each time. */
static int read_both(uint64_t *ticks, uint64_t *ns)
{
    for (int i = 0; i < TRIES; i++) {
        uint64_t before = __rdtsc(), after;

        *ns = kernel_clock();
        after = __rdtsc();
        *ticks = before + (after - before) / 2;
        if (after - before <= APART)
            return 1;
    }
    return 0;
}

/* Does the kernel trust the counter, and is reading it as quick as it should be? */
static void look(void)
{
    unsigned a, b, c, d;
    uint64_t ticks, ns;
    char source[8] = "";
    int fd;

    if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & 1 << 8))      /* TscInvariant */
        return;
    fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, source, sizeof source - 1) >= 4 && !memcmp(source, "tsc\n", 4))
        usable = read_both(&ticks, &ns);
    close(fd);
}

/* The rate since the anchor; 0: none can be told. */
static uint64_t rate_since(const struct anchor *anchor, uint64_t ticks, uint64_t ns)
{
    uint64_t passed = ns - anchor->ns, ticked = ticks - anchor->ticks;

    return anchor->ns && passed <= LONGEST && ticked ? (passed << 32) / ticked : 0;
}

static int agree(uint64_t one, uint64_t other)
{
    return one && (one > other ? one - other : other - one) <= one >> 12;
}

/* The time, and if it can be had a new anchor in place of one that holds no more. */
static __attribute__((noinline)) uint64_t drop_anchor(struct anchor *anchor)
{
    uint64_t ticks, ns, rate;

    pthread_once(&looked, look);
    if (!usable || !read_both(&ticks, &ns))
        return kernel_clock();
    if (!anchor->span && ns - anchor->ns < EVERY)
        return ns;
    rate = rate_since(anchor, ticks, ns);
    if (ns - anchor->ns <= LONGEST)
        anchor->span = agree(rate, anchor->rate) ? ((uint64_t)EVERY << 32) / rate : 0;
    if (rate)
        anchor->rate = rate;
    anchor->ticks = ticks;
    anchor->ns = ns;
    return ns;
}

uint64_t wb_clock(void)
{
    struct anchor *anchor = &of_thread;
    uint64_t since = anchor->span ? __rdtsc() - anchor->ticks : 0;     /* where it is slow it is left alone */
    uint64_t now = since < anchor->span ? anchor->ns + (since * anchor->rate >> 32) : drop_anchor(anchor);

    if (now < anchor->last)
        now = anchor->last;
    return anchor->last = now;
}

#else

uint64_t wb_clock(void)
{
    return kernel_clock();
}

#endif
