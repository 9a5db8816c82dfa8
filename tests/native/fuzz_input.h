/* fuzz_input.h - the fuzzer's bytes as numbers, and descriptors of every kind. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include "harness.h"

#include <signal.h>
#include <sys/epoll.h>

struct input {
    const uint8_t *at;
    size_t left;
};

enum { KINDS = 16 };

/* ---- numbers ---- */

static inline uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t value = 0;
    unsigned n = in->left < bytes ? (unsigned)in->left : bytes;

    memcpy(&value, in->at, n);
    in->at += n;
    in->left -= n;
    return value;
}

/* Small ones, whole pages, edges, or whatever the next bytes say. */
static inline uint64_t number(struct input *in)
{
    static const uint64_t edges[] = {
        128, 255, 256, 4095, 4097, 65535, 65536, 1 << 20, (1 << 20) + 1, INT32_MAX, UINT32_MAX,
        UINT64_C(1) << 32,
        UINT64_C(1) << 40, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 4095, UINT64_MAX - 7, 8, 20,
        0x10000, 0x11000, 2048, 253, 65534, 8191, 12288, 12308, 16384, UINT32_MAX - 1, 64, 63,
    };
    uint64_t first = take(in, 1);

    if (first < 0x80)
        return first;
    if (first < 0xc0)
        return (first & 0x3f) * 4096;
    if (first < 0xe0)
        return edges[first & 31];
    return take(in, 1u << (first & 3));
}

static inline uint64_t at_most(struct input *in, uint64_t most)
{
    uint64_t value = number(in);

    return value > most ? value % (most + 1) : value;
}

/* ---- descriptors ---- */

static inline int reopened(int fd, int flags)
{
    char path[40];
    int again;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    again = open(path, flags | O_CLOEXEC);
    close(fd);
    return again;
}

static inline int one_end(int which)
{
    int ends[2];

    CHECK(!pipe2(ends, O_CLOEXEC | O_NONBLOCK));
    close(ends[!which]);
    return ends[which];
}

static inline int sealed_with(int seals)
{
    int fd = memory_file(4 * 4096);

    CHECK(!fcntl(fd, F_ADD_SEALS, seals));
    return fd;
}

static inline int make_fd(unsigned kind)
{
    int fd;

    switch (kind % KINDS) {
    case 0: return sealed_with(F_SEAL_SHRINK);
    case 1: return memory_file(4 * 4096);
    case 2: return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    case 3: return eventfd(0, EFD_CLOEXEC);
    case 4: return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    case 5: return one_end(0);
    case 6: return one_end(1);
    case 7: return sealed_with(F_SEAL_SHRINK | F_SEAL_WRITE);
    case 8: return reopened(memory_file(4 * 4096), O_RDONLY);
    case 9: return reopened(memory_file(4 * 4096), O_RDWR | O_APPEND);
    case 10: return reopened(sealed_with(F_SEAL_SHRINK), O_RDONLY);
    case 11: return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case 12: return open("/", O_PATH | O_CLOEXEC);
    case 13: return epoll_create1(EPOLL_CLOEXEC);
    case 14: return memory_file(100);
    default:                                    /* an eventfd that takes no more */
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        CHECK(write(fd, &(uint64_t){UINT64_MAX - 1}, 8) == 8);
        return fd;
    }
}

/* The lowest descriptor that is free: a higher one than before means that some were not closed. */
static inline int free_fd(void)
{
    int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);

    CHECK(fd >= 0);
    close(fd);
    return fd;
}

#endif
