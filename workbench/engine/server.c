/*
 * server.c - the loop: bytes that came (wire.c) to messages, and replies back.
 *
 * One recvmsg takes what is there, every complete message in it is served in order, and each reply
 * is one send. Nothing else is called on that path. Only while the client has registered an
 * eventfd for unmasking INTx, or was given eventfds of doorbells, does a poll come first.
 *
 * The kernel ends a recvmsg behind the bytes that carried descriptors. So the descriptors of one
 * recvmsg belong to the message that contains its last byte; those that came with a message that is
 * not complete yet are carried over to the next recvmsg.
 */
#include "internal.h"

#include <poll.h>
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
    if (count)
        memmove(talk->fds, talk->fds + count, talk->nfds * sizeof *talk->fds);
}

static void trace(wb_device *device, int from_server, const uint8_t *bytes, uint32_t size, uint32_t nfds)
{
    if (__atomic_load_n(&device->tracing, __ATOMIC_RELAXED) && device->upcalls.trace)
        device->upcalls.trace(device->upcalls.context, from_server, bytes, size, nfds);
}

/* ---- replies ---- */

/* The payload lies behind the header's place in device->out already. */
static int reply(struct conversation *talk, const struct header *to, uint32_t size, const int *fds,
                 uint32_t nfds, int error)
{
    wb_device *device = talk->device;
    struct header header = {
        .id = to->id, .command = to->command, .size = WB_HEADER + size,
        .flags = error ? REPLY | ERROR : REPLY, .error = (uint32_t)error,
    };
    int result;

    if (to->flags & NO_REPLY)
        return 0;
    memcpy(device->out, &header, sizeof header);
    trace(device, 1, device->out, header.size, nfds);
    pthread_mutex_lock(&device->sending);
    result = wb_wire_send(talk->socket, device->out, header.size, fds, nfds);
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
    if (talk->tail != talk->head)
        memmove(device->in, device->in + talk->head, talk->tail - talk->head);
    talk->tail -= talk->head;
    talk->head = 0;
    talk->carried = talk->nfds;
    return result;
}

/* ---- receiving ---- */

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
    ssize_t n;
    int result = wait_readable(talk);

    if (result)
        return result;
    n = wb_wire_receive(talk->socket, talk->device->in + talk->tail, WB_IN_SIZE - talk->tail, talk->fds,
                        &talk->nfds);
    if (n > 0)
        talk->tail += (uint32_t)n;
    return n;
}

static int converse(struct conversation *talk)
{
    for (;;) {
        ssize_t n = receive(talk);
        int result = 0;

        if (n == -EAGAIN || n == -EWOULDBLOCK)
            result = wb_wire_wait(talk->socket, POLLIN, 0);
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
