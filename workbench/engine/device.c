/*
 * device.c - birth, reset and death of a device and its regions.
 *
 * Everything that a conversation needs is allocated here, so that serving a guest never waits for
 * memory and never fails for the want of it. Large buffers are touched only when used.
 */
#include "internal.h"
#include "wb_python.h"

#include <stdlib.h>
#include <sys/mman.h>

static int init_conditions(wb_device *device)
{
    pthread_condattr_t attributes;
    int failed;

    if (pthread_condattr_init(&attributes))
        return -ENOMEM;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    failed = pthread_mutex_init(&device->lock, NULL) || pthread_mutex_init(&device->sending, NULL)
             || pthread_cond_init(&device->answered, &attributes)
             || pthread_cond_init(&device->logged, &attributes)
             || pthread_cond_init(&device->left, &attributes)
             || pthread_cond_init(&device->gate, &attributes)
             || pthread_cond_init(&device->native_over, &attributes)
             || pthread_cond_init(&device->turned, &attributes);
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
    device->hook_context = device->upcalls.context;
    device->unmask_fd = device->socket = device->waker = -1;
    device->patience = 2000;
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

void wb_device_hooks(wb_device *device, void *context)
{
    device->hook_context = context;
}

void wb_device_free(wb_device *device)
{
    if (!device)
        return;
    wb_irq_free(device);
    wb_doorbell_clear(device);
    wb_dma_free(device);
    wb_native_free(device);
    wb_dirty_stop(device);
    for (unsigned i = 0; i < WB_REGIONS; i++)
        wb_region_free(&device->regions[i]);
    pthread_cond_destroy(&device->left);
    pthread_cond_destroy(&device->gate);
    pthread_cond_destroy(&device->native_over);
    pthread_cond_destroy(&device->answered);
    pthread_cond_destroy(&device->logged);
    pthread_cond_destroy(&device->turned);
    pthread_mutex_destroy(&device->sending);
    pthread_mutex_destroy(&device->lock);
    free(device->ring);
    free(device->in);
    free(device->out);
    free(device);
}

int wb_region_add(wb_device *device, uint32_t region, uint64_t size, uint32_t flags)
{
    const uint64_t limit = UINT64_C(1) << 42;   /* no plane arithmetic overflows below it */
    struct wb_region added = {.size = size, .flags = flags};
    void *planes;
    int result = 0;

    if (region >= WB_REGIONS || !size || size > limit)
        return -EINVAL;
    added.stride = (size + 8 + WB_PAGE - 1) / WB_PAGE * WB_PAGE + 64;
    added.mapped = added.stride * WB_PLANES;
    added.programmed = calloc((size - 1) / WB_PAGE / 64 + 1, sizeof *added.programmed);
    if (region == WB_CONFIG) {
        added.irq_start = WB_PCI_COMMAND;
        added.irq_end = WB_PCI_STATUS + 2;
    }
    planes = mmap(NULL, added.mapped, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    added.planes = planes == MAP_FAILED ? NULL : planes;
    if (!added.programmed || !added.planes) {
        wb_region_free(&added);
        return -ENOMEM;
    }
    madvise(planes, added.mapped, MADV_NOHUGEPAGE);     /* one byte set must not cost 2 MiB */
    wb_lock(device);
    if (device->regions[region].planes)
        result = -EEXIST;
    else
        device->regions[region] = added;
    wb_unlock(device);
    if (result)
        wb_region_free(&added);
    return result;
}

void wb_region_free(struct wb_region *region)
{
    if (region->planes)
        munmap(region->planes, region->mapped);
    wb_share_free(region);
    free(region->programmed);
    memset(region, 0, sizeof *region);
}

void wb_device_reset(wb_device *device, uint32_t kind)
{
    uint8_t origin = kind == WB_RESET_NOTEBOOK ? WB_NOTEBOOK : WB_GUEST;
    int power_cycle = kind == WB_RESET_NOTEBOOK || kind == WB_RESET_DETACH, held;

    wb_lock(device);
    held = wb_native_hold_locked(device);       /* so that no hook sees half a reset */
    wb_irq_reset_locked(device);
    for (unsigned i = 0; i < WB_REGIONS; i++)
        if (device->regions[i].planes)
            wb_region_reset_locked(device, &device->regions[i], power_cycle);
    wb_function_config_locked(device, 0, UINT32_MAX, 0);
    wb_msi_refresh_locked(device);
    wb_irq_config_locked(device);
    wb_event_locked(device, WB_KIND_RESET, origin, 0, kind);
    wb_native_release_locked(device, held);
    wb_unlock(device);
}
