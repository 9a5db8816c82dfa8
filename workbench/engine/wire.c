/*
 * wire.c - bytes and descriptors onto a stream socket and off it; knows no message and no device.
 *
 * A call that the socket cannot serve at once waits in poll(), so that it is the same on a socket that
 * does not block by itself.
 */
#include "internal.h"
#include "scm.h"

#include <poll.h>
#include <unistd.h>

int wb_wire_wait(int socket, short events, uint64_t deadline)
{
    struct pollfd ready = {.fd = socket, .events = events};
    uint64_t now = deadline ? wb_clock() : 0;

    if (now > deadline)
        return -ETIMEDOUT;
    if (poll(&ready, 1, deadline ? (int)((deadline - now) / 1000000 + 1) : -1) < 0 && errno != EINTR)
        return -errno;
    return 0;
}

/* ---- sending ---- */

int wb_wire_deliver(int socket, struct msghdr *message, uint64_t deadline)
{
    int result = 0, begun = 0;

    for (size_t left = 1; left && !result;) {
        ssize_t n = sendmsg(socket, message, MSG_NOSIGNAL | (deadline ? MSG_DONTWAIT : 0));

        if (n >= 0) {
            begun = 1;
            left = wb_scm_advance(message, (size_t)n);
        } else if (errno == EAGAIN) {
            result = wb_wire_wait(socket, POLLOUT, deadline);
        } else if (errno != EINTR) {
            result = -errno;
        }
    }
    if (result && begun)
        shutdown(socket, SHUT_RDWR);        /* half a message is on its way: nothing can follow it */
    return result;
}

/* Most messages have no descriptors and go at once: send() has less to do than sendmsg(). */
int wb_wire_send(int socket, uint8_t *bytes, uint32_t size, const int *fds, uint32_t nfds)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WB_MAX_FDS * sizeof *fds)];
    ssize_t n = nfds ? 0 : send(socket, bytes, size, MSG_NOSIGNAL);
    struct iovec rest = {bytes + (n > 0 ? n : 0), size - (n > 0 ? (size_t)n : 0)};
    struct msghdr message = {.msg_iov = &rest, .msg_iovlen = 1};

    if (!rest.iov_len)
        return 0;
    wb_scm_attach(&message, control, fds, nfds);
    return wb_wire_deliver(socket, &message, 0);
}

ssize_t wb_wire_offer(int socket, uint8_t *bytes, uint32_t size, const int *fds, uint32_t nfds)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WB_MAX_FDS * sizeof *fds)];
    struct iovec whole = {bytes, size};
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1};
    ssize_t n;

    wb_scm_attach(&message, control, fds, nfds);
    n = nfds ? sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
             : send(socket, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return n;
}

/* ---- receiving ---- */

ssize_t wb_wire_receive(int socket, uint8_t *bytes, uint32_t room, int *fds, uint32_t *nfds, int flags)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WB_SCM_MAX * sizeof(int)) + CMSG_SPACE(64)];
    struct iovec vector = {.iov_base = bytes, .iov_len = room};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
    };
    ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
    int result;

    if (n < 0)
        return -errno;
    result = wb_scm_take(&message, fds, nfds, close);
    return result ? result : n;
}
