/*
 * log.c - the ring of records.
 *
 * The newest records are kept and the oldest overwritten: who looks at a device wants to know what
 * just happened. A record's sequence number is its place in the ring, so what was overwritten can
 * be counted and a reader sees its own gap. Everything is under the device's lock, which the access
 * that makes the record holds anyway; a reader copies in short pieces so as not to stall the guest.
 */
#include "internal.h"

enum { PIECE = 1024 };          /* records copied while the lock is held */

void wb_log_add_locked(wb_device *device, wb_record *record)
{
    record->seq = device->seq;
    if (!record->time)
        record->time = wb_clock();
    *wb_log_next_locked(device) = *record;
}

void wb_log_add(wb_device *device, const wb_record *record)
{
    wb_record copy = *record;

    wb_lock(device);
    wb_log_add_locked(device, &copy);
    wb_unlock(device);
}

static uint64_t oldest_locked(const wb_device *device)
{
    uint64_t capacity = device->ring_mask + 1;

    return device->seq > capacity ? device->seq - capacity : 0;
}

/* At most PIECE records, and never across the end of the ring. */
static uint32_t copy_piece(wb_device *device, uint64_t *since, wb_record *records, uint32_t room)
{
    uint64_t first, count, place;

    wb_lock(device);
    first = oldest_locked(device);
    if (*since > first)
        first = *since;
    count = device->seq > first ? device->seq - first : 0;
    place = first & device->ring_mask;
    if (count > device->ring_mask + 1 - place)
        count = device->ring_mask + 1 - place;
    if (count > PIECE)
        count = PIECE;
    if (count > room)
        count = room;
    if (count) {
        memcpy(records, device->ring + place, count * sizeof *records);
        *since = first + count;
    }
    wb_unlock(device);
    return (uint32_t)count;
}

uint32_t wb_log_copy(wb_device *device, uint64_t *since, wb_record *records, uint32_t room)
{
    uint32_t copied = 0, count;

    while (copied < room && (count = copy_piece(device, since, records + copied, room - copied)))
        copied += count;
    return copied;
}

uint64_t wb_log_count(wb_device *device)
{
    uint64_t count;

    wb_lock(device);
    count = device->seq;
    wb_unlock(device);
    return count;
}

uint64_t wb_log_dropped(wb_device *device)
{
    uint64_t dropped;

    wb_lock(device);
    dropped = oldest_locked(device);
    wb_unlock(device);
    return dropped;
}

int wb_log_wait(wb_device *device, uint64_t seen, uint32_t timeout_ms)
{
    uint64_t until = wb_clock() + timeout_ms * UINT64_C(1000000);
    struct timespec deadline = wb_clock_timespec(until);
    int more;

    wb_lock(device);
    device->waiters++;
    while (device->seq <= seen
           && pthread_cond_timedwait(&device->logged, &device->lock, &deadline) != ETIMEDOUT)
        ;
    device->waiters--;
    more = device->seq > seen;
    wb_unlock(device);
    return more;
}
