/*
 * dmacopy.c - copies between memory and the guest, and inside the guest.
 *
 * Each copy is a list of spans, all checked and pinned under the lock before a byte moves; then it
 * runs without the lock. Where a part is reached by messages alone (a far one) nothing is pinned as a
 * whole: each part is looked up again when its turn comes, so that an unmap need not wait for the
 * client's answers. Such a copy can end half done; all others are whole or not at all, unless the
 * client truncates its file meanwhile.
 *
 * A copy of up to a page that lies in one mapped range is done under the lock after all: that is shorter
 * than giving the lock back and taking it again, and nothing need be pinned. It is not timed
 * either: the clock is read once, after the bytes, while the processor still stores them.
 */
#include "dmafile.h"

#include <stdlib.h>

enum {
    PEEK = WB_ORIGINS,          /* an origin of our own: a copy that leaves no trace */
    QUICK = 4096,               /* bytes: copies of mapped memory up to here are done at once, not timed */
    BOUNCE = 131072             /* bytes in one step of a copy inside the guest */
};

struct copy {
    const wb_dma_span *spans;
    uint32_t count, origin;
    uint32_t access;            /* enum wb_dma_flag that every range must have; 0: PEEK */
    uint8_t *to;                /* our side: one of the two, the other NULL */
    const uint8_t *from;
    uint64_t time;
    struct wb_range *only;      /* pinned, and all there is to a copy of one span; or NULL */
    int far;                    /* a part is reached by messages: nothing is pinned */
    uint32_t at;                /* the span that is copied, or that failed */
};

static struct copy new_copy(const wb_dma_span *spans, uint32_t count, uint8_t *to, const uint8_t *from,
                            uint32_t origin)
{
    return (struct copy){
        .spans = spans, .count = count, .to = to, .from = from, .origin = origin, .time = wb_clock(),
        .access = origin == PEEK ? 0 : to ? WB_DMA_READABLE : WB_DMA_WRITABLE,
    };
}

/* ---- before and after, under the lock ---- */

/* 0, or why the device may not copy now. */
static int refused_locked(const wb_device *device)
{
    if (wb_asleep(device))
        return -EHOSTDOWN;
    if (device->halted & WB_HALT_STOP)
        return -ESHUTDOWN;
    return wb_command_locked(device, WB_PCI_COMMAND_MASTER) & WB_PCI_COMMAND_MASTER ? 0 : -EACCES;
}

/* May every byte of the span be copied? Says in copy->only and copy->far how. */
static int check_span_locked(wb_device *device, struct copy *copy, const wb_dma_span *span)
{
    uint64_t at = span->iova, last = span->iova + (span->size - 1);
    struct wb_range *range;

    if (!span->size)
        return 0;
    if (last < at)
        return -EFAULT;
    for (;; at++) {
        int result = wb_range_get_locked(device, at, copy->access, &range);

        if (result)
            return result;
        copy->far |= wb_range_is_far(range);
        copy->only = copy->count == 1 && at == span->iova ? range : NULL;
        at = range->at.iova + (range->at.size - 1);
        if (at >= last)
            return 0;
    }
}

static void pin_locked(wb_device *device, const struct copy *copy, int pins)
{
    if (copy->only) {
        copy->only->pins += (uint32_t)pins;
        return;
    }
    for (uint32_t i = 0; i < copy->count; i++) {
        const wb_dma_span *span = &copy->spans[i];
        uint32_t place = wb_range_find_locked(device, span->iova);

        for (; span->size && place < device->range_count; place++) {
            if (device->ranges[place]->at.iova > span->iova + (span->size - 1))
                break;
            device->ranges[place]->pins += (uint32_t)pins;
        }
    }
}

/* Checks all spans and pins what they need; nothing is pinned when it fails. */
static int open_locked(wb_device *device, struct copy *copy)
{
    int result;

    result = copy->access ? refused_locked(device) : 0;
    if (result)
        return result;
    for (; copy->at < copy->count; copy->at++) {
        result = check_span_locked(device, copy, &copy->spans[copy->at]);
        if (result)
            return result;
    }
    copy->at = 0;
    if (copy->far)
        copy->only = NULL;
    else
        pin_locked(device, copy, 1);
    return !copy->far ? 0 : copy->origin == PEEK ? -ENXIO : wb_peer_check_locked(device);
}

static void log_span_locked(wb_device *device, const struct copy *copy, const wb_dma_span *span, int result,
                            const uint8_t *first)
{
    wb_record record = {
        .time = copy->time, .kind = copy->to ? WB_KIND_DMA_READ : WB_KIND_DMA_WRITE,
        .origin = (uint8_t)copy->origin, .region = WB_NO_REGION, .offset = span->iova,
        .size = span->size < UINT32_MAX ? (uint32_t)span->size : UINT32_MAX,
        .flags = span->size > 8 ? WB_LONG : 0,
    };

    if (copy->origin == PEEK || !span->size)
        return;
    if (result) {
        record.flags |= WB_REFUSED;
        record.value = (uint64_t)-result;
    } else {
        memcpy(&record.value, first, span->size < 8 ? span->size : 8);
    }
    record.latency = wb_elapsed(copy->time);
    wb_log_add_locked(device, &record);
}

/* Leaves a record of each span that was copied, or of the one that failed. */
static void log_locked(wb_device *device, const struct copy *copy, int result)
{
    const uint8_t *first = copy->to ? copy->to : copy->from;

    for (uint32_t i = 0; i < copy->at; i++) {
        log_span_locked(device, copy, &copy->spans[i], 0, first);
        first += copy->spans[i].size;
    }
    if (result && copy->at < copy->count)
        log_span_locked(device, copy, &copy->spans[copy->at], result, first);
}

/* Whoever copies the guest elsewhere learns what was written, all or a part. */
static void mark_locked(wb_device *device, const struct copy *copy)
{
    for (uint32_t i = 0; copy->from && i < copy->count && i <= copy->at; i++)
        wb_dirty_mark_locked(device, copy->spans[i].iova, copy->spans[i].size);
}

static void close_locked(wb_device *device, const struct copy *copy)
{
    if (copy->far)
        return;
    pin_locked(device, copy, -1);
    if (!copy->only || copy->only->leaving || device->halted)
        pthread_cond_broadcast(&device->left);
}

/* ---- in between, without the lock ---- */

/* A piece of a copy that lies in one range. */
struct part {
    struct wb_range *range;     /* stays while it is pinned; NULL: reached by messages */
    uint64_t offset, size;      /* in the file; bytes */
};

/* Of a far copy, whose parts may go, and which may be stopped, meanwhile. */
static int look_up_locked(wb_device *device, const struct copy *copy, uint64_t iova, struct wb_range **range)
{
    int result = copy->access ? refused_locked(device) : 0;

    return result ? result : wb_range_get_locked(device, iova, copy->access, range);
}

static int find_part(wb_device *device, const struct copy *copy, uint64_t iova, uint64_t size,
                     struct part *part)
{
    struct wb_range *range = copy->only;
    int result = 0;

    if (!range) {
        wb_lock(device);
        if (copy->far)
            result = look_up_locked(device, copy, iova, &range);
        else                        /* pinned: an unmap may wait for it to be left */
            range = device->ranges[wb_range_find_locked(device, iova)];
    }
    if (!result) {
        uint64_t within = iova - range->at.iova, rest = range->at.size - within;

        *part = (struct part){range, range->at.offset + within, size < rest ? size : rest};
        if (copy->far && wb_range_is_far(range))
            part->range = NULL;
        else if (copy->far)
            range->pins++;
    }
    if (!copy->only)
        wb_unlock(device);
    return result;
}

/* Who waits for it to be left may look at once what was written. */
static void leave_part(wb_device *device, const struct part *part, uint64_t iova, int written)
{
    wb_lock(device);
    if (written)
        wb_dirty_mark_locked(device, iova, part->size);
    part->range->pins--;
    pthread_cond_broadcast(&device->left);
    wb_unlock(device);
}

/* Moves bytes of an open copy, across ranges. */
static int move(wb_device *device, const struct copy *copy, uint64_t iova, uint8_t *to, const uint8_t *from,
                uint64_t size)
{
    struct part part = {0};

    for (uint64_t done = 0; done < size; done += part.size) {
        uint8_t *into = to ? to + done : NULL;
        const uint8_t *data = from ? from + done : NULL;
        int result = find_part(device, copy, iova + done, size - done, &part);

        if (!result && !part.range) {
            result = wb_peer_copy(device, iova + done, into, data, part.size);
        } else if (!result) {
            result = wb_file_copy(part.range->file, part.offset, into, data, part.size);
            if (copy->far)
                leave_part(device, &part, iova + done, from != NULL);
        }
        if (result)
            return result;
    }
    return 0;
}

static int move_spans(wb_device *device, struct copy *copy)
{
    uint64_t done = 0;

    for (; copy->at < copy->count; copy->at++) {
        const wb_dma_span *span = &copy->spans[copy->at];
        int result = move(device, copy, span->iova, copy->to ? copy->to + done : NULL,
                          copy->from ? copy->from + done : NULL, span->size);

        if (result)
            return result;
        done += span->size;
    }
    return 0;
}

static int run(wb_device *device, struct copy *copy)
{
    int result, opened;

    wb_lock(device);
    result = open_locked(device, copy);
    opened = !result;
    if (opened) {
        wb_unlock(device);
        result = move_spans(device, copy);
        wb_lock(device);
    }
    log_locked(device, copy, result);
    if (opened) {
        mark_locked(device, copy);
        close_locked(device, copy);
    }
    wb_unlock(device);
    return result;
}

/* ---- at once, under the lock ---- */

/* Where bytes of guest memory lie, if the device may copy them and they are one piece of a mapping. */
static uint8_t *mapped_locked(wb_device *device, uint64_t iova, uint64_t size, uint32_t access)
{
    struct wb_range *range;
    const struct wb_file *file;

    if (refused_locked(device) || wb_range_get_locked(device, iova, access, &range))
        return NULL;
    file = range->file;
    if (wb_range_is_far(range) || !file->bytes || file->huge
        || size > range->at.size - (iova - range->at.iova))
        return NULL;
    return file->bytes + range->at.offset + (iova - range->at.iova);
}

/* Is it a copy that can be done at once? Does it. Else nothing has happened yet. */
static int quick(wb_device *device, uint64_t iova, uint8_t *to, const uint8_t *from, uint64_t size,
                 uint32_t origin)
{
    uint64_t time, first = 0;
    wb_record *record;
    uint8_t *guest;

    wb_lock(device);
    guest = mapped_locked(device, iova, size, to ? WB_DMA_READABLE : WB_DMA_WRITABLE);
    if (guest) {
        memcpy(to ? to : guest, to ? guest : from, size);
        memcpy(&first, to ? to : from, size < 8 ? size : 8);
        time = wb_clock();
        record = wb_log_next_locked(device);
        *record = (wb_record){
            .seq = device->seq - 1, .time = time, .kind = to ? WB_KIND_DMA_READ : WB_KIND_DMA_WRITE,
            .origin = (uint8_t)origin, .region = WB_NO_REGION, .offset = iova, .value = first,
            .size = (uint32_t)size, .flags = size > 8 ? WB_LONG : 0,
        };
        if (from)
            wb_dirty_mark_locked(device, iova, size);
    }
    wb_unlock(device);
    return guest != NULL;
}

/* ---- the calls ---- */

int wb_dma_gather(wb_device *device, const wb_dma_span *spans, uint32_t count, uint8_t *bytes,
                  uint32_t origin)
{
    struct copy copy = new_copy(spans, count, bytes, NULL, origin);

    return origin < WB_ORIGINS && count <= WB_MAX_SPANS ? run(device, &copy) : -EINVAL;
}

int wb_dma_scatter(wb_device *device, const wb_dma_span *spans, uint32_t count, const uint8_t *bytes,
                   uint32_t origin)
{
    struct copy copy = new_copy(spans, count, NULL, bytes, origin);

    return origin < WB_ORIGINS && count <= WB_MAX_SPANS ? run(device, &copy) : -EINVAL;
}

int wb_dma_read(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size, uint32_t origin)
{
    wb_dma_span span = {iova, size};

    if (size - 1 < QUICK && origin < WB_ORIGINS && quick(device, iova, bytes, NULL, size, origin))
        return 0;
    return wb_dma_gather(device, &span, 1, bytes, origin);
}

int wb_dma_write(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin)
{
    wb_dma_span span = {iova, size};

    if (size - 1 < QUICK && origin < WB_ORIGINS && quick(device, iova, NULL, bytes, size, origin))
        return 0;
    return wb_dma_scatter(device, &span, 1, bytes, origin);
}

/* As the workbench: whatever COMMAND and the client's flags say, and without a record. */
int wb_dma_peek(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size)
{
    wb_dma_span span = {iova, size};
    struct copy copy = new_copy(&span, 1, bytes, NULL, PEEK);

    return run(device, &copy);
}

int wb_dma_poke(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin)
{
    wb_dma_span span = {iova, size};
    struct copy copy = new_copy(&span, 1, NULL, bytes, origin);

    copy.access = 0;
    return origin < WB_ORIGINS ? run(device, &copy) : -EINVAL;
}

int wb_dma_waits(wb_device *device, uint64_t iova, uint64_t size)
{
    wb_dma_span span = {iova, size};
    struct copy copy = {.spans = &span, .count = 1};
    int waits;

    wb_lock(device);
    waits = !check_span_locked(device, &copy, &span) && copy.far && !wb_peer_check_locked(device);
    wb_unlock(device);
    return waits;
}

/* Through memory of our own, step by step and, like memmove, from the end that is not overwritten first. */
static int bounce(wb_device *device, const struct copy *read, const struct copy *write, uint8_t *bytes,
                  uint8_t *first)
{
    uint64_t from = read->spans->iova, to = write->spans->iova, size = read->spans->size;
    int backwards = to > from && to - from < size;

    for (uint64_t done = 0; done < size;) {
        uint64_t step = size - done < BOUNCE ? size - done : BOUNCE;
        uint64_t at = backwards ? size - done - step : done;
        int result = move(device, read, from + at, bytes, NULL, step);

        if (!result)
            result = move(device, write, to + at, NULL, bytes, step);
        if (result)
            return result;
        if (!at)
            memcpy(first, bytes, step < 8 ? step : 8);
        done += step;
    }
    return 0;
}

/* Takes the pins of an open copy away: its parts are looked up when their turn comes. */
static void unpin_locked(wb_device *device, struct copy *copy)
{
    close_locked(device, copy);
    copy->far = 1;
    copy->only = NULL;
}

static int open_both(wb_device *device, struct copy *read, struct copy *write)
{
    const struct copy *failed = read;
    int result;

    wb_lock(device);
    result = open_locked(device, read);
    if (!result) {
        failed = write;
        result = open_locked(device, write);
        if (result)
            close_locked(device, read);
    }
    if (result)
        log_locked(device, failed, result);
    else if (read->far != write->far)
        unpin_locked(device, read->far ? write : read);
    wb_unlock(device);
    return result;
}

int wb_dma_copy(wb_device *device, uint64_t to, uint64_t from, uint64_t size, uint32_t origin)
{
    const wb_dma_span target = {to, size}, source = {from, size};
    uint8_t first[8] = {0}, *bytes;
    struct copy read = new_copy(&source, 1, first, NULL, origin);
    struct copy write = new_copy(&target, 1, NULL, first, origin);
    int result;

    if (origin >= WB_ORIGINS)
        return -EINVAL;
    bytes = malloc(size < BOUNCE ? size + 1 : BOUNCE);
    if (!bytes)
        return -ENOMEM;
    result = open_both(device, &read, &write);
    if (!result) {
        result = bounce(device, &read, &write, bytes, first);
        read.at = write.at = !result;
        wb_lock(device);
        log_locked(device, &read, result);
        log_locked(device, &write, result);
        mark_locked(device, &write);
        close_locked(device, &read);
        close_locked(device, &write);
        wb_unlock(device);
    }
    free(bytes);
    return result;
}
