/*
 * vu_client.c - asks a vfio-user server: connects, agrees on a version, one question at a time.
 *
 * Every question has a deadline. A server that misses it, hangs up or breaks the protocol is dead
 * from then on: the connection is shut and every later question fails at once, so that QEMU's big
 * lock is held up once and not for each access.
 */
#include "vu.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { REPLY_ROOM = 4096 };

/* ---- asking ---- */

/* Whether the reader thread is to receive; a connection that hangs up wakes it in any case. */
static void arm(struct wbp_client *client, int on)
{
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.u32 = WBP_ON_SOCKET};

    epoll_ctl(client->events, EPOLL_CTL_MOD, client->socket, &event);
}

static int send_call(struct wbp_client *client, const struct wbp_call *call, uint64_t deadline)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WBP_MAX_FDS * sizeof(int))];
    struct wbp_header header = {
        .id = ++client->id, .command = call->command, .size = WBP_HEADER + call->head_size + call->data_size,
    };
    struct iovec parts[3] = {
        {&header, sizeof header}, {(void *)call->head, call->head_size},
        {(void *)call->data, call->data_size},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};

    wb_scm_attach(&message, control, call->fds, call->nfds);
    return wbp_vu_send(client, &message, deadline);
}

static int wait_answer(struct wbp_client *client, uint64_t deadline)
{
    while (client->waiting) {
        int result = wbp_vu_step(client, 0);

        if (result && result != -EAGAIN && result != -EINTR)
            return result;
        if (client->waiting && wbp_clock() >= deadline)
            return -ETIMEDOUT;
    }
    return 0;
}

/* talk is held. A positive errno of the sending is the question's own fault: the next may go well. */
static int ask(struct wbp_client *client, struct wbp_call *call)
{
    uint64_t deadline = wbp_clock() + wbp_settings.timeout_ms;
    int result;

    arm(client, 0);
    client->waiting = call;
    client->deadline = deadline;
    result = send_call(client, call, deadline);
    if (!result)
        result = wait_answer(client, deadline);
    client->waiting = NULL;
    client->deadline = 0;
    if (result < 0) {
        wbp_vu_fail(client, result);
        return result == -ETIMEDOUT ? result : -EIO;
    }
    arm(client, 1);
    return result ? -result : client->result;
}

int wbp_client_call(struct wbp_client *client, struct wbp_call *call)
{
    int result = -EIO;

    call->fd = -1;
    call->size = 0;
    pthread_mutex_lock(&client->talk);
    if (!client->dead)
        result = ask(client, call);
    pthread_mutex_unlock(&client->talk);
    if (result && call->fd >= 0) {
        wbp_real.close(call->fd);
        call->fd = -1;
    }
    return result;
}

int wbp_client_dead(const struct wbp_client *client)
{
    return __atomic_load_n(&client->dead, __ATOMIC_ACQUIRE);
}

uint32_t wbp_client_max_fds(const struct wbp_client *client)
{
    return client->max_fds;
}

uint32_t wbp_client_max_data(const struct wbp_client *client)
{
    return client->max_data;
}

/* ---- descriptors to watch and to write ---- */

void wbp_client_resample(struct wbp_client *client, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = WBP_ON_RESAMPLE};
    int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);

    pthread_mutex_lock(&client->talk);
    if (client->resample >= 0) {
        epoll_ctl(client->events, EPOLL_CTL_DEL, client->resample, NULL);
        wbp_real.close(client->resample);
    }
    client->resample = kept;
    if (kept >= 0)
        epoll_ctl(client->events, EPOLL_CTL_ADD, kept, &event);
    pthread_mutex_unlock(&client->talk);
}

void wbp_client_on_death(struct wbp_client *client, int fd)
{
    int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);

    pthread_mutex_lock(&client->talk);
    if (client->on_death >= 0)
        wbp_real.close(client->on_death);
    client->on_death = kept;
    pthread_mutex_unlock(&client->talk);
}

/* ---- the version ---- */

/* A number of the capabilities; `otherwise` when they do not name it. */
static uint64_t number_of(const char *json, const char *key, uint64_t otherwise)
{
    const char *at = strstr(json, key);

    if (!at)
        return otherwise;
    at += strlen(key);
    at += strspn(at, " \t\r\n");
    if (*at++ != ':')
        return otherwise;
    at += strspn(at, " \t\r\n");
    return *at >= '0' && *at <= '9' ? strtoull(at, NULL, 10) : otherwise;
}

static int negotiate(struct wbp_client *client)
{
    static const char wish[] = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}";
    uint16_t ours[2] = {0, 1}, theirs[2];
    char reply[REPLY_ROOM + 1];
    struct wbp_call call = {
        .command = WBP_VERSION, .head = ours, .head_size = sizeof ours,
        .data = wish, .data_size = sizeof wish, .reply = theirs, .reply_room = sizeof theirs,
        .more = reply, .more_room = REPLY_ROOM,
    };
    uint64_t fds, data;
    int result = wbp_client_call(client, &call);

    if (result)
        return result;
    if (call.size < sizeof theirs || call.size > sizeof theirs + REPLY_ROOM || theirs[0] != ours[0])
        return -EPROTO;
    reply[call.size - sizeof theirs] = 0;
    fds = number_of(reply, "\"max_msg_fds\"", 1);
    data = number_of(reply, "\"max_data_xfer_size\"", WBP_MAX_DATA);
    if (!data)
        return -EPROTO;
    client->max_fds = fds > WBP_MAX_FDS ? WBP_MAX_FDS : fds ? (uint32_t)fds : 1;
    client->max_data = data > WBP_MAX_DATA ? WBP_MAX_DATA : (uint32_t)data;
    wbp_log("%s: connected, version %u.%u, %u descriptors and %u bytes in a message", client->path, theirs[0],
            theirs[1], client->max_fds, client->max_data);
    return 0;
}

/* ---- connections ---- */

/* Half of the deadline at a time, so that a wait ends soon after it. */
static void set_timeouts(int socket)
{
    uint64_t half = wbp_settings.timeout_ms / 2 + 1;
    struct timeval wait = {.tv_sec = (time_t)(half / 1000), .tv_usec = (suseconds_t)(half % 1000 * 1000)};

    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
}

static int connect_to(struct wbp_client *client)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(client->path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    strcpy(address.sun_path, client->path);
    client->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->socket < 0)
        return -errno;
    set_timeouts(client->socket);
    while (connect(client->socket, (struct sockaddr *)&address, sizeof address))
        if (errno != EINTR)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
    return 0;
}

static int watch(struct wbp_client *client)
{
    struct epoll_event on_socket = {.data.u32 = WBP_ON_SOCKET};
    struct epoll_event on_wake = {.events = EPOLLIN, .data.u32 = WBP_ON_WAKE};

    client->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    client->events = epoll_create1(EPOLL_CLOEXEC);
    if (client->wake < 0 || client->events < 0 ||
        epoll_ctl(client->events, EPOLL_CTL_ADD, client->socket, &on_socket) ||
        epoll_ctl(client->events, EPOLL_CTL_ADD, client->wake, &on_wake))
        return -errno;
    return 0;
}

struct wbp_client *wbp_client_open(const char *path, struct wbp_maps *maps, int *error)
{
    struct wbp_client *client = calloc(1, sizeof *client);

    *error = -ENOMEM;
    if (!client)
        return NULL;
    client->socket = client->events = client->wake = client->resample = client->on_death = -1;
    pthread_mutex_init(&client->talk, NULL);
    client->path = path;
    client->maps = maps;
    client->in = malloc(WBP_IN_SIZE);
    client->out = malloc(WBP_MAX_MESSAGE);
    if (client->in && client->out) {
        *error = connect_to(client);
        if (!*error)
            *error = watch(client);
        if (!*error)
            *error = negotiate(client);
        if (!*error)
            *error = wbp_vu_start(client);
    }
    if (*error) {
        wbp_client_close(client);
        return NULL;
    }
    return client;
}

void wbp_client_close(struct wbp_client *client)
{
    int fds[] = {client->socket, client->events, client->wake, client->resample, client->on_death};

    __atomic_store_n(&client->closing, 1, __ATOMIC_RELEASE);
    if (client->has_reader) {
        eventfd_write(client->wake, 1);
        shutdown(client->socket, SHUT_RDWR);
        pthread_join(client->reader, NULL);
    }
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            wbp_real.close(fds[i]);
    for (uint32_t i = 0; i < client->nfds; i++)
        wbp_real.close(client->fds[i]);
    pthread_mutex_destroy(&client->talk);
    free(client->in);
    free(client->out);
    free(client);
}
