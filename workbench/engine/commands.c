/*
 * commands.c - what a message asks for; knows payloads, not sockets.
 *
 * The hot commands are answered here; all others go up to `message`. Each function checks its
 * payload as docs/interop/vfio-user.rst of QEMU lays it out, and returns 0 or an errno of either
 * sign for an Error reply. Payloads have no alignment, so they are copied out before use.
 */
#include "internal.h"

enum command {
    VERSION = 1, DMA_MAP = 2, DMA_UNMAP = 3, SET_IRQS = 8, REGION_READ = 9, REGION_WRITE = 10,
    REGION_WRITE_MULTI = 15
};

enum { UNMAP_ALL = 2 };

struct dma_map {
    uint32_t argsz, flags;
    uint64_t offset, iova, size;
};

struct dma_unmap {
    uint32_t argsz, flags;
    uint64_t iova, size;
};

struct region_access {
    uint64_t offset;
    uint32_t region, count;
};

struct write_entry {
    uint64_t offset;
    uint32_t region, count;
    uint8_t data[8];
};

static int dma_map(wb_device *device, struct wb_request *request)
{
    struct dma_map map;
    wb_dma_range range = {0};
    int fd = request->nfds ? request->fds[0] : -1;

    if (request->size < sizeof map || request->nfds > 1)
        return EINVAL;
    memcpy(&map, request->payload, sizeof map);
    if (map.argsz < sizeof map || map.flags & ~(uint32_t)(WB_DMA_READABLE | WB_DMA_WRITABLE))
        return EINVAL;
    range.iova = map.iova;
    range.size = map.size;
    range.offset = map.offset;
    range.flags = map.flags;
    request->nfds = 0;
    return wb_dma_map(device, &range, fd);
}

static int dma_unmap(wb_device *device, struct wb_request *request)
{
    struct dma_unmap unmap;
    int all, result;

    if (request->size < sizeof unmap)
        return EINVAL;
    memcpy(&unmap, request->payload, sizeof unmap);
    all = unmap.flags == UNMAP_ALL;
    if (unmap.argsz < sizeof unmap || unmap.argsz > WB_MAX_TRANSFER || (unmap.flags && !all)
        || (all && (unmap.iova || unmap.size)))
        return EINVAL;
    result = wb_dma_unmap(device, unmap.iova, unmap.size, all);
    memcpy(request->reply, &unmap, sizeof unmap);
    request->reply_size = sizeof unmap;
    return result;
}

static int set_irqs(wb_device *device, struct wb_request *request)
{
    uint32_t nfds = request->nfds;

    request->nfds = 0;
    return wb_irq_set(device, request->payload, request->size, request->fds, nfds);
}

/* The 16 bytes in front of data that goes either way. */
static int get_access(const wb_device *device, const struct wb_request *request, struct region_access *access)
{
    if (request->size < sizeof *access)
        return EINVAL;
    memcpy(access, request->payload, sizeof *access);
    return access->count > device->max_transfer ? EINVAL : 0;
}

/* This thread must not wait, or not go on for so long: the request is run again later, from `done` on. */
static int put_back(struct wb_request *request, enum wb_parked why, uint64_t done)
{
    request->parked = why;
    request->done = done;
    return 0;
}

static int region_read(wb_device *device, struct wb_request *request)
{
    struct region_access access;
    int result = get_access(device, request, &access);

    if (result)
        return result;
    memcpy(request->reply, &access, sizeof access);
    request->reply_size = (uint32_t)sizeof access + access.count;
    if (!wb_gate_enter(device))
        return put_back(request, WB_AT_GATE, 0);
    result = wb_region_read(device, access.region, access.offset, request->reply + sizeof access,
                            access.count, WB_GUEST);
    wb_gate_leave(device);
    return result;
}

static int region_write(wb_device *device, struct wb_request *request)
{
    struct region_access access;
    int result = get_access(device, request, &access);

    if (result || request->size - sizeof access != access.count)
        return EINVAL;
    memcpy(request->reply, &access, sizeof access);
    request->reply_size = sizeof access;
    if (!wb_gate_enter(device))
        return put_back(request, WB_AT_GATE, 0);
    result = wb_region_write(device, access.region, access.offset, request->payload + sizeof access,
                             access.count, WB_GUEST);
    wb_gate_leave(device);
    return result;
}

/* Answers how many writes were done; an Error only when not even the first was. */
static int region_write_multi(wb_device *device, struct wb_request *request)
{
    uint64_t count, done;
    struct write_entry entry;
    const uint8_t *entries = request->payload + sizeof count;
    int result = 0;

    if (request->size < sizeof count)
        return EINVAL;
    memcpy(&count, request->payload, sizeof count);
    if (count > WB_MAX_MESSAGE / sizeof entry || count * sizeof entry != request->size - sizeof count)
        return EINVAL;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&entry, entries + i * sizeof entry, sizeof entry);
        if (entry.count > sizeof entry.data)
            return EINVAL;
    }
    device->aside = 0;
    for (done = request->done; done < count; done++) {
        memcpy(&entry, entries + done * sizeof entry, sizeof entry);
        if (done > request->done && !request->most) {
            device->aside = 1;
            return put_back(request, WB_GIVES_WAY, done);
        }
        request->most -= done > request->done;
        if (!wb_gate_enter(device))
            return put_back(request, WB_AT_GATE, done);
        result = wb_region_write(device, entry.region, entry.offset, entry.data, entry.count, WB_GUEST);
        wb_gate_leave(device);
        if (result)
            break;
    }
    memcpy(request->reply, &done, sizeof done);
    request->reply_size = sizeof done;
    return done ? 0 : result;
}

static int cold(wb_device *device, struct wb_request *request)
{
    wb_message message = {
        .command = request->command, .flags = request->flags, .payload = request->payload,
        .size = request->size, .nfds = request->nfds, .fds = request->fds, .reply = request->reply,
        .reply_room = WB_MAX_MESSAGE - WB_HEADER,
    };
    int result;

    if (!device->upcalls.message)
        return ENOTSUP;
    result = device->upcalls.message(device->upcalls.context, &message);
    if (result < 0)
        request->fatal = 1;
    if (result)
        return result < 0 ? -result : result;
    if (message.reply_size > message.reply_room || message.reply_nfds > WB_MAX_FDS)
        return EOVERFLOW;
    request->reply_size = message.reply_size;
    request->reply_nfds = message.reply_nfds;
    memcpy(request->reply_fds, message.reply_fds, sizeof request->reply_fds);
    return 0;
}

/* A client that stopped the device may look at it, and save it, but not set it up anew. */
static int refused_while_stopped(wb_device *device, uint32_t command)
{
    int halted;

    if (command != DMA_MAP && command != DMA_UNMAP && command != SET_IRQS)
        return 0;
    wb_lock(device);
    halted = device->halted & WB_HALT_CLIENT;
    wb_unlock(device);
    return halted;
}

static int hot(wb_device *device, struct wb_request *request, int *result)
{
    switch (request->command) {
    case DMA_MAP:
        *result = dma_map(device, request);
        return 1;
    case DMA_UNMAP:
        *result = dma_unmap(device, request);
        return 1;
    case SET_IRQS:
        *result = set_irqs(device, request);
        return 1;
    case REGION_READ:
        *result = region_read(device, request);
        return 1;
    case REGION_WRITE:
        *result = region_write(device, request);
        return 1;
    case REGION_WRITE_MULTI:
        if (!device->write_multiple)
            return 0;
        *result = region_write_multi(device, request);
        return 1;
    default:
        return 0;
    }
}

int wb_request_run(wb_device *device, struct wb_request *request)
{
    int result;

    request->reply_size = 0;
    request->reply_nfds = 0;
    if (!device->accepted && (request->command != VERSION || request->nfds)) {
        request->fatal = 1;
        return EINVAL;
    }
    if (device->accepted && request->command == VERSION)
        return EINVAL;
    if (request->nfds && request->command != DMA_MAP && request->command != SET_IRQS)
        return EINVAL;
    if (refused_while_stopped(device, request->command))
        return EINVAL;
    if (hot(device, request, &result))
        return result < 0 ? -result : result;
    return cold(device, request);
}
