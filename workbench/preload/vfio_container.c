/*
 * vfio_container.c - a container: the guest's memory, kept for the devices that come later.
 *
 * QEMU maps the memory before it asks for the first device, and takes a map that fails later for
 * the end of the VM. So a map is recorded, told to every device that is there, and has succeeded.
 */
#include "preload.h"

#include <linux/vfio.h>
#include <stdlib.h>

enum { INFO_BASE = 16 };        /* bytes of vfio_iommu_type1_info that every caller has */

static void end(struct wbp_object *object)
{
    struct wbp_container *container = (struct wbp_container *)object;

    wbp_maps_end(&container->maps);
    pthread_mutex_destroy(&container->order);
    free(container);
}

int wbp_container_open(void)
{
    struct wbp_container *container = calloc(1, sizeof *container);
    int fd;

    if (!container)
        return -ENOMEM;
    container->object = (struct wbp_object){WBP_CONTAINER, 1, end};
    pthread_mutex_init(&container->order, NULL);
    wbp_maps_begin(&container->maps);
    fd = wbp_fd_standin(&container->object);
    if (fd < 0)
        end(&container->object);
    else
        wbp_log("container: descriptor %d", fd);
    return fd;
}

static int map(struct wbp_container *container, const void *argument)
{
    const uint32_t known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    struct vfio_iommu_type1_dma_map request;
    struct wbp_map one;
    int result;

    memcpy(&request, argument, sizeof request.argsz);
    if (request.argsz < sizeof request)
        return -EINVAL;
    memcpy(&request, argument, sizeof request);
    one = (struct wbp_map){request.iova, request.size, (uint8_t *)(uintptr_t)request.vaddr, request.flags};
    if (!one.flags || one.flags & ~known || !one.size ||
        (request.iova | request.size | request.vaddr) % WBP_PAGE || one.iova + (one.size - 1) < one.iova ||
        request.vaddr + (one.size - 1) < request.vaddr)
        return -EINVAL;
    pthread_mutex_lock(&container->order);
    result = wbp_maps_add(&container->maps, &one);
    for (struct wbp_device *device = container->devices; device && !result; device = wbp_device_next(device))
        wbp_device_map(device, &one);
    pthread_mutex_unlock(&container->order);
    if (result)
        wbp_log("container: map %#llx + %#llx: %s", (unsigned long long)one.iova,
                (unsigned long long)one.size, strerror(-result));
    return result;
}

/* The entries leave only after the servers have let go: until then they may still ask for the memory. */
static uint64_t unmap_locked(struct wbp_container *container, size_t first, size_t count)
{
    uint64_t size = 0;

    for (size_t i = first; i < first + count; i++) {
        const struct wbp_map *one = &container->maps.list[i];

        for (struct wbp_device *device = container->devices; device; device = wbp_device_next(device))
            wbp_device_unmap(device, one);
        size += one->size;
    }
    wbp_maps_remove(&container->maps, first, count);
    return size;
}

/* Whole maps only, as the kernel has it since type 1 version 2. */
static int unmap(struct wbp_container *container, void *argument)
{
    const size_t base = offsetof(struct vfio_iommu_type1_dma_unmap, data);
    struct vfio_iommu_type1_dma_unmap request;
    struct wbp_maps *maps = &container->maps;
    size_t first, count = 0;
    uint64_t last;

    memcpy(&request, argument, sizeof request.argsz);
    if (request.argsz < base)
        return -EINVAL;
    memcpy(&request, argument, base);
    last = request.iova + (request.size - 1);
    if (request.flags || !request.size || (request.iova | request.size) % WBP_PAGE || last < request.iova)
        return -EINVAL;
    pthread_mutex_lock(&container->order);
    first = wbp_maps_first(maps, request.iova);
    while (first + count < maps->count && maps->list[first + count].iova <= last)
        count++;
    if (count && (maps->list[first].iova < request.iova ||
                  maps->list[first + count - 1].iova + (maps->list[first + count - 1].size - 1) > last)) {
        pthread_mutex_unlock(&container->order);
        return -EINVAL;
    }
    request.size = unmap_locked(container, first, count);
    pthread_mutex_unlock(&container->order);
    memcpy(argument, &request, base);
    return 0;
}

static int iommu_info(void *argument)
{
    struct { uint32_t argsz, flags; uint64_t sizes; uint32_t caps; } info = {
        .flags = VFIO_IOMMU_INFO_PGSIZES, .sizes = ~(uint64_t)(WBP_PAGE - 1),
    };

    memcpy(&info.argsz, argument, sizeof info.argsz);
    if (info.argsz < INFO_BASE)
        return -EINVAL;
    memcpy(argument, &info, info.argsz < INFO_BASE + 4 ? INFO_BASE : INFO_BASE + 4);
    return 0;
}

static int is_type1(uintptr_t number)
{
    return number == VFIO_TYPE1_IOMMU || number == VFIO_TYPE1v2_IOMMU;
}

int wbp_container_ioctl(struct wbp_container *container, unsigned long number, void *argument)
{
    switch (number) {
    case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
        return is_type1((uintptr_t)argument);
    case VFIO_SET_IOMMU:
        return is_type1((uintptr_t)argument) ? 0 : -ENODEV;
    case VFIO_IOMMU_GET_INFO:
        return argument ? iommu_info(argument) : -EFAULT;
    case VFIO_IOMMU_MAP_DMA:
        return argument ? map(container, argument) : -EFAULT;
    case VFIO_IOMMU_UNMAP_DMA:
        return argument ? unmap(container, argument) : -EFAULT;
    default:
        wbp_log("container: ioctl %#lx is not there", number);
        return -ENOTTY;
    }
}
