/* harness.h - what the native test programs share: CHECK, a small device, a client of the wire. */
#ifndef HARNESS_H
#define HARNESS_H

#include "wb_libc.h"
#ifndef WB_INTERNAL_H           /* which has read them, and they are read once */
#include "wb.h"
#include "wb_serve.h"
#endif
#include "scm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s: failed\n", __FILE__, __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

enum { BAR_SIZE = 3 * 4096 + 20, CONFIG_SIZE = 256, MSIX = 0x40, TABLE = 8192, PBA = TABLE + 8 * 16,
       PMCSR = 0x64, CONTROL = 0x78 };

struct stub {
    wb_device *device;
    int hooks, messages;        /* upcalls seen; atomic */
    uint64_t turn;              /* of the last hook; atomic */
};

struct wire_header {
    uint16_t id, command;
    uint32_t size, flags, error;
};

static inline void stub_hook(void *context, wb_access *access)
{
    struct stub *stub = context;
    uint8_t byte;

    __atomic_add_fetch(&stub->hooks, 1, __ATOMIC_RELAXED);
    CHECK(access->size >= 1 && access->size <= 8);
    /* No lock is held, or this would hang. */
    CHECK(!wb_region_get(stub->device, access->region, WB_VALUE, access->offset, &byte, 1));
    __atomic_store_n(&stub->turn, wb_turn_now(stub->device), __ATOMIC_RELAXED);
    access->revision = 7;
    access->flags = WB_HOOK_RAN;
}

static inline int stub_message(void *context, wb_message *message)
{
    struct stub *stub = context;

    __atomic_add_fetch(&stub->messages, 1, __ATOMIC_RELAXED);
    if (message->command != 1)
        return ENOTSUP;
    memcpy(message->reply, "\0\0\0", 4);
    message->reply_size = 4;
    wb_serve_accept(stub->device, WB_MAX_TRANSFER, 1);
    return 0;
}

static inline void stub_trace(void *context, int from_server, const uint8_t *bytes, uint32_t size,
                              uint32_t nfds)
{
    (void)context, (void)from_server, (void)nfds;
    CHECK(size >= 16 && (bytes[0] | 1));
}

static inline void fill(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset, uint8_t byte,
                        uint64_t size)
{
    uint8_t *bytes = malloc(size);

    memset(bytes, byte, size);
    CHECK(!wb_region_set(device, region, plane, offset, bytes, size));
    free(bytes);
}

/*
 * BAR 0: all bytes read and write; its first 16 are hooked; page 1 is left alone; MSI-X table and PBA of
 * 8 vectors in page 2. Config: COMMAND, and an MSI-X capability.
 */
static inline wb_device *make_device(struct stub *stub)
{
    wb_upcalls upcalls = {stub, stub_hook, stub_message, stub_trace, NULL};
    const wb_irq_places places = {.msix = MSIX, .table = TABLE, .pba = PBA};
    const uint32_t planes[] = {WB_READABLE, WB_WRITABLE, WB_ACCEPT, WB_KNOWN};
    wb_device *device = wb_device_new(&upcalls, 256);

    memset(stub, 0, sizeof *stub);
    stub->device = device;
    CHECK(device);
    CHECK(!wb_region_add(device, WB_BAR0, BAR_SIZE, WB_REGION_READ | WB_REGION_WRITE));
    CHECK(!wb_region_add(device, WB_CONFIG, CONFIG_SIZE, WB_REGION_READ | WB_REGION_WRITE));
    for (unsigned i = 0; i < 4; i++) {
        fill(device, WB_BAR0, planes[i], 0, 0xff, 4096);
        fill(device, WB_BAR0, planes[i], 8192, 0xff, BAR_SIZE - 8192);
        fill(device, WB_CONFIG, planes[i], 4, 0xff, 2);
        fill(device, WB_CONFIG, planes[i], MSIX + 2, 0xff, 2);
        fill(device, WB_CONFIG, planes[i], PMCSR, 3, 1);
        fill(device, WB_CONFIG, planes[i], CONTROL, 0xff, 2);
    }
    fill(device, WB_CONFIG, WB_READABLE, 0, 0xff, CONFIG_SIZE);
    CHECK(!wb_region_hook(device, WB_BAR0, 0, 16, WB_HOOK_READ | WB_HOOK_WRITE, 1));
    CHECK(!wb_irq_add(device, WB_INTX, 1));
    CHECK(!wb_irq_add(device, WB_MSIX, 8));
    CHECK(!wb_irq_place(device, &places));
    fill(device, WB_BAR0, WB_STICKY, 8192, 0x55, 64);
    CHECK(!wb_function_add(device, PMCSR, CONTROL));
    fill(device, WB_CONFIG, WB_VALUE, 4, 4, 1);     /* bus master on */
    return device;
}

/* ---- the client's side of the wire ---- */

static inline void put(int socket, const void *bytes, size_t size, const int *fds, size_t nfds)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))];
    struct iovec vector = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

    wb_scm_attach(&message, control, fds, (uint32_t)nfds);
    CHECK(sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

static inline int get_all(int socket, void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = recv(socket, (char *)bytes + done, size - done, 0);

        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

/* One command and its reply; returns the reply's errno. */
static inline uint32_t ask(int socket, uint16_t command, const void *payload, uint32_t size, const int *fds,
                           size_t nfds)
{
    static __thread uint16_t id;
    static __thread uint8_t buffer[1 << 16];
    struct wire_header header = {++id, command, 16 + size, 0, 0};

    memcpy(buffer, &header, sizeof header);
    if (size)
        memcpy(buffer + sizeof header, payload, size);
    put(socket, buffer, sizeof header + size, fds, nfds);
    CHECK(get_all(socket, &header, sizeof header));
    CHECK(header.id == id && header.command == command && header.flags & 1);
    CHECK(header.size >= 16 && header.size <= sizeof buffer);
    CHECK(get_all(socket, buffer, header.size - 16));
    return header.error;
}

static inline int memory_file(size_t size)
{
    int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    CHECK(fd >= 0 && !ftruncate(fd, (off_t)size));
    return fd;
}

static inline int sealed_file(size_t size)
{
    int fd = memory_file(size);

    CHECK(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    return fd;
}

#endif
