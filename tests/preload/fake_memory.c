/* fake_memory.c - scenarios about the guest's memory, and about two devices that share it. */
#include "fake_qemu.h"

enum { RW = 3 };

static void refused_maps(const struct vm *vm, char *ram)
{
    struct vfio_iommu_type1_dma_map small = {.argsz = 31, .flags = RW, .vaddr = (uintptr_t)ram, .size = PAGE};

    REFUSED(map(vm, ram, 0x10000, PAGE, RW), EEXIST);
    REFUSED(map(vm, ram, 0xf000, 2 * PAGE, RW), EEXIST);
    REFUSED(map(vm, ram, 0x11000, PAGE, RW), EEXIST);
    REFUSED(map(vm, ram, 0xf000, 32 * PAGE, RW), EEXIST);
    REFUSED(map(vm, ram, 0x80001, PAGE, RW), EINVAL);
    REFUSED(map(vm, ram, 0x80000, PAGE + 1, RW), EINVAL);
    REFUSED(map(vm, ram + 1, 0x80000, PAGE, RW), EINVAL);
    REFUSED(map(vm, ram, 0x80000, 0, RW), EINVAL);
    REFUSED(map(vm, ram, 0x80000, PAGE, 0), EINVAL);
    REFUSED(map(vm, ram, 0x80000, PAGE, 4 | RW), EINVAL);
    REFUSED(map(vm, ram, UINT64_MAX - PAGE + 1, 2 * PAGE, RW), EINVAL);
    REFUSED(ioctl(vm->container, VFIO_IOMMU_MAP_DMA, &small), EINVAL);
    REFUSED(ioctl(vm->container, VFIO_IOMMU_MAP_DMA, NULL), EFAULT);
}

static void refused_unmaps(const struct vm *vm)
{
    struct vfio_iommu_type1_dma_unmap request = {.argsz = 23, .iova = 0x10000, .size = PAGE};
    uint64_t size = PAGE;

    REFUSED(unmap(vm, 0x10000, &size), EINVAL);      /* half of one */
    size = 4 * PAGE;
    REFUSED(unmap(vm, 0x11000, &size), EINVAL);      /* from the middle of one */
    size = 0;
    REFUSED(unmap(vm, 0x10000, &size), EINVAL);
    size = PAGE + 1;
    REFUSED(unmap(vm, 0x10000, &size), EINVAL);
    size = 2 * PAGE;
    REFUSED(unmap(vm, UINT64_MAX - PAGE + 1, &size), EINVAL);
    REFUSED(ioctl(vm->container, VFIO_IOMMU_UNMAP_DMA, &request), EINVAL);
    request.argsz = 24;
    request.flags = VFIO_DMA_UNMAP_FLAG_ALL;
    REFUSED(ioctl(vm->container, VFIO_IOMMU_UNMAP_DMA, &request), EINVAL);
    request.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
    REFUSED(ioctl(vm->container, VFIO_IOMMU_UNMAP_DMA, &request), EINVAL);
    REFUSED(ioctl(vm->container, VFIO_IOMMU_DIRTY_PAGES, &request), ENOTTY);
}

void maps(const char *path, char **arguments)
{
    char *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t size;
    struct vm vm;

    attach(&vm, path);
    CHECK(!map(&vm, ram, 0x10000, 2 * PAGE, RW));
    CHECK(!map(&vm, ram + 2 * PAGE, 0x12000, PAGE, 1));
    CHECK(!map(&vm, ram + 3 * PAGE, 0x15000, PAGE, RW));
    CHECK(!map(&vm, ram + 4 * PAGE, UINT64_MAX - PAGE + 1, PAGE, RW));
    refused_maps(&vm, ram);
    refused_unmaps(&vm);
    step("mapped");
    size = 0x10000;
    CHECK(!unmap(&vm, 0x10000, &size) && size == 4 * PAGE);
    size = 0x10000;
    CHECK(!unmap(&vm, 0x10000, &size) && size == 0);
    size = PAGE;
    CHECK(!unmap(&vm, UINT64_MAX - PAGE + 1, &size) && size == PAGE);
    step("unmapped");
    CHECK(!map(&vm, ram, 0x10000, 2 * PAGE, RW));
    step("mapped again");
    detach(&vm);
    (void)arguments;
}

/* Before the device: pages shared by file, one of the same file further on, one private, one to read only. */
void memory(const char *path, char **arguments)
{
    int file = memfd_create("ram", MFD_CLOEXEC);
    struct vm vm = {.group = group_open(path)};
    char *shared, *later, *private;

    CHECK(!ftruncate(file, RAM));
    shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    later = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 9 * PAGE);
    private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    CHECK(!close(file));
    vm.container = container_open(vm.group);
    CHECK(!map(&vm, shared + PAGE, 0x0, 2 * PAGE, RW) && !map(&vm, later, 0x10000, PAGE, RW));
    CHECK(!map(&vm, private, 0x20000, PAGE, RW) && !map(&vm, private + PAGE, 0x21000, PAGE, 1));
    strcpy(shared + PAGE, "shared");
    strcpy(later, "later");
    strcpy(private, "private");
    memcpy(private + PAGE - 2, "across", 6);
    vm.device = device_get(vm.group, path);
    CHECK(vm.device >= 0);
    step("ready");
    CHECK(!strcmp(shared + PAGE, "SHARED") && !strcmp(later, "LATER") && !strcmp(private, "PRIVATE"));
    CHECK(!memcmp(private + PAGE - 2, "across", 6));
    detach(&vm);
    (void)arguments;
}

static void *anonymous(void)
{
    return mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* A second device in the container of the first gets the same memory. */
void neighbour(const char *path, char **arguments)
{
    struct vm vm, other;

    attach(&vm, path);
    CHECK(!map(&vm, anonymous(), 0, PAGE, RW));
    other.group = group_open(arguments[0]);
    CHECK(group_of(arguments[0]) != group_of(path));
    REFUSED(device_get(other.group, arguments[0]), EINVAL);     /* not in a container yet */
    CHECK(!ioctl(other.group, VFIO_GROUP_SET_CONTAINER, &vm.container));
    other.device = device_get(other.group, arguments[0]);
    CHECK(other.device >= 0);
    CHECK(!map(&vm, anonymous(), PAGE, PAGE, RW));
    step("both");
    CHECK(!close(vm.device) && !close(vm.group));
    CHECK(!map(&vm, anonymous(), 2 * PAGE, PAGE, RW));
    step("one");
    CHECK(!close(vm.container) && !close(other.device) && !close(other.group));
}
