/* fake_qemu.c - scenarios in one process: every call of QEMU's, with its sizes and corners. */
#include "fake_qemu.h"

enum { NONE_TRIGGER = 0x21, EVENTFD_TRIGGER = 0x24, NONE_MASK = 0x09, NONE_UNMASK = 0x11,
       EVENTFD_UNMASK = 0x14, BOOL_TRIGGER = 0x22 };

/* ---- everything once, in order ---- */

void walk(const char *path, char **arguments)
{
    struct vfio_iommu_type1_info iommu = {.argsz = sizeof iommu};
    struct vfio_group_status status = {.argsz = sizeof status};
    struct vfio_irq_info irq = {.argsz = sizeof irq, .index = 2};
    char subsystem[PATH_MAX], resolved[PATH_MAX];
    uint8_t config[4096];
    struct stat ours;
    struct vm vm;

    CHECK(!stat(path, &ours));
    snprintf(subsystem, sizeof subsystem, "%s/subsystem", path);
    CHECK(realpath(subsystem, resolved) == resolved && !strcmp(resolved, "/sys/bus/mdev"));
    CHECK(group_of(path) == group_of(path) && group_of(path) >= 0x5f000000);
    attach(&vm, path);
    CHECK(!ioctl(vm.group, VFIO_GROUP_GET_STATUS, &status));
    CHECK(status.flags == (VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET));
    CHECK(!ioctl(vm.container, VFIO_IOMMU_GET_INFO, &iommu));
    CHECK(iommu.flags == VFIO_IOMMU_INFO_PGSIZES && iommu.iova_pgsizes == ~4095ULL && !iommu.cap_offset);
    CHECK(pread(vm.device, config, sizeof config, (off_t)vm.region[CONFIG]) == (ssize_t)vm.size[CONFIG]);
    CHECK(!memcmp(config, "\x34\x12\x30\x0b", 4));
    CHECK(!ioctl(vm.device, VFIO_DEVICE_GET_IRQ_INFO, &irq) && irq.count == VECTORS && irq.flags == 1);
    write32(&vm, 0, SCRATCH, 0x12345678);
    CHECK(read32(&vm, 0, SCRATCH) == 0x12345678);
    CHECK(!ioctl(vm.device, VFIO_DEVICE_RESET) && read32(&vm, 0, SCRATCH) == 0);
    step("attached");
    CHECK(!ioctl(vm.group, VFIO_GROUP_UNSET_CONTAINER, &vm.container));
    detach(&vm);
    (void)arguments;
}

/* ---- argsz: too little is refused, and nothing is written behind it ---- */

static void device_argsz(int device)
{
    struct { uint32_t argsz, flags, regions, irqs, caps, guard; } info = {.argsz = 16, .caps = 7, .guard = 7};

    CHECK(!ioctl(device, VFIO_DEVICE_GET_INFO, &info));
    CHECK(info.argsz == 16 && info.regions == 9 && info.caps == 7);
    info.argsz = 24;
    CHECK(!ioctl(device, VFIO_DEVICE_GET_INFO, &info) && info.caps == 0 && info.guard == 7);
    info.argsz = 15;
    REFUSED(ioctl(device, VFIO_DEVICE_GET_INFO, &info), EINVAL);
    REFUSED(ioctl(device, VFIO_DEVICE_GET_INFO, NULL), EFAULT);
}

/* BAR2 has two areas to map, BAR1 is one whole, BAR0 has none. */
static void region_argsz(int device)
{
    struct {
        struct vfio_region_info info;
        struct vfio_region_info_cap_sparse_mmap cap;
        struct vfio_region_sparse_mmap_area areas[2];
        uint32_t guard;
    } said = {.info = {.argsz = 31, .index = 2}, .guard = 7};

    REFUSED(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &said), EINVAL);
    said.info.argsz = 32;
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &said));
    CHECK(said.info.argsz == 32 + 16 + 2 * 16 && !said.info.cap_offset && !said.cap.nr_areas);
    CHECK(said.info.flags == 0xf && said.info.size == 0x8000 && said.info.offset == 2ULL << 40);
    said.info.argsz--;
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &said) && !said.info.cap_offset && !said.cap.nr_areas);
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &said) && said.info.cap_offset == 32);
    CHECK(said.cap.header.id == 1 && !said.cap.header.next && said.cap.nr_areas == 2 && said.guard == 7);
    CHECK(said.areas[0].offset == 0x1000 && said.areas[0].size == 0x2000);
    CHECK(said.areas[1].offset == 0x4000 && said.areas[1].size == 0x1000);
    said.info = (struct vfio_region_info){.argsz = 32, .index = 1};
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &said));
    CHECK(said.info.flags == 7 && said.info.argsz == 32);
    said.info.index = 5;
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &said) && !said.info.size && !said.info.flags);
    said.info.index = 9;
    REFUSED(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &said), EINVAL);
}

void argsz(const char *path, char **arguments)
{
    struct { uint32_t argsz, flags; uint64_t sizes; uint32_t caps, guard; } iommu = {16, 0, 0, 7, 7};
    struct vfio_group_status status = {.argsz = 7};
    struct vfio_irq_info irq = {.argsz = 15};
    struct vm vm;

    attach(&vm, path);
    device_argsz(vm.device);
    region_argsz(vm.device);
    CHECK(!ioctl(vm.container, VFIO_IOMMU_GET_INFO, &iommu) && iommu.caps == 7 && iommu.argsz == 16);
    iommu.argsz = 24;
    CHECK(!ioctl(vm.container, VFIO_IOMMU_GET_INFO, &iommu) && !iommu.caps && iommu.guard == 7);
    iommu.argsz = 15;
    REFUSED(ioctl(vm.container, VFIO_IOMMU_GET_INFO, &iommu), EINVAL);
    REFUSED(ioctl(vm.group, VFIO_GROUP_GET_STATUS, &status), EINVAL);
    REFUSED(ioctl(vm.device, VFIO_DEVICE_GET_IRQ_INFO, &irq), EINVAL);
    irq = (struct vfio_irq_info){.argsz = 16, .index = 4};
    CHECK(!ioctl(vm.device, VFIO_DEVICE_GET_IRQ_INFO, &irq) && !irq.count);
    irq.index = 3;              /* errors: the server has none to tell */
    REFUSED(ioctl(vm.device, VFIO_DEVICE_GET_IRQ_INFO, &irq), EINVAL);
    irq.index = 5;
    REFUSED(ioctl(vm.device, VFIO_DEVICE_GET_IRQ_INFO, &irq), EINVAL);
    detach(&vm);
    (void)arguments;
}

/* ---- interrupts ---- */

static void refused_sets(int device, int fd)
{
    int32_t bad[2] = {fd, -2}, closed = 987;

    REFUSED(set_irqs(device, EVENTFD_TRIGGER, 2, 0, 2, bad, 8), EINVAL);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER, 2, 0, 1, &closed, 4), EBADF);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER, 2, 0, 2, bad, 4), EINVAL);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER | 1, 2, 0, 1, &fd, 4), EINVAL);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER | 8, 2, 0, 1, &fd, 4), EINVAL);
    REFUSED(set_irqs(device, 0x20, 2, 0, 0, NULL, 0), EINVAL);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER, 5, 0, 1, &fd, 4), EINVAL);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER, 2, VECTORS, 1, &fd, 4), EINVAL);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER, 2, 0, UINT32_MAX, &fd, 4), EINVAL);
    REFUSED(set_irqs(device, EVENTFD_TRIGGER, 2, UINT32_MAX, 1, &fd, 4), EINVAL);
    REFUSED(ioctl(device, VFIO_DEVICE_SET_IRQS, NULL), EFAULT);
}

/* QEMU passes the guest's writes of MSI-X's control word on. */
static void enable_msix(const struct vm *vm)
{
    uint16_t control = 0x8000 | (VECTORS - 1);
    uint8_t at, header[2] = {0};

    CHECK(pread(vm->device, &at, 1, (off_t)(vm->region[CONFIG] + 0x34)) == 1);
    for (; at; at = header[1]) {
        CHECK(pread(vm->device, header, 2, (off_t)(vm->region[CONFIG] + at)) == 2);
        if (header[0] == 0x11)
            break;
    }
    CHECK(at && pwrite(vm->device, &control, 2, (off_t)(vm->region[CONFIG] + at + 2)) == 2);
}

/* More vectors than fit a message, with holes; then a hole where one was; then none. */
void interrupts(const char *path, char **arguments)
{
    int32_t fds[VECTORS], none = -1;
    uint8_t loop[3] = {0, 1, 0};
    struct vm vm;

    attach(&vm, path);
    enable_msix(&vm);
    for (int i = 0; i < VECTORS; i++)
        fds[i] = i % 19 == 5 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(!set_irqs(vm.device, EVENTFD_TRIGGER, 2, 0, VECTORS, fds, sizeof fds));
    for (int i = 0; i < VECTORS; i++) {
        write32(&vm, 0, FIRE, (uint32_t)i);
        CHECK(fds[i] < 0 || rings(fds[i]));
    }
    refused_sets(vm.device, fds[0]);
    CHECK(!set_irqs(vm.device, BOOL_TRIGGER, 2, 0, 3, loop, sizeof loop) && rings(fds[1]));
    CHECK(!set_irqs(vm.device, EVENTFD_TRIGGER, 2, 7, 1, &none, 4));
    write32(&vm, 0, FIRE, 7);
    write32(&vm, 0, FIRE, 8);
    CHECK(rings(fds[8]) && poll(&(struct pollfd){fds[7], POLLIN, 0}, 1, 0) == 0);
    CHECK(!set_irqs(vm.device, NONE_TRIGGER, 2, 0, 0, NULL, 0));
    write32(&vm, 0, FIRE, 8);
    CHECK(read32(&vm, 0, SCRATCH) == 0 && poll(&(struct pollfd){fds[8], POLLIN, 0}, 1, 0) == 0);
    CHECK(!set_irqs(vm.device, NONE_TRIGGER, 1, 0, 0, NULL, 0));
    detach(&vm);
    (void)arguments;
}

/* KVM's way with INTx: mask, an eventfd to unmask with, unmask; it rings again while the line is up. */
void resample(const char *path, char **arguments)
{
    int32_t raised = eventfd(0, EFD_NONBLOCK), acknowledged = eventfd(0, EFD_NONBLOCK), none = -1;
    struct vm vm;

    attach(&vm, path);
    CHECK(!set_irqs(vm.device, EVENTFD_TRIGGER, 0, 0, 1, &raised, 4));
    CHECK(!set_irqs(vm.device, NONE_MASK, 0, 0, 1, NULL, 0));
    CHECK(!set_irqs(vm.device, EVENTFD_UNMASK, 0, 0, 1, &acknowledged, 4));
    CHECK(!set_irqs(vm.device, NONE_UNMASK, 0, 0, 1, NULL, 0));
    write32(&vm, 0, LINE, 1);
    CHECK(rings(raised));
    for (int i = 0; i < 3; i++) {
        CHECK(!eventfd_write(acknowledged, 1));
        CHECK(rings(raised));
    }
    write32(&vm, 0, LINE, 0);
    CHECK(!eventfd_write(acknowledged, 1));
    CHECK(!set_irqs(vm.device, EVENTFD_UNMASK, 0, 0, 1, &none, 4));
    CHECK(!set_irqs(vm.device, NONE_TRIGGER, 0, 0, 0, NULL, 0));
    detach(&vm);
    (void)arguments;
}

/* ---- descriptors of the wrong kind, and calls that are not there ---- */

void kinds(const char *path, char **arguments)
{
    int pipes[2], unused = 0;
    struct vm vm;
    char byte;

    attach(&vm, path);
    CHECK(!pipe(pipes));
    REFUSED(ioctl(vm.group, VFIO_GROUP_SET_CONTAINER, &pipes[0]), EINVAL);
    REFUSED(ioctl(vm.group, VFIO_GROUP_SET_CONTAINER, &vm.device), EINVAL);
    REFUSED(ioctl(vm.group, VFIO_GROUP_SET_CONTAINER, &vm.container), EINVAL);     /* it is in one */
    REFUSED(ioctl(vm.group, VFIO_GROUP_GET_DEVICE_FD, "another"), ENODEV);
    REFUSED(ioctl(vm.group, VFIO_IOMMU_MAP_DMA, &unused), ENOTTY);
    REFUSED(ioctl(vm.container, VFIO_DEVICE_GET_INFO, &unused), ENOTTY);
    REFUSED(ioctl(vm.container, VFIO_SET_IOMMU, 7), ENODEV);
    CHECK(!ioctl(vm.container, VFIO_CHECK_EXTENSION, VFIO_UNMAP_ALL));
    REFUSED(ioctl(vm.device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &unused), ENOTTY);
    REFUSED(ioctl(vm.device, VFIO_DEVICE_PCI_HOT_RESET, &unused), ENOTTY);
    REFUSED(ioctl(vm.device, VFIO_DEVICE_QUERY_GFX_PLANE, &unused), ENOTTY);
    REFUSED(ioctl(vm.device, VFIO_DEVICE_IOEVENTFD, &unused), ENOTTY);
    REFUSED(ioctl(vm.device, VFIO_DEVICE_FEATURE, &unused), ENOTTY);
    REFUSED(ioctl(vm.device, FIONREAD, &unused), ENOTTY);
    REFUSED(ioctl(pipes[0], VFIO_GET_API_VERSION), ENOTTY);
    REFUSED(read(vm.device, &byte, 1), EBADF);
    REFUSED(pread(vm.container, &byte, 1, 0), EBADF);
    REFUSED(write(vm.group, "", 1), EBADF);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, vm.group, 0) == MAP_FAILED && errno == EBADF);
    REFUSED(open("/dev/vfio/1593835519", O_RDWR), ENOENT);
    REFUSED(open("/dev/vfio/1593835520x", O_RDWR), ENOENT);
    detach(&vm);
    REFUSED(pread(vm.device, &byte, 1, 0), EBADF);
    REFUSED(ioctl(vm.container, VFIO_GET_API_VERSION), EBADF);
    REFUSED(close(vm.group), EBADF);
    if (access("/dev/vfio/vfio", F_OK))
        REFUSED(open("/dev/vfio/vfio", O_RDWR), ENOENT);        /* no group of ours is open */
    (void)arguments;
}

/* ---- BARs ---- */

static void refused_mappings(const struct vm *vm)
{
    const struct { uint64_t at; size_t size; int region, prot, flags; } wrong[] = {
        {0x0000, PAGE, 2, PROT_READ, MAP_SHARED},               /* before the first area */
        {0x3000, PAGE, 2, PROT_READ, MAP_SHARED},               /* between two */
        {0x2000, 2 * PAGE, 2, PROT_READ, MAP_SHARED},           /* out of one */
        {0x1000, 0x5000, 2, PROT_READ, MAP_SHARED},             /* over both */
        {0x8000, PAGE, 2, PROT_READ, MAP_SHARED},               /* behind the BAR */
        {0x1000, PAGE, 2, PROT_READ, MAP_PRIVATE},
        {0x1000, PAGE, 0, PROT_READ, MAP_SHARED},               /* a BAR of registers */
        {0x0000, PAGE, 5, PROT_READ, MAP_SHARED},               /* there is none */
        {0x10000, PAGE, 1, PROT_READ, MAP_SHARED},
        {0x0000, 0x11000, 1, PROT_READ, MAP_SHARED},
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        off_t offset = (off_t)(vm->region[wrong[i].region] + wrong[i].at);

        errno = 0;
        CHECK(mmap(NULL, wrong[i].size, wrong[i].prot, wrong[i].flags, vm->device, offset) == MAP_FAILED);
        CHECK(errno == EINVAL);
    }
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, vm->device, (off_t)9 << 40) == MAP_FAILED);
    CHECK(errno == EINVAL);
}

void bars(const char *path, char **arguments)
{
    const int both = PROT_READ | PROT_WRITE;
    uint8_t rom[4096], bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8}, back[8];
    struct vfio_region_info info = {.argsz = sizeof info, .index = ROM};
    volatile uint32_t *area, *whole;
    struct vm vm;

    attach(&vm, path);
    for (size_t n = 1; n <= 8; n++) {
        memset(back, 0, sizeof back);
        CHECK(pwrite(vm.device, bytes, n, (off_t)(vm.region[2] + 8)) == (ssize_t)n);
        CHECK(pread(vm.device, back, n, (off_t)(vm.region[2] + 8)) == (ssize_t)n && !memcmp(bytes, back, n));
    }
    CHECK(pread(vm.device, bytes, 8, (off_t)(vm.region[0] + vm.size[0] - 4)) == 4);     /* to its end */
    REFUSED(pread(vm.device, bytes, 1, (off_t)(vm.region[0] + vm.size[0])), EINVAL);
    REFUSED(pread(vm.device, bytes, 1, (off_t)vm.region[5]), EINVAL);
    REFUSED(pread(vm.device, bytes, 1, (off_t)9 << 40), EINVAL);
    REFUSED(pread(vm.device, bytes, 1, -1), EINVAL);
    CHECK(!ioctl(vm.device, VFIO_DEVICE_GET_REGION_INFO, &info));
    CHECK(info.size == sizeof rom && info.flags == 1);
    CHECK(pread(vm.device, rom, sizeof rom, (off_t)info.offset) == sizeof rom && rom[0] == 0x55);
    REFUSED(pwrite(vm.device, rom, 1, (off_t)info.offset), EINVAL);
    refused_mappings(&vm);
    area = mmap(NULL, 2 * PAGE, both, MAP_SHARED, vm.device, (off_t)(vm.region[2] + 0x1000));
    whole = mmap(NULL, 0x10000, both, MAP_SHARED, vm.device, (off_t)vm.region[1]);
    CHECK(area != MAP_FAILED && whole != MAP_FAILED);
    area[0] = 0xa1;
    area[1] = 0xa2;
    whole[PAGE] = 0xb1;
    CHECK(read32(&vm, 2, 0x1000) == 0xa1 && read32(&vm, 1, 4 * PAGE) == 0xb1);
    step("mapped");
    CHECK(area[1] == 0xc2);
    detach(&vm);
    CHECK(area[0] == 0xa1 && !munmap((void *)area, 2 * PAGE) && !munmap((void *)whole, 0x10000));
    (void)arguments;
}

/* ---- the end, in any order; MUSER's directory ---- */

void closing(const char *path, char **arguments)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    char *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < 6; i++) {
        struct vm vm;
        int *fds[3] = {&vm.device, &vm.group, &vm.container};

        attach(&vm, path);
        CHECK(!map(&vm, ram, 0x10000, RAM, 3));
        for (int j = 0, there = 1; j < 3; j++) {
            CHECK(!close(*fds[orders[i][j]]));
            there &= orders[i][j] != 0;
            CHECK(!there || read32(&vm, CONFIG, 0) == 0x0b301234);
        }
    }
    step("closed");
    (void)arguments;
}

void directory(const char *path, char **arguments)
{
    struct vm vm;

    attach(&vm, path);
    CHECK(read32(&vm, CONFIG, 0) == 0x0b301234);
    detach(&vm);
    CHECK(group_of(arguments[0]) == -1);        /* a directory without a socket is the kernel's */
    attach(&vm, arguments[1]);                  /* the same by its socket: another name, another group */
    CHECK(group_of(path) != group_of(arguments[1]));
    detach(&vm);
}

static const struct {
    const char *name;
    scenario *run;
} scenarios[] = {
    {"walk", walk}, {"argsz", argsz}, {"interrupts", interrupts}, {"resample", resample}, {"maps", maps},
    {"memory", memory}, {"kinds", kinds}, {"bars", bars}, {"closing", closing}, {"directory", directory},
    {"neighbour", neighbour}, {"fork", process_fork}, {"vfork", process_vfork},
    {"daemon", process_daemon}, {"chroot", process_chroot},
    {"hammer", process_hammer}, {"life", process_life}, {"attach", process_attach}, {"stop", process_stop},
    {"first", beside_first}, {"undecided", beside_undecided}, {"kvm", beside_kvm},
};

int main(int count, char **arguments)
{
    CHECK(count >= 3);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (!strcmp(scenarios[i].name, arguments[1])) {
            scenarios[i].run(arguments[2], arguments + 3);
            return 0;
        }
    CHECK(!"a scenario of that name");
}
