/*
 * device.c - birth, reset and death of a device.
 *
 * Everything that a conversation needs is allocated here, so that serving a guest never waits for
 * memory and never fails for the want of it. Large buffers are touched only when used.
 */
#include "internal.h"

#include <stdlib.h>

static int init_conditions(wb_device *device)
{
    pthread_condattr_t attributes;
    int failed;

    if (pthread_condattr_init(&attributes))
        return -ENOMEM;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    failed = pthread_mutex_init(&device->lock, NULL) || pthread_cond_init(&device->logged, &attributes)
             || pthread_cond_init(&device->left, &attributes)
             || pthread_cond_init(&device->gate, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed ? -ENOMEM : 0;
}

static uint64_t round_up_power(uint32_t number)
{
    uint64_t power = 1;

    while (power < number)
        power <<= 1;
    return power;
}

wb_device *wb_device_new(const wb_upcalls *upcalls, uint32_t log_capacity)
{
    uint64_t capacity = round_up_power(log_capacity);
    wb_device *device = calloc(1, sizeof *device);

    if (!device)
        return NULL;
    if (upcalls)
        device->upcalls = *upcalls;
    device->unmask_fd = -1;
    device->max_transfer = WB_MAX_TRANSFER;
    device->ring_mask = capacity - 1;
    device->ring = calloc(capacity, sizeof *device->ring);
    device->in = malloc(WB_IN_SIZE);
    device->out = malloc(WB_MAX_MESSAGE);
    if (!device->ring || !device->in || !device->out || init_conditions(device)) {
        free(device->ring);
        free(device->in);
        free(device->out);
        free(device);
        return NULL;
    }
    return device;
}

void wb_device_free(wb_device *device)
{
    if (!device)
        return;
    wb_irq_free(device);
    wb_dma_free(device);
    for (unsigned i = 0; i < WB_REGIONS; i++)
        wb_region_free(&device->regions[i]);
    pthread_cond_destroy(&device->left);
    pthread_cond_destroy(&device->gate);
    pthread_cond_destroy(&device->logged);
    pthread_mutex_destroy(&device->lock);
    free(device->ring);
    free(device->in);
    free(device->out);
    free(device);
}

void wb_device_reset(wb_device *device, uint32_t kind)
{
    uint8_t origin = kind == WB_RESET_DEVICE ? WB_GUEST : WB_NOTEBOOK;

    wb_lock(device);
    wb_irq_reset_locked(device);
    for (unsigned i = 0; i < WB_REGIONS; i++)
        if (device->regions[i].planes)
            wb_region_reset_locked(device, &device->regions[i]);
    wb_irq_config_locked(device);
    wb_event_locked(device, WB_KIND_RESET, origin, 0, kind);
    wb_unlock(device);
}
