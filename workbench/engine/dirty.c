/*
 * dirty.c - which pages of the guest the device wrote: for a client that migrates it while it runs.
 *
 * A bit stands for a granule of memory, a power of two of at least a page. Bits lie in chunks that are made
 * when the first of theirs is set, so all 2^64 addresses can be logged and memory is paid for what was
 * written, up to a limit. When memory is short everything counts as written: a page too many is copied again,
 * one too few is lost.
 *
 * A report takes what it tells, as that of VFIO does. A granule that lies in it only in part stays set.
 */
#include "internal.h"

#include <stdlib.h>

enum { CHUNK_BITS = 32768, LEAST_SHIFT = 12, MOST_CHUNKS = 8192 };     /* 32 MiB, for 1 TiB by pages */

struct chunk {
    uint64_t number;            /* of its first bit, in chunks */
    uint64_t bits[CHUNK_BITS / 64];
};

struct wb_dirty {
    uint32_t shift;             /* a bit is 1 << shift bytes */
    uint32_t spans, chunks, room;
    wb_dma_span *span;          /* what is logged, ascending and apart; none: everything */
    struct chunk **chunk;       /* ascending */
    uint8_t all;                /* memory was short */
};

static uint64_t last_of(const wb_dma_span *span)
{
    return span->iova + (span->size - 1);
}

/* ---- bits ---- */

/* Sets bits first to last; with 64 bits of a word at once, as a report may have a bit for every byte. */
static void set_bits(uint64_t *bits, uint64_t first, uint64_t last)
{
    uint64_t head = UINT64_MAX << first % 64, tail = UINT64_MAX >> (63 - last % 64);

    if (first / 64 == last / 64) {
        bits[first / 64] |= head & tail;
        return;
    }
    bits[first / 64] |= head;
    for (uint64_t word = first / 64 + 1; word < last / 64; word++)
        bits[word] = UINT64_MAX;
    bits[last / 64] |= tail;
}

/* Index of the first chunk with this number or a higher one. */
static uint32_t find_chunk(const struct wb_dirty *dirty, uint64_t number)
{
    uint32_t low = 0, high = dirty->chunks;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (dirty->chunk[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct chunk *use_chunk(struct wb_dirty *dirty, uint64_t number)
{
    uint32_t place = find_chunk(dirty, number);
    struct chunk *added;

    if (place < dirty->chunks && dirty->chunk[place]->number == number)
        return dirty->chunk[place];
    if (dirty->chunks == MOST_CHUNKS)
        return NULL;
    if (dirty->chunks == dirty->room) {
        uint32_t room = dirty->room ? dirty->room * 2 : 16;
        struct chunk **chunk = realloc(dirty->chunk, room * sizeof(struct chunk *));

        if (!chunk)
            return NULL;
        dirty->chunk = chunk;
        dirty->room = room;
    }
    added = calloc(1, sizeof *added);
    if (!added)
        return NULL;
    added->number = number;
    memmove(dirty->chunk + place + 1, dirty->chunk + place, (dirty->chunks - place) * sizeof(struct chunk *));
    dirty->chunk[place] = added;
    dirty->chunks++;
    return added;
}

/* Marks the granules of addresses first to last. */
static void mark(struct wb_dirty *dirty, uint64_t first, uint64_t last)
{
    uint64_t from = first >> dirty->shift, to = last >> dirty->shift;

    for (uint64_t number = from / CHUNK_BITS; number <= to / CHUNK_BITS; number++) {
        struct chunk *chunk = use_chunk(dirty, number);

        if (!chunk) {
            dirty->all = 1;
            return;
        }
        set_bits(chunk->bits, number == from / CHUNK_BITS ? from % CHUNK_BITS : 0,
                 number == to / CHUNK_BITS ? to % CHUNK_BITS : CHUNK_BITS - 1);
    }
}

/* ---- what is logged ---- */

/* Index of the first span that ends at iova or behind. */
static uint32_t find_span(const struct wb_dirty *dirty, uint64_t iova)
{
    uint32_t low = 0, high = dirty->spans;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (last_of(&dirty->span[middle]) < iova)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void wb_dirty_add_locked(wb_device *device, uint64_t iova, uint64_t size)
{
    struct wb_dirty *dirty = device->dirty;
    uint64_t last = iova + (size - 1);

    if (dirty->all)
        return;
    if (!dirty->spans)
        mark(dirty, iova, last);
    for (uint32_t i = find_span(dirty, iova); i < dirty->spans && dirty->span[i].iova <= last; i++) {
        const wb_dma_span *span = &dirty->span[i];

        mark(dirty, iova > span->iova ? iova : span->iova, last < last_of(span) ? last : last_of(span));
    }
}

static int by_iova(const void *one, const void *two)
{
    uint64_t a = ((const wb_dma_span *)one)->iova, b = ((const wb_dma_span *)two)->iova;

    return a < b ? -1 : a > b;
}

/* Sorts the spans and joins those that touch: 0, or -EINVAL for one that is none or overlaps another. */
static int settle_spans(struct wb_dirty *dirty)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < dirty->spans; i++)
        if (!dirty->span[i].size || last_of(&dirty->span[i]) < dirty->span[i].iova)
            return -EINVAL;
    if (dirty->spans)
        qsort(dirty->span, dirty->spans, sizeof *dirty->span, by_iova);
    for (uint32_t i = 1; i < dirty->spans; i++) {
        if (dirty->span[i].iova <= last_of(&dirty->span[kept]))
            return -EINVAL;
        if (dirty->span[i].iova == last_of(&dirty->span[kept]) + 1)
            dirty->span[kept].size += dirty->span[i].size;
        else
            dirty->span[++kept] = dirty->span[i];
    }
    dirty->spans = dirty->spans ? kept + 1 : 0;
    return 0;
}

static void free_dirty(struct wb_dirty *dirty)
{
    if (!dirty)
        return;
    for (uint32_t i = 0; i < dirty->chunks; i++)
        free(dirty->chunk[i]);
    free(dirty->chunk);
    free(dirty->span);
    free(dirty);
}

static int is_power(uint64_t number)
{
    return number && !(number & (number - 1));
}

int wb_dirty_start(wb_device *device, uint64_t *page_size, const wb_dma_span *spans, uint32_t count)
{
    struct wb_dirty *dirty;
    uint64_t granule;
    int result;

    if (!is_power(*page_size) || count > WB_MAX_LOGGED)
        return -EINVAL;
    dirty = calloc(1, sizeof *dirty);
    if (dirty)
        dirty->span = calloc(count ? count : 1, sizeof *dirty->span);
    if (!dirty || !dirty->span) {
        free_dirty(dirty);
        return -ENOMEM;
    }
    if (count)
        memcpy(dirty->span, spans, count * sizeof *spans);
    dirty->spans = count;
    dirty->shift = (uint32_t)__builtin_ctzll(*page_size);
    if (dirty->shift < LEAST_SHIFT)
        dirty->shift = LEAST_SHIFT;
    granule = UINT64_C(1) << dirty->shift;
    result = settle_spans(dirty);
    wb_lock(device);
    if (!result && device->dirty)
        result = -EBUSY;
    if (!result)
        device->dirty = dirty;
    wb_unlock(device);
    if (result)
        free_dirty(dirty);
    else
        *page_size = granule;           /* by now another thread may have stopped it */
    return result;
}

int wb_dirty_stop(wb_device *device)
{
    struct wb_dirty *dirty;

    wb_lock(device);
    dirty = device->dirty;
    device->dirty = NULL;
    wb_unlock(device);
    free_dirty(dirty);
    return dirty ? 0 : -EINVAL;
}

/* ---- reports ---- */

struct report {
    uint64_t first, last, page_size;
    uint64_t *bits;
};

/* Tells and clears what a chunk knows of the report's addresses. */
static void report_chunk(struct report *report, struct chunk *chunk, uint32_t shift)
{
    uint64_t base = chunk->number * CHUNK_BITS, size = UINT64_C(1) << shift;
    uint64_t from = report->first >> shift, to = report->last >> shift;
    uint64_t low = from > base ? from - base : 0;
    uint64_t high = to - base < CHUNK_BITS ? to - base : CHUNK_BITS - 1;

    for (uint64_t bit = low; bit <= high; bit++) {
        uint64_t *word = &chunk->bits[bit / 64];
        uint64_t start = (base + bit) << shift, end = start + (size - 1);
        uint64_t lowest = start > report->first ? start : report->first;
        uint64_t highest = end < report->last ? end : report->last;

        if (!*word) {
            bit |= 63;
            continue;
        }
        if (!(*word >> bit % 64 & 1))
            continue;
        set_bits(report->bits, (lowest - report->first) / report->page_size,
                 (highest - report->first) / report->page_size);
        if (start >= report->first && end <= report->last)
            *word &= ~(UINT64_C(1) << bit % 64);
    }
}

static int report_locked(wb_device *device, struct report *report)
{
    struct wb_dirty *dirty = device->dirty;
    uint64_t number, to;
    uint32_t place;

    if (!dirty)
        return -EINVAL;
    place = find_span(dirty, report->first);
    if (dirty->spans && (place == dirty->spans || dirty->span[place].iova > report->first
                         || last_of(&dirty->span[place]) < report->last))
        return -EINVAL;
    if (dirty->all)
        set_bits(report->bits, 0, (report->last - report->first) / report->page_size);
    number = (report->first >> dirty->shift) / CHUNK_BITS;
    to = (report->last >> dirty->shift) / CHUNK_BITS;
    place = find_chunk(dirty, number);
    for (; place < dirty->chunks && dirty->chunk[place]->number <= to; place++)
        report_chunk(report, dirty->chunk[place], dirty->shift);
    return 0;
}

int wb_dirty_report(wb_device *device, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap,
                    uint64_t words)
{
    struct report report = {
        .first = iova, .last = iova + (length - 1), .page_size = page_size, .bits = bitmap,
    };
    int result;

    if (!is_power(page_size) || !length || report.last < iova || (length - 1) / page_size / 64 + 1 != words)
        return -EINVAL;
    memset(bitmap, 0, words * sizeof *bitmap);
    wb_lock(device);
    result = report_locked(device, &report);
    wb_unlock(device);
    return result;
}
