/*
 * watch.c - finds what was written to shared pages, which nobody reports.
 *
 * A watch keeps a copy of the pages and compares it with them once a period, on the thread that runs it.
 * A word that differs becomes a record; when it was written is known to within the time since the sample
 * before. What is written twice between two samples, or written back, is not seen.
 *
 * Pages that hold nothing yet are skipped (the memory file knows them), so a large region costs what was
 * written to it. Comparing takes no lock; only a page that differs is looked at again under it. What the
 * engine stores itself goes into the copies too: it has a record of its own already.
 */
#include "internal.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct wb_watch {
    wb_device *device;
    struct wb_region *region;
    struct wb_watch *next;      /* in the region's list */
    uint64_t offset, size;
    uint64_t period;            /* ns */
    uint64_t last;              /* ns, when the sample before was taken */
    uint8_t *copy;              /* of the bytes from offset on */
    uint32_t most;
    int stopped;
    uint8_t index;
    pthread_cond_t wake;
    wb_watch_counts counts;
};

/* One pass over the pages. */
struct sample {
    uint64_t time;
    uint64_t data_end;          /* up to here the file holds something */
    uint64_t first, end;        /* bytes that hold the words not logged */
    uint32_t logged, unlogged;
};

static uint64_t word_at(const uint8_t *at)
{
    return __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
}

static int differs(const uint8_t *now, const uint8_t *before, uint64_t size)
{
    uint64_t found = 0;

    for (uint64_t at = 0; at < size; at += 8)
        found |= word_at(now + at) ^ word_at(before + at);
    return found != 0;
}

/* The next offset whose page holds something; the watch's end when there is none. */
static uint64_t next_data(const struct wb_watch *watch, struct sample *sample, uint64_t at)
{
    uint64_t end = watch->offset + watch->size;
    off_t data, hole;

    if (at < sample->data_end || at >= end)
        return at < end ? at : end;
    data = lseek(watch->region->share_fd, (off_t)at, SEEK_DATA);
    hole = data < 0 ? -1 : lseek(watch->region->share_fd, data, SEEK_HOLE);
    if (hole < 0)
        return end;
    sample->data_end = (uint64_t)hole;
    return (uint64_t)data < end ? (uint64_t)data : end;
}

/* A record for a changed word, as narrow as one aligned access could have changed it. */
static void log_word_locked(struct wb_watch *watch, struct sample *sample, uint64_t at, uint64_t old,
                            uint64_t now)
{
    uint32_t low = (uint32_t)__builtin_ctzll(old ^ now) / 8;
    uint32_t high = 7 - (uint32_t)__builtin_clzll(old ^ now) / 8;
    uint32_t size = 1, start;
    uint64_t since = sample->time - watch->last, mask;
    wb_record record = {
        .kind = WB_KIND_MMAP, .origin = WB_GUEST, .region = watch->index, .time = sample->time,
        .latency = since > UINT32_MAX ? UINT32_MAX : (uint32_t)since,
    };

    while (low / size != high / size)
        size *= 2;
    start = low / size * size;
    mask = size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
    record.size = size;
    record.offset = at + start;
    record.old = old >> 8 * start & mask;
    record.value = record.now = now >> 8 * start & mask;
    wb_log_add_locked(watch->device, &record);
}

static void compare_page_locked(struct wb_watch *watch, struct sample *sample, uint64_t from, uint64_t size)
{
    for (uint64_t at = from; at < from + size; at += 8) {
        uint8_t *copy = watch->copy + (at - watch->offset);
        uint64_t old = word_at(copy), now = word_at(wb_plane_at(watch->region, WB_VALUE, at));

        if (old == now)
            continue;
        wb_pieces_store(copy, (const uint8_t *)&now, sizeof now);
        watch->counts.changes++;
        if (sample->logged < watch->most) {
            sample->logged++;
            log_word_locked(watch, sample, at, old, now);
            continue;
        }
        if (!sample->unlogged++)
            sample->first = at;
        sample->end = at + 8;
    }
}

static void log_rest_locked(struct wb_watch *watch, const struct sample *sample)
{
    uint64_t since = sample->time - watch->last, span = sample->end - sample->first;
    wb_record record = {
        .kind = WB_KIND_MMAP, .origin = WB_GUEST, .region = watch->index, .time = sample->time,
        .latency = since > UINT32_MAX ? UINT32_MAX : (uint32_t)since, .flags = WB_MORE,
        .offset = sample->first, .value = sample->unlogged,
        .size = span > WB_MAX_TRANSFER ? WB_MAX_TRANSFER : (uint32_t)span,
    };

    watch->counts.unlogged += sample->unlogged;
    wb_log_add_locked(watch->device, &record);
}

static void take_sample(struct wb_watch *watch)
{
    uint64_t end = watch->offset + watch->size, size;
    struct sample sample = {.time = wb_clock()};

    for (uint64_t at = watch->offset; (at = next_data(watch, &sample, at)) < end; at += size) {
        size = wb_to_page_end(at, end - at);
        if (!differs(wb_plane_at(watch->region, WB_VALUE, at), watch->copy + (at - watch->offset), size))
            continue;
        wb_lock(watch->device);
        compare_page_locked(watch, &sample, at, size);
        wb_unlock(watch->device);
    }
    wb_lock(watch->device);
    if (sample.unlogged)
        log_rest_locked(watch, &sample);
    watch->counts.samples++;
    watch->last = sample.time;
    wb_unlock(watch->device);
}

/* What is there now is no change. Under the lock page by page, as the list knows the watch already. */
static void remember(struct wb_watch *watch)
{
    uint64_t end = watch->offset + watch->size, size;
    struct sample sample = {0};

    for (uint64_t at = watch->offset; (at = next_data(watch, &sample, at)) < end; at += size) {
        size = wb_to_page_end(at, end - at);
        wb_lock(watch->device);
        wb_pieces_load(wb_plane_at(watch->region, WB_VALUE, at), watch->copy + (at - watch->offset), size);
        wb_unlock(watch->device);
    }
    watch->last = wb_clock();
}

static int all_shared(const struct wb_region *region, uint64_t offset, uint64_t size)
{
    for (uint64_t at = offset; at < offset + size; at += wb_to_page_end(at, size))
        if (!wb_page_shared(region, at))
            return 0;
    return 1;
}

static int start(struct wb_watch *watch)
{
    void *copy = mmap(NULL, watch->size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pthread_condattr_t attributes;
    int failed;

    if (copy == MAP_FAILED)
        return -ENOMEM;
    watch->copy = copy;
    failed = pthread_condattr_init(&attributes);
    if (!failed) {
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        failed = pthread_cond_init(&watch->wake, &attributes);
        pthread_condattr_destroy(&attributes);
    }
    if (failed) {
        munmap(copy, watch->size);
        return -ENOMEM;
    }
    wb_lock(watch->device);
    watch->next = watch->region->watches;
    watch->region->watches = watch;
    wb_unlock(watch->device);
    remember(watch);
    return 0;
}

int wb_watch_new(wb_device *device, uint32_t index, uint64_t offset, uint64_t size, uint64_t period,
                 uint32_t most, wb_watch **watch)
{
    struct wb_region *region = index < WB_REGIONS ? &device->regions[index] : NULL;
    struct wb_watch *made;
    int result;

    if (!region || !region->planes || offset % 8 || !size || size % 8 || offset > region->size
        || size > region->size - offset || !period || period >> 62 || !all_shared(region, offset, size)
        || region->share_fd < 0)
        return -EINVAL;
    made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    made->device = device;
    made->region = region;
    made->index = (uint8_t)index;
    made->offset = offset;
    made->size = size;
    made->period = period;
    made->most = most;
    result = start(made);
    if (result)
        free(made);
    else
        *watch = made;
    return result;
}

void wb_watch_run(wb_watch *watch)
{
    uint64_t next = watch->last;
    int stopped;

    do {
        struct timespec until;
        uint64_t now = wb_clock();

        next = next + watch->period > now ? next + watch->period : now + watch->period;   /* late: skip */
        until = wb_clock_timespec(next);
        wb_lock(watch->device);
        while (!watch->stopped
               && pthread_cond_timedwait(&watch->wake, &watch->device->lock, &until) != ETIMEDOUT)
            continue;
        stopped = watch->stopped;
        wb_unlock(watch->device);
        take_sample(watch);             /* a last one, too: what came before stop() is told */
    } while (!stopped);
}

void wb_watch_stop(wb_watch *watch)
{
    wb_lock(watch->device);
    watch->stopped = 1;
    pthread_cond_broadcast(&watch->wake);
    wb_unlock(watch->device);
}

void wb_watch_get(wb_watch *watch, wb_watch_counts *counts)
{
    wb_lock(watch->device);
    *counts = watch->counts;
    wb_unlock(watch->device);
}

void wb_watch_free(wb_watch *watch)
{
    wb_device *device = watch->device;

    wb_lock(device);
    for (struct wb_watch **at = &watch->region->watches; *at; at = &(*at)->next)
        if (*at == watch) {
            *at = watch->next;
            break;
        }
    wb_unlock(device);
    pthread_cond_destroy(&watch->wake);
    munmap(watch->copy, watch->size);
    free(watch);
}

void wb_watch_expect_locked(struct wb_region *region, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
    for (struct wb_watch *watch = region->watches; watch; watch = watch->next) {
        uint64_t from = offset > watch->offset ? offset : watch->offset;
        uint64_t end = watch->offset + watch->size;

        end = offset + size < end ? offset + size : end;
        if (from < end)
            wb_pieces_store(watch->copy + (from - watch->offset), bytes + (from - offset), end - from);
    }
}
