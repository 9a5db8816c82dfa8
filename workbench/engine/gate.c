/*
 * gate.c - pause, step and hold: the guest's region accesses wait at a gate.
 *
 * The gate stands in front of REGION_READ, REGION_WRITE, REGION_WRITE_MULTI and doorbells, and nowhere else,
 * so a paused device still answers DMA maps, interrupts and questions. The notebook's own accesses do not
 * pass it. On a thread that serves others too the access does not wait but is put back, and the poller is
 * woken when the gate has news. It is closed while the user pauses, and while somebody holds it to look at a
 * device that stands still; who holds it waits until the access that had passed is over. Both sides write
 * before they look (sequentially consistent), so that one of them sees the other, and an open gate takes no
 * lock.
 */
#include "internal.h"

#include <sys/eventfd.h>

static void tell_locked(wb_device *device)
{
    pthread_cond_broadcast(&device->gate);
    if (device->waker >= 0 && device->at_gate)
        eventfd_write(device->waker, 1);
}

static void set_locked(wb_device *device)
{
    __atomic_store_n(&device->closed, device->paused || device->held, __ATOMIC_SEQ_CST);
    tell_locked(device);
}

int wb_gate_enter(wb_device *device)
{
    __atomic_store_n(&device->inside, 1, __ATOMIC_SEQ_CST);
    /*
     * Written by this thread alone: an access that was put back comes again, and finds the gate open perhaps.
     */
    if (!__atomic_load_n(&device->closed, __ATOMIC_SEQ_CST) && !device->at_gate)
        return 1;
    wb_lock(device);
    __atomic_store_n(&device->inside, 0, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&device->gate);
    device->at_gate = 1;
    while (device->held || (device->paused && !device->steps)) {
        if (device->waker >= 0) {
            wb_unlock(device);
            return 0;
        }
        pthread_cond_wait(&device->gate, &device->lock);
    }
    if (device->paused)
        device->steps--;
    device->at_gate = 0;
    __atomic_store_n(&device->inside, 1, __ATOMIC_SEQ_CST);
    wb_unlock(device);
    return 1;
}

void wb_gate_leave(wb_device *device)
{
    __atomic_store_n(&device->inside, 0, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&device->closed, __ATOMIC_SEQ_CST))
        return;
    wb_lock(device);
    pthread_cond_broadcast(&device->gate);
    wb_unlock(device);
}

void wb_gate_pause(wb_device *device, int on)
{
    wb_lock(device);
    device->paused = on != 0;
    device->steps = 0;
    set_locked(device);
    wb_unlock(device);
}

void wb_gate_step(wb_device *device, uint32_t accesses)
{
    wb_lock(device);
    device->steps = accesses < UINT32_MAX - device->steps ? device->steps + accesses : UINT32_MAX;
    tell_locked(device);
    wb_unlock(device);
}

int wb_gate_waiting(wb_device *device)
{
    int waiting;

    wb_lock(device);
    waiting = device->at_gate;
    wb_unlock(device);
    return waiting;
}

void wb_gate_abandon(wb_device *device, int on)
{
    wb_lock(device);
    device->abandoned = on != 0;
    wb_unlock(device);
}

int wb_gate_hold(wb_device *device, uint32_t timeout_ms)
{
    uint64_t until = wb_clock() + timeout_ms * UINT64_C(1000000);
    struct timespec deadline = wb_clock_timespec(until);
    int result = 0;

    wb_lock(device);
    device->held++;
    set_locked(device);
    if (timeout_ms && !(device->serving && pthread_equal(device->server, pthread_self())))
        while (__atomic_load_n(&device->inside, __ATOMIC_SEQ_CST) && !result)
            result = -pthread_cond_timedwait(&device->gate, &device->lock, &deadline);
    if (result) {
        device->held--;
        set_locked(device);
    }
    wb_unlock(device);
    return result;
}

void wb_gate_release(wb_device *device)
{
    wb_lock(device);
    device->held--;
    set_locked(device);
    wb_unlock(device);
}
