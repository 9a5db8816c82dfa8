/*
 * burn.c - keeps a core busy: each line of standard input is how many seconds; answers when they are over.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(void)
{
    double seconds;

    while (scanf("%lf", &seconds) == 1) {
        double until = now() + seconds;

        while (now() < until)
            for (volatile uint32_t i = 0; i < 10000; i++)
                ;
        printf("over\n");
        fflush(stdout);
    }
    return 0;
}
