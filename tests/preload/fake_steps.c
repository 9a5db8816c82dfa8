/* fake_steps.c - the calls that the scenarios are made of, in QEMU's order. */
#include "fake_qemu.h"

void step(const char *name)
{
    char line[16];

    printf("%s\n", name);
    fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin));
}

int group_of(const char *path)
{
    char link[PATH_MAX], target[PATH_MAX];
    ssize_t size;
    int number;

    snprintf(link, sizeof link, "%s/iommu_group", path);
    size = readlink(link, target, sizeof target);
    if (size < 0)
        return -1;
    CHECK(size < PATH_MAX);
    target[size] = 0;
    CHECK(sscanf(strrchr(target, '/') + 1, "%d", &number) == 1);
    return number;
}

int group_open(const char *path)
{
    char name[64];
    int fd;

    snprintf(name, sizeof name, "/dev/vfio/%d", group_of(path));
    fd = open(name, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

int container_open(int group)
{
    int fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK(ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
    CHECK(ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) == 1);
    CHECK(!ioctl(group, VFIO_GROUP_SET_CONTAINER, &fd));
    CHECK(!ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    return fd;
}

int device_get(int group, const char *path)
{
    const char *slash = strrchr(path, '/');

    return ioctl(group, VFIO_GROUP_GET_DEVICE_FD, slash + 1);
}

void attach(struct vm *vm, const char *path)
{
    struct vfio_device_info info = {.argsz = sizeof info};

    vm->group = group_open(path);
    vm->container = container_open(vm->group);
    vm->device = device_get(vm->group, path);
    CHECK(vm->device >= 0);
    CHECK(!ioctl(vm->device, VFIO_DEVICE_GET_INFO, &info));
    CHECK(info.flags & VFIO_DEVICE_FLAGS_PCI && info.num_regions >= 8 && info.num_irqs >= 3);
    for (uint32_t i = 0; i < 8; i++) {
        struct vfio_region_info region = {.argsz = sizeof region, .index = i};

        CHECK(!ioctl(vm->device, VFIO_DEVICE_GET_REGION_INFO, &region));
        vm->region[i] = region.offset;
        vm->size[i] = region.size;
    }
}

void detach(struct vm *vm)
{
    CHECK(!close(vm->device) && !close(vm->group) && !close(vm->container));
}

int map(const struct vm *vm, void *at, uint64_t iova, uint64_t size, uint32_t flags)
{
    struct vfio_iommu_type1_dma_map request = {
        .argsz = sizeof request, .flags = flags, .vaddr = (uintptr_t)at, .iova = iova, .size = size,
    };

    return ioctl(vm->container, VFIO_IOMMU_MAP_DMA, &request);
}

int unmap(const struct vm *vm, uint64_t iova, uint64_t *size)
{
    struct vfio_iommu_type1_dma_unmap request = {
        .argsz = offsetof(struct vfio_iommu_type1_dma_unmap, data), .iova = iova, .size = *size,
    };
    int result = ioctl(vm->container, VFIO_IOMMU_UNMAP_DMA, &request);

    *size = request.size;
    return result;
}

int set_irqs(int device, uint32_t flags, uint32_t index, uint32_t start, uint32_t count, const void *data,
             uint32_t bytes)
{
    union {
        struct vfio_irq_set set;
        uint8_t room[sizeof(struct vfio_irq_set) + 4 * 4096];
    } request = {.set = {.argsz = sizeof request.set + bytes, .flags = flags, .index = index, .start = start,
                         .count = count}};

    if (bytes)
        memcpy(request.set.data, data, bytes);
    return ioctl(device, VFIO_DEVICE_SET_IRQS, &request);
}

uint32_t read32(const struct vm *vm, int region, uint64_t at)
{
    uint32_t value;

    CHECK(pread(vm->device, &value, sizeof value, (off_t)(vm->region[region] + at)) == sizeof value);
    return value;
}

void write32(const struct vm *vm, int region, uint64_t at, uint32_t value)
{
    CHECK(pwrite(vm->device, &value, sizeof value, (off_t)(vm->region[region] + at)) == sizeof value);
}

int rings(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    uint64_t count;

    return poll(&ready, 1, 1000) == 1 && read(fd, &count, sizeof count) == sizeof count;
}
