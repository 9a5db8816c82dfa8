/*
 * wrap.c - the functions that the linker puts in front of the C library's (-Wl,--wrap).
 *
 * One kind of call is spoilt at a time, and only where the calling thread is armed: that is the engine, not
 * the test. Interrupted calls are so every second time, else nobody would ever get on.
 */
#define _GNU_SOURCE
#include "wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

const char *const wrap_names[WRAPPED] = {
    "malloc", "calloc", "realloc", "mmap", "recvmsg", "sendmsg", "send", "poll", "epoll_create1", "epoll_ctl",
    "epoll_wait", "eventfd", "memfd_create", "fcntl", "ftruncate", "fstat", "fstatfs", "pread", "pwrite",
    "preadv2", "read", "write", "readlink", "lseek", "syscall",
};

__thread int wrap_armed;
static struct {
    enum wrapped which;
    enum fault fault;
    unsigned at, count, struck;
    int error;
} plan;

void wrap_plan(enum wrapped which, enum fault fault, unsigned at, int error)
{
    plan.which = which;
    plan.fault = fault;
    plan.at = at;
    plan.error = error;
    __atomic_store_n(&plan.count, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&plan.struck, 0, __ATOMIC_SEQ_CST);
}

unsigned wrap_count(void)
{
    return __atomic_load_n(&plan.count, __ATOMIC_SEQ_CST);
}

unsigned wrap_struck(void)
{
    return __atomic_load_n(&plan.struck, __ATOMIC_SEQ_CST);
}

/* Is this call spoilt? 2: it is the one after a short one, and fails. */
static int strikes(enum wrapped which)
{
    unsigned number;

    if (!wrap_armed || which != plan.which)
        return 0;
    number = __atomic_add_fetch(&plan.count, 1, __ATOMIC_SEQ_CST);
    if (plan.fault == CUT && number == plan.at + 1)
        return 2;
    if (plan.at ? number != plan.at : plan.fault == INTERRUPTED && number % 2 == 0)
        return 0;
    __atomic_add_fetch(&plan.struck, 1, __ATOMIC_SEQ_CST);
    return 1;
}

static int fails(int struck)
{
    if (!struck || plan.fault == SHORT || (plan.fault == CUT && struck == 1))
        return 0;
    errno = plan.fault == INTERRUPTED ? EINTR : plan.error;
    return 1;
}

#define WRAP(type, id, name, failure, parameters, arguments) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters \
    { \
        return fails(strikes(id)) ? failure : __real_##name arguments; \
    }

WRAP(void *, MALLOC, malloc, NULL, (size_t size), (size))
WRAP(void *, CALLOC, calloc, NULL, (size_t count, size_t size), (count, size))
WRAP(void *, REALLOC, realloc, NULL, (void *old, size_t size), (old, size))
WRAP(void *, MMAP, mmap, MAP_FAILED, (void *at, size_t size, int rights, int flags, int fd, off_t offset),
     (at, size, rights, flags, fd, offset))
WRAP(int, POLL, poll, -1, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout))
WRAP(int, EPOLL_CREATE1, epoll_create1, -1, (int flags), (flags))
WRAP(int, EPOLL_WAIT, epoll_wait, -1, (int set, struct epoll_event *events, int most, int timeout),
     (set, events, most, timeout))
WRAP(int, EVENTFD, eventfd, -1, (unsigned first, int flags), (first, flags))
WRAP(int, MEMFD_CREATE, memfd_create, -1, (const char *name, unsigned flags), (name, flags))
WRAP(int, FTRUNCATE, ftruncate, -1, (int fd, off_t size), (fd, size))
WRAP(int, FSTAT, fstat, -1, (int fd, struct stat *status), (fd, status))
WRAP(int, FSTATFS, fstatfs, -1, (int fd, struct statfs *status), (fd, status))
WRAP(ssize_t, PREADV2, preadv2, -1, (int fd, const struct iovec *parts, int count, off_t offset, int flags),
     (fd, parts, count, offset, flags))
WRAP(ssize_t, READ, read, -1, (int fd, void *bytes, size_t size), (fd, bytes, size))
WRAP(ssize_t, WRITE, write, -1, (int fd, const void *bytes, size_t size), (fd, bytes, size))
WRAP(ssize_t, READLINK, readlink, -1, (const char *path, char *target, size_t size), (path, target, size))
WRAP(off_t, LSEEK, lseek, -1, (int fd, off_t offset, int whence), (fd, offset, whence))

int __real_epoll_ctl(int set, int how, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int how, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int how, int fd, struct epoll_event *event)
{
    int may_fail = how != EPOLL_CTL_DEL;        /* which needs nothing that can be short */

    return may_fail && fails(strikes(EPOLL_CTL)) ? -1 : __real_epoll_ctl(set, how, fd, event);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
    va_list list;
    long argument;

    va_start(list, command);
    argument = va_arg(list, long);
    va_end(list);
    return fails(strikes(FCNTL)) ? -1 : __real_fcntl(fd, command, argument);
}

/* The engine's own: asynchronous reads, and how its thread is scheduled. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long words[5];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 5; i++)
        words[i] = va_arg(list, long);
    va_end(list);
    if (fails(strikes(SYSCALL)))
        return -1;
    return __real_syscall(number, words[0], words[1], words[2], words[3], words[4]);
}

/* ---- calls that may do less than asked ---- */

#define WRAP_SHORT(id, name, bytes_type) \
    ssize_t __real_##name(int fd, bytes_type *bytes, size_t size, off_t offset); \
    ssize_t __wrap_##name(int fd, bytes_type *bytes, size_t size, off_t offset); \
    ssize_t __wrap_##name(int fd, bytes_type *bytes, size_t size, off_t offset) \
    { \
        int struck = strikes(id); \
        return fails(struck) ? -1 : __real_##name(fd, bytes, struck ? (size + 1) / 2 : size, offset); \
    }

WRAP_SHORT(PREAD, pread, void)
WRAP_SHORT(PWRITE, pwrite, const void)

/* Every other byte count a socket may give: here one byte, of the first part that has any. */
static struct msghdr one_byte(const struct msghdr *message, struct iovec *part)
{
    struct msghdr shorter = *message;
    size_t i = 0;

    while (i + 1 < message->msg_iovlen && !message->msg_iov[i].iov_len)
        i++;
    *part = message->msg_iov[i];
    part->iov_len = part->iov_len > 0;
    shorter.msg_iov = part;
    shorter.msg_iovlen = 1;
    return shorter;
}

ssize_t __real_recvmsg(int socket, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int socket, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int socket, struct msghdr *message, int flags)
{
    int struck = strikes(RECVMSG);
    struct msghdr shorter;
    struct iovec part;
    ssize_t n;

    if (fails(struck))
        return -1;
    if (!struck)
        return __real_recvmsg(socket, message, flags);
    shorter = one_byte(message, &part);
    n = __real_recvmsg(socket, &shorter, flags);
    message->msg_controllen = shorter.msg_controllen;
    message->msg_flags = shorter.msg_flags;
    return n;
}

ssize_t __real_sendmsg(int socket, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int socket, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int socket, const struct msghdr *message, int flags)
{
    int struck = strikes(SENDMSG);
    struct msghdr shorter;
    struct iovec part;

    if (fails(struck))
        return -1;
    if (!struck)
        return __real_sendmsg(socket, message, flags);
    shorter = one_byte(message, &part);
    return __real_sendmsg(socket, &shorter, flags);
}

ssize_t __real_send(int socket, const void *bytes, size_t size, int flags);
ssize_t __wrap_send(int socket, const void *bytes, size_t size, int flags);
ssize_t __wrap_send(int socket, const void *bytes, size_t size, int flags)
{
    int struck = strikes(SEND);

    return fails(struck) ? -1 : __real_send(socket, bytes, struck ? size > 0 : size, flags);
}
