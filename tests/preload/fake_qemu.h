/*
 * fake_qemu.h - what the scenarios of the fake QEMU share.
 *
 * The program does with libc what QEMU does to attach a VFIO device, and knows nothing of the
 * preloaded library. At step() it tells the test where it is and waits for a line.
 */
#ifndef FAKE_QEMU_H
#define FAKE_QEMU_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s: failed (errno: %m)\n", __FILE__, __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

#define REFUSED(what, error) \
    do { \
        errno = 0; \
        CHECK((what) == -1); \
        CHECK(errno == (error)); \
    } while (0)

enum { PAGE = 4096, RAM = 16 * PAGE, VECTORS = 40, CONFIG = 7, ROM = 6 };
enum { CTRL = 0, SCRATCH = 8, FIRE = 16, LINE = 20 };     /* registers of BAR0 */

struct vm {
    int group, container, device;
    uint64_t region[9];         /* where each begins in the device's descriptor */
    uint64_t size[9];
};

void step(const char *name);
int group_of(const char *path);             /* the number that the iommu_group link ends in; -1: none */
int group_open(const char *path);
int container_open(int group);
int device_get(int group, const char *path);
void attach(struct vm *vm, const char *path);           /* up to the device's regions */
void detach(struct vm *vm);
int map(const struct vm *vm, void *at, uint64_t iova, uint64_t size, uint32_t flags);
int unmap(const struct vm *vm, uint64_t iova, uint64_t *size);
int set_irqs(int device, uint32_t flags, uint32_t index, uint32_t start, uint32_t count, const void *data,
             uint32_t bytes);
uint32_t read32(const struct vm *vm, int region, uint64_t at);
void write32(const struct vm *vm, int region, uint64_t at, uint32_t value);
int rings(int fd);                          /* within a second */

typedef void scenario(const char *path, char **arguments);

scenario walk, argsz, interrupts, maps, kinds, bars, memory, closing, directory, resample, neighbour;
scenario beside_first, beside_undecided, beside_kvm;
scenario process_fork, process_vfork, process_daemon, process_chroot, process_hammer;
scenario process_life, process_attach, process_stop;

#endif
