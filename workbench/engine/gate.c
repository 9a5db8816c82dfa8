/*
 * gate.c - pause and step: the guest's region accesses wait at a gate.
 *
 * The gate stands in front of REGION_READ, REGION_WRITE and REGION_WRITE_MULTI and nowhere else, so
 * a paused device still answers DMA maps, interrupts and questions. An open gate costs one relaxed
 * load. The notebook's own accesses do not pass it.
 */
#include "internal.h"

void wb_gate_wait(wb_device *device)
{
    if (!__atomic_load_n(&device->paused, __ATOMIC_RELAXED))
        return;
    wb_lock(device);
    device->at_gate = 1;
    while (device->paused && !device->steps)
        pthread_cond_wait(&device->gate, &device->lock);
    if (device->paused)
        device->steps--;
    device->at_gate = 0;
    wb_unlock(device);
}

void wb_gate_pause(wb_device *device, int on)
{
    wb_lock(device);
    __atomic_store_n(&device->paused, on != 0, __ATOMIC_RELAXED);
    device->steps = 0;
    pthread_cond_broadcast(&device->gate);
    wb_unlock(device);
}

void wb_gate_step(wb_device *device, uint32_t accesses)
{
    wb_lock(device);
    device->steps += accesses;
    pthread_cond_broadcast(&device->gate);
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
