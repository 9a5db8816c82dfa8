/*
 * ramtrack.c - which addresses are shared mappings of a file, so that a server can map them, too.
 *
 * Filled by the mmap and munmap hooks, needs no /proc. While the program uses nothing of ours, only
 * the number and identity of its descriptor are noted: the program sees no descriptor it did not
 * open, and loses no file lock when one is closed. From wbp_ram_keep() on, a descriptor of our own
 * is held for each mapping.
 *
 * The table's memory comes from mmap, not from malloc, which may itself be waiting in our hook.
 */
#include "preload.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct span {
    uintptr_t start, end;
    uint64_t offset;            /* of start in the file */
    dev_t device;               /* which file that was */
    ino_t inode;
    int fd;
    int own;                    /* fd is ours to close */
};

static struct span *spans;      /* by address, none overlaps another */
static size_t count, room;      /* count is read without the lock to see that there is nothing */
static int keeping;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void set_count(size_t n)
{
    __atomic_store_n(&count, n, __ATOMIC_RELEASE);
}

static int grow(void)
{
    size_t wanted = room ? 2 * room : WBP_PAGE / sizeof *spans;
    void *bigger;

    if (count + 2 <= room)
        return 0;
    bigger = wbp_real.mmap(NULL, wanted * sizeof *spans, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0);
    if (bigger == MAP_FAILED)
        return -ENOMEM;
    if (spans) {
        memcpy(bigger, spans, count * sizeof *spans);
        wbp_real.munmap(spans, room * sizeof *spans);
    }
    spans = bigger;
    room = wanted;
    return 0;
}

static void release(struct span *span)
{
    if (span->own)
        wbp_real.close(span->fd);
}

/* Gives a span a descriptor of its own, if its file is still open under the number it had. */
static void hold(struct span *span)
{
    struct stat status;
    int fd;

    if (span->own || fstat(span->fd, &status) || status.st_dev != span->device ||
        status.st_ino != span->inode)
        return;
    fd = fcntl(span->fd, F_DUPFD_CLOEXEC, 3);
    if (fd >= 0) {
        span->fd = fd;
        span->own = 1;
    }
}

static void remove_at(size_t i)
{
    memmove(spans + i, spans + i + 1, (count - i - 1) * sizeof *spans);
    set_count(count - 1);
}

static void insert_at(size_t i, const struct span *span)
{
    memmove(spans + i + 1, spans + i, (count - i) * sizeof *spans);
    spans[i] = *span;
    set_count(count + 1);
}

/* The first span that ends behind an address. */
static size_t first_behind(uintptr_t at)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (spans[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Two spans from one, with a hole between; returns whether there was room for the second. */
static int split(size_t i, uintptr_t start, uintptr_t end)
{
    struct span upper = spans[i];

    if (grow())
        return 0;
    upper.offset += end - upper.start;
    upper.start = end;
    upper.own = 0;
    hold(&upper);
    spans[i].end = start;
    insert_at(i + 1, &upper);
    return 1;
}

static void punch(uintptr_t start, uintptr_t end)
{
    for (size_t i = first_behind(start); i < count && spans[i].start < end; ) {
        struct span *span = &spans[i];

        if (span->start < start && span->end > end) {
            if (split(i, start, end))
                return;
            span->end = start;  /* no memory: the upper part goes by messages */
            return;
        }
        if (span->start < start) {
            span->end = start;
            i++;
        } else if (span->end > end) {
            span->offset += end - span->start;
            span->start = end;
            return;
        } else {
            release(span);
            remove_at(i);
        }
    }
}

static uintptr_t end_of(const void *at, size_t size)
{
    uintptr_t start = (uintptr_t)at, end;

    if (__builtin_add_overflow(start, size, &end) || end > UINTPTR_MAX - WBP_PAGE)
        return UINTPTR_MAX;
    return (end + WBP_PAGE - 1) / WBP_PAGE * WBP_PAGE;
}

void wbp_ram_unmap(const void *at, size_t size)
{
    int before = errno;

    if (!__atomic_load_n(&count, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&lock);
    punch((uintptr_t)at, end_of(at, size));
    pthread_mutex_unlock(&lock);
    errno = before;
}

void wbp_ram_map(const void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    struct span span = {
        .start = (uintptr_t)at, .end = end_of(at, size), .offset = (uint64_t)offset, .fd = fd,
    };
    int type = flags & MAP_TYPE;
    int before = errno;
    struct stat status;

    wbp_ram_unmap(at, size);
    if ((type != MAP_SHARED && type != MAP_SHARED_VALIDATE) || flags & MAP_ANONYMOUS || fstat(fd, &status) ||
        !S_ISREG(status.st_mode)) {
        errno = before;
        return;
    }
    (void)prot;                 /* may change later; the file's own mode tells */
    span.device = status.st_dev;
    span.inode = status.st_ino;
    pthread_mutex_lock(&lock);
    if (!grow()) {
        if (keeping)
            hold(&span);
        insert_at(first_behind(span.start), &span);
    }
    pthread_mutex_unlock(&lock);
    errno = before;
}

void wbp_ram_keep(void)
{
    pthread_mutex_lock(&lock);
    keeping = 1;
    for (size_t i = 0; i < count; i++)
        hold(&spans[i]);
    pthread_mutex_unlock(&lock);
}

/* The descriptor is checked again: one that is not ours may have been closed and be another file's. */
static int descriptor_of(const struct span *span, int writable)
{
    struct stat status;
    int mode = fcntl(span->fd, F_GETFL);

    if (mode < 0 || fstat(span->fd, &status) || status.st_dev != span->device || status.st_ino != span->inode)
        return -1;
    mode &= O_ACCMODE;
    if (writable ? mode != O_RDWR : mode == O_WRONLY)
        return -1;
    return fcntl(span->fd, F_DUPFD_CLOEXEC, 3);
}

int wbp_ram_find(const void *at, size_t size, int writable, uint64_t *offset)
{
    uintptr_t start = (uintptr_t)at, end = end_of(at, size);
    int fd = -1;
    size_t i;

    if (wbp_settings.no_share)
        return -1;
    pthread_mutex_lock(&lock);
    i = first_behind(start);
    if (i < count && spans[i].start <= start && end <= spans[i].end) {
        *offset = spans[i].offset + (start - spans[i].start);
        fd = descriptor_of(&spans[i], writable);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

void wbp_ram_fork_begin(void)
{
    pthread_mutex_lock(&lock);
}

/* A child tracks what it maps itself; what it closes must not be closed twice. */
void wbp_ram_fork_end(int child)
{
    if (child) {
        for (size_t i = 0; i < count; i++)
            release(&spans[i]);
        set_count(0);
        keeping = 0;
    }
    pthread_mutex_unlock(&lock);
}
