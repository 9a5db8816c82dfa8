/*
 * fuzz_client.h - the client's end of a fuzzed conversation: says anything, and knows which replies must
 * come.
 *
 * It follows what it says, message by message, and takes every reply in turn; questions of the server are
 * answered as client.answer says. One thread uses it.
 */
#ifndef FUZZ_CLIENT_H
#define FUZZ_CLIENT_H

#include "fuzz_kit.h"

#include <poll.h>

enum { COLD = 64, SENTINEL = 0xfeed, EXPECTED = 4096, LONGEST = 1 << 20 };

struct expected {
    uint16_t id, command;
    uint8_t optional;           /* a reply itself: answered before VERSION, and not afterwards */
};

static int pair[2];

static struct {
    uint64_t rest;              /* bytes of the message that has begun */
    struct wire_header header;  /* so much of it as was sent */
    unsigned have;
    int broken;                 /* no message follows: the server must hang up */
    int answer;                 /* what the next questions are answered with */
    uint8_t synced, over;
    struct expected expected[EXPECTED];
    uint32_t first, last;
    uint8_t in[LONGEST + 4096];
    size_t got;
} client;

static int received[4] = {-1, -1, -1, -1};      /* descriptors that came last: doorbells, shared pages */
static unsigned receptions;

static void expect(const struct wire_header *header)
{
    struct expected *added = &client.expected[client.last % EXPECTED];

    if (header->flags & 0x10)
        return;
    CHECK(client.last - client.first < EXPECTED);
    *added = (struct expected){header->id, header->command, (header->flags & 0xf) == 1};
    client.last++;
}

/* Follows what is sent, to know which replies have to come. */
static void follow(const uint8_t *bytes, size_t size)
{
    while (size && !client.broken) {
        size_t n;

        if (client.have < 16) {
            n = size < 16 - client.have ? size : 16 - client.have;
            memcpy((uint8_t *)&client.header + client.have, bytes, n);
            client.have += (unsigned)n;
            client.rest = client.header.size - 16;
            client.broken = client.have == 16
                            && (client.header.size < 16 || client.header.size > LONGEST + 32);
        } else {
            n = size < client.rest ? size : client.rest;
            client.rest -= n;
        }
        bytes += n;
        size -= n;
        if (client.have == 16 && (!client.rest || client.broken)) {
            expect(&client.header);
            client.have = 0;
        }
    }
}

static void answer(const struct wire_header *asked, const uint8_t *payload);

/* A whole message of the server: a question, or the reply that is due. */
static void understand(const struct wire_header *header, const uint8_t *payload)
{
    const struct expected *due;

    if (!(header->flags & 0xf)) {
        CHECK(header->command == 11 || header->command == 12);
        answer(header, payload);
        return;
    }
    CHECK((header->flags & 0xf) == 1 && !(header->flags & 0x20) == !header->error);
    if (header->id == SENTINEL && header->command == COLD - 1)
        client.synced = 1;
    do {
        CHECK(client.first != client.last);
        due = &client.expected[client.first++ % EXPECTED];
    } while (due->optional && (due->id != header->id || due->command != header->command));
    CHECK(due->id == header->id && due->command == header->command);
}

static void keep_received(struct msghdr *got)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(got); part; part = CMSG_NXTHDR(got, part))
        for (size_t i = 0; i + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); i += sizeof(int)) {
            int *place = &received[receptions++ % 4];

            if (*place >= 0)
                close(*place);
            memcpy(place, CMSG_DATA(part) + i, sizeof *place);
        }
}

/* Understands the first message received, if all of it is there. To answer it takes more of them. */
static int digest(void)
{
    struct wire_header header;
    uint8_t start[16] = {0};

    if (client.got < 16)
        return 0;
    memcpy(&header, client.in, sizeof header);
    CHECK(header.size >= 16 && header.size <= LONGEST + 32);
    if (client.got < header.size)
        return 0;
    if (header.size >= 32)
        memcpy(start, client.in + 16, 16);
    client.got -= header.size;
    memmove(client.in, client.in + header.size, client.got);
    understand(&header, start);
    return 1;
}

/* Takes what the server sent; waits for it, if asked to. */
static void drain(int wait)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))];
    struct iovec vector = {client.in + client.got, sizeof client.in - client.got};
    struct msghdr got = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
    };
    ssize_t n = client.over ? 0 : recvmsg(pair[0], &got, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))   /* the fuzzer has a clock that interrupts */
        return;
    client.over |= n <= 0;
    if (client.over)
        return;
    keep_received(&got);
    client.got += (size_t)n;
    while (!client.over && digest())
        ;
}

static void say(const uint8_t *bytes, size_t size, const int *fds, unsigned nfds)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(254 * sizeof(int))];

    for (size_t done = 0; done < size && !client.over;) {
        struct iovec vector = {(void *)(uintptr_t)(bytes + done), size - done};
        struct msghdr said = {.msg_iov = &vector, .msg_iovlen = 1};
        struct pollfd ready = {pair[0], POLLIN | POLLOUT, 0};
        ssize_t n;

        if (!done)
            wb_scm_attach(&said, control, fds, nfds);
        n = sendmsg(pair[0], &said, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return;
        if (n > 0) {
            follow(bytes + done, (size_t)n);
            done += (size_t)n;
        } else {
            poll(&ready, 1, -1);
        }
        drain(0);
    }
}

static void say_message(uint16_t id, uint16_t command, uint32_t flags, const void *payload, uint32_t size,
                        const int *fds, unsigned nfds)
{
    static uint8_t whole[16 + ROOM];
    struct wire_header header = {id, command, 16 + size, flags, flags & 0x20 ? EPERM : 0};

    memcpy(whole, &header, sizeof header);
    if (size)
        memcpy(whole + 16, payload, size);
    say(whole, 16 + size, fds, nfds);
}

/* By the mode: well, with an error, too short, with other numbers, twice; more: not at all. */
static void answer(const struct wire_header *asked, const uint8_t *payload)
{
    static uint8_t reply[16 + ROOM];
    uint32_t size = 16;
    uint64_t count;

    memcpy(reply, payload, 16);
    memcpy(&count, payload + 8, 8);
    CHECK(count <= ROOM * 2);
    if (asked->command == 11)
        size += (uint32_t)count;
    if (client.answer == 2)
        size -= size < 17 ? 7 : 1;
    if (client.answer == 3)
        reply[8]++;
    if (client.answer < 5 && !client.have)
        say_message(asked->id, asked->command, client.answer == 1 ? 0x21 : 1, reply, size, NULL, 0);
    if (client.answer == 4)
        say_message(asked->id, asked->command, 1, reply, size, NULL, 0);
}

/* Waits until the server has done all that was said, unless it is in the middle of a message. */
static void sync_with_server(void)
{
    client.synced = 0;
    if (client.have || client.broken)
        return;
    say_message(SENTINEL, COLD - 1, 0, NULL, 0, NULL, 0);
    while (!client.synced && !client.over)
        drain(1);
}

#endif
