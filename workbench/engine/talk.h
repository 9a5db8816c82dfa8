/*
 * talk.h - a conversation with one client, as wb_serve() and the poller step it.
 *
 * On a thread of its own it may wait: at the gate, and for a client that takes its replies slowly. Where its
 * thread serves others too (device->waker is not -1) it is put aside instead, and wb_talk_watch() says for
 * what.
 */
#ifndef WB_TALK_H
#define WB_TALK_H

#include "internal.h"
#include "scm.h"

#include <poll.h>

enum {
    WB_TALK_FDS = 2 + WB_MAX_DOORBELLS,     /* the socket, UNMASK, doorbells */
    WB_TALK_YIELD = 16,                     /* looks at nothing before another thread may have the core */
    WB_TALK_FAIR = 64                       /* messages or writes of one before another has its turn */
};

struct wb_talk {
    wb_device *device;
    int socket;
    uint32_t head, tail;        /* unserved bytes of device->in */
    int fds[2 * WB_SCM_MAX];
    uint32_t carried;           /* the first of them belong to the message at head */
    uint32_t nfds;              /* the others to the one that contains the byte before tail */
    int cut;                    /* the last recvmsg may have ended before all that was there */

    /* Only on a thread that serves others too. */
    int parked;                 /* the gate is closed for the message at head, or a doorbell */
    int more;                   /* others had their turn with messages left here */
    uint32_t most;              /* messages, and further writes of one, that may be served in this turn */
    uint64_t done;              /* writes done of the message at head */
    uint64_t rung;              /* doorbells that rang before what is served now was received; a bit each */
    uint32_t sent, left;        /* bytes of the reply in device->out; left: it waits for the client */
    int reply_fds[WB_MAX_FDS];
    uint32_t reply_nfds;
    int sending;                /* a part of it is out: device->sending is held */

    uint32_t watched;           /* what wb_talk_watch() last returned */
    struct wb_talk *next;       /* from here on: poller.c */
    uint32_t armed;             /* what epoll watches the socket for; 0: it does not */
    int polled;                 /* there is more than the socket: poll() watches all of it */
    int over, result;
};

/* For others, or for the client: nothing is received before it may go on. */
static inline int wb_talk_waits(const struct wb_talk *talk)
{
    return talk->parked || talk->left || talk->more;
}

/* 0 or -EBUSY. After 0 wb_talk_end() is due, whatever comes; it returns what wb_serve() does. */
int wb_talk_begin(struct wb_talk *talk, pthread_t server, int waker);
int wb_talk_end(struct wb_talk *talk, int result);
/* Fills in what it waits for, the socket first: how many, at most WB_TALK_FDS; 0: the gate. */
uint32_t wb_talk_watch(struct wb_talk *talk, struct pollfd *ready);
/*
 * These three: 1 something was done, 0 nothing, or a negative errno: it is over, -EPIPE when the client is
 * gone.
 */
int wb_talk_take(struct wb_talk *talk, int flags);              /* serves what one recvmsg brings */
int wb_talk_step(struct wb_talk *talk, struct pollfd *ready);   /* what poll() found of what it watches */
int wb_talk_resume(struct wb_talk *talk);                /* the gate has news, or the others had their turn */
/* A part of a reply that is out holds up everybody who sends: it is given up. On the serving thread. */
void wb_talk_drop(struct wb_talk *talk);

#endif
