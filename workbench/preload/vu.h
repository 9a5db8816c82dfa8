/* vu.h - a connection to a vfio-user server, as vu_client.c and vu_reader.c share it. */
#ifndef WBP_VU_H
#define WBP_VU_H

#include "preload.h"

#include "../engine/scm.h"

enum { WBP_MAX_DATA = 1 << 20, WBP_MAX_MESSAGE = WBP_HEADER + 16 + WBP_MAX_DATA,
       WBP_IN_SIZE = WBP_MAX_MESSAGE + 65536 };

enum { WBP_TYPE = 0xf, WBP_REPLY = 1, WBP_NO_REPLY = 0x10, WBP_ERROR = 0x20 };

enum wbp_event { WBP_ON_SOCKET, WBP_ON_WAKE, WBP_ON_RESAMPLE };

struct wbp_header {
    uint16_t id, command;
    uint32_t size, flags, error;
};

struct wbp_client {
    const char *path;
    struct wbp_maps *maps;
    uint32_t max_fds, max_data;
    int socket, events, wake;   /* an epoll descriptor and an eventfd for the reader */
    int dead, closing;          /* atomic */
    int has_reader;
    pthread_t reader;

    pthread_mutex_t talk;       /* what follows is of who holds it */
    uint16_t id;
    struct wbp_call *waiting;   /* NULL: answered, or nobody asked */
    uint64_t deadline;          /* of the question; 0: nobody asks */
    int result;
    uint8_t *in, *out;
    uint32_t head, tail;        /* bytes of `in` that were not looked at */
    int fds[2 * WB_SCM_MAX];
    uint32_t carried;           /* the first of them belong to the message at head */
    uint32_t nfds;              /* the others to the one that contains the byte before tail */
    int resample, on_death;
};

/* One recvmsg, and everything complete that is there by then; talk is held. -EAGAIN: nothing came in time. */
int wbp_vu_step(struct wbp_client *client, int flags);
int wbp_vu_send(struct wbp_client *client, struct msghdr *message, uint64_t deadline);
void wbp_vu_fail(struct wbp_client *client, int error);     /* the connection is over */
int wbp_vu_start(struct wbp_client *client);                /* the reader thread */

#endif
