/* memory.c - guest memory of every kind at once: threads copy while the client maps, unmaps and answers. */
#include "harness.h"

enum { PAGE = 4096, COPIERS = 3 };

static wb_device *device;
static int pair[2];
static int over;                /* atomic: the client has finished */
static int copied, refused;     /* atomic */

static void *serve(void *unused)
{
    CHECK(!wb_serve(device, pair[1]));
    return unused;
}

static int known(int result)
{
    static const int allowed[] = {0, -EFAULT, -ENOTCONN, -ECONNRESET, -EREMOTEIO};

    __atomic_add_fetch(result ? &refused : &copied, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (result == allowed[i])
            return 1;
    return 0;
}

/* Each thread has bytes of its own in three pages: mapped, by messages, a file. */
static void *copy(void *number)
{
    uint64_t at = 64 + 1000 * (uint64_t)(uintptr_t)number;
    wb_dma_span spans[] = {{at, 900}, {PAGE + at, 900}, {2 * PAGE + at, 900}};
    uint8_t bytes[2700], back[2700];

    memset(bytes, (int)at, sizeof bytes);
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        CHECK(wb_dma_waits(device, at, 2 * PAGE) <= 1);
        CHECK(known(wb_dma_write(device, at, bytes, 900, WB_DEVICE)));
        CHECK(known(wb_dma_read(device, at, back, 900, WB_DEVICE)));
        CHECK(known(wb_dma_scatter(device, spans, 3, bytes, WB_DEVICE)));
        CHECK(known(wb_dma_gather(device, spans, 3, back, WB_DEVICE)));
        CHECK(known(wb_dma_copy(device, PAGE + at, at, 900, WB_DEVICE)));
    }
    return NULL;
}

/* Reads one message of the server; a question is answered, of a reply the errno returned. */
static int hear(uint8_t *ram, uint32_t *error)
{
    static uint8_t buffer[1 << 16];
    struct { uint64_t iova, count; } asked;
    struct wire_header header;

    CHECK(get_all(pair[0], &header, sizeof header) && header.size <= sizeof buffer);
    CHECK(get_all(pair[0], buffer, header.size - sizeof header));
    if (header.flags & 1) {
        *error = header.error;
        return 1;
    }
    memcpy(&asked, buffer, sizeof asked);
    asked.iova -= PAGE;
    CHECK(asked.iova + asked.count <= PAGE);
    if (header.command == 11)
        memcpy(buffer + sizeof asked, ram + asked.iova, asked.count);
    else
        memcpy(ram + asked.iova, buffer + sizeof asked, asked.count);
    header.flags = 1;
    header.size = (uint32_t)(sizeof header + sizeof asked + (header.command == 11 ? asked.count : 0));
    memmove(buffer + sizeof header, buffer, header.size - sizeof header);
    memcpy(buffer, &header, sizeof header);
    put(pair[0], buffer, header.size, NULL, 0);
    return 0;
}

static void tell(uint16_t command, const void *payload, uint32_t size, int file)
{
    static uint8_t ram[PAGE];
    struct wire_header header = {1, command, 16 + size, 0, 0};
    uint8_t bytes[64];
    uint32_t error;

    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + sizeof header, payload, size);
    put(pair[0], bytes, sizeof header + size, &file, file >= 0);
    while (!hear(ram, &error))
        ;
    CHECK(!error);
}

static void map_and_unmap(int sealed, int plain, unsigned round)
{
    struct { uint32_t argsz, flags; uint64_t offset, iova, size; } map = {32, 3, 0, 0, PAGE};
    struct { uint32_t argsz, flags; uint64_t iova, size; } unmap = {24, 0, 0, PAGE}, all = {24, 2, 0, 0};
    struct { uint64_t offset; uint32_t region, count; } access = {32, WB_BAR0, 16};
    const int files[] = {sealed, -1, plain};

    for (int i = 0; i < 3; i++, map.iova += PAGE)
        tell(2, &map, sizeof map, files[i]);
    for (unsigned i = 0; i < 20; i++)
        tell(9, &access, sizeof access, -1);
    unmap.iova = round % 3 * PAGE;
    tell(3, &unmap, sizeof unmap, -1);
    tell(3, &all, sizeof all, -1);
}

int main(void)
{
    pthread_t server, copiers[COPIERS];
    struct stub stub;
    int sealed = sealed_file(PAGE), plain = memory_file(PAGE);

    device = make_device(&stub);
    wb_peer_patience(device, 60000);            /* who waits in vain waits for too long */
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK(!pthread_create(&server, NULL, serve, NULL));
    tell(1, "\0\0\0", 4, -1);
    for (uintptr_t i = 0; i < COPIERS; i++)
        CHECK(!pthread_create(&copiers[i], NULL, copy, (void *)i));
    for (unsigned round = 0; round < 300; round++)
        map_and_unmap(sealed, plain, round);
    close(pair[0]);                             /* in the middle of it all */
    CHECK(!pthread_join(server, NULL));
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < COPIERS; i++)
        CHECK(!pthread_join(copiers[i], NULL));
    CHECK(copied && refused && !wb_dma_list(device, NULL, 0));
    close(pair[1]);
    close(sealed);
    close(plain);
    wb_device_free(device);
    return 0;
}
