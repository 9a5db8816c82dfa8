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
#include "talk.h"

#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TYPE = 0xf, REPLY = 1, NO_REPLY = 0x10, ERROR = 0x20 };

struct header {
    uint16_t id, command;
    uint32_t size, flags, error;
};

static void drop_fds(struct wb_talk *talk, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        close(talk->fds[i]);
}

static void forget_fds(struct wb_talk *talk, uint32_t count)
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

static void release(struct wb_talk *talk)
{
    if (talk->sending)
        pthread_mutex_unlock(&talk->device->sending);
    talk->sending = 0;
}

/* Offers the client what is left of the reply: 0 or -errno. One that is begun is ended before others send. */
static int flush(struct wb_talk *talk)
{
    wb_device *device = talk->device;
    ssize_t n;

    if (!talk->sending && pthread_mutex_trylock(&device->sending))
        return 0;
    talk->sending = 1;
    n = wb_wire_offer(talk->socket, device->out + talk->sent, talk->left, talk->reply_fds, talk->reply_nfds);
    if (n > 0) {
        talk->sent += (uint32_t)n;
        talk->left -= (uint32_t)n;
        talk->reply_nfds = 0;
    }
    if (n < 0 || !talk->left || !talk->sent)
        release(talk);
    return n < 0 ? (int)n : 0;
}

/* The payload lies behind the header's place in device->out already. */
static int reply(struct wb_talk *talk, const struct header *to, uint32_t size, const int *fds, uint32_t nfds,
                 int error)
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
    if (device->waker >= 0) {
        talk->sent = 0;
        talk->left = header.size;
        talk->reply_nfds = nfds;
        if (nfds)
            memcpy(talk->reply_fds, fds, nfds * sizeof *fds);
        return flush(talk);
    }
    pthread_mutex_lock(&device->sending);
    result = wb_wire_send(talk->socket, device->out, header.size, fds, nfds);
    pthread_mutex_unlock(&device->sending);
    return result;
}

/* Refuses a message: leaves a record and answers with a bare Error. */
static int refuse(struct wb_talk *talk, const struct header *header, int error)
{
    wb_lock(talk->device);
    wb_event_locked(talk->device, WB_KIND_ERROR, WB_GUEST, header->command, (uint64_t)error);
    wb_unlock(talk->device);
    return reply(talk, header, 0, NULL, 0, error);
}

/* ---- serving ---- */

/* An answer to something we asked, or that nobody waits for any more: QEMU sends such, too. */
static void take_reply(struct wb_talk *talk, const struct header *header)
{
    uint32_t error = header->flags & ERROR ? header->error ? header->error : EIO : 0;

    wb_peer_reply(talk->device, header->id, error, talk->device->in + talk->head + WB_HEADER,
                  header->size - WB_HEADER);
}

static int serve_message(struct wb_talk *talk, const struct header *header, uint32_t nfds)
{
    wb_device *device = talk->device;
    struct wb_request request = {
        .command = header->command, .flags = header->flags, .size = header->size - WB_HEADER,
        .payload = device->in + talk->head + WB_HEADER, .fds = talk->fds, .nfds = nfds,
        .reply = device->out + WB_HEADER, .done = talk->done, .most = talk->most,
    };
    int result, sent;

    if (device->accepted && (header->flags & TYPE) == REPLY) {
        take_reply(talk, header);
        drop_fds(talk, nfds);
        forget_fds(talk, nfds);
        return 0;
    }
    result = header->flags & TYPE ? EINVAL : wb_request_run(device, &request);
    talk->parked = request.parked == WB_AT_GATE;
    talk->more = request.parked == WB_GIVES_WAY;
    talk->done = request.parked ? request.done : 0;
    talk->most = request.most;
    if (request.parked)                     /* an access: it came without descriptors */
        return 0;
    drop_fds(talk, request.nfds);
    forget_fds(talk, nfds);
    if (!result)
        return reply(talk, header, request.reply_size, request.reply_fds, request.reply_nfds, 0);
    sent = refuse(talk, header, result);
    return request.fatal ? -EPROTO : sent;
}

/* The message at head: 0, or a negative errno. */
static int serve_one(struct wb_talk *talk, const struct header *header)
{
    wb_device *device = talk->device;
    uint32_t nfds = talk->tail - talk->head == header->size ? talk->nfds : talk->carried;
    int result;

    if (device->turn % 2 == 0) {            /* else it was put back, and its turn goes on */
        wb_turn_begin(device);
        trace(device, 0, device->in + talk->head, header->size, nfds);
    }
    result = serve_message(talk, header, nfds);
    if (talk->parked || talk->more)
        return 0;
    talk->head += header->size;
    if (!talk->left)
        wb_turn_end(device);
    return result;
}

/* Serves the complete messages between head and tail, until one has to wait or others have their turn. */
static int serve_received(struct wb_talk *talk)
{
    wb_device *device = talk->device;
    struct header header;
    int result = 0;

    talk->more = 0;
    talk->most = device->waker >= 0 ? WB_TALK_FAIR : UINT32_MAX;
    while (!result && !wb_talk_waits(talk)) {
        if (talk->tail - talk->head < WB_HEADER) {
            talk->carried = talk->nfds;
            break;
        }
        memcpy(&header, device->in + talk->head, sizeof header);
        if (header.size < WB_HEADER || header.size > WB_MAX_MESSAGE) {
            trace(device, 0, device->in + talk->head, WB_HEADER, talk->nfds);
            refuse(talk, &header, EINVAL);
            return -EPROTO;
        }
        if (talk->tail - talk->head < header.size) {
            talk->carried = talk->nfds;
            break;
        }
        talk->more = !talk->most;
        if (talk->more)
            break;
        talk->most--;
        result = serve_one(talk, &header);
    }
    if (talk->tail != talk->head)
        memmove(device->in, device->in + talk->head, talk->tail - talk->head);
    talk->tail -= talk->head;
    talk->head = 0;
    return result;
}

/* ---- steps ---- */

int wb_talk_take(struct wb_talk *talk, int flags)
{
    uint32_t room = WB_IN_SIZE - talk->tail, before = talk->nfds;
    ssize_t n = wb_wire_receive(talk->socket, talk->device->in + talk->tail, room, talk->fds, &talk->nfds,
                                flags);
    int result;

    talk->cut = n == room || talk->nfds > before;
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n <= 0)
        return n ? (int)n : -EPIPE;
    talk->tail += (uint32_t)n;
    result = serve_received(talk);
    return result ? result : 1;
}

/*
 * Doorbells come after the messages that were there by then, as the guest may have sent those before: also
 * after those behind what ended a recvmsg early. 0 or a negative errno.
 */
static int ring(struct wb_talk *talk)
{
    while (talk->rung && talk->cut && !wb_talk_waits(talk)) {
        int result = wb_talk_take(talk, MSG_DONTWAIT);

        if (result < 0)
            return result;
        if (talk->cut && talk->device->waker >= 0 && !wb_talk_waits(talk))
            talk->more = 1;             /* others have their turn first */
    }
    if (talk->rung && !wb_talk_waits(talk))
        talk->parked = !wb_doorbell_ring(talk->device, &talk->rung);
    return 0;
}

int wb_talk_resume(struct wb_talk *talk)
{
    int result;

    talk->parked = 0;
    result = serve_received(talk);
    if (!result)
        result = ring(talk);
    return result ? result : 1;
}

uint32_t wb_talk_watch(struct wb_talk *talk, struct pollfd *ready)
{
    wb_device *device = talk->device;
    int unmask = __atomic_load_n(&device->unmask_fd, __ATOMIC_RELAXED);
    uint32_t bells = 0;

    talk->watched = talk->parked ? 0 : 1;
    if (talk->parked)
        return 0;
    ready[0] = (struct pollfd){.fd = talk->socket, .events = talk->left ? POLLOUT : POLLIN};
    ready[1] = (struct pollfd){.fd = unmask, .events = POLLIN};
    if (talk->left)
        return 1;
    if (__atomic_load_n(&device->doorbell_count, __ATOMIC_RELAXED))
        bells = wb_doorbell_poll(device, ready + 2);
    talk->watched = unmask < 0 && !bells ? 1 : 2 + bells;
    return talk->watched;
}

/* What is left of the reply, and then the messages behind the one it answers. */
static int go_on(struct wb_talk *talk)
{
    int result = flush(talk);

    if (result || talk->left)
        return result;
    wb_turn_end(talk->device);
    return wb_talk_resume(talk);
}

/* Nothing is received behind messages that are left: descriptors that came belong to the last of them. */
int wb_talk_step(struct wb_talk *talk, struct pollfd *ready)
{
    int result = 0;

    if (talk->left)
        return ready[0].revents ? go_on(talk) : 0;
    if (talk->watched > 1 && ready[1].revents)
        wb_irq_poll_unmask(talk->device);
    if (talk->more)
        return 0;
    if (talk->watched > 2)
        talk->rung = wb_doorbell_take(talk->device, ready + 2, talk->watched - 2);
    if (ready[0].revents || talk->rung)
        result = wb_talk_take(talk, MSG_DONTWAIT);
    if (result < 0 || !talk->rung)
        return result;
    result = ring(talk);
    return result ? result : 1;
}

/* ---- a thread of its own ---- */

/* Awake: looks; else waits. Where there is nothing but the socket to wait for, recvmsg does it by itself. */
static int look(struct wb_talk *talk, struct pollfd *ready, int awake)
{
    int result;

    if (wb_talk_watch(talk, ready) == 1) {
        result = wb_talk_take(talk, awake ? MSG_DONTWAIT : 0);
        return result || awake ? result : wb_wire_wait(talk->socket, POLLIN, 0);
    }
    result = poll(ready, talk->watched, awake ? 0 : -1);
    if (result <= 0)
        return result && errno != EINTR ? -errno : 0;
    result = wb_talk_step(talk, ready);
    return result < 0 ? result : 1;
}

static int converse(struct wb_talk *talk)
{
    struct pollfd ready[WB_TALK_FDS];
    uint64_t until = 0;

    for (uint32_t tries = 1;; tries++) {
        uint64_t spin = __atomic_load_n(&talk->device->spin, __ATOMIC_RELAXED);
        int awake = spin && wb_clock() < until;
        int result = look(talk, ready, awake);

        if (result < 0)
            return result;
        if (result && spin)
            until = wb_clock() + spin;
        else if (awake && tries % WB_TALK_YIELD == 0)
            sched_yield();
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

int wb_talk_begin(struct wb_talk *talk, pthread_t server, int waker)
{
    int result = enter(talk->device);

    if (!result)
        wb_peer_begin(talk->device, talk->socket, server, waker);
    return result;
}

void wb_talk_drop(struct wb_talk *talk)
{
    release(talk);
    talk->left = 0;
}

int wb_talk_end(struct wb_talk *talk, int result)
{
    wb_device *device = talk->device;

    wb_peer_end(device);
    if (device->turn % 2)
        wb_turn_end(device);
    /* A client that is gone is no failure, however the socket tells it. */
    if (result == -EPIPE || result == -ECONNRESET)
        result = 0;
    drop_fds(talk, talk->nfds);
    wb_doorbell_clear(device);
    wb_dma_forget(device);
    leave(device, result);
    return result;
}

int wb_serve(wb_device *device, int socket)
{
    struct wb_talk talk = {.device = device, .socket = socket};
    int result = wb_talk_begin(&talk, pthread_self(), -1);

    return result ? result : wb_talk_end(&talk, converse(&talk));
}

void wb_serve_poll(wb_device *device, uint32_t microseconds)
{
    __atomic_store_n(&device->spin, microseconds * UINT64_C(1000), __ATOMIC_RELAXED);
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
