/* basic.c - the engine from one thread: edges of regions, the ring, DMA, and random bytes on the wire. */
#include "harness.h"

static void test_edges_of_a_region(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    uint8_t bytes[BAR_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8}, back[BAR_SIZE];

    for (uint64_t size = 1; size <= 8; size++) {
        CHECK(!wb_region_write(device, WB_BAR0, BAR_SIZE - size, bytes, (uint32_t)size, WB_GUEST));
        CHECK(!wb_region_read(device, WB_BAR0, BAR_SIZE - size, back, (uint32_t)size, WB_GUEST));
        CHECK(!memcmp(back, bytes, size));
        CHECK(wb_region_read(device, 0, BAR_SIZE - size + 1, back, (uint32_t)size, WB_GUEST) == -EINVAL);
    }
    CHECK(!wb_region_read(device, WB_BAR0, BAR_SIZE, back, 0, WB_GUEST));
    CHECK(wb_region_read(device, WB_BAR0, UINT64_MAX, back, 8, WB_GUEST) == -EINVAL);
    CHECK(wb_region_read(device, WB_BAR0, UINT64_MAX - 3, back, 4, WB_GUEST) == -EINVAL);
    CHECK(wb_region_read(device, 1, 0, back, 4, WB_GUEST) == -EINVAL);
    CHECK(wb_region_read(device, UINT32_MAX, 0, back, 4, WB_GUEST) == -EINVAL);
    CHECK(wb_region_set(device, WB_BAR0, WB_PLANES, 0, bytes, 1) == -EINVAL);
    CHECK(wb_region_get(device, WB_BAR0, WB_VALUE, BAR_SIZE, back, 1) == -EINVAL);
    CHECK(wb_region_hook(device, WB_BAR0, BAR_SIZE - 1, 2, 1, 1) == -EINVAL);
    CHECK(!wb_region_poke(device, WB_BAR0, WB_VALUE, BAR_SIZE - 1, 5, 0xff, 1, WB_NOTEBOOK));
    CHECK(!wb_region_write(device, WB_BAR0, 3, bytes, BAR_SIZE - 3, WB_GUEST));
    CHECK(!wb_region_read(device, WB_BAR0, 0, back, BAR_SIZE, WB_GUEST));
    CHECK(!memcmp(back + 3, bytes, 8) && back[BAR_SIZE - 1] == 0);
    CHECK(stub.hooks == 2 + 2);                 /* the first 16 bytes in two chunks, each way */
    wb_device_reset(device, WB_RESET_NOTEBOOK);
    CHECK(!wb_region_get(device, WB_BAR0, WB_VALUE, 0, back, BAR_SIZE));
    for (int i = 0; i < BAR_SIZE; i++)
        CHECK(!back[i]);
    wb_device_free(device);
}

static void test_ring_wraps(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    wb_record records[300], record = {.kind = WB_KIND_SWAP};
    uint64_t since = 0;

    for (int i = 0; i < 1000; i++)
        wb_log_add(device, &record);
    CHECK(wb_log_count(device) == 1000 && wb_log_dropped(device) == 744);
    CHECK(wb_log_copy(device, &since, records, 300) == 256 && since == 1000);
    for (int i = 0; i < 256; i++)
        CHECK(records[i].seq == 744u + (unsigned)i);
    CHECK(!wb_log_copy(device, &since, records, 300));
    CHECK(!wb_log_wait(device, 1000, 1) && wb_log_wait(device, 999, 1000));
    wb_device_free(device);
}

static void test_places_are_checked(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    const wb_irq_places wrong[] = {
        {.msi = MSIX}, {.msix = CONFIG_SIZE - 11, .table = TABLE, .pba = PBA},
        {.msix = MSIX, .table = BAR_SIZE - 127, .pba = PBA},
        {.msix = MSIX, .table = TABLE, .pba = BAR_SIZE - 7},
        {.msix = MSIX, .table = UINT64_MAX - 7, .pba = PBA},
        {.msix = MSIX, .table = TABLE, .pba = UINT64_MAX},
        {.msix = MSIX, .table_region = 1, .pba = PBA},
        {.msix = MSIX, .table = TABLE, .pba_region = UINT32_MAX},
        {.msix = UINT32_MAX, .table = TABLE, .pba = PBA},
    };

    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(wb_irq_place(device, &wrong[i]) == -EINVAL);
    CHECK(wb_irq_trigger(device, WB_IRQ_ANY, 8, WB_DEVICE) == -EINVAL);
    CHECK(wb_irq_level(device, 8, 1, WB_DEVICE) == -EINVAL && wb_irq_level(device, 7, 1, WB_DEVICE) >= 0);
    wb_device_free(device);
}

static void test_memory(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    wb_dma_range range = {.iova = 0x1000, .size = 0x1000, .flags = WB_DMA_READABLE | WB_DMA_WRITABLE};
    uint8_t bytes[6000] = {9}, back[6000];
    int file = memory_file(0x3000);

    for (int i = 0; i < 3; i++, range.iova += 0x1000, range.offset += 0x1000)
        CHECK(!wb_dma_map(device, &range, dup(file)));
    bytes[5999] = 7;
    CHECK(!wb_dma_write(device, 0x1800, bytes, 6000, WB_DEVICE));
    CHECK(!wb_dma_read(device, 0x1800, back, 6000, WB_DEVICE));
    CHECK(!memcmp(bytes, back, 6000));
    CHECK(!ftruncate(file, 0x2000));
    CHECK(wb_dma_read(device, 0x3000, back, 1, WB_DEVICE) == -EIO);
    CHECK(wb_dma_write(device, 0x2fff, bytes, 2, WB_DEVICE) == -EIO);
    CHECK(wb_dma_read(device, 0x4000, back, 1, WB_DEVICE) == -EFAULT);
    CHECK(wb_dma_read(device, UINT64_MAX, back, 2, WB_DEVICE) == -EFAULT);
    CHECK(!wb_dma_unmap(device, 0x2000, 0x1000, 0) && wb_dma_unmap(device, 0x2000, 0x1000, 0) == -ENOENT);
    CHECK(wb_dma_list(device, &range, 1) == 2 && range.iova == 0x1000);
    close(file);
    wb_device_free(device);
}

/* Sealed memory: mapped, mapped again when it grew, copied over itself, gathered, given back. */
static void test_mapped_memory(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    wb_dma_range range = {.size = 0x2000, .flags = WB_DMA_READABLE | WB_DMA_WRITABLE};
    wb_dma_span spans[] = {{0x1ffe, 4}, {0, 0}, {0x3ffd, 3}, {UINT64_MAX, 2}};
    uint8_t bytes[0x4000], back[0x4000];
    int file = sealed_file(0x2000);

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 >> 3);
    CHECK(!wb_dma_map(device, &range, dup(file)));
    CHECK(!ftruncate(file, 0x4000));
    range.iova = range.offset = 0x2000;
    CHECK(!wb_dma_map(device, &range, dup(file)));
    CHECK(wb_dma_list(device, &range, 1) == 2 && range.flags & WB_DMA_MAPPED);
    CHECK(!wb_dma_write(device, 0, bytes, sizeof bytes, WB_DEVICE));
    CHECK(!wb_dma_copy(device, 0x123, 0, 0x3000, WB_DEVICE));
    CHECK(!wb_dma_read(device, 0x123, back, 0x3000, WB_DEVICE) && !memcmp(back, bytes, 0x3000));
    CHECK(!wb_dma_gather(device, spans, 3, back, WB_DEVICE) && back[6] == bytes[0x3fff]);
    CHECK(wb_dma_gather(device, spans, 4, back, WB_DEVICE) == -EFAULT);
    CHECK(!wb_dma_distrust(device, 0) && wb_dma_read(device, 0, back, 1, WB_DEVICE) == -ENOTCONN);
    CHECK(!wb_dma_unmap(device, 0, 0x2000, 0));
    close(file);
    wb_device_free(device);                     /* a mapping and a private file are left to it */
}

/* ---- random bytes ---- */

static uint64_t random_state = 88172645463325252u;

static uint32_t random_number(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % below);
}

static void *serve(void *context)
{
    void **arguments = context;
    int result = wb_serve(arguments[0], *(int *)arguments[1]);

    CHECK(result == 0 || result == -EPROTO);
    shutdown(*(int *)arguments[1], SHUT_RDWR);
    return NULL;
}

/* A message that is nearly right. */
static size_t random_message(uint8_t *message)
{
    const uint16_t commands[] = {1, 2, 3, 8, 9, 10, 15, 9, 10, 13, 99};
    const uint32_t kinds[] = {0x10, 0x10, 0x10, 0x10, 0x10, 0, 1, 0x21};
    uint32_t size = 16 + random_number(80);
    struct wire_header header = {1, commands[random_number(11)], size, kinds[random_number(8)], 0};
    uint32_t words[20];

    for (int i = 0; i < 20; i++)
        words[i] = random_number(3) ? random_number(48)
                   : random_number(3) ? random_number(0x4000) : UINT32_MAX;
    if (header.command == 9 && random_number(4))
        words[1] = words[2] = 0;
    if (header.command == 8 && random_number(4)) {
        words[0] = 20;
        words[1] = 1u << random_number(3) | 8u << random_number(3);
        words[2] = random_number(5);
    }
    if (!random_number(200))
        header.size = random_number(2) ? random_number(16) : UINT32_MAX;
    memcpy(message, &header, sizeof header);
    memcpy(message + sizeof header, words, sizeof words);
    return size;
}

static void converse_randomly(wb_device *device, int messages)
{
    int pair[2], file = random_number(2) ? memory_file(0x4000) : sealed_file(0x4000);
    uint8_t message[256], drain[4096];
    void *arguments[2] = {device, &pair[1]};
    pthread_t thread;

    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK(!pthread_create(&thread, NULL, serve, arguments));
    CHECK(!ask(pair[0], 1, "\0\0\0", 4, NULL, 0));
    while (messages--) {
        size_t size = random_message(message);
        size_t first = random_number(2) ? random_number((uint32_t)size - 1) + 1 : size;
        int fds[2] = {random_number(2) ? file : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), file};
        size_t nfds = random_number(4) ? 0 : 1 + random_number(2);
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {0};
        struct iovec vector = {message, first};
        struct msghdr head = {.msg_iov = &vector, .msg_iovlen = 1};

        if (nfds) {
            head.msg_control = control;
            head.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
            *CMSG_FIRSTHDR(&head) = (struct cmsghdr){CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
            memcpy(CMSG_DATA(CMSG_FIRSTHDR(&head)), fds, nfds * sizeof(int));
        }
        if (sendmsg(pair[0], &head, MSG_NOSIGNAL) < 0)
            messages = 0;
        else if (size > first && send(pair[0], message + first, size - first, MSG_NOSIGNAL) < 0)
            messages = 0;
        if (fds[0] != file)
            close(fds[0]);
        while (recv(pair[0], drain, sizeof drain, MSG_DONTWAIT) > 0)
            ;
    }
    shutdown(pair[0], SHUT_WR);
    while (recv(pair[0], drain, sizeof drain, 0) > 0)
        ;
    CHECK(!pthread_join(thread, NULL));
    close(pair[0]);
    close(pair[1]);
    close(file);
}

static void test_random_conversations(void)
{
    struct stub stub;
    wb_device *device = make_device(&stub);
    int before = dup(0), after;

    close(before);
    wb_serve_trace(device, 1);
    for (int i = 0; i < 60; i++) {
        converse_randomly(device, 300);
        CHECK(!wb_dma_list(device, NULL, 0));
        wb_region_hook(device, WB_BAR0, 0, BAR_SIZE, WB_HOOK_READ | WB_HOOK_WRITE, i & 1);
    }
    after = dup(0);
    CHECK(after == before);                     /* no descriptor stayed open */
    close(after);
    wb_device_free(device);
}

int main(void)
{
    test_edges_of_a_region();
    test_ring_wraps();
    test_places_are_checked();
    test_memory();
    test_mapped_memory();
    test_random_conversations();
    return 0;
}
