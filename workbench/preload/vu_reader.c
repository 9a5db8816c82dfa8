/*
 * vu_reader.c - what comes from a server: answers, and its own questions about the guest's memory.
 *
 * Who waits for an answer receives it itself, and answers what the server asks meanwhile; that
 * saves a change of threads for each access. While nobody waits, the reader thread does it. The
 * socket's place in the epoll set says whose turn it is: without events while somebody waits.
 *
 * The kernel ends a recvmsg behind the bytes that carried descriptors, so those of one recvmsg
 * belong to the message that contains its last byte.
 */
#include "vu.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STACK = 256 * 1024 };

/* ---- descriptors ---- */

static void drop_fds(struct wbp_client *client, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (client->fds[i] >= 0)
            wbp_real.close(client->fds[i]);
    client->nfds -= count;
    client->carried = 0;
    memmove(client->fds, client->fds + count, client->nfds * sizeof *client->fds);
}

/* ---- sending ---- */

/* 0; a positive errno when nothing was sent and the next message may be; or a negative one. */
int wbp_vu_send(struct wbp_client *client, struct msghdr *message, uint64_t deadline)
{
    int begun = 0;

    for (size_t left = 1; left;) {
        ssize_t n = sendmsg(client->socket, message, MSG_NOSIGNAL);

        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            if (wbp_clock() >= deadline)
                return -ETIMEDOUT;
            continue;
        }
        if (n < 0)
            return begun || errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? -errno : errno;
        begun = 1;
        left = wb_scm_advance(message, (size_t)n);
    }
    return 0;
}

/*
 * The payload lies behind the header's place in client->out already. Who waits for an answer waits no longer
 * for the server's own questions, however many those are.
 */
static int answer(struct wbp_client *client, const struct wbp_header *to, uint32_t size, int error)
{
    struct wbp_header header = {
        .id = to->id, .command = to->command, .size = WBP_HEADER + (error ? 0 : size),
        .flags = error ? WBP_REPLY | WBP_ERROR : WBP_REPLY, .error = (uint32_t)error,
    };
    struct iovec whole = {client->out, header.size};
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1};
    uint64_t now = wbp_clock();
    uint64_t deadline = client->deadline ? client->deadline : now + wbp_settings.timeout_ms;
    int result;

    if (now >= deadline)
        return -ETIMEDOUT;
    if (error)
        wbp_log("%s: command %u of the server refused: %s", client->path, to->command, strerror(error));
    if (to->flags & WBP_NO_REPLY)
        return 0;
    memcpy(client->out, &header, sizeof header);
    result = wbp_vu_send(client, &message, deadline);
    return result > 0 ? -result : result;
}

/* ---- the server's questions ---- */

static int serve_dma(struct wbp_client *client, const struct wbp_header *header, const uint8_t *payload)
{
    int write = header->command == WBP_DMA_WRITE;
    uint32_t size = header->size - WBP_HEADER;
    uint8_t *out = client->out + WBP_HEADER;
    uint64_t place[2];          /* address, count */
    int result;

    if (size < sizeof place)
        return answer(client, header, 0, EINVAL);
    memcpy(place, payload, sizeof place);
    if (place[1] > WBP_MAX_DATA || (write && place[1] > size - sizeof place))
        return answer(client, header, 0, E2BIG);
    memcpy(out, place, sizeof place);
    if (write)
        memcpy(out + sizeof place, payload + sizeof place, place[1]);
    result = wbp_maps_copy(client->maps, place[0], out + sizeof place, place[1], write);
    return answer(client, header, sizeof place + (write ? 0 : (uint32_t)place[1]), -result);
}

static int serve_command(struct wbp_client *client, const struct wbp_header *header, uint32_t nfds)
{
    const uint8_t *payload = client->in + client->head + WBP_HEADER;

    if (nfds)
        return answer(client, header, 0, EINVAL);
    if (header->command == WBP_DMA_READ || header->command == WBP_DMA_WRITE)
        return serve_dma(client, header, payload);
    return answer(client, header, 0, ENOSYS);
}

/* ---- answers ---- */

static void take_answer(struct wbp_client *client, const struct wbp_header *header, uint32_t nfds)
{
    const uint8_t *payload = client->in + client->head + WBP_HEADER;
    uint32_t size = header->size - WBP_HEADER, first, rest;
    struct wbp_call *call = client->waiting;

    if (!call || header->id != client->id || header->command != call->command) {
        wbp_log("%s: an answer nobody waits for: id %u, command %u", client->path, header->id,
                header->command);
        return;
    }
    client->waiting = NULL;
    if (header->flags & WBP_ERROR) {
        client->result = header->error && header->error < 4096 ? -(int)header->error : -EIO;
        return;
    }
    if (nfds > call->wants_fd) {
        wbp_log("%s: an answer to command %u with %u descriptors", client->path, header->command, nfds);
        client->result = -EPROTO;
        return;
    }
    first = size < call->reply_room ? size : call->reply_room;
    rest = size - first < call->more_room ? size - first : call->more_room;
    if (first)
        memcpy(call->reply, payload, first);
    if (rest)
        memcpy(call->more, payload + first, rest);
    call->size = size;
    if (nfds) {
        call->fd = client->fds[0];
        client->fds[0] = -1;
    }
    client->result = 0;
}

/* ---- receiving ---- */

static int handle_received(struct wbp_client *client)
{
    struct wbp_header header;
    int result = 0;

    while (!result && client->tail - client->head >= WBP_HEADER) {
        uint32_t rest = client->tail - client->head, nfds;

        memcpy(&header, client->in + client->head, sizeof header);
        if (header.size < WBP_HEADER || header.size > WBP_MAX_MESSAGE ||
            (header.flags & WBP_TYPE) > WBP_REPLY)
            return -EPROTO;
        if (rest < header.size)
            break;
        nfds = rest == header.size ? client->nfds : client->carried;
        if ((header.flags & WBP_TYPE) == WBP_REPLY)
            take_answer(client, &header, nfds);
        else
            result = serve_command(client, &header, nfds);
        drop_fds(client, nfds);
        client->head += header.size;
    }
    if (client->tail > client->head)
        memmove(client->in, client->in + client->head, client->tail - client->head);
    client->tail -= client->head;
    client->head = 0;
    client->carried = client->nfds;
    return result;
}

int wbp_vu_step(struct wbp_client *client, int flags)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WB_SCM_MAX * sizeof(int)) + CMSG_SPACE(64)];
    struct iovec vector = {client->in + client->tail, WBP_IN_SIZE - client->tail};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
    };
    ssize_t n = recvmsg(client->socket, &message, flags | MSG_CMSG_CLOEXEC);
    int result;

    if (n < 0)
        return -errno;
    result = wb_scm_take(&message, client->fds, &client->nfds, wbp_real.close);
    if (result)
        return result;
    if (!n)
        return -EPIPE;
    client->tail += (uint32_t)n;
    return handle_received(client);
}

void wbp_vu_fail(struct wbp_client *client, int error)
{
    uint64_t one = 1;

    drop_fds(client, client->nfds);
    if (__atomic_exchange_n(&client->dead, 1, __ATOMIC_ACQ_REL))
        return;
    shutdown(client->socket, SHUT_RDWR);
    if (__atomic_load_n(&client->closing, __ATOMIC_ACQUIRE))
        return;
    wbp_say("%s: %s; the device is gone, its registers read as all ones", client->path,
            error == -EPIPE || error == -ECONNRESET ? "the server closed the connection" :
            error == -ETIMEDOUT ? "the server does not answer" :
            error == -EPROTO ? "the server broke the protocol" : strerror(-error));
    if (client->on_death >= 0 && write(client->on_death, &one, sizeof one) < 0)
        wbp_log("%s: could not ask QEMU to stop", client->path);
}

/* ---- the thread ---- */

static void on_socket(struct wbp_client *client)
{
    int result;

    pthread_mutex_lock(&client->talk);
    if (!client->dead) {
        result = wbp_vu_step(client, MSG_DONTWAIT);
        if (result && result != -EAGAIN && result != -EINTR)
            wbp_vu_fail(client, result);
    }
    pthread_mutex_unlock(&client->talk);
}

/* KVM saw the guest acknowledge INTx: the server may raise it again. */
static void on_resample(struct wbp_client *client)
{
    uint32_t unmask[5] = {20, 1 | 1 << 4, 0, 0, 1};     /* argsz, NONE | UNMASK, index, start, count */
    struct wbp_call call = {.command = WBP_SET_IRQS, .head = unmask, .head_size = sizeof unmask};
    struct pollfd ready = {.events = POLLIN};
    uint64_t value;
    int rang;

    pthread_mutex_lock(&client->talk);
    ready.fd = client->resample;
    rang = ready.fd >= 0 && poll(&ready, 1, 0) == 1 && read(ready.fd, &value, sizeof value) == sizeof value;
    pthread_mutex_unlock(&client->talk);
    if (rang && wbp_client_call(client, &call))
        wbp_log("%s: INTx could not be unmasked", client->path);
}

static void *run(void *argument)
{
    struct wbp_client *client = argument;
    struct epoll_event events[3];

    for (;;) {
        int n = epoll_wait(client->events, events, 3, -1);

        if (__atomic_load_n(&client->closing, __ATOMIC_ACQUIRE) ||
            __atomic_load_n(&client->dead, __ATOMIC_ACQUIRE) || (n < 0 && errno != EINTR))
            return NULL;
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == WBP_ON_SOCKET)
                on_socket(client);
            else if (events[i].data.u32 == WBP_ON_RESAMPLE)
                on_resample(client);
        }
    }
}

/* Signals are for QEMU's own threads. */
int wbp_vu_start(struct wbp_client *client)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    int result;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&client->reader, &attributes, run, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    client->has_reader = !result;
    return -result;
}
