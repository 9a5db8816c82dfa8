/*
 * doorbell.c - eventfds that stand for a guest's write to a register.
 *
 * A client that asked for them (GET_REGION_IO_FDS) hands them to its hypervisor, which then signals instead
 * of sending a message. The eventfds are made when they are asked for and closed when the client goes: one
 * that was here before cannot ring. The serving loop polls them only while there are some.
 *
 * They are emptied before messages are received, and carried out behind those: what the guest sent before it
 * rang is there by then, and a ring that comes meanwhile is another one.
 *
 * They are opened and polled by the serving thread, and closed when it is done with the client.
 */
#include "internal.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct wb_doorbell *find_locked(wb_device *device, const struct wb_doorbell *wanted)
{
    for (uint32_t i = 0; i < device->doorbell_count; i++) {
        struct wb_doorbell *bell = &device->doorbells[i];

        if (bell->region == wanted->region && bell->offset == wanted->offset && bell->size == wanted->size
            && bell->value == wanted->value)
            return bell;
    }
    return NULL;
}

static int open_locked(wb_device *device, struct wb_doorbell *wanted)
{
    struct wb_doorbell *found = find_locked(device, wanted);

    if (found)
        return found->fd;
    if (device->doorbell_count == WB_MAX_DOORBELLS)
        return -ENOSPC;
    wanted->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wanted->fd < 0)
        return -errno;
    device->doorbells[device->doorbell_count] = *wanted;
    __atomic_store_n(&device->doorbell_count, device->doorbell_count + 1, __ATOMIC_RELAXED);
    return wanted->fd;
}

int wb_doorbell_open(wb_device *device, uint32_t region, uint64_t offset, uint32_t size, uint64_t value)
{
    struct wb_doorbell wanted = {.fd = -1, .region = region, .size = size, .offset = offset, .value = value};
    int result;

    if (region >= WB_REGIONS || !device->regions[region].planes || !size || size > 8
        || offset > device->regions[region].size || size > device->regions[region].size - offset)
        return -EINVAL;
    wb_lock(device);
    result = open_locked(device, &wanted);
    wb_unlock(device);
    return result;
}

uint32_t wb_doorbell_poll(wb_device *device, struct pollfd *ready)
{
    uint32_t count;

    wb_lock(device);
    count = device->doorbell_count;
    for (uint32_t i = 0; i < count; i++)
        ready[i] = (struct pollfd){.fd = device->doorbells[i].fd, .events = POLLIN};
    wb_unlock(device);
    return count;
}

uint64_t wb_doorbell_take(const wb_device *device, const struct pollfd *ready, uint32_t count)
{
    uint64_t rung = 0;

    for (uint32_t i = 0; i < count; i++)
        if (ready[i].revents & POLLIN && wb_eventfd_take(device->doorbells[i].fd))
            rung |= UINT64_C(1) << i;
    return rung;
}

int wb_doorbell_ring(wb_device *device, uint64_t *rung)
{
    for (; *rung; *rung &= *rung - 1) {
        struct wb_doorbell bell = device->doorbells[__builtin_ctzll(*rung)];

        if (!wb_gate_enter(device))
            return 0;
        wb_region_signal(device, &bell);
        wb_gate_leave(device);
    }
    return 1;
}

void wb_doorbell_clear(wb_device *device)
{
    wb_lock(device);
    for (uint32_t i = 0; i < device->doorbell_count; i++)
        close(device->doorbells[i].fd);
    __atomic_store_n(&device->doorbell_count, 0, __ATOMIC_RELAXED);
    wb_unlock(device);
}
