/*
 * vfio_device.c - a device: opened by GET_DEVICE_FD, its ioctls, its interrupts, the guest's memory.
 *
 * Once QEMU has set the device up, the end of its server is no error any more: what cannot be told
 * to it is done, and the VM goes on. Before that it is one, so that QEMU refuses the device.
 */
#include "vfio_device.h"

#include <fcntl.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { ERR = VFIO_PCI_ERR_IRQ_INDEX, INTX = VFIO_PCI_INTX_IRQ_INDEX, MOST_VECTORS = 2048 };
enum { PRIVATE_HINT = 16 << 20 };       /* bytes that go by messages without a word */

/* What SET_IRQS carries, and what it does with it. */
enum { NONE = VFIO_IRQ_SET_DATA_NONE, BOOL = VFIO_IRQ_SET_DATA_BOOL, EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD,
       DATA = VFIO_IRQ_SET_DATA_TYPE_MASK, ACTION = VFIO_IRQ_SET_ACTION_TYPE_MASK };

#define SET_BASE offsetof(struct vfio_irq_set, data)

static int absorbs(struct wbp_device *device)
{
    return wbp_client_dead(device->client) && __atomic_load_n(&device->settled, __ATOMIC_ACQUIRE);
}

/* ---- the guest's memory ---- */

/* A map that the server refuses is no error of QEMU's, which would abort the VM. */
static int map(struct wbp_device *device, const struct wbp_map *one)
{
    uint64_t offset = 0;
    int fd = wbp_ram_find(one->at, one->size, (one->flags & VFIO_DMA_MAP_FLAG_WRITE) != 0, &offset);
    struct { uint32_t argsz, flags; uint64_t offset, iova, size; } request = {
        sizeof request, one->flags, offset, one->iova, one->size,
    };
    struct wbp_call call = {
        .command = WBP_DMA_MAP, .head = &request, .head_size = sizeof request, .fds = &fd, .nfds = fd >= 0,
    };
    int result = wbp_client_call(device->client, &call);

    wbp_log("%s: map %#llx + %#llx, flags %u, %s: %s", device->path, (unsigned long long)one->iova,
            (unsigned long long)one->size, one->flags, fd < 0 ? "by messages" : "by file",
            result ? strerror(-result) : "done");
    if (fd >= 0)
        wbp_real.close(fd);
    return fd >= 0;
}

void wbp_device_map(struct wbp_device *device, const struct wbp_map *one)
{
    if (!wbp_client_dead(device->client))
        map(device, one);
}

void wbp_device_unmap(struct wbp_device *device, const struct wbp_map *one)
{
    struct { uint32_t argsz, flags; uint64_t iova, size; } request = {
        sizeof request, 0, one->iova, one->size,
    }, said;
    struct wbp_call call = {
        .command = WBP_DMA_UNMAP, .head = &request, .head_size = sizeof request, .reply = &said,
        .reply_room = sizeof said,
    };
    int result = -EIO;

    if (!wbp_client_dead(device->client))
        result = wbp_client_call(device->client, &call);
    wbp_log("%s: unmap %#llx + %#llx: %s", device->path, (unsigned long long)one->iova,
            (unsigned long long)one->size, result ? strerror(-result) : "done");
}

struct wbp_device *wbp_device_next(struct wbp_device *device)
{
    return device->next;
}

/* Tells a new device what was mapped before it came. */
static void attach(struct wbp_device *device)
{
    struct wbp_container *container = device->container;
    uint64_t shared = 0, private = 0;

    pthread_mutex_lock(&container->order);
    for (size_t i = 0; i < container->maps.count; i++) {
        const struct wbp_map *one = &container->maps.list[i];

        if (map(device, one))
            shared += one->size;
        else
            private += one->size;
    }
    device->next = container->devices;
    container->devices = device;
    pthread_mutex_unlock(&container->order);
    if (private > shared && private >= PRIVATE_HINT && !wbp_settings.no_share)
        wbp_say("%s: guest memory is private to QEMU, so DMA goes by messages; "
                "-object memory-backend-memfd,share=on makes it quick", device->path);
}

static void detach(struct wbp_device *device)
{
    struct wbp_device **link = &device->container->devices;

    pthread_mutex_lock(&device->container->order);
    while (*link && *link != device)
        link = &(*link)->next;
    if (*link)
        *link = device->next;
    pthread_mutex_unlock(&device->container->order);
}

/* ---- opening ---- */

static void end(struct wbp_object *object)
{
    struct wbp_device *device = (struct wbp_device *)object;

    detach(device);
    if (device->client)
        wbp_client_close(device->client);
    wbp_log("%s: device closed", device->path);
    for (int i = 0; i < WBP_REGIONS; i++)
        if (device->regions[i].known)
            wbp_region_end(&device->regions[i]);
    wbp_object_put(&device->container->object);
    pthread_mutex_destroy(&device->lock);
    free(device->path);
    free(device);
}

static int learn(struct wbp_device *device)
{
    struct { uint32_t argsz, flags, regions, irqs; } info = {.argsz = sizeof info};
    struct wbp_call call = {
        .command = WBP_GET_INFO, .head = &info, .head_size = sizeof info, .reply = &info,
        .reply_room = sizeof info,
    };
    int result = wbp_client_call(device->client, &call);

    if (result)
        return result;
    if (call.size < sizeof info || info.regions <= WBP_CONFIG || info.irqs < 3)
        return -EPROTO;
    device->flags = (info.flags & VFIO_DEVICE_FLAGS_RESET) | VFIO_DEVICE_FLAGS_PCI;
    device->region_count = info.regions < WBP_REGIONS ? info.regions : WBP_REGIONS;
    device->irq_count = info.irqs < VFIO_PCI_NUM_IRQS ? info.irqs : VFIO_PCI_NUM_IRQS;
    return 0;
}

int wbp_device_open(const char *path, struct wbp_container *container)
{
    struct wbp_device *device = calloc(1, sizeof *device);
    int result;

    if (!device)
        return -ENOMEM;
    device->object = (struct wbp_object){WBP_DEVICE, 1, end};
    device->container = (struct wbp_container *)wbp_object_take(&container->object);
    pthread_mutex_init(&device->lock, NULL);
    device->path = strdup(path);
    result = device->path ? 0 : -ENOMEM;
    if (!result)
        device->client = wbp_client_open(device->path, &container->maps, &result);
    if (!result)
        result = learn(device);
    if (!result) {
        attach(device);
        result = wbp_fd_standin(&device->object);
    }
    if (result < 0) {
        wbp_say("%s: no vfio-user server can be used there: %s", path, strerror(-result));
        wbp_object_put(&device->object);
    }
    return result;
}

/* ---- interrupts ---- */

static int send_set(struct wbp_device *device, const struct vfio_irq_set *set, const void *data,
                    uint32_t data_size, const int *fds, uint16_t nfds)
{
    struct vfio_irq_set head = *set;
    struct wbp_call call = {
        .command = WBP_SET_IRQS, .head = &head, .head_size = SET_BASE, .data = data, .data_size = data_size,
        .fds = fds, .nfds = nfds,
    };
    int result;

    head.argsz = (uint32_t)SET_BASE + data_size;
    result = wbp_client_call(device->client, &call);
    wbp_log("%s: interrupts %u: flags %#x, %u + %u, %u eventfds: %s", device->path, head.index, head.flags,
            head.start, head.count, nfds, result ? strerror(-result) : "done");
    return result;
}

static int check_fds(const int32_t *fds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (fds[i] < -1 || (fds[i] >= 0 && fcntl(fds[i], F_GETFD) < 0))
            return fds[i] < -1 ? -EINVAL : -EBADF;
    return 0;
}

/* Runs of eventfds, as many as go into a message, and runs of none. */
static int set_eventfds(struct wbp_device *device, const struct vfio_irq_set *set, const int32_t *fds)
{
    uint32_t most = wbp_client_max_fds(device->client);
    int result = 0;

    for (uint32_t i = 0, n; i < set->count && !result; i += n) {
        struct vfio_irq_set part = *set;
        int there = fds[i] >= 0;

        for (n = 1; i + n < set->count && (fds[i + n] >= 0) == there && (!there || n < most); n++)
            ;
        part.start = set->start + i;
        part.count = n;
        result = send_set(device, &part, NULL, 0, fds + i, (uint16_t)(there ? n : 0));
    }
    return result;
}

/* What stays here: KVM's eventfd for the end of INTx, and the one that stops the VM. 1: it was that. */
static int keep_eventfd(struct wbp_device *device, const struct vfio_irq_set *set, const int32_t *fds)
{
    uint32_t action = set->flags & EVENTFD ? set->flags & ACTION : 0;       /* of eventfds */
    int fd = action && set->count ? fds[0] : -1;

    if (set->index == ERR && wbp_settings.stop) {
        wbp_client_on_death(device->client, action == VFIO_IRQ_SET_ACTION_TRIGGER ? fd : -1);
        return 1;
    }
    if (set->index != INTX)
        return 0;
    if (set->flags == (NONE | VFIO_IRQ_SET_ACTION_TRIGGER) && !set->count)
        wbp_client_resample(device->client, -1);
    if (action != VFIO_IRQ_SET_ACTION_UNMASK)
        return 0;
    wbp_client_resample(device->client, fd);
    wbp_log("%s: INTx is unmasked by an eventfd", device->path);
    return 1;
}

static int one_bit(uint32_t bits)
{
    return bits && !(bits & (bits - 1));
}

static int set_irqs(struct wbp_device *device, const void *argument)
{
    struct vfio_irq_set set;
    const uint8_t *data = (const uint8_t *)argument + SET_BASE;
    uint32_t size;
    int result = 0;

    memcpy(&set, argument, sizeof set.argsz);
    if (set.argsz < SET_BASE)
        return -EINVAL;
    memcpy(&set, argument, SET_BASE);
    if (set.flags & ~(uint32_t)(DATA | ACTION) || !one_bit(set.flags & DATA) ||
        !one_bit(set.flags & ACTION) || set.index >= device->irq_count ||
        set.count > MOST_VECTORS || set.start > MOST_VECTORS)
        return -EINVAL;
    size = set.flags & EVENTFD ? 4 * set.count : set.flags & BOOL ? set.count : 0;
    if (set.argsz - SET_BASE < size)
        return -EINVAL;
    if (set.flags & EVENTFD)
        result = check_fds((const int32_t *)data, set.count);
    if (result || keep_eventfd(device, &set, (const int32_t *)data))
        return result;
    if (set.flags & EVENTFD)
        result = set_eventfds(device, &set, (const int32_t *)data);
    else
        result = send_set(device, &set, size ? data : NULL, size, NULL, 0);
    return result && absorbs(device) ? 0 : result;
}

static int irq_info(struct wbp_device *device, void *argument)
{
    struct vfio_irq_info info, said;
    struct wbp_call call = {
        .command = WBP_GET_IRQ_INFO, .head = &info, .head_size = sizeof info, .reply = &said,
        .reply_room = sizeof said,
    };
    int result;

    memcpy(&info, argument, sizeof info.argsz);
    if (info.argsz < sizeof info)
        return -EINVAL;
    memcpy(&info, argument, sizeof info);
    if (info.index >= device->irq_count)
        return -EINVAL;
    if (info.index == ERR && wbp_settings.stop) {
        info.flags = VFIO_IRQ_INFO_EVENTFD;
        info.count = 1;
        memcpy(argument, &info, sizeof info);
        return 0;
    }
    info.argsz = sizeof info;
    result = wbp_client_call(device->client, &call);
    if (!result && (call.size < sizeof said || said.index != info.index || said.count > MOST_VECTORS))
        result = -EIO;
    if (!result && info.index == ERR && !said.count)
        result = -EINVAL;       /* QEMU warns of an index with no vector, not of one that is not there */
    if (result)
        return result;
    memcpy(&info.argsz, argument, sizeof info.argsz);
    info.flags = said.flags;
    info.count = said.count;
    memcpy(argument, &info, sizeof info);
    return 0;
}

/* ---- the rest ---- */

static int device_info(const struct wbp_device *device, void *argument)
{
    uint32_t info[5] = {0, device->flags, device->region_count, device->irq_count, 0};
    uint32_t argsz;

    memcpy(&argsz, argument, sizeof argsz);
    if (argsz < 16)
        return -EINVAL;
    info[0] = argsz;
    memcpy(argument, info, argsz < sizeof info ? 16 : sizeof info);
    return 0;
}

static int reset(struct wbp_device *device)
{
    struct wbp_call call = {.command = WBP_RESET};
    int result = wbp_client_call(device->client, &call);

    wbp_log("%s: reset: %s", device->path, result ? strerror(-result) : "done");
    if (!result)
        __atomic_store_n(&device->settled, 1, __ATOMIC_RELEASE);
    return result && absorbs(device) ? 0 : result;
}

int wbp_device_ioctl(struct wbp_object *object, unsigned long number, void *argument)
{
    struct wbp_device *device = (struct wbp_device *)object;

    if (number == VFIO_DEVICE_RESET)
        return reset(device);
    if (number != VFIO_DEVICE_GET_INFO && number != VFIO_DEVICE_GET_REGION_INFO &&
        number != VFIO_DEVICE_GET_IRQ_INFO && number != VFIO_DEVICE_SET_IRQS) {
        wbp_log("%s: ioctl %#lx is not there", device->path, number);
        return -ENOTTY;
    }
    if (!argument)
        return -EFAULT;
    if (number == VFIO_DEVICE_GET_INFO)
        return device_info(device, argument);
    if (number == VFIO_DEVICE_GET_REGION_INFO)
        return wbp_region_info(device, argument);
    return number == VFIO_DEVICE_SET_IRQS ? set_irqs(device, argument) : irq_info(device, argument);
}
