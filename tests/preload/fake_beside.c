/* fake_beside.c - scenarios with hardware beside the server's device: the kernel's groups, and KVM. */
#include "fake_qemu.h"

#include <linux/kvm.h>

/* The kernel's group first, then ours: each gets a container of its own. */
void beside_first(const char *path, char **arguments)
{
    int theirs = open("/dev/vfio/77", O_RDWR), container = open("/dev/vfio/vfio", O_RDWR);
    struct vm vm = {.group = -1};

    CHECK(theirs >= 0 && container >= 0);
    CHECK(!ioctl(theirs, VFIO_GROUP_SET_CONTAINER, &container));
    CHECK(!ioctl(container, VFIO_IOMMU_MAP_DMA, NULL));         /* to the kernel: it takes everything */
    vm.group = group_open(path);
    REFUSED(ioctl(vm.group, VFIO_GROUP_SET_CONTAINER, &container), EINVAL);
    close(vm.group);
    attach(&vm, path);
    REFUSED(ioctl(vm.container, VFIO_IOMMU_MAP_DMA, NULL), EFAULT);
    REFUSED(ioctl(theirs, VFIO_GROUP_SET_CONTAINER, &vm.container), EINVAL);
    detach(&vm);
    CHECK(!close(container) && !close(theirs));
    (void)arguments;
}

/* A container that was opened while ours was there, and that a group of the kernel's is put in. */
void beside_undecided(const char *path, char **arguments)
{
    struct vm vm = {.group = group_open(path)};
    int container = open("/dev/vfio/vfio", O_RDWR), theirs = open("/dev/vfio/77", O_RDWR);

    CHECK(container >= 0 && theirs >= 0 && !ioctl(container, VFIO_GET_API_VERSION));
    CHECK(!ioctl(theirs, VFIO_GROUP_SET_CONTAINER, &container));
    CHECK(!ioctl(container, VFIO_IOMMU_MAP_DMA, NULL));
    REFUSED(ioctl(vm.group, VFIO_GROUP_SET_CONTAINER, &container), EINVAL);
    CHECK(!close(vm.group));
    attach(&vm, path);
    detach(&vm);
    CHECK(!close(container) && !close(theirs));
    (void)arguments;
}

/* KVM is told of the kernel's groups and not of ours. */
void beside_kvm(const char *path, char **arguments)
{
    struct kvm_create_device created = {.type = KVM_DEV_TYPE_VFIO};
    int32_t group, theirs = open("/dev/vfio/77", O_RDWR), kvm = open("/dev/kvm", O_RDWR);
    struct kvm_device_attr attribute = {.group = KVM_DEV_VFIO_GROUP, .attr = KVM_DEV_VFIO_GROUP_ADD};
    struct vm vm;

    attach(&vm, path);
    group = vm.group;
    CHECK(!ioctl(kvm, KVM_CREATE_DEVICE, &created));
    attribute.addr = (uintptr_t)&group;
    CHECK(!ioctl((int)created.fd, KVM_SET_DEVICE_ATTR, &attribute));
    fprintf(stderr, "theirs\n");
    attribute.addr = (uintptr_t)&theirs;
    CHECK(!ioctl((int)created.fd, KVM_SET_DEVICE_ATTR, &attribute));
    CHECK(!close((int)created.fd));
    detach(&vm);
    (void)arguments;
}
