/*
 * internal.h - what the C files of the engine share and nobody else sees.
 *
 * A function ending in _locked is called with device->lock held and leaves it held. Every other
 * one takes the lock itself where it needs it. File descriptors are -1 when absent.
 */
#ifndef WB_INTERNAL_H
#define WB_INTERNAL_H

#include "wb_libc.h"
#include "wb.h"
#include "wb_serve.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "PCI and vfio-user are little endian, and so must be the machine"
#endif

enum {
    WB_PAGE = 4096,
    WB_NO_REGION = 255,
    WB_FILE_LISTS = 1024,
    WB_HEADER = 16,                                         /* bytes in front of every message */
    WB_MAX_MESSAGE = WB_HEADER + 16 + WB_MAX_TRANSFER,      /* a REGION_WRITE of the largest size */
    WB_IN_SIZE = WB_MAX_MESSAGE + 65536                     /* room for what arrives behind it */
};

/* Config space, PCI Local Bus 3.0 section 6.2. */
enum {
    WB_PCI_COMMAND = 4, WB_PCI_STATUS = 6,
    WB_PCI_COMMAND_MASTER = 1 << 2, WB_PCI_COMMAND_NO_INTX = 1 << 10, WB_PCI_STATUS_INTX = 1 << 3
};

struct wb_region {
    uint8_t *planes;            /* NULL: no such region */
    uint64_t stride;            /* bytes from a plane to the next */
    uint64_t size;              /* bytes of the region, and of one plane */
    uint64_t mapped;            /* bytes behind planes */
    uint64_t *programmed;       /* a bit a page: something was ever set there */
    uint32_t flags;
    uint64_t *shared;          /* a bit a page: it lies in share_fd, which the client maps; NULL: none does */
    int share_fd;               /* when there is a bitmap; offsets are those of the region */
    struct wb_watch *watches;   /* watch.c */
    uint64_t irq_start, irq_end;    /* the registers of interrupts lie in between */
};

/* native.c: the native hooks of a region, for reads or for writes, by offset */
struct wb_natives {
    wb_native_slot **slots;
    uint32_t count, room;
};

struct wb_doorbell {
    int fd;
    uint32_t region, size;
    uint64_t offset, value;
};

struct wb_vector {
    int fd;
    uint8_t masked;             /* by the client */
    uint8_t automasked;         /* INTx only: signalled, not unmasked yet */
    uint8_t pending;
    uint8_t told;               /* MSI-X: the client wrote its mask bit in the table */
    uint64_t count;
};

struct wb_index {
    struct wb_vector *vector;
    uint32_t vectors;
};

struct pollfd;
struct msghdr;
struct wb_file;                 /* dmafile.h: a file that several ranges share */
struct wb_range;                /* dmafile.h: one DMA_MAP */
struct wb_dirty;                /* dirty.c: the bitmaps while writes are logged */
struct wb_ask;                  /* peer.c: a question the client has not answered yet */

struct wb_device {
    pthread_mutex_t lock;
    wb_upcalls upcalls;
    void *hook_context;

    wb_record *ring;            /* log.c */
    uint64_t ring_mask;
    uint64_t seq;
    uint32_t waiters;
    pthread_cond_t logged;

    struct wb_region regions[WB_REGIONS];

    struct wb_index irqs[WB_IRQS];
    int unmask_fd;              /* INTx; read without the lock by the serving loop */
    wb_irq_places places;       /* msi.c */
    uint64_t sources[WB_MAX_VECTORS / 64];      /* a bit each that is up */
    uint32_t up;                /* how many are: INTx is asserted */

    uint8_t power;              /* function.c: 0 is D0, 3 D3hot; read without the lock */
    uint32_t pmcsr, device_control;         /* where they are in config space; 0: nowhere */

    uint64_t turn;              /* turn.c: odd while a request is being answered */
    uint32_t turn_waiters;
    pthread_cond_t turned;

    struct wb_range **ranges;   /* dma.c: by IOVA */
    uint32_t range_count, range_room;
    struct wb_file *files[WB_FILE_LISTS];   /* by inode: a client may have tens of thousands */
    uint64_t mapped;            /* bytes of addresses that they take */
    uint64_t departures;        /* numbers the unmaps, so that each removes its own ranges only */
    pthread_cond_t left;        /* a copy has left its ranges */
    struct wb_dirty *dirty;     /* NULL: writes are not logged */
    uint8_t halted;             /* enum wb_halt */

    struct wb_natives natives[WB_REGIONS][2];   /* native.c */
    pthread_cond_t native_over;
    pthread_t native_thread;    /* that is in a native hook, or in several, if native_depth */
    uint32_t native_depth, native_waiters;

    pthread_cond_t gate;        /* gate.c */
    int closed, inside;         /* read without the lock; inside: an access of the guest has passed */
    uint32_t steps;             /* accesses that may pass while it is paused */
    uint32_t held;              /* by so many */
    uint8_t paused, at_gate, abandoned;
    uint8_t aside;              /* the serving thread's: others have their turn in the middle of a request */

    struct wb_doorbell doorbells[WB_MAX_DOORBELLS];
    uint32_t doorbell_count;    /* read without the lock by the serving loop */

    pthread_mutex_t sending;    /* peer.c: held while a message of ours goes out; taken before `lock` */
    pthread_cond_t answered;
    struct wb_ask *asks;
    uint16_t asked;             /* id of the last one */
    uint32_t patience;          /* ms an answer may take */
    pthread_t server;           /* the thread that answers */
    int waker;                  /* eventfd of the poller whose thread that is; -1: the thread is its own */
    int socket;                 /* of the conversation; -1: there is none. Written under both locks */

    uint64_t spin;              /* ns that the thread looks before it sleeps; read without the lock */
    uint8_t *in, *out;          /* server.c */
    uint32_t max_transfer;
    int tracing;                /* read without the lock */
    uint8_t serving, accepted, write_multiple;
};

enum wb_parked {
    WB_GOES_ON, WB_AT_GATE,     /* until the gate has news */
    WB_GIVES_WAY                /* to others on its thread */
};

/* A message on its way through commands.c. */
struct wb_request {
    uint32_t command, flags, size;
    const uint8_t *payload;     /* size bytes */
    const int *fds;
    uint32_t nfds;              /* set to 0 by whoever took them */
    uint8_t *reply;             /* room for WB_MAX_MESSAGE - WB_HEADER bytes */
    uint32_t reply_size;
    int reply_fds[WB_MAX_FDS];
    uint32_t reply_nfds;
    int fatal;                  /* answer, then close */
    enum wb_parked parked;      /* run it again then; `done` writes of it are done */
    uint64_t done;
    uint32_t most;              /* accesses that it may do now */
};

/* commands.c: 0, or a positive errno for an Error reply. */
int wb_request_run(wb_device *device, struct wb_request *request);

/* clock.c: a time of wb_clock(), for who waits until then */
struct timespec wb_clock_timespec(uint64_t ns);

/* log.c */
void wb_log_add_locked(wb_device *device, wb_record *record);

/* region.c */
/* Drops the lock now and then. power_cycle: sticky bits too. */
void wb_region_reset_locked(wb_device *device, struct wb_region *region, int power_cycle);
void wb_region_free(struct wb_region *region);

/* access.c */
int wb_region_signal(wb_device *device, const struct wb_doorbell *doorbell);    /* the write it stands for */

/* native.c */
/*
 * Runs the native hooks of the bytes of an access, the lock dropped meanwhile; sets its revision and flags.
 */
void wb_native_run_locked(wb_device *device, wb_access *told);
/* No native hook runs until the release, which is told the answer; 0: one has not returned for a second. */
int wb_native_hold_locked(wb_device *device);
void wb_native_release_locked(wb_device *device, int held);
void wb_native_free(wb_device *device);

/* share.c: the VALUE plane of a region that has shared pages, which others write meanwhile */
void wb_share_get_locked(const struct wb_region *region, uint64_t offset, uint8_t *bytes, uint64_t size);
void wb_share_put_locked(struct wb_region *region, uint64_t offset, const uint8_t *bytes, uint64_t size);
void wb_share_merge_locked(struct wb_region *region, uint64_t offset, uint64_t word, uint64_t mask);
void wb_share_free(struct wb_region *region);

/* watch.c: these bytes were stored by the engine */
void wb_watch_expect_locked(struct wb_region *region, uint64_t offset, const uint8_t *bytes, uint64_t size);

/* doorbell.c */
uint32_t wb_doorbell_poll(wb_device *device, struct pollfd *ready);     /* room for WB_MAX_DOORBELLS */
/* a bit each */
uint64_t wb_doorbell_take(const wb_device *device, const struct pollfd *ready, uint32_t count);
int wb_doorbell_ring(wb_device *device, uint64_t *rung);  /* takes out what was carried out; 0: at the gate */
void wb_doorbell_clear(wb_device *device);

/* irq.c */
void wb_irq_free(wb_device *device);
uint32_t wb_irq_sources(const wb_device *device);       /* how many it has */
void wb_irq_reset_locked(wb_device *device);
void wb_irq_clear_locked(wb_device *device);
void wb_irq_config_locked(wb_device *device);   /* COMMAND, STATUS or what enables messages was written */
/* Registers of interrupts were written, or their neighbours; by_rules: as a guest does. */
void wb_irq_touch_locked(wb_device *device, const struct wb_region *region, uint64_t offset, uint64_t size,
                         int by_rules);
void wb_vector_signal_locked(struct wb_vector *vector);
void wb_irq_poll_unmask(wb_device *device);     /* the UNMASK eventfd is readable */

/* eventfd.c */
int wb_eventfd_check(int fd);                   /* 1: it is one */
int wb_eventfd_signal(int fd);                  /* 1: it was */
int wb_eventfd_take(int fd);   /* empties it; 0 when somebody else was faster, also if it is a blocking one */

/* msi.c: index is WB_MSI to WB_REQ, number one of its vectors */
int wb_msi_enabled_locked(const wb_device *device, uint32_t index);
uint32_t wb_msi_mode_locked(const wb_device *device);
/* vectors that the guest lets be used */
uint32_t wb_msi_granted_locked(const wb_device *device, uint32_t index);
int wb_msi_masked_locked(const wb_device *device, uint32_t index, uint32_t number);
int wb_msi_trigger_locked(wb_device *device, uint32_t index, uint32_t number);
/* delivers or drops what is pending */
void wb_msi_settle_locked(wb_device *device, uint32_t index, uint32_t number);
void wb_msi_refresh_locked(wb_device *device);
/* pending, and what the table said */
void wb_msi_forget_locked(wb_device *device, uint32_t index, uint32_t number);
void wb_msi_touch_locked(wb_device *device, const struct wb_region *region, uint64_t offset, uint64_t size,
                         int by_rules);

/* function.c */
/* Config bytes changed; write: by the rules. Returns the enum wb_reset that is due when all is done, or 0. */
uint32_t wb_function_config_locked(wb_device *device, uint64_t offset, uint64_t size, int write);
void wb_function_reset(wb_device *device, uint32_t kind);

/* turn.c */
void wb_turn_begin(wb_device *device);          /* a request is being answered */
void wb_turn_end(wb_device *device);            /* its reply was sent */

/* gate.c */
/* 1 when an access of the guest may go on; 0: put it back, see waker */
int wb_gate_enter(wb_device *device);
void wb_gate_leave(wb_device *device);          /* it is over */

/* dirty.c */
void wb_dirty_add_locked(wb_device *device, uint64_t iova, uint64_t size);

/* dma.c */
void wb_dma_forget(wb_device *device);          /* the client is gone, and so is its memory */
void wb_dma_free(wb_device *device);

/* peer.c: what the server asks of the client */
void wb_peer_begin(wb_device *device, int socket, pthread_t server, int waker);
void wb_peer_end(wb_device *device);            /* whoever waits for an answer has waited in vain */
void wb_peer_reply(wb_device *device, uint16_t id, uint32_t error, const uint8_t *payload, uint32_t size);
int wb_peer_check_locked(wb_device *device);    /* -EDEADLK for the serving thread, -ENOTCONN */
/* DMA_READ or DMA_WRITE of far memory, `to` or `from` being our side and the other NULL. */
int wb_peer_copy(wb_device *device, uint64_t iova, uint8_t *to, const uint8_t *from, uint64_t size);

/* wire.c; a `deadline` is wb_clock(), 0: none, and gives -ETIMEDOUT */
int wb_wire_wait(int socket, short events, uint64_t deadline);     /* until poll() has news of it */
/* One whole message; the deadline is for a client that takes no bytes. */
int wb_wire_deliver(int socket, struct msghdr *message, uint64_t deadline);
int wb_wire_send(int socket, uint8_t *bytes, uint32_t size, const int *fds, uint32_t nfds);   /* WB_MAX_FDS */
/* 0: not now */
ssize_t wb_wire_offer(int socket, uint8_t *bytes, uint32_t size, const int *fds, uint32_t nfds);
/*
 * Bytes, 0 at the end, or a negative errno. Adds descriptors to `fds`, room for 2 * WB_SCM_MAX, owned then.
 */
ssize_t wb_wire_receive(int socket, uint8_t *bytes, uint32_t room, int *fds, uint32_t *nfds,
                        int flags);

/* thread.c: another thread has it */
void wb_lock_wait(wb_device *device);

static inline void wb_lock(wb_device *device)
{
    if (pthread_mutex_trylock(&device->lock))
        wb_lock_wait(device);
}

static inline void wb_unlock(wb_device *device)
{
    pthread_mutex_unlock(&device->lock);
}

/*
 * The place of a new record, whose seq is one less than the device's now: who fills it in at once need not
 * copy it. Memory is asked for the records after it in advance, as it is slower than an access.
 */
static inline wb_record *wb_log_next_locked(wb_device *device)
{
    wb_record *next = &device->ring[device->seq++ & device->ring_mask];

    __builtin_prefetch(&device->ring[(device->seq + 4) & device->ring_mask], 1);
    if (device->waiters)
        pthread_cond_broadcast(&device->logged);        /* they wait for the lock, too */
    return next;
}

static inline uint8_t *wb_plane_at(const struct wb_region *region, uint32_t plane, uint64_t offset)
{
    return region->planes + plane * region->stride + offset;
}

static inline int wb_page_programmed(const struct wb_region *region, uint64_t offset)
{
    uint64_t page = offset / WB_PAGE;

    return region->programmed[page / 64] >> (page % 64) & 1;
}

static inline int wb_page_shared(const struct wb_region *region, uint64_t offset)
{
    uint64_t page = offset / WB_PAGE;

    return region->shared && region->shared[page / 64] >> (page % 64) & 1;
}

static inline uint64_t wb_to_page_end(uint64_t offset, uint64_t size)
{
    uint64_t rest = WB_PAGE - offset % WB_PAGE;

    return size < rest ? size : rest;
}

/* The widest aligned piece, 1 to 8 bytes, at the beginning of `size` bytes; 0: nothing is left. */
static inline uint32_t wb_piece(const uint8_t *at, uint64_t size)
{
    uint64_t from = (uintptr_t)at | 8;
    uint64_t piece = from & (0 - from);

    while (piece > size)
        piece >>= 1;
    return (uint32_t)piece;
}

/* Memory that others write meanwhile: whole aligned pieces, so that no value is torn. */
static inline void wb_pieces_load(const uint8_t *from, uint8_t *to, uint64_t size)
{
    for (uint32_t n; (n = wb_piece(from, size)) != 0; from += n, to += n, size -= n) {
        uint64_t word = n == 8   ? __atomic_load_n((const uint64_t *)(const void *)from, __ATOMIC_RELAXED)
                        : n == 4 ? __atomic_load_n((const uint32_t *)(const void *)from, __ATOMIC_RELAXED)
                        : n == 2 ? __atomic_load_n((const uint16_t *)(const void *)from, __ATOMIC_RELAXED)
                                 : __atomic_load_n(from, __ATOMIC_RELAXED);

        memcpy(to, &word, n);
    }
}

static inline void wb_pieces_store(uint8_t *to, const uint8_t *from, uint64_t size)
{
    for (uint32_t n; (n = wb_piece(to, size)) != 0; from += n, to += n, size -= n) {
        uint64_t word = 0;

        memcpy(&word, from, n);
        if (n == 8)
            __atomic_store_n((uint64_t *)(void *)to, word, __ATOMIC_RELAXED);
        else if (n == 4)
            __atomic_store_n((uint32_t *)(void *)to, (uint32_t)word, __ATOMIC_RELAXED);
        else if (n == 2)
            __atomic_store_n((uint16_t *)(void *)to, (uint16_t)word, __ATOMIC_RELAXED);
        else
            __atomic_store_n(to, (uint8_t)word, __ATOMIC_RELAXED);
    }
}

/* The device wrote guest memory. */
static inline void wb_dirty_mark_locked(wb_device *device, uint64_t iova, uint64_t size)
{
    if (device->dirty && size)
        wb_dirty_add_locked(device, iova, size);
}

static inline int wb_irqs_halted(const wb_device *device)
{
    return device->halted & (WB_HALT_RESTORE | WB_HALT_STOP);
}

/* Sets or clears bits of one byte that hardware shows and nobody else decides. */
static inline void wb_bits_show(struct wb_region *region, uint64_t offset, uint8_t bits, int on)
{
    uint8_t *byte = wb_plane_at(region, WB_VALUE, offset);
    uint8_t shown = (uint8_t)(on ? *byte | bits : *byte & ~bits);

    if (*byte == shown)
        return;
    *byte = shown;
    region->programmed[offset / WB_PAGE / 64] |= UINT64_C(1) << (offset / WB_PAGE % 64);
}

/* In D1 to D3hot: nothing but config space answers, no interrupts, no DMA. */
static inline int wb_asleep(const wb_device *device)
{
    return __atomic_load_n(&device->power, __ATOMIC_RELAXED);
}

/* The COMMAND register, or `absent` for a device without config space. */
static inline uint16_t wb_command_locked(const wb_device *device, uint16_t absent)
{
    const struct wb_region *config = &device->regions[WB_CONFIG];
    uint16_t command;

    if (!config->planes || config->size < WB_PCI_STATUS + 2)
        return absent;
    memcpy(&command, wb_plane_at(config, WB_VALUE, WB_PCI_COMMAND), sizeof command);
    return command;
}

static inline uint32_t wb_elapsed(uint64_t since)
{
    uint64_t elapsed = wb_clock() - since;

    return elapsed > UINT32_MAX ? UINT32_MAX : (uint32_t)elapsed;
}

/* A record that concerns no region. */
static inline void wb_event_locked(wb_device *device, uint8_t kind, uint8_t origin, uint64_t offset,
                                   uint64_t value)
{
    wb_record record = {
        .kind = kind, .origin = origin, .region = WB_NO_REGION, .offset = offset, .value = value,
    };

    wb_log_add_locked(device, &record);
}

#endif
