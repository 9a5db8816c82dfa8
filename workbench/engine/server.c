/*
 * server.c - the loop: bytes of the socket to messages, and replies back.
 *
 * One recvmsg takes what is there, every complete message in it is served in order, and each reply
 * is one sendmsg. Nothing else is called on that path. Only while the client has registered an
 * eventfd for unmasking INTx, or was given eventfds of doorbells, does a poll come first.
 *
 * The kernel ends a recvmsg behind the bytes that carried descriptors. So the descriptors of one
 * recvmsg belong to the message that contains its last byte; those that came with a message that is
 * not complete yet are carried over to the next recvmsg.
 */
#include "internal.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TYPE = 0xf, REPLY = 1, NO_REPLY = 0x10, ERROR = 0x20 };

struct header {
    uint16_t id, command;
    uint32_t size, flags, error;
};

struct conversation {
    wb_device *device;
    int socket;
    uint32_t head, tail;        /* unserved bytes of device->in */
    int fds[2 * WB_SCM_MAX];
    uint32_t carried;           /* the first of them belong to the message at head */
    uint32_t nfds;              /* the others to the one that contains the byte before tail */
    struct pollfd ready[2 + WB_MAX_DOORBELLS];  /* the socket, UNMASK, doorbells */
    uint32_t rung;              /* how many doorbells to look at once the messages that came are served */
};

static void drop_fds(struct conversation *talk, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        close(talk->fds[i]);
}

static void forget_fds(struct conversation *talk, uint32_t count)
{
    talk->nfds -= count;
    talk->carried = 0;
    memmove(talk->fds, talk->fds + count, talk->nfds * sizeof *talk->fds);
}

static void trace(wb_device *device, int from_server, const uint8_t *bytes, uint32_t size, uint32_t nfds)
{
    if (__atomic_load_n(&device->tracing, __ATOMIC_RELAXED) && device->upcalls.trace)
        device->upcalls.trace(device->upcalls.context, from_server, bytes, size, nfds);
}

/* ---- sending ---- */

/* Waits for the socket: 0, -errno, or -ETIMEDOUT when wb_clock() has passed a deadline other than 0. */
static int wait_for(int socket, short events, uint64_t deadline)
{
    struct pollfd ready = {.fd = socket, .events = events};
    uint64_t now = deadline ? wb_clock() : 0;

    if (now > deadline)
        return -ETIMEDOUT;
    if (poll(&ready, 1, deadline ? (int)((deadline - now) / 1000000 + 1) : -1) < 0 && errno != EINTR)
        return -errno;
    return 0;
}

static void attach_fds(struct msghdr *message, uint8_t *control, const int *fds, uint32_t nfds)
{
    struct cmsghdr *header;

    memset(control, 0, CMSG_SPACE(nfds * sizeof *fds));
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(nfds * sizeof *fds);
    header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(nfds * sizeof *fds);
    memcpy(CMSG_DATA(header), fds, nfds * sizeof *fds);
}

/* Moves the parts behind the first n bytes; returns how many bytes are left. */
static size_t advance(struct msghdr *message, size_t n)
{
    size_t left = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++) {
        struct iovec *part = &message->msg_iov[i];
        size_t gone = n < part->iov_len ? n : part->iov_len;

        part->iov_base = (uint8_t *)part->iov_base + gone;
        part->iov_len -= gone;
        n -= gone;
        left += part->iov_len;
    }
    return left;
}

int wb_send(int socket, struct msghdr *message, uint64_t deadline)
{
    int result, begun = 0;

    for (size_t left = 1; left;) {
        ssize_t n = sendmsg(socket, message, MSG_NOSIGNAL | (deadline ? MSG_DONTWAIT : 0));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            result = wait_for(socket, POLLOUT, deadline);
            if (result == -ETIMEDOUT && begun)
                shutdown(socket, SHUT_RDWR);    /* half a message is on its way: nothing can follow it */
            if (result)
                return result;
            continue;
        }
        if (n < 0)
            return -errno;
        begun = 1;
        left = advance(message, (size_t)n);
        message->msg_control = NULL;            /* the fds went with the first byte */
        message->msg_controllen = 0;
    }
    return 0;
}

/* The payload lies behind the header's place in device->out already. */
static int reply(struct conversation *talk, const struct header *to, uint32_t size, const int *fds,
                 uint32_t nfds, int error)
{
    wb_device *device = talk->device;
    struct header header = {
        .id = to->id, .command = to->command, .size = WB_HEADER + size,
        .flags = error ? REPLY | ERROR : REPLY, .error = (uint32_t)error,
    };

    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WB_MAX_FDS * sizeof *fds)];
    struct iovec whole = {device->out, header.size};
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1};
    int result;

    if (to->flags & NO_REPLY)
        return 0;
    memcpy(device->out, &header, sizeof header);
    trace(device, 1, device->out, header.size, nfds);
    if (nfds)
        attach_fds(&message, control, fds, nfds);
    pthread_mutex_lock(&device->sending);
    result = wb_send(talk->socket, &message, 0);
    pthread_mutex_unlock(&device->sending);
    return result;
}

/* Refuses a message: leaves a record and answers with a bare Error. */
static int refuse(struct conversation *talk, const struct header *header, int error)
{
    wb_lock(talk->device);
    wb_event_locked(talk->device, WB_KIND_ERROR, WB_GUEST, header->command, (uint64_t)error);
    wb_unlock(talk->device);
    return reply(talk, header, 0, NULL, 0, error);
}

/* ---- serving ---- */

/* An answer to something we asked, or that nobody waits for any more: QEMU sends such, too. */
static void take_reply(struct conversation *talk, const struct header *header)
{
    uint32_t error = header->flags & ERROR ? header->error ? header->error : EIO : 0;

    wb_peer_reply(talk->device, header->id, error, talk->device->in + talk->head + WB_HEADER,
                  header->size - WB_HEADER);
}

static int serve_message(struct conversation *talk, const struct header *header, uint32_t nfds)
{
    wb_device *device = talk->device;
    struct wb_request request = {
        .command = header->command, .flags = header->flags, .size = header->size - WB_HEADER,
        .payload = device->in + talk->head + WB_HEADER, .fds = talk->fds, .nfds = nfds,
        .reply = device->out + WB_HEADER,
    };
    int result, sent;

    trace(device, 0, device->in + talk->head, header->size, nfds);
    if (device->accepted && (header->flags & TYPE) == REPLY) {
        take_reply(talk, header);
        drop_fds(talk, nfds);
        forget_fds(talk, nfds);
        return 0;
    }
    result = header->flags & TYPE ? EINVAL : wb_request_run(device, &request);
    drop_fds(talk, request.nfds);
    forget_fds(talk, nfds);
    if (!result)
        return reply(talk, header, request.reply_size, request.reply_fds, request.reply_nfds, 0);
    sent = refuse(talk, header, result);
    return request.fatal ? -EPROTO : sent;
}

/* Serves every complete message between head and tail. */
static int serve_received(struct conversation *talk)
{
    wb_device *device = talk->device;
    struct header header;
    int result = 0;

    while (!result && talk->tail - talk->head >= WB_HEADER) {
        uint32_t rest = talk->tail - talk->head;

        memcpy(&header, device->in + talk->head, sizeof header);
        if (header.size < WB_HEADER || header.size > WB_MAX_MESSAGE) {
            trace(device, 0, device->in + talk->head, WB_HEADER, talk->nfds);
            refuse(talk, &header, EINVAL);
            return -EPROTO;
        }
        if (rest < header.size)
            break;
        wb_turn_begin(device);
        result = serve_message(talk, &header, rest == header.size ? talk->nfds : talk->carried);
        wb_turn_end(device);
        talk->head += header.size;
    }
    memmove(device->in, device->in + talk->head, talk->tail - talk->head);
    talk->tail -= talk->head;
    talk->head = 0;
    talk->carried = talk->nfds;
    return result;
}

/* ---- receiving ---- */

/* Takes the descriptors of a message; -EPROTO when some were lost or are too many. */
static int take_fds(struct conversation *talk, struct msghdr *message)
{
    int result = message->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        size_t bytes = part->cmsg_len - CMSG_LEN(0);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i + sizeof(int) <= bytes; i += sizeof(int)) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i, sizeof fd);
            if (talk->nfds < 2 * WB_SCM_MAX) {
                talk->fds[talk->nfds++] = fd;
            } else {
                close(fd);
                result = -EPROTO;
            }
        }
    }
    return result;
}

/* Doorbells that rang: after the messages that were there by then, as the guest may have sent them before. */
static void ring(struct conversation *talk)
{
    wb_doorbell_ring(talk->device, talk->ready + 2, talk->rung);
    talk->rung = 0;
}

/* Waits for bytes of the socket, and meanwhile serves the UNMASK eventfd and doorbells if there are any. */
static int wait_readable(struct conversation *talk)
{
    struct pollfd *ready = talk->ready;

    for (;;) {
        int any = __atomic_load_n(&talk->device->doorbell_count, __ATOMIC_RELAXED) != 0;
        uint32_t bells = any ? wb_doorbell_poll(talk->device, ready + 2) : 0;

        ready[0] = (struct pollfd){.fd = talk->socket, .events = POLLIN};
        ready[1] = (struct pollfd){
            .fd = __atomic_load_n(&talk->device->unmask_fd, __ATOMIC_RELAXED), .events = POLLIN,
        };
        if (ready[1].fd < 0 && !bells)
            return 0;
        if (poll(ready, 2 + bells, -1) < 0) {
            if (errno != EINTR)
                return -errno;
            continue;
        }
        if (ready[1].revents)
            wb_irq_poll_unmask(talk->device);
        talk->rung = bells;
        if (ready[0].revents)
            return 0;
        ring(talk);
    }
}

/* Adds what the socket has to the buffer: bytes, 0 at the end, or a negative errno. */
static ssize_t receive(struct conversation *talk)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WB_SCM_MAX * sizeof(int)) + CMSG_SPACE(64)];
    struct iovec vector = {.iov_base = talk->device->in + talk->tail, .iov_len = WB_IN_SIZE - talk->tail};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
    };
    ssize_t n;
    int result = wait_readable(talk);

    if (result)
        return result;
    n = recvmsg(talk->socket, &message, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    result = take_fds(talk, &message);
    talk->tail += (uint32_t)n;
    return result ? result : n;
}

static int converse(struct conversation *talk)
{
    for (;;) {
        ssize_t n = receive(talk);
        int result = 0;

        if (n == -EAGAIN || n == -EWOULDBLOCK)
            result = wait_for(talk->socket, POLLIN, 0);
        else if (n > 0)
            result = serve_received(talk);
        else if (n != -EINTR)
            result = n < 0 ? (int)n : 1;
        if (result)
            return result;
        if (talk->rung)
            ring(talk);
    }
}

static int enter(wb_device *device)
{
    int result = 0;

    wb_lock(device);
    if (device->serving)
        result = -EBUSY;
    device->serving = 1;
    wb_unlock(device);
    return result;
}

static void leave(wb_device *device, int result)
{
    wb_dirty_stop(device);
    wb_lock(device);
    device->halted &= WB_HALT_RESTORE;          /* a stop is the client's */
    if (device->accepted)
        wb_event_locked(device, WB_KIND_DETACH, WB_GUEST, 0, (uint64_t)-result);
    device->accepted = device->write_multiple = device->serving = 0;
    wb_irq_clear_locked(device);
    device->max_transfer = WB_MAX_TRANSFER;
    wb_unlock(device);
}

int wb_serve(wb_device *device, int socket)
{
    struct conversation talk = {.device = device, .socket = socket};
    int result = enter(device);

    if (result)
        return result;
    wb_peer_begin(device, socket);
    result = converse(&talk);
    wb_peer_end(device);
    /* A client that is gone is no failure, however the socket tells it. */
    if (result > 0 || result == -EPIPE || result == -ECONNRESET)
        result = 0;
    drop_fds(&talk, talk.nfds);
    wb_doorbell_clear(device);
    wb_dma_forget(device);
    leave(device, result);
    return result;
}

void wb_serve_accept(wb_device *device, uint32_t max_transfer, int write_multiple)
{
    wb_lock(device);
    device->accepted = 1;
    device->write_multiple = write_multiple != 0;
    device->max_transfer = max_transfer && max_transfer < WB_MAX_TRANSFER ? max_transfer : WB_MAX_TRANSFER;
    wb_event_locked(device, WB_KIND_ATTACH, WB_GUEST, 0, 0);
    wb_unlock(device);
}

void wb_serve_trace(wb_device *device, int on)
{
    __atomic_store_n(&device->tracing, on != 0, __ATOMIC_RELAXED);
}
