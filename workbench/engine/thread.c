/*
 * thread.c - how threads share: the lock of a device, the interpreter, the processor.
 */
#include "internal.h"
#include "wb_python.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLICE = 100000 };        /* ns; the least that Linux grants */

/* The beginning of struct sched_attr, sched_setattr(2); the C library does not declare it everywhere. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static _Thread_local void *(*let_go)(void);
static _Thread_local void (*take_back)(void *);

void wb_thread_hold(void *(*go)(void), void (*back)(void *))
{
    let_go = go;
    take_back = back;
}

/* Never with the lock while it waits for the interpreter: then hook-less registers would wait for Python. */
void wb_lock_wait(wb_device *device)
{
    if (!let_go) {
        pthread_mutex_lock(&device->lock);
        return;
    }
    do {
        void *held = let_go();

        pthread_mutex_lock(&device->lock);
        pthread_mutex_unlock(&device->lock);
        take_back(held);
    } while (pthread_mutex_trylock(&device->lock));
}

void wb_thread_hurry(void)
{
    struct attributes now = {0};

    /*
     * Timed waits end when they are due, not up to 50 us later. Each Python thread waits so for the
     * interpreter.
     */
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    /* Linux 6.12: who asks for short slices goes before those who compute. Older ones ignore it. */
    if (syscall(SYS_sched_getattr, 0, &now, (unsigned)sizeof now, 0) || now.policy != 0)
        return;
    now.runtime = SLICE;
    syscall(SYS_sched_setattr, 0, &now, 0);
}
