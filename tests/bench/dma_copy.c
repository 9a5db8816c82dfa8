/*
 * dma_copy.c - what a copy of guest memory costs beside memcpy on the same two buffers.
 *
 * Prints a line for each size: bytes, then the speed of wb_dma_read and of wb_dma_write relative to
 * memcpy (1 is as fast), then ns of the three calls. The calls take turns, so that whatever else
 * the machine does meets all alike; each figure is the median of its rounds. Pin it to one processor.
 * With -DPEER, dma_peer.c and a socket's path it times a peer's copies, too: ns of two calls more.
 */
#include "wb_libc.h"
#include "wb.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef PEER
int peer_open(const char *path);
void peer_copy(uint64_t at, void *to, const void *from, size_t size);
enum { WAYS = 5 };
#else
enum { WAYS = 3 };
#endif
enum { GUEST = 64 << 20, ROUNDS = 301 };

static wb_device *device;
static uint8_t *guest, *own;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void copy(int way, uint64_t at, size_t size)
{
    if (way == 0)
        memcpy(own, guest + at, size);
#ifdef PEER
    else if (way > 2)
        peer_copy(at, way == 3 ? own : NULL, own, size);
#endif
    else if (way == 1 ? wb_dma_read(device, at, own, size, WB_DEVICE)
                      : wb_dma_write(device, at, own, size, WB_DEVICE))
        abort();
    __asm__ volatile("" ::: "memory");
}

/* ns of one copy; a round is long enough to be measured. */
static double measure(int way, size_t size)
{
    size_t times = size < 65536 ? 262144 / size : 4;
    double start = now();

    for (size_t i = 0; i < times; i++)
        copy(way, i * size, size);
    return (now() - start) / (double)times;
}

static int compare(const void *one, const void *two)
{
    double a = *(const double *)one, b = *(const double *)two;

    return (a > b) - (a < b);
}

static void report(size_t size)
{
    static double times[WAYS][ROUNDS];

    for (int round = -5; round < ROUNDS; round++)
        for (int way = 0; way < WAYS; way++) {
            double time = measure((way + round + WAYS * 2) % WAYS, size);

            if (round >= 0)
                times[(way + round + WAYS * 2) % WAYS][round] = time;
        }
    for (int way = 0; way < WAYS; way++)
        qsort(times[way], ROUNDS, sizeof times[way][0], compare);
    printf("%zu %.3f %.3f", size, times[0][ROUNDS / 2] / times[1][ROUNDS / 2],
           times[0][ROUNDS / 2] / times[2][ROUNDS / 2]);
    for (int way = 0; way < WAYS; way++)
        printf(" %.0f", times[way][ROUNDS / 2]);
    printf("\n");
}

int main(int count, char **arguments)
{
    wb_dma_range range = {.size = GUEST, .flags = WB_DMA_READABLE | WB_DMA_WRITABLE};
    int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    device = wb_device_new(NULL, 65536);
    own = malloc(1 << 20);
    if (!device || !own || fd < 0 || ftruncate(fd, GUEST) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
        return 1;
    guest = mmap(NULL, GUEST, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (guest == MAP_FAILED || wb_dma_map(device, &range, fd))
        return 1;
#ifdef PEER
    if (count != 2 || peer_open(arguments[1]))
        return 1;
#else
    (void)count, (void)arguments;
#endif
    memset(guest, 1, GUEST);
    memset(own, 2, 1 << 20);
    for (size_t size = 64; size <= 1 << 20; size *= 4)
        report(size);
    wb_device_free(device);
    return 0;
}
