/*
 * eventfd.c - a client's eventfds: told from other files, emptied and signalled, and never waited for.
 *
 * Who has an eventfd too may fill it, and make it one that blocks, between our look at it and our write. So
 * it is not written. An asynchronous read that cannot but fail (Linux AIO: too short for an eventfd) names it
 * as the one to signal at its end, and the kernel adds 1 as it does for its own devices: that cannot wait,
 * and one that is full stays full. It costs 0.2 us more. A read of ours says with each call that it must not
 * wait.
 *
 * Where there is no AIO (before Linux 5.8; what a container forbids; a forked child) it is looked at and
 * written after all, and emptied likewise: such a client can then stop the thread that signals.
 */
#include "internal.h"

#include <linux/aio_abi.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ROOM = 128, SWEEP = 32 };    /* reads that have ended and are not taken away: at most; every so many */

static aio_context_t context;           /* of the process; 0: there is no AIO */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static unsigned submitted;

static void set_up(void)
{
    if (syscall(SYS_io_setup, ROOM, &context))
        context = 0;
}

/* What has ended lies in a ring until it is taken. */
static void sweep(void)
{
    struct io_event ended[ROOM];
    struct timespec at_once = {0};

    syscall(SYS_io_getevents, context, 0L, (long)ROOM, ended, &at_once);
}

static int submit(int fd)
{
    struct iocb failing = {
        .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)fd, .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)fd,
    };
    struct iocb *one = &failing;

    pthread_once(&once, set_up);
    if (!context)
        return 0;
    if (__atomic_add_fetch(&submitted, 1, __ATOMIC_RELAXED) % SWEEP == 0)
        sweep();
    return syscall(SYS_io_submit, context, 1L, &one) == 1;
}

static int write_one(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    const uint64_t one = 1;
    ssize_t n;

    do
        n = poll(&ready, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n != 1 || !(ready.revents & POLLOUT))
        return 0;
    do
        n = write(fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    return n == sizeof one;
}

int wb_eventfd_signal(int fd)
{
    return submit(fd) || write_one(fd);
}

int wb_eventfd_take(int fd)
{
    uint64_t count;
    struct iovec vector = {.iov_base = &count, .iov_len = sizeof count};
    ssize_t n = preadv2(fd, &vector, 1, -1, RWF_NOWAIT);

    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))  /* before Linux 5.8 */
        n = read(fd, &count, sizeof count);
    return n == sizeof count;
}

int wb_eventfd_check(int fd)
{
    char path[40], target[40];
    struct stat status;
    ssize_t length;

    if (fstat(fd, &status) || (status.st_mode & S_IFMT))    /* anonymous inodes have no type */
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof target);
    return length < 0 || (length == 20 && !memcmp(target, "anon_inode:[eventfd]", 20));
}
