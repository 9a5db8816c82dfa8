/*
 * fuzz_main.c - runs files through a fuzz target that was built without a fuzzer: the corpus, with any
 * compiler.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int main(int count, char **names)
{
    static uint8_t bytes[1 << 20];

    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        uint8_t *exact;
        size_t size;

        if (!file)
            return 2;
        size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        exact = malloc(size ? size : 1);        /* so that a read behind its end is seen */
        if (!exact)
            return 2;
        for (size_t at = 0; at < size; at++)
            exact[at] = bytes[at];
        fprintf(stderr, "%s\n", names[i]);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    return 0;
}
