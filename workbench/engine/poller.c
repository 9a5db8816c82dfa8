/*
 * poller.c - one thread that answers the clients of several devices.
 *
 * Who calls wb_poller_serve() hands a conversation over and waits for its end; the thread in
 * wb_poller_run() steps all of them and waits for none: what cannot go on is put aside (talk.h). While
 * messages come, and for `spin` ns after the last, it looks again and again instead of sleeping.
 *
 * The poller's lock guards who arrives and who is over. It is not held while a device is stepped, and no
 * device's lock is held while it is taken.
 */
#include "talk.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FAVOUR = 4,                 /* looks at whoever was served last, before one at all of them */
    EVENTS = 64
};

struct wb_poller {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    int running, stopped;
    struct wb_talk *arrived;
    uint32_t count;             /* conversations, those that arrived included */

    int wake;                   /* eventfd: somebody arrived, a gate has news, or stop */
    uint64_t spin;
    struct wb_talk *talks;      /* from here on: the thread's own */
    struct wb_talk *last;       /* who was served */
    int set;                    /* epoll: `wake`, and whoever waits for the socket alone */
    int polled, more;           /* so many wait for more than it; messages are left with one */
    struct epoll_event events[EVENTS];
    struct pollfd ready[1 + WB_MAX_POLLED * WB_TALK_FDS];
};

static int open_files(wb_poller *poller)
{
    struct epoll_event wake = {.events = EPOLLIN};

    poller->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    poller->set = epoll_create1(EPOLL_CLOEXEC);
    return poller->wake >= 0 && poller->set >= 0
           && !epoll_ctl(poller->set, EPOLL_CTL_ADD, poller->wake, &wake);
}

wb_poller *wb_poller_new(uint32_t spin_us)
{
    wb_poller *poller = calloc(1, sizeof *poller);

    if (!poller)
        return NULL;
    poller->spin = spin_us * UINT64_C(1000);
    if (open_files(poller) && !pthread_mutex_init(&poller->lock, NULL)
        && !pthread_cond_init(&poller->changed, NULL))
        return poller;
    wb_poller_free(poller);
    return NULL;
}

void wb_poller_free(wb_poller *poller)
{
    if (!poller)
        return;
    /*
     * Lock and condition hold nothing, and destroying the latter would wait for threads a fork left behind.
     */
    if (poller->wake >= 0)
        close(poller->wake);
    if (poller->set >= 0)
        close(poller->set);
    free(poller);
}

void wb_poller_stop(wb_poller *poller)
{
    pthread_mutex_lock(&poller->lock);
    poller->stopped = 1;
    pthread_cond_broadcast(&poller->changed);
    eventfd_write(poller->wake, 1);
    pthread_mutex_unlock(&poller->lock);
}

/* ---- who hands over a conversation ---- */

/* A place among them, once there is a thread: it is who must not wait for the client's answers. */
static int reserve(wb_poller *poller, pthread_t *thread)
{
    int result;

    pthread_mutex_lock(&poller->lock);
    while (!poller->running && !poller->stopped)
        pthread_cond_wait(&poller->changed, &poller->lock);
    result = poller->stopped ? -ESHUTDOWN : poller->count == WB_MAX_POLLED ? -ENOSPC : 0;
    if (!result)
        poller->count++;
    *thread = poller->thread;
    pthread_mutex_unlock(&poller->lock);
    return result;
}

static int hand_over(wb_poller *poller, struct wb_talk *talk)
{
    pthread_mutex_lock(&poller->lock);
    talk->over = poller->stopped;
    talk->result = -ESHUTDOWN;
    if (!talk->over) {
        talk->next = poller->arrived;
        poller->arrived = talk;
        eventfd_write(poller->wake, 1);
    }
    while (!talk->over)
        pthread_cond_wait(&poller->changed, &poller->lock);
    pthread_mutex_unlock(&poller->lock);
    return talk->result;
}

static void give_back(wb_poller *poller)
{
    pthread_mutex_lock(&poller->lock);
    poller->count--;
    pthread_cond_broadcast(&poller->changed);
    pthread_mutex_unlock(&poller->lock);
}

int wb_poller_serve(wb_poller *poller, wb_device *device, int socket)
{
    struct wb_talk talk = {.device = device, .socket = socket};
    pthread_t thread;
    int result = reserve(poller, &thread);

    if (result)
        return result;
    result = wb_talk_begin(&talk, thread, poller->wake);
    if (!result)
        result = wb_talk_end(&talk, hand_over(poller, &talk));
    give_back(poller);
    return result;
}

/* ---- the thread ---- */

static void end(wb_poller *poller, struct wb_talk *talk, int result)
{
    struct wb_talk **link = &poller->talks;

    while (*link != talk)
        link = &(*link)->next;
    *link = talk->next;
    if (poller->last == talk)
        poller->last = NULL;
    poller->polled -= talk->polled;
    if (talk->armed)
        epoll_ctl(poller->set, EPOLL_CTL_DEL, talk->socket, NULL);
    wb_talk_drop(talk);
    pthread_mutex_lock(&poller->lock);
    talk->result = result;
    talk->over = 1;             /* unlocked, it is gone */
    pthread_cond_broadcast(&poller->changed);
    pthread_mutex_unlock(&poller->lock);
}

static void end_all(wb_poller *poller, int result)
{
    while (poller->talks)
        end(poller, poller->talks, result);
}

/* What it waits for may be something else now: 0 or -errno. */
static int arm(wb_poller *poller, struct wb_talk *talk)
{
    struct pollfd ready[WB_TALK_FDS];
    struct epoll_event event = {.data.ptr = talk};
    uint32_t watched = wb_talk_watch(talk, ready);
    int how = EPOLL_CTL_MOD;

    poller->polled += (watched > 1) - talk->polled;
    talk->polled = watched > 1;
    poller->more |= talk->more;
    event.events = watched == 1 ? (uint32_t)ready[0].events : 0;
    if (event.events == talk->armed)
        return 0;
    if (!talk->armed || !event.events)
        how = event.events ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
    if (epoll_ctl(poller->set, how, talk->socket, &event))
        return -errno;          /* and end() takes out what is still in */
    talk->armed = event.events;
    return 0;
}

/* After it was stepped; 1: it was served. */
static int settle(wb_poller *poller, struct wb_talk *talk, int result)
{
    int failed = result < 0 ? result : arm(poller, talk);

    if (failed)
        end(poller, talk, failed);
    else if (result)
        poller->last = talk;
    return result > 0;
}

/* Takes in who arrived; 1: it is to stop. */
static int admit(wb_poller *poller)
{
    struct wb_talk *talk, *next;
    int stopped;

    pthread_mutex_lock(&poller->lock);
    talk = poller->arrived;
    poller->arrived = NULL;
    stopped = poller->stopped;
    pthread_mutex_unlock(&poller->lock);
    for (; talk; talk = next) {
        next = talk->next;
        talk->next = poller->talks;
        poller->talks = talk;
        settle(poller, talk, 0);
    }
    return stopped;
}

/* Waits for the set, and for those that have more than their socket: how many events of the set there are. */
static int wait_polled(wb_poller *poller, int timeout)
{
    uint32_t count = 1;

    poller->ready[0] = (struct pollfd){.fd = poller->set, .events = POLLIN};
    for (struct wb_talk *talk = poller->talks; talk; talk = talk->next)
        if (talk->polled)
            count += wb_talk_watch(talk, poller->ready + count);
    if (poll(poller->ready, count, timeout) >= 0)
        return poller->ready[0].revents ? epoll_wait(poller->set, poller->events, EVENTS, 0) : 0;
    for (uint32_t i = 0; i < count; i++)
        poller->ready[i].revents = 0;
    return -1;
}

static int has_news(const struct wb_talk *talk, const struct pollfd *ready)
{
    for (uint32_t i = 0; i < talk->watched; i++)
        if (ready[i].revents)
            return 1;
    return 0;
}

/* Those that wait_polled() asked. */
static int serve_polled(wb_poller *poller)
{
    struct pollfd *ready = poller->ready + 1;
    struct wb_talk *next;
    int served = 0;

    for (struct wb_talk *talk = poller->talks; talk; talk = next) {
        uint32_t watched = talk->watched;

        next = talk->next;
        if (!talk->polled)
            continue;
        if (has_news(talk, ready))
            served |= settle(poller, talk, wb_talk_step(talk, ready));
        ready += watched;
    }
    return served;
}

/* Those that nothing tells of: with messages left; at a gate, when one has news. */
static int resume(wb_poller *poller, int woken)
{
    struct wb_talk *next;
    int served = 0;

    poller->more = 0;
    for (struct wb_talk *talk = poller->talks; talk; talk = next) {
        next = talk->next;
        if (talk->more || (talk->parked && woken))
            served |= settle(poller, talk, wb_talk_resume(talk));
    }
    return served;
}

/* Whoever was served last is the likeliest to have more. */
static int serve_last(wb_poller *poller)
{
    struct wb_talk *talk = poller->last;
    int result = 0, served = 0;

    if (!talk)
        return 0;
    for (int i = 0; i < FAVOUR && result >= 0 && !wb_talk_waits(talk); i++) {
        result = wb_talk_take(talk, MSG_DONTWAIT);
        served |= result > 0;
    }
    if (served || result < 0)
        settle(poller, talk, result < 0 ? result : served);
    return served;
}

/* Awake: looks at all; else waits for one. 1: somebody was served; -1: it is to stop. */
static int serve_all(wb_poller *poller, int awake)
{
    int timeout = awake || poller->more ? 0 : -1, polled = poller->polled, served = 0, woken = 0;
    int count = polled ? wait_polled(poller, timeout)
                       : epoll_wait(poller->set, poller->events, EVENTS, timeout);

    if (polled)
        served = serve_polled(poller);
    for (int i = 0; i < count; i++) {
        struct wb_talk *talk = poller->events[i].data.ptr;
        struct pollfd ready = {.revents = (short)poller->events[i].events};

        if (talk)
            served |= settle(poller, talk, wb_talk_step(talk, &ready));
        else
            woken = wb_eventfd_take(poller->wake);
    }
    if (woken || poller->more)
        served |= resume(poller, woken);
    return woken && admit(poller) ? -1 : served;
}

static void loop(wb_poller *poller)
{
    uint64_t until = 0;
    int served, first;

    for (uint32_t tries = 1;; tries++) {
        int awake = poller->spin && wb_clock() < until;

        first = awake ? serve_last(poller) : 0;
        served = serve_all(poller, awake);
        if (served < 0)
            return;
        if ((first || served) && poller->spin)
            until = wb_clock() + poller->spin;
        else if (awake && tries % WB_TALK_YIELD == 0)
            sched_yield();
    }
}

void wb_poller_run(wb_poller *poller)
{
    pthread_mutex_lock(&poller->lock);
    poller->thread = pthread_self();
    poller->running = 1;
    pthread_cond_broadcast(&poller->changed);
    pthread_mutex_unlock(&poller->lock);
    loop(poller);
    end_all(poller, -ESHUTDOWN);
    pthread_mutex_lock(&poller->lock);
    while (poller->count)       /* until they have cleared up */
        pthread_cond_wait(&poller->changed, &poller->lock);
    pthread_mutex_unlock(&poller->lock);
}
