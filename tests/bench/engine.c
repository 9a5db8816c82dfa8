/*
 * engine.c - one access inside the engine, without a socket: ns of a 4-byte read and write with their
 * records, of adding a record to the log alone, of the clock, and of a read with a native hook; medians of
 * short rounds.
 */
#include "wb_libc.h"
#include "wb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 301, TIMES = 1000, WAYS = 5 };

static wb_device *device;
static volatile uint64_t told;

static int hook(const wb_native *wb, wb_touch *touch)
{
    (void)wb, (void)touch;
    return 0;
}

static wb_native_slot slot = {.hook = hook, .offset = 16, .size = 4, .revision = 1};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void act(int way, uint32_t i)
{
    static wb_record record = {.time = 1};

    if (way == 0)
        wb_region_read(device, WB_BAR0, 8, (uint8_t *)&i, 4, WB_GUEST);
    else if (way == 1)
        wb_region_write(device, WB_BAR0, 8, (const uint8_t *)&i, 4, WB_GUEST);
    else if (way == 2)
        wb_log_add(device, &record);
    else if (way == 3)
        told = wb_clock();
    else
        wb_region_read(device, WB_BAR0, 16, (uint8_t *)&i, 4, WB_GUEST);
}

static int compare(const void *one, const void *two)
{
    double a = *(const double *)one, b = *(const double *)two;

    return (a > b) - (a < b);
}

int main(void)
{
    static const uint32_t planes[] = {WB_READABLE, WB_WRITABLE, WB_ACCEPT, WB_KNOWN};
    static double times[WAYS][ROUNDS];
    static uint8_t ones[4096];

    memset(ones, 0xff, sizeof ones);
    device = wb_device_new(NULL, 1 << 18);
    if (!device || wb_region_add(device, WB_BAR0, sizeof ones, WB_REGION_READ | WB_REGION_WRITE))
        return 1;
    for (unsigned i = 0; i < 4; i++)
        if (wb_region_set(device, WB_BAR0, planes[i], 0, ones, sizeof ones))
            return 1;
    if (wb_native_swap(device, NULL, &slot, 0))
        return 1;
    for (int round = -5; round < ROUNDS; round++)
        for (int way = 0; way < WAYS; way++) {
            double start = now();

            for (uint32_t i = 0; i < TIMES; i++)
                act(way, i);
            if (round >= 0)
                times[way][round] = (now() - start) / TIMES;
        }
    for (int way = 0; way < WAYS; way++) {
        qsort(times[way], ROUNDS, sizeof times[way][0], compare);
        printf("%.1f ", times[way][ROUNDS / 2]);
    }
    printf("\n");
    wb_device_free(device);
    return 0;
}
