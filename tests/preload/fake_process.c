/* fake_process.c - scenarios about processes, threads and a server's end. */
#include "fake_qemu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { RW = 3, THREADS = 4, ROUNDS = 400 };

/* ---- processes ---- */

/* A helper's child closes everything it can; the parent talks on meanwhile. */
void process_fork(const char *path, char **arguments)
{
    struct vm vm;
    pid_t child;
    int status;

    attach(&vm, path);
    child = fork();
    if (!child) {
        uint32_t value;

        REFUSED(pread(vm.device, &value, 4, (off_t)vm.region[CONFIG]), EBADF);
        for (int fd = 3; fd < 1024; fd++)
            close(fd);
        _exit(0);
    }
    for (int i = 0; i < ROUNDS; i++)
        CHECK(read32(&vm, CONFIG, 0) == 0x0b301234);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
    write32(&vm, 0, SCRATCH, 77);
    CHECK(read32(&vm, 0, SCRATCH) == 77);
    detach(&vm);
    (void)arguments;
}

/* Until it executes something, a child of vfork() has the parent's memory, and descriptors of its own. */
void process_vfork(const char *path, char **arguments)
{
    struct vm vm;
    pid_t child;
    int status;

    attach(&vm, path);
    child = vfork();
    if (!child) {
        close(vm.device);
        close(vm.group);
        close(vm.container);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
    CHECK(read32(&vm, CONFIG, 0) == 0x0b301234);
    detach(&vm);
    (void)arguments;
}

/* What goes on is a forked child: as QEMU's -daemonize. It tells through a pipe how it ended. */
void process_daemon(const char *path, char **arguments)
{
    struct vm vm;
    int ends[2];
    char done;

    CHECK(!pipe(ends));
    if (!fork()) {
        CHECK(setsid() > 0 && !chdir("/"));
        attach(&vm, path);
        write32(&vm, 0, SCRATCH, 78);
        CHECK(read32(&vm, 0, SCRATCH) == 78);
        detach(&vm);
        CHECK(write(ends[1], "d", 1) == 1);
        _exit(0);
    }
    close(ends[1]);
    CHECK(read(ends[0], &done, 1) == 1 && done == 'd');
    (void)arguments;
}

/* Attached before it, as QEMU's -chroot: later maps are still given by file, without /proc. */
void process_chroot(const char *path, char **arguments)
{
    int file = memfd_create("ram", MFD_CLOEXEC);
    char *ram;
    struct vm vm;

    CHECK(!ftruncate(file, RAM));
    ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    attach(&vm, path);
    CHECK(!chroot(arguments[0]) && !chdir("/"));
    CHECK(!map(&vm, ram, 0, RAM, RW));
    step("mapped");
    CHECK(!strcmp(ram, "by file"));
    detach(&vm);
}

/* ---- threads ---- */

struct work {
    struct vm vm;
    char *ram;
    atomic_int stop;
};

static void *read_on(void *argument)
{
    struct work *work = argument;

    for (int i = 0; i < ROUNDS; i++)
        CHECK(read32(&work->vm, CONFIG, 0) == 0x0b301234);
    return NULL;
}

static void *map_on(void *argument)
{
    struct work *work = argument;
    uint64_t size;

    for (int i = 0; i < ROUNDS / 4; i++) {
        size = PAGE;
        CHECK(!map(&work->vm, work->ram, 0x100000, PAGE, RW));
        CHECK(!unmap(&work->vm, 0x100000, &size) && size == PAGE);
    }
    return NULL;
}

/* Opens and closes what is not ours, and maps memory: the tables change under the others. */
static void *open_on(void *argument)
{
    struct work *work = argument;

    while (!atomic_load(&work->stop)) {
        int fd = open("/dev/null", O_RDONLY), file = memfd_create("other", MFD_CLOEXEC);
        void *at;

        CHECK(fd >= 0 && file >= 0 && !ftruncate(file, PAGE));
        at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
        CHECK(at != MAP_FAILED && !close(file) && !munmap(at, PAGE) && !close(fd));
    }
    return NULL;
}

void process_hammer(const char *path, char **arguments)
{
    static void *(*const jobs[])(void *) = {read_on, read_on, map_on};
    struct work work = {.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
    pthread_t threads[3], opener;

    attach(&work.vm, path);
    CHECK(!map(&work.vm, work.ram + PAGE, 0, 8 * PAGE, RW));
    step("ready");              /* the server copies by messages from here on */
    CHECK(!pthread_create(&opener, NULL, open_on, &work));
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_create(&threads[i], NULL, jobs[i], &work));
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_join(threads[i], NULL));
    atomic_store(&work.stop, 1);
    CHECK(!pthread_join(opener, NULL));
    step("done");
    detach(&work.vm);
    (void)arguments;
}

/* ---- a server's end ---- */

/* Attaches, is set up, and lives through the server's end: all ones, and everything goes on. */
void process_life(const char *path, char **arguments)
{
    int32_t fd = eventfd(0, EFD_NONBLOCK);
    char *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t big[256];
    uint64_t size = RAM;
    struct vm vm;

    attach(&vm, path);
    CHECK(!ioctl(vm.device, VFIO_DEVICE_RESET));
    step("attached");
    CHECK(read32(&vm, 0, SCRATCH) == UINT32_MAX);
    CHECK(read32(&vm, CONFIG, 0) == UINT32_MAX);
    write32(&vm, 0, SCRATCH, 1);
    REFUSED(pread(vm.device, big, sizeof big, (off_t)vm.region[CONFIG]), EIO);
    CHECK(!map(&vm, ram, 0, RAM, RW) && !unmap(&vm, 0, &size) && size == RAM);
    CHECK(!set_irqs(vm.device, 0x24, 2, 0, 1, &fd, 4) && !set_irqs(vm.device, 0x21, 2, 0, 0, NULL, 0));
    CHECK(!ioctl(vm.device, VFIO_DEVICE_RESET));
    step("survived");
    detach(&vm);
    (void)arguments;
}

/* As QEMU tries a device: which call fails, and with what. */
void process_attach(const char *path, char **arguments)
{
    struct vfio_region_info region = {.argsz = sizeof region};
    struct vfio_irq_info irq = {.argsz = sizeof irq, .index = 2};
    uint8_t config[256];
    int group = group_open(path), container = container_open(group), device = device_get(group, path);

    if (device < 0) {
        printf("device %s\n", strerrorname_np(errno));
        return;
    }
    if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region))
        printf("region %s\n", strerrorname_np(errno));
    if (pread(device, config, sizeof config, (off_t)7 << 40) != sizeof config)
        printf("config %s\n", strerrorname_np(errno));
    if (ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &irq))
        printf("irq %s\n", strerrorname_np(errno));
    if (set_irqs(device, 0x21, 2, 0, 0, NULL, 0))
        printf("set %s\n", strerrorname_np(errno));
    if (ioctl(device, VFIO_DEVICE_RESET))
        printf("reset %s\n", strerrorname_np(errno));
    if (pread(device, config, 4, (off_t)7 << 40) != 4)
        printf("read %s\n", strerrorname_np(errno));
    printf("map %s\n", region.flags & VFIO_REGION_INFO_FLAG_MMAP ? "yes" : "no");
    CHECK(!close(device) && !close(container) && !close(group));
    (void)arguments;
}

/* With ON_DEATH=stop, QEMU's eventfd for errors rings when the server is gone. */
void process_stop(const char *path, char **arguments)
{
    struct vfio_irq_info irq = {.argsz = sizeof irq, .index = VFIO_PCI_ERR_IRQ_INDEX};
    int32_t fd = eventfd(0, EFD_NONBLOCK);
    struct vm vm;

    attach(&vm, path);
    CHECK(!ioctl(vm.device, VFIO_DEVICE_GET_IRQ_INFO, &irq) && irq.count == 1);
    CHECK(!set_irqs(vm.device, 0x24, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, &fd, 4));
    step("attached");
    CHECK(rings(fd));
    detach(&vm);
    (void)arguments;
}
