/*
 * peer.c - what the server asks of the client: DMA_READ and DMA_WRITE of memory it did not share.
 *
 * Any thread but the serving one may ask: it sends under the send lock, which replies to the guest
 * take too, and waits. The serving loop takes every answer off the socket and finds the question by
 * its id; answers that nobody waits for any more are dropped. Nothing is pinned meanwhile: whether
 * the range is still mapped is looked up under the send lock, so that no question follows the reply
 * to its DMA_UNMAP.
 *
 * QEMU cuts off the answer to a long DMA_READ, and a reply to the guest waits behind a long
 * DMA_WRITE: hence the two sizes below.
 */
#include "dmafile.h"

#include <stdlib.h>
#include <sys/socket.h>

enum { DMA_READ = 11, DMA_WRITE = 12, READ_CHUNK = 32768, WRITE_CHUNK = 131072 };

enum state { WAITING, TAKEN, DONE };    /* taken: the serving thread copies the answer */

struct wb_ask {                 /* on the stack of who waits for it */
    struct wb_ask *next;
    uint16_t id;
    enum state state;
    uint8_t *to;                /* NULL: a DMA_WRITE */
    uint64_t size;
    int result;
};

struct dma_message {
    uint16_t id, command;
    uint32_t size, flags, error;
    uint64_t iova, count;
};

/* ---- questions ---- */

static struct wb_ask *find_locked(const wb_device *device, uint16_t id)
{
    struct wb_ask *ask = device->asks;

    while (ask && ask->id != id)
        ask = ask->next;
    return ask;
}

static void add_locked(wb_device *device, struct wb_ask *ask)
{
    do
        ask->id = ++device->asked;
    while (find_locked(device, ask->id));
    ask->next = device->asks;
    device->asks = ask;
}

static void remove_locked(wb_device *device, const struct wb_ask *ask)
{
    struct wb_ask **link = &device->asks;

    while (*link != ask)
        link = &(*link)->next;
    *link = ask->next;
}

static void trace(wb_device *device, const struct dma_message *header, const uint8_t *data)
{
    uint8_t *message;

    if (!__atomic_load_n(&device->tracing, __ATOMIC_RELAXED) || !device->upcalls.trace)
        return;
    message = malloc(header->size);
    if (!message)
        return;
    memcpy(message, header, sizeof *header);
    if (header->size > sizeof *header)
        memcpy(message + sizeof *header, data, header->size - sizeof *header);
    device->upcalls.trace(device->upcalls.context, 1, message, header->size, 0);
    free(message);
}

/* -EFAULT when the client has unmapped it, or that the conversation is over. */
static int check_locked(wb_device *device, const struct dma_message *message, uint32_t access)
{
    struct wb_range *range;
    int result = device->socket < 0 ? -ENOTCONN : wb_range_get_locked(device, message->iova, access, &range);

    if (!result && message->count > range->at.size - (message->iova - range->at.iova))
        result = -EFAULT;
    return device->halted & WB_HALT_STOP ? -ESHUTDOWN : result;
}

/* For who sends: a reply may be under way that the client does not take. */
static int lock_sending(wb_device *device, uint64_t deadline)
{
    uint64_t now = wb_clock(), until = deadline > now ? deadline - now : 0;
    struct timespec wall;

    if (!pthread_mutex_trylock(&device->sending))
        return 0;
    clock_gettime(CLOCK_REALTIME, &wall);
    until += (uint64_t)wall.tv_nsec;
    wall.tv_sec += (time_t)(until / 1000000000u);
    wall.tv_nsec = (long)(until % 1000000000u);
    return -pthread_mutex_timedlock(&device->sending, &wall);
}

/* Puts the message on the wire, as one. A client that took a part of it only has lost its place. */
static int send_message(wb_device *device, struct dma_message *message, const uint8_t *data, uint32_t access,
                        uint64_t deadline)
{
    struct iovec parts[2] = {
        {message, sizeof *message}, {(void *)(uintptr_t)data, data ? message->count : 0},
    };
    struct msghdr whole = {.msg_iov = parts, .msg_iovlen = data ? 2 : 1};
    int result = lock_sending(device, deadline);

    if (result)
        return result;
    wb_lock(device);
    result = check_locked(device, message, access);
    wb_unlock(device);
    if (!result)
        result = wb_wire_deliver(device->socket, &whole, deadline);
    pthread_mutex_unlock(&device->sending);
    return result == -EPIPE ? -ECONNRESET : result;
}

static int wait_locked(wb_device *device, const struct wb_ask *ask, uint64_t until)
{
    struct timespec deadline = wb_clock_timespec(until);

    while (ask->state == WAITING
           && pthread_cond_timedwait(&device->answered, &device->lock, &deadline) != ETIMEDOUT)
        ;
    while (ask->state == TAKEN)
        pthread_cond_wait(&device->answered, &device->lock);
    return ask->state == DONE ? ask->result : -ETIMEDOUT;
}

/* One message and its answer. */
static int ask_client(wb_device *device, uint64_t iova, uint8_t *to, const uint8_t *from, uint32_t size)
{
    struct wb_ask ask = {.to = to, .size = size};
    struct dma_message message = {
        .command = to ? DMA_READ : DMA_WRITE, .iova = iova, .count = size,
        .size = (uint32_t)sizeof message + (to ? 0 : size),
    };
    uint64_t deadline;
    int result;

    wb_lock(device);
    add_locked(device, &ask);
    deadline = wb_clock() + device->patience * UINT64_C(1000000);
    wb_unlock(device);
    message.id = ask.id;
    trace(device, &message, from);
    result = send_message(device, &message, from, to ? WB_DMA_READABLE : WB_DMA_WRITABLE, deadline);
    wb_lock(device);
    if (!result)
        result = wait_locked(device, &ask, deadline);
    while (ask.state == TAKEN)              /* an answer to what was not sent: a guess of the client's */
        pthread_cond_wait(&device->answered, &device->lock);
    remove_locked(device, &ask);
    wb_unlock(device);
    return result;
}

int wb_peer_copy(wb_device *device, uint64_t iova, uint8_t *to, const uint8_t *from, uint64_t size)
{
    uint32_t chunk = to ? READ_CHUNK : WRITE_CHUNK;
    int result = 0;

    wb_lock(device);
    if (chunk > device->max_transfer)
        chunk = device->max_transfer;
    wb_unlock(device);
    for (uint64_t done = 0, n; !result && done < size; done += n) {
        n = size - done < chunk ? size - done : chunk;
        result = ask_client(device, iova + done, to ? to + done : NULL, from ? from + done : NULL,
                            (uint32_t)n);
    }
    return result;
}

int wb_peer_read(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size)
{
    int result;

    wb_lock(device);
    result = wb_peer_check_locked(device);
    if (!(wb_command_locked(device, WB_PCI_COMMAND_MASTER) & WB_PCI_COMMAND_MASTER))
        result = -EACCES;
    wb_unlock(device);
    return result ? result : wb_peer_copy(device, iova, bytes, NULL, size);
}

void wb_peer_patience(wb_device *device, uint32_t milliseconds)
{
    wb_lock(device);
    device->patience = milliseconds;
    wb_unlock(device);
}

/* ---- answers, on the serving thread ---- */

static int check_reply(const struct wb_ask *ask, uint32_t error, const uint8_t *payload, uint32_t size)
{
    uint64_t count;

    if (error)
        return -EREMOTEIO;
    if (!ask->to)
        return 0;
    if (size < 16 || size - 16 < ask->size)
        return -EPROTO;
    memcpy(&count, payload + 8, sizeof count);
    return count == ask->size ? 0 : -EPROTO;
}

void wb_peer_reply(wb_device *device, uint16_t id, uint32_t error, const uint8_t *payload, uint32_t size)
{
    struct wb_ask *ask;

    wb_lock(device);
    ask = find_locked(device, id);
    if (ask && ask->state == WAITING) {
        ask->state = TAKEN;
        ask->result = check_reply(ask, error, payload, size);
        if (!ask->result && ask->to) {
            wb_unlock(device);
            memcpy(ask->to, payload + 16, ask->size);
            wb_lock(device);
        }
        ask->state = DONE;
        pthread_cond_broadcast(&device->answered);
    }
    wb_unlock(device);
}

/* ---- the conversation ---- */

int wb_peer_check_locked(wb_device *device)
{
    if (device->socket < 0)
        return -ENOTCONN;
    return pthread_equal(device->server, pthread_self()) ? -EDEADLK : 0;
}

void wb_peer_begin(wb_device *device, int socket, pthread_t server, int waker)
{
    pthread_mutex_lock(&device->sending);
    wb_lock(device);
    device->server = server;
    device->socket = socket;
    device->waker = waker;
    wb_unlock(device);
    pthread_mutex_unlock(&device->sending);
}

void wb_peer_end(wb_device *device)
{
    pthread_mutex_lock(&device->sending);
    wb_lock(device);
    device->socket = device->waker = -1;
    device->at_gate = device->aside = 0;
    for (struct wb_ask *ask = device->asks; ask; ask = ask->next) {
        if (ask->state == WAITING) {
            ask->state = DONE;
            ask->result = -ECONNRESET;
        }
    }
    pthread_cond_broadcast(&device->answered);
    wb_unlock(device);
    pthread_mutex_unlock(&device->sending);
}
