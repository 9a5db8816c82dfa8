/*
 * clock.c - wb_clock() is CLOCK_MONOTONIC to within a microsecond, in every thread, after any gap, and never
 * goes back.
 */
#include "harness.h"

#include <time.h>

enum { THREADS = 4, GAPS = 12, SAMPLES = 20000, ERROR = 1000 /* ns */ };

static uint64_t kernel_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *look(void *unused)
{
    uint64_t last = 0;

    (void)unused;
    for (long gap = 0; gap < GAPS; gap++) {
        struct timespec pause = {0, gap * gap * 200000};        /* up to 24 ms */

        for (int i = 0; i < SAMPLES; i++) {
            uint64_t before = kernel_clock(), told = wb_clock(), after = kernel_clock();

            CHECK(told >= last);
            CHECK(told + ERROR >= before && told <= after + ERROR);
            last = told;
        }
        nanosleep(&pause, NULL);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, look, NULL));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(threads[i], NULL));
    return 0;
}
