/*
 * scm.h - descriptors and parts of a message on a stream socket: for wire.c, and for the library to preload.
 *
 * Nothing but the C library's headers, and no call of close(), which that library stands in for.
 */
#ifndef WB_SCM_H
#define WB_SCM_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

enum { WB_SCM_MAX = 253 };      /* descriptors of one message: SCM_MAX_FD of the kernel */

/* `control` has room for CMSG_SPACE() of them, and is aligned as a cmsghdr. */
static inline void wb_scm_attach(struct msghdr *message, void *control, const int *fds, uint32_t nfds)
{
    struct cmsghdr *header;

    if (!nfds)
        return;
    memset(control, 0, CMSG_SPACE(nfds * sizeof *fds));
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(nfds * sizeof *fds);
    header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(nfds * sizeof *fds);
    memcpy(CMSG_DATA(header), fds, nfds * sizeof *fds);
}

/* After n bytes went, with the descriptors, which go with the first: returns how many bytes are left. */
static inline size_t wb_scm_advance(struct msghdr *message, size_t n)
{
    size_t left = 0;

    message->msg_control = NULL;
    message->msg_controllen = 0;
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

/*
 * Adds the descriptors of a message that came to `fds`, room for 2 * WB_SCM_MAX. -EPROTO: too many, those are
 * closed; -EMFILE: lost, for the kernel had none left (there was room for as many as can be sent at once).
 */
static inline int wb_scm_take(struct msghdr *message, int *fds, uint32_t *nfds, int (*shut)(int))
{
    int result = message->msg_flags & MSG_CTRUNC ? -EMFILE : 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        size_t bytes = part->cmsg_len - CMSG_LEN(0);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i + sizeof(int) <= bytes; i += sizeof(int)) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i, sizeof fd);
            if (*nfds < 2 * WB_SCM_MAX) {
                fds[(*nfds)++] = fd;
            } else {
                shut(fd);
                result = -EPROTO;
            }
        }
    }
    return result;
}

#endif
