/*
 * fuzz_kit.h - the fuzzer's bytes as calls of the engine.
 *
 * calls_run() reads one call after another and makes it, with whatever arguments: only pointers and the
 * lengths of what they point to are true. What it leaves behind is checked by calls_check().
 */
#ifndef FUZZ_KIT_H
#define FUZZ_KIT_H

#include "fuzz_input.h"

enum { WATCHES = 2, SLOTS = 3, ROOM = 1 << 16, LOGGED = 64 };

struct world {
    wb_device *device;
    struct input *script;       /* what hooks and cold messages do: the rest of the input, or NULL */
    int depth;                  /* calls_run() inside calls_run() */
    int served;                 /* the description is over */
    int beside;      /* the caller is not the serving thread, and so maps nothing: maps end with the client */
    int fds[KINDS];             /* -1: not made yet */
    wb_watch *watches[WATCHES];
    wb_native_slot slots[SLOTS];
    uint8_t in[SLOTS];          /* which of them are in their places */
    uint64_t since, expected;   /* log */
    uint8_t room[ROOM];
};

/* ---- descriptors ---- */

static inline int kept_fd(struct world *world, unsigned kind)
{
    int *fd = &world->fds[kind % KINDS];

    if (*fd < 0)
        *fd = make_fd(kind);
    CHECK(*fd >= 0);
    return *fd;
}

/* As it arrives from the socket: ours to give away; -1 for some. */
static inline int given_fd(struct world *world, struct input *in)
{
    unsigned kind = (unsigned)take(in, 1);

    return kind >= 0xf0 ? -1 : fcntl(kept_fd(world, kind), F_DUPFD_CLOEXEC, 0);
}

/* What the other owner of a descriptor does to it. */
static inline void abuse_fd(struct world *world, struct input *in)
{
    int fd = kept_fd(world, (unsigned)take(in, 1));
    uint64_t what = take(in, 1), value = 1;

    if (what % 4 == 0)
        (void)!ftruncate(fd, (off_t)(what / 4 % 8 * 2048));
    else if (what % 4 == 1 && fcntl(fd, F_GETFL) & O_NONBLOCK)
        (void)!read(fd, &value, sizeof value);
    else if (what % 4 == 2 && fcntl(fd, F_GETFL) & O_NONBLOCK)
        (void)!write(fd, &value, sizeof value);
    else
        (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
}

/* ---- calls ---- */

static inline void calls_run(struct world *world, struct input *in);

/* Before serving: what there is. Large regions cost address space, so they end somewhere. */
static inline void describe(struct world *world, struct input *in)
{
    wb_device *device = world->device;
    wb_irq_places places = {0};

    switch (take(in, 1) % 5) {
    case 0:
        wb_region_add(device, (uint32_t)at_most(in, 10), at_most(in, UINT64_C(1) << 32),
                      (uint32_t)at_most(in, 3));
        break;
    case 1:
        wb_region_share(device, (uint32_t)at_most(in, 10), number(in), number(in));
        break;
    case 2:
        wb_irq_add(device, (uint32_t)at_most(in, 6), (uint32_t)number(in));
        break;
    case 3:
        places.msi = (uint32_t)number(in);
        places.msix = (uint32_t)number(in);
        places.table_region = (uint32_t)at_most(in, 10);
        places.pba_region = (uint32_t)at_most(in, 10);
        places.table = number(in);
        places.pba = number(in);
        wb_irq_place(device, &places);
        break;
    default:
        wb_function_add(device, (uint32_t)number(in), (uint32_t)number(in));
    }
}

static inline void call_region(struct world *world, struct input *in)
{
    wb_device *device = world->device;
    uint32_t what = (uint32_t)take(in, 1), region = (uint32_t)at_most(in, 10);
    uint64_t offset = number(in), size = at_most(in, ROOM), word = 0;
    uint32_t plane = (uint32_t)at_most(in, WB_PLANES), origin = what / 8 % 4;

    switch (what % 8) {
    case 0:
        memset(world->room, (int)take(in, 1), size);
        wb_region_set(device, region, plane, offset, world->room, size);
        break;
    case 1:
        wb_region_get(device, region, plane, offset, world->room, size);
        break;
    case 2:
        wb_region_poke(device, region, plane, offset, number(in), number(in), (uint32_t)size, origin);
        break;
    case 3:
        wb_region_hook(device, region, offset, size, (uint32_t)at_most(in, 4), (int)take(in, 1) & 1);
        break;
    case 4:
        wb_region_read(device, region, offset, world->room, (uint32_t)size, origin);
        break;
    case 5:
        memset(world->room, (int)take(in, 1), size);
        word = number(in);
        memcpy(world->room, &word, sizeof word);
        wb_region_write(device, region, offset, world->room, (uint32_t)size, origin);
        break;
    case 6:
        wb_state_next(device, region, &offset);
        break;
    default:
        wb_region_fd(device, region);
    }
}

static inline void call_irq(struct world *world, struct input *in)
{
    wb_device *device = world->device;
    uint32_t what = (uint32_t)take(in, 1), index = (uint32_t)number(in), vector = (uint32_t)number(in);
    uint32_t set[5] = {20, (uint32_t)number(in), index, vector, (uint32_t)number(in)}, nfds = what >> 4;
    wb_irq_status status;
    uint8_t payload[64] = {0};
    int fds[16];

    switch (what % 6) {
    case 0:
    case 1:
        wb_irq_trigger(device, what & 8 ? (uint32_t)WB_IRQ_ANY : index, vector, what >> 4 & 3);
        break;
    case 2:
        wb_irq_level(device, vector, what >> 4 & 1, what >> 5 & 3);
        break;
    case 3:
        wb_irq_get(device, index, vector, &status);
        CHECK(wb_irq_mode(device) <= WB_MSIX);
        break;
    default:
        memcpy(payload, set, sizeof set);
        for (uint32_t i = 0; i < nfds; i++)
            fds[i] = kept_fd(world, (unsigned)take(in, 1));
        for (uint32_t i = 0; i < nfds; i++)
            CHECK((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0)) >= 0);
        wb_irq_set(device, payload, (uint32_t)at_most(in, sizeof payload), fds, nfds);
    }
}

static inline uint32_t read_spans(struct input *in, wb_dma_span *spans, uint64_t most)
{
    uint32_t count = (uint32_t)take(in, 1) % 6;
    uint64_t total = 0;

    for (uint32_t i = 0; i < count; i++) {
        spans[i] = (wb_dma_span){number(in), most ? at_most(in, most - total) : number(in)};
        total += spans[i].size;
    }
    return count;
}

static inline void call_dma(struct world *world, struct input *in)
{
    wb_device *device = world->device;
    uint32_t what = (uint32_t)take(in, 1), origin = what / 16 % 4, count;
    uint64_t iova = number(in), size = at_most(in, ROOM);
    wb_dma_range range = {.iova = iova}, listed[4];
    wb_dma_span spans[6];

    switch (what % 16) {
    case 0: case 1: case 2:
        range.size = number(in);
        range.offset = number(in);
        range.flags = (uint32_t)at_most(in, 4);
        if (!world->beside)
            wb_dma_map(device, &range, given_fd(world, in));
        break;
    case 3:
        wb_dma_unmap(device, iova, number(in), what >> 4 == 15);
        break;
    case 4: case 5:
        wb_dma_read(device, iova, world->room, size, origin);
        break;
    case 6: case 7:
        wb_dma_write(device, iova, world->room, size, origin);
        break;
    case 8: case 9:
        wb_dma_copy(device, number(in), iova, size, origin);
        break;
    case 10:
        count = read_spans(in, spans, ROOM);
        wb_dma_gather(device, spans, count, world->room, origin);
        break;
    case 11:
        count = read_spans(in, spans, ROOM);
        wb_dma_scatter(device, spans, count, world->room, origin);
        break;
    case 12:
        wb_dma_peek(device, iova, world->room, size);
        break;
    case 13:
        wb_dma_poke(device, iova, world->room, size, origin);
        break;
    case 14:
        wb_dma_distrust(device, iova);
        break;
    default:
        wb_dma_list(device, listed, 4);
        wb_dma_waits(device, iova, size);
        wb_peer_read(device, iova, world->room, size);
    }
}

static inline void call_dirty(struct world *world, struct input *in)
{
    wb_device *device = world->device;
    uint64_t page_size = UINT64_C(1) << take(in, 1) % 64, iova = number(in), length, words;
    wb_dma_span spans[6];

    switch (take(in, 1) % 4) {
    case 0:
        if (take(in, 1) == 255)
            page_size--;
        wb_dirty_start(device, &page_size, spans, read_spans(in, spans, 0));
        break;
    case 1:
        wb_dirty_stop(device);
        break;
    default:
        length = number(in);
        words = length ? (length - 1) / page_size / 64 + 1 : 1;
        if (words <= ROOM / 8)
            wb_dirty_report(device, iova, length, page_size, (uint64_t *)(void *)world->room, words);
    }
}

static inline void call_state(struct world *world, struct input *in)
{
    static wb_irq_state state;
    uint32_t what = (uint32_t)take(in, 1);

    switch (what % 6) {
    case 0:
        wb_state_get(world->device, &state);
        break;
    case 1:
        memset(&state, (int)take(in, 1), sizeof state);
        wb_state_set(world->device, &state);
        break;
    case 2: case 3:
        wb_state_halt(world->device, what >> 3 & 7, what >> 6 & 1);
        break;
    case 4:
        wb_device_reset(world->device, (uint32_t)at_most(in, 5));
        break;
    default:
        if (!wb_gate_hold(world->device, 0))
            wb_gate_release(world->device);
    }
}

/* A watch that was stopped before it runs takes one sample. */
static inline void call_watch(struct world *world, struct input *in)
{
    uint32_t what = (uint32_t)take(in, 1);
    wb_watch **watch = &world->watches[what / 4 % WATCHES];
    wb_watch_counts counts;
    uint32_t region;

    if (!*watch) {
        region = (uint32_t)at_most(in, 10);
        if (wb_watch_new(world->device, region, number(in), at_most(in, 1 << 20), 1, (uint32_t)take(in, 1),
                         watch))
            *watch = NULL;
    } else if (what % 4 == 3) {
        wb_watch_free(*watch);
        *watch = NULL;
    } else {
        wb_watch_stop(*watch);
        wb_watch_run(*watch);
        wb_watch_get(*watch, &counts);
    }
}

static inline void read_log(struct world *world)
{
    wb_record records[LOGGED];
    uint32_t count = wb_log_copy(world->device, &world->since, records, LOGGED);

    for (uint32_t i = 0; i < count; i++) {
        CHECK(records[i].seq >= world->expected);
        CHECK(records[i].kind < WB_KINDS && records[i].origin < WB_ORIGINS);
        world->expected = records[i].seq + 1;
    }
    CHECK(world->expected <= wb_log_count(world->device));
}

/* A native hook that does what it is told by the value: everything it may, or fail. */
static inline int native_hook(const wb_native *wb, wb_touch *touch)
{
    uint8_t bytes[16] = {0};
    uint64_t value = touch->value;

    CHECK(touch->size >= 1 && touch->size <= 8 && touch->region < WB_REGIONS);
    touch->value = wb->peek(wb, touch->region, value >> 8, value & 15);
    switch (value % 6) {
    case 0: return wb->poke(wb, value >> 4 & 15, value >> 8 & 0xffff, value, value >> 16 & 15);
    case 1: return wb->trigger(wb, value >> 8 & 0xff) < 0;
    case 2: return wb->level(wb, value >> 8 & 0xff, value >> 4 & 1) < 0;
    case 3: return wb->dma_read(wb, value >> 8, bytes, value >> 4 & 15);
    case 4: return wb->dma_write(wb, value >> 8, bytes, value >> 4 & 15);
    default: return wb->now() == 0;
    }
}

/* Puts one in, takes one out, or both in one exchange. */
static inline void call_native(struct world *world, struct input *in)
{
    uint32_t what = (uint32_t)take(in, 1), out = what % (SLOTS + 1), into = what / 4 % (SLOTS + 1);
    wb_native_slot *before = out < SLOTS && world->in[out] ? &world->slots[out] : NULL;
    wb_native_slot *after = into < SLOTS && !world->in[into] ? &world->slots[into] : NULL;

    if (after && wb_native_busy(world->device, after))
        return;
    if (after)
        *after = (wb_native_slot){
            .hook = native_hook, .region = (uint8_t)at_most(in, 10), .offset = number(in), .revision = 1,
            .size = (uint32_t)at_most(in, 9), .write = what >> 4 & 1,
        };
    if (wb_native_swap(world->device, before, after, what >> 5 & 1))
        return;
    if (before)
        world->in[out] = 0;
    if (after)
        world->in[into] = 1;
}

static inline void call_other(struct world *world, struct input *in)
{
    switch (take(in, 1) % 6) {
    case 0:
        wb_doorbell_open(world->device, (uint32_t)at_most(in, 10), number(in), (uint32_t)number(in),
                         number(in));
        break;
    case 1:
        wb_serve_trace(world->device, (int)take(in, 1) & 1);
        break;
    case 2:
        CHECK(wb_turn_now(world->device) != 1 || world->depth);
        break;
    case 3:
        abuse_fd(world, in);
        break;
    case 5:
        call_native(world, in);
        break;
    default:
        read_log(world);
    }
}

/* A kind of call may be set apart because its caller describes the device, or is the serving thread. */
static inline void calls_run(struct world *world, struct input *in)
{
    static void (*const calls[])(struct world *, struct input *) = {
        describe, call_region, call_region, call_irq, call_dma, call_dma, call_dirty, call_state, call_watch,
        call_other,
    };
    unsigned kinds = sizeof calls / sizeof *calls;

    if (world->depth > 2)
        return;
    world->depth++;
    for (int i = 0; i < 200 && in->left; i++) {
        unsigned kind = (unsigned)take(in, 1) % (kinds + 1);

        if (kind == kinds)
            break;
        if (kind || !world->served)
            calls[kind](world, in);
    }
    world->depth--;
}

/* What holds whatever was called: ranges ascend and are apart, the log has no gap it does not count. */
static inline void calls_check(struct world *world)
{
    static wb_dma_range ranges[1024];
    uint32_t count = wb_dma_list(world->device, ranges, 1024);
    uint64_t total;

    CHECK(count <= 1024);
    for (uint32_t i = 1; i < count; i++)
        CHECK(ranges[i - 1].iova + (ranges[i - 1].size - 1) < ranges[i].iova);
    read_log(world);
    total = wb_log_count(world->device);
    CHECK(wb_log_dropped(world->device) == (total > LOGGED ? total - LOGGED : 0));
}

static inline void world_begin(struct world *world, const wb_upcalls *upcalls)
{
    signal(SIGPIPE, SIG_IGN);                   /* abuse_fd() writes to pipes */
    memset(world, 0, sizeof *world);
    for (int i = 0; i < KINDS; i++)
        world->fds[i] = -1;
    world->device = wb_device_new(upcalls, LOGGED);
    CHECK(world->device);
}

static inline void world_end(struct world *world)
{
    calls_check(world);
    for (int i = 0; i < WATCHES; i++)
        if (world->watches[i])
            wb_watch_free(world->watches[i]);
    wb_device_free(world->device);
    for (int i = 0; i < KINDS; i++)
        if (world->fds[i] >= 0)
            close(world->fds[i]);
}

#endif
