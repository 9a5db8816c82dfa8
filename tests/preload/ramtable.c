/* ramtable.c - ramtrack.c alone: which file, and which offset, is found behind an address. */
#include "preload.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s: failed\n", __FILE__, __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

enum { P = WBP_PAGE, PAGES = 64 };

static char *base;              /* addresses only: the table never looks at the memory */
static int one, two;

static int is_file(int fd, int file)
{
    struct stat a, b;

    return !fstat(fd, &a) && !fstat(file, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* The page of the file behind a range of pages, or -1. */
static int found(int page, int pages, int file)
{
    uint64_t offset = 0;
    int fd = wbp_ram_find(base + page * P, (size_t)pages * P, 1, &offset);

    if (fd < 0)
        return -1;
    CHECK(is_file(fd, file) && fcntl(fd, F_GETFD) == FD_CLOEXEC && offset % P == 0);
    close(fd);
    return (int)(offset / P);
}

static void shared(int page, int pages, int file, int from)
{
    wbp_ram_map(base + page * P, (size_t)pages * P, PROT_READ, MAP_SHARED, file, (off_t)from * P);
}

static void gone(int page, int pages)
{
    wbp_ram_unmap(base + page * P, (size_t)pages * P);
}

static void split_and_holes(void)
{
    shared(0, 16, one, 3);
    CHECK(found(0, 16, one) == 3 && found(5, 2, one) == 8 && found(0, 17, one) == -1);
    gone(4, 2);
    CHECK(found(0, 4, one) == 3 && found(6, 10, one) == 9 && found(0, 16, one) == -1);
    CHECK(found(3, 2, one) == -1 && found(4, 1, one) == -1 && found(5, 2, one) == -1);
    gone(0, 1);
    CHECK(found(0, 1, one) == -1 && found(1, 3, one) == 4);
    gone(15, 4);
    CHECK(found(15, 1, one) == -1 && found(6, 9, one) == 9);
    gone(0, 16);
    CHECK(found(1, 1, one) == -1 && found(6, 1, one) == -1);
    gone(0, PAGES);
}

static void over_each_other(void)
{
    shared(0, 8, one, 0);
    shared(2, 3, two, 7);
    CHECK(found(0, 2, one) == 0 && found(2, 3, two) == 7 && found(5, 3, one) == 5 && found(0, 8, one) == -1);
    wbp_ram_map(base + 2 * P, P, PROT_READ, MAP_PRIVATE, one, 0);
    CHECK(found(2, 1, two) == -1 && found(3, 2, two) == 8);
    wbp_ram_map(base + 6 * P, P, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(found(6, 1, one) == -1 && found(7, 1, one) == 7);
    shared(0, 8, two, 20);
    CHECK(found(0, 8, two) == 20);
    gone(0, PAGES);
}

/* Two mappings side by side are two, even of one file: what spans them goes by messages. */
static void side_by_side(void)
{
    for (int i = 0; i < PAGES; i += 2) {
        shared(i, 1, one, i);
        shared(i + 1, 1, two, i);
    }
    for (int i = 0; i < PAGES; i++)
        CHECK(found(i, 1, i % 2 ? two : one) == i / 2 * 2);
    CHECK(found(0, 2, one) == -1);
    for (int i = 1; i < PAGES; i += 2)
        gone(i, 1);
    CHECK(found(0, 1, one) == 0 && found(1, 1, two) == -1 && found(62, 1, one) == 62);
    gone(0, PAGES);
    wbp_ram_map(base, P + 1, PROT_READ, MAP_SHARED, one, 0);
    CHECK(found(0, 2, one) == 0);               /* whole pages */
    gone(0, 1);
    CHECK(found(1, 1, one) == 1);
    gone(0, PAGES);
}

static void other_files(void)
{
    int reader = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    uint64_t offset;
    int fd;

    shared(0, 1, reader, 0);
    CHECK(found(0, 1, reader) == -1);           /* it cannot be written */
    fd = wbp_ram_find(base, P, 0, &offset);
    CHECK(fd >= 0 && is_file(fd, reader));
    close(fd);
    shared(0, 1, null, 0);
    CHECK(found(0, 1, null) == -1);
    shared(0, 1, -1, 0);
    CHECK(found(0, 1, null) == -1);
    gone(0, PAGES);
    close(reader);
    close(null);
}

/* Before wbp_ram_keep() no descriptor is held, and one that became another file's is not taken for it. */
static void closed_and_kept(void)
{
    int file = memfd_create("closed", MFD_CLOEXEC), number = file, next;

    shared(0, 4, file, 0);
    next = dup(file);
    CHECK(next == file + 1 && !close(next));    /* nothing of ours lies between */
    close(file);
    CHECK(found(0, 4, one) == -1);
    CHECK(dup3(two, number, O_CLOEXEC) == number && found(0, 4, two) == -1);
    close(number);
    file = memfd_create("kept", MFD_CLOEXEC);
    shared(0, 4, file, 0);
    wbp_ram_keep();
    next = fcntl(file, F_DUPFD_CLOEXEC, 3);
    close(file);
    CHECK(found(0, 4, next) == 0);
    gone(1, 1);
    CHECK(found(0, 1, next) == 0 && found(2, 2, next) == 2);
    gone(0, 2);
    CHECK(found(2, 2, next) == 2);
    gone(2, 2);
    CHECK(found(2, 2, next) == -1);
    close(next);
}

static void odd_ranges(void)
{
    wbp_ram_map((void *)(UINTPTR_MAX - P + 1), P, PROT_READ, MAP_SHARED, one, 0);
    wbp_ram_unmap((void *)(uintptr_t)P, SIZE_MAX);
    CHECK(found(0, 1, one) == -1);
    shared(0, 1, one, 0);
    wbp_ram_unmap(base, 0);
    CHECK(found(0, 1, one) == 0);
    wbp_settings.no_share = 1;
    CHECK(found(0, 1, one) == -1);
    wbp_settings.no_share = 0;
    gone(0, 1);
}

int main(void)
{
    int before, after;

    wbp_ready();
    base = mmap(NULL, PAGES * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    one = memfd_create("one", MFD_CLOEXEC);
    two = memfd_create("two", MFD_CLOEXEC);
    CHECK(base != MAP_FAILED && one >= 0 && two >= 0);
    before = dup(one);
    close(before);
    closed_and_kept();
    split_and_holes();
    over_each_other();
    side_by_side();
    other_files();
    odd_ranges();
    after = dup(one);
    CHECK(after == before);     /* every descriptor was given back */
    return 0;
}
