/*
 * mmio.c - a program in the guest: maps the BAR of a PCI device and reads its first register.
 *
 * mmio RESOURCE COUNT: ns of a read, the lower quartile of short blocks.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { BLOCK = 20 };

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int compare(const void *one, const void *two)
{
    double a = *(const double *)one, b = *(const double *)two;

    return (a > b) - (a < b);
}

int main(int count, char **arguments)
{
    size_t blocks = count == 3 ? strtoul(arguments[2], NULL, 10) / BLOCK + 1 : 0;
    double *times = calloc(blocks, sizeof *times);
    int fd = count == 3 ? open(arguments[1], O_RDWR | O_SYNC) : -1;
    volatile uint32_t *registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint32_t seen = 0;

    if (fd < 0 || !times || registers == MAP_FAILED)
        return 1;
    for (size_t block = 0; block < blocks; block++) {
        double start = now();

        for (int i = 0; i < BLOCK; i++)
            seen |= registers[0];
        times[block] = (now() - start) / BLOCK;
    }
    qsort(times, blocks, sizeof *times, compare);
    printf("%.1f\n", times[blocks / 4]);
    return seen == UINT32_MAX;          /* nobody is there */
}
