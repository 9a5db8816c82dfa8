/*
 * turn.c - after the reply: who was called by a hook can wait until its request was answered.
 *
 * A number counts the beginnings and ends of requests, so it is odd while one is being answered. The
 * serving thread takes the lock only when somebody waits; both sides write before they look (sequentially
 * consistent), so that one of them sees the other.
 */
#include "internal.h"

void wb_turn_begin(wb_device *device)
{
    __atomic_store_n(&device->turn, device->turn + 1, __ATOMIC_RELAXED);
}

void wb_turn_end(wb_device *device)
{
    __atomic_store_n(&device->turn, device->turn + 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&device->turn_waiters, __ATOMIC_SEQ_CST))
        return;
    wb_lock(device);
    pthread_cond_broadcast(&device->turned);
    wb_unlock(device);
}

uint64_t wb_turn_now(wb_device *device)
{
    uint64_t turn = 0;

    wb_lock(device);
    /* At the gate, or set aside: this thread answers another device's request meanwhile. */
    if (device->socket >= 0 && pthread_equal(device->server, pthread_self()) && !device->at_gate
        && !device->aside)
        turn = device->turn;
    wb_unlock(device);
    return turn % 2 ? turn : 0;
}

void wb_turn_wait(wb_device *device, uint64_t turn)
{
    if (!turn)
        return;
    wb_lock(device);
    __atomic_add_fetch(&device->turn_waiters, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&device->turn, __ATOMIC_SEQ_CST) == turn)
        pthread_cond_wait(&device->turned, &device->lock);
    __atomic_sub_fetch(&device->turn_waiters, 1, __ATOMIC_SEQ_CST);
    wb_unlock(device);
}
