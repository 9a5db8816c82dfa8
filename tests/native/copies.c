/*
 * copies.c - what changes under a copy of guest memory: the file is cut short before it is sealed, the client
 * unmaps what is being copied, or stops the device in the middle.
 */
#include "dmafile.h"
#include "harness.h"

#include <sched.h>

enum { PAGE = 4096, SPANS = 64, SPAN = 64 * 1024, HALF = SPANS / 2 * SPAN, FAR = 0x100000, FILES = 300 };

static wb_device *device;
static struct stub stub;
static int pair[2];

static int map(uint64_t iova, uint64_t size, int file)
{
    const wb_dma_range range = {.iova = iova, .size = size, .flags = WB_DMA_READABLE | WB_DMA_WRITABLE};

    return wb_dma_map(device, &range, file);
}

/* ---- files ---- */

/* What was measured before the seal is no longer so: bytes that are not there must not be mapped. */
static void test_a_file_that_was_cut_short_before_it_was_sealed(void)
{
    int fd = memory_file(4 * PAGE), own = dup(fd);
    struct wb_file *file, *dead = NULL;
    struct stat status;
    uint8_t byte;

    CHECK(!fstat(fd, &status) && !ftruncate(fd, PAGE) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    wb_lock(device);
    CHECK(!wb_file_use_locked(device, &status, O_RDWR, &own, 4 * PAGE, &file) && own == -1);
    CHECK(!file->bytes && wb_file_copy(file, 2 * PAGE, &byte, NULL, 1) == -EIO);
    wb_file_drop_locked(device, file, &dead);
    wb_unlock(device);
    wb_file_free(dead);
    close(fd);
}

/* A client says how long its files are, and cannot take all addresses from us: it is copied, not mapped. */
static void test_a_file_that_is_longer_than_there_is_room(void)
{
    int fd = sealed_file((size_t)1 << 44);
    uint8_t bytes[8] = "far out", back[8];
    wb_dma_range listed;

    CHECK(!map(0, (uint64_t)1 << 44, fd));
    CHECK(wb_dma_list(device, &listed, 1) == 1);
    CHECK((listed.flags & (WB_DMA_HAS_FD | WB_DMA_MAPPED)) == WB_DMA_HAS_FD);
    CHECK(!wb_dma_write(device, ((uint64_t)1 << 44) - 8, bytes, 8, WB_DEVICE));
    CHECK(!wb_dma_read(device, ((uint64_t)1 << 44) - 8, back, 8, WB_DEVICE) && !memcmp(bytes, back, 8));
    CHECK(!wb_dma_unmap(device, 0, 0, 1));
}

static uint64_t word_at(uint64_t iova)
{
    uint64_t word;

    CHECK(!wb_dma_read(device, iova, (uint8_t *)&word, sizeof word, WB_DEVICE));
    return word;
}

/* Files of their own and one that grows with each map, let go in another order; each keeps its bytes. */
static void test_many_files(void)
{
    int grown = sealed_file(PAGE);
    uint32_t left = FILES;

    for (uint64_t i = 0; i < FILES; i++) {
        int fd = i % 3 ? sealed_file(PAGE) : dup(grown);
        wb_dma_range range = {.iova = i * PAGE, .size = PAGE, .offset = i % 3 ? 0 : i * PAGE, .flags = 3};

        CHECK(i % 3 || !ftruncate(grown, (off_t)((i + 1) * PAGE)));
        CHECK(pwrite(fd, &i, sizeof i, (off_t)range.offset) == sizeof i && !wb_dma_map(device, &range, fd));
    }
    CHECK(!wb_dma_distrust(device, PAGE) && wb_dma_waits(device, PAGE, 8) == 0);
    for (uint64_t i = 7; left > FILES / 2; i = (i + 37) % FILES, left--)
        CHECK(word_at(i * PAGE) == i && !wb_dma_unmap(device, i * PAGE, PAGE, 0));
    CHECK(wb_dma_list(device, NULL, 0) == FILES / 2);
    CHECK(!wb_dma_unmap(device, 0, 0, 1));
    close(grown);
}

/* ---- unmapped meanwhile ---- */

static uint8_t *copied;         /* 2 * HALF bytes */
static int over;                /* atomic: the copy has ended */

static void *gather(void *result)
{
    wb_dma_span spans[SPANS];

    for (uint32_t i = 0; i < SPANS; i++)
        spans[i] = (wb_dma_span){(uint64_t)i * SPAN, SPAN};
    *(int *)result = wb_dma_gather(device, spans, SPANS, copied, WB_DEVICE);
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    return NULL;
}

static int any_pinned(void)
{
    int pinned;

    wb_lock(device);
    pinned = device->range_count && device->ranges[0]->pins;
    wb_unlock(device);
    return pinned;
}

/* A copy that has begun is whole, though its ranges are to go: the unmap waits. */
static void test_unmapped_in_the_middle(void)
{
    int fd = sealed_file(2 * HALF), result;
    uint8_t *guest = mmap(NULL, 2 * HALF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pthread_t thread;

    copied = malloc(2 * HALF);
    CHECK(guest != MAP_FAILED && copied);
    memset(guest, 0x77, 2 * HALF);
    for (int round = 0; round < 5; round++) {
        memset(copied, 0, 2 * HALF);
        __atomic_store_n(&over, 0, __ATOMIC_RELAXED);
        CHECK(!map(0, HALF, dup(fd)) && !map(HALF, HALF, dup(fd)));
        CHECK(!pthread_create(&thread, NULL, gather, &result));
        while (!any_pinned() && !__atomic_load_n(&over, __ATOMIC_ACQUIRE))
            sched_yield();
        CHECK(!wb_dma_unmap(device, HALF, HALF, 0) && !wb_dma_unmap(device, 0, HALF, 0));
        CHECK(!pthread_join(thread, NULL));
        CHECK(!result && !memcmp(copied, guest, 2 * HALF));
    }
    munmap(guest, 2 * HALF);
    free(copied);
    close(fd);
}

/* ---- stopped meanwhile ---- */

static void *serve(void *unused)
{
    CHECK(!wb_serve(device, pair[1]));
    return unused;
}

/* Three pages: a file's, one that is reached by messages, the file's again. */
static void *write_all(void *result)
{
    uint8_t bytes[3 * PAGE];

    memset(bytes, 0x55, sizeof bytes);
    *(int *)result = wb_dma_write(device, FAR, bytes, sizeof bytes, WB_DEVICE);
    return NULL;
}

/* Once a stop has returned nothing is written any more, and what was is in the report. */
static void check_stop(uint8_t *guest, int *result)
{
    static uint8_t question[32 + PAGE];
    uint64_t bits = 0, page_size = PAGE;
    struct wire_header header;
    pthread_t thread;

    CHECK(!wb_dirty_start(device, &page_size, NULL, 0));
    CHECK(!pthread_create(&thread, NULL, write_all, result));
    CHECK(get_all(pair[0], question, sizeof question));
    wb_state_halt(device, WB_HALT_STOP, 1);
    CHECK(!wb_dirty_report(device, FAR, PAGE, PAGE, &bits, 1) && bits == 1);
    memcpy(&header, question, sizeof header);
    header.flags = 1;
    header.size = 32;
    memcpy(question, &header, sizeof header);
    put(pair[0], question, 32, NULL, 0);
    CHECK(!pthread_join(thread, NULL));
    CHECK(*result == -ESHUTDOWN && guest[0] == 0x55 && guest[PAGE] == 0);
    CHECK(!wb_dirty_stop(device));
    wb_state_halt(device, WB_HALT_STOP, 0);
}

static void test_stopped_in_the_middle(void)
{
    int fd = sealed_file(2 * PAGE), result = 0;
    uint8_t *guest = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const wb_dma_range last = {.iova = FAR + 2 * PAGE, .size = PAGE, .offset = PAGE, .flags = 3};
    pthread_t server;

    CHECK(guest != MAP_FAILED && !socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    wb_peer_patience(device, 60000);
    CHECK(!pthread_create(&server, NULL, serve, NULL));
    CHECK(!ask(pair[0], 1, "\0\0\0", 4, NULL, 0));
    CHECK(!map(FAR, PAGE, dup(fd)) && !map(FAR + PAGE, PAGE, -1) && !wb_dma_map(device, &last, dup(fd)));
    check_stop(guest, &result);
    shutdown(pair[0], SHUT_RDWR);
    CHECK(!pthread_join(server, NULL));
    munmap(guest, 2 * PAGE);
    close(pair[0]);
    close(pair[1]);
    close(fd);
}

int main(void)
{
    device = make_device(&stub);
    test_a_file_that_was_cut_short_before_it_was_sealed();
    test_a_file_that_is_longer_than_there_is_room();
    test_many_files();
    test_unmapped_in_the_middle();
    test_stopped_in_the_middle();
    wb_device_free(device);
    return 0;
}
