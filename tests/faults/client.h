/* client.h - a client that is hung up on without complaint, and that answers the server's questions. */
#ifndef CLIENT_H
#define CLIENT_H

#include "../native/harness.h"

enum { BYTES = 6000 };          /* the longest data */

static int pair[2];
static int strict;              /* nothing may be heard of the faults */
static int ended;               /* the server has hung up */

static int receive(void *bytes, size_t size)
{
    ended |= !get_all(pair[0], bytes, size);
    return !ended;
}

static void answer(const struct wire_header *header, uint8_t *payload)
{
    static uint8_t reply[16 + 16 + BYTES];
    struct wire_header back = *header;
    uint64_t count;

    memcpy(&count, payload + 8, sizeof count);
    back.flags = 1;
    back.size = header->command == 11 ? 32 + (uint32_t)count : 32;
    memset(reply, 0x77, sizeof reply);
    memcpy(reply, &back, 16);
    memcpy(reply + 16, payload, 16);
    if (send(pair[0], reply, back.size, MSG_NOSIGNAL) != (ssize_t)back.size)
        ended = 1;
}

/* Takes one message: 1 for a question of the server's, which is answered; else the reply is in header. */
static int take_message(struct wire_header *header, uint8_t *payload)
{
    if (!receive(header, 16))
        return 0;
    CHECK(header->size >= 16 && header->size <= 16 + 16 + BYTES);
    if (!receive(payload, header->size - 16) || header->flags & 1)
        return 0;
    answer(header, payload);
    return 1;
}

/* 0, the errno of the refusal, or -1: hung up. */
static int request(uint16_t command, const void *payload, uint32_t size, int fd, uint8_t *reply)
{
    static uint8_t bytes[16 + 16 + BYTES];
    static uint16_t id;
    struct wire_header header = {++id, command, 16 + size, 0, 0};
    struct iovec parts[2] = {{&header, 16}, {(void *)(uintptr_t)payload, size}};
    struct msghdr said = {.msg_iov = parts, .msg_iovlen = 2};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fd)];

    wb_scm_attach(&said, control, &fd, fd >= 0);
    if (ended || sendmsg(pair[0], &said, MSG_NOSIGNAL) != (ssize_t)(16 + size))
        ended = 1;
    while (!ended && take_message(&header, bytes))
        ;
    CHECK(!strict || (!ended && !header.error));
    if (ended)
        return -1;
    CHECK(header.id == id && (header.error || !(header.flags & 0x20)));
    if (reply)
        memcpy(reply, bytes, 64);
    return (int)header.error;
}

#endif
