/*
 * wb.h - the C interface of the engine, read twice: by the C compiler and by cffi. Serving is in wb_serve.h.
 *
 * The engine holds every byte a guest can see and answers the guest on the thread that calls wb_serve() or
 * wb_poller_run(). It knows regions, bytes and masks; it knows no register, no field and no Python.
 *
 * Ownership. Who allocates frees. wb_device_new() allocates everything a conversation needs; only
 * the DMA table grows later. The engine owns every file descriptor that arrives on the socket or
 * is handed to a wb_ function, and closes it on every path, errors included. The socket itself
 * stays the caller's.
 *
 * Locks. One mutex a device, taken inside every wb_ function that touches shared state and held
 * for straight-line code only: never while upcalling, never while sending, never while copying
 * guest memory. (Exceptions: a client's eventfd is polled and signalled under it, and up to a page of
 * mapped memory copied.) A second mutex is held while a message goes out, so that two never mix on the
 * socket; it is taken before the first. So every function may be called from any thread, hooks included.
 *
 * Results. 0 or a non-negative answer on success, a negative errno on failure.
 *
 * Only what cffi can parse may stand here: no #include, no #if. Integers are host order, which
 * must be little endian (PCI and vfio-user on the wire are). The C files include "wb_libc.h" first.
 */

/* ---- numbers shared with Linux VFIO and the vfio-user specification ---- */

enum wb_region_index {
    WB_BAR0 = 0, WB_BARS = 6, WB_ROM = 6, WB_CONFIG = 7, WB_VGA = 8, WB_REGIONS = 9
};

enum wb_region_flag {               /* VFIO_REGION_INFO_FLAG_*: READ 1, WRITE 2 */
    WB_REGION_READ = 1, WB_REGION_WRITE = 2
};

enum wb_irq_index {
    WB_INTX = 0, WB_MSI = 1, WB_MSIX = 2, WB_ERR = 3, WB_REQ = 4, WB_IRQS = 5,
    WB_IRQ_ANY = 255        /* whichever kind the guest enabled; see wb_irq_trigger() */
};

enum wb_limit {
    WB_MAX_TRANSFER = 1048576,      /* bytes of data in one message: our max_data_xfer_size */
    WB_MAX_FDS = 16,                /* our max_msg_fds; up to 253 (SCM_MAX_FD) are accepted */
    WB_MAX_VECTORS = 2048,          /* MSI-X */
    WB_MAX_DOORBELLS = 64,          /* eventfds of one conversation */
    WB_MAX_LOGGED = 65535,          /* ranges of addresses whose writes are logged */
    WB_MAX_MAPS = 65535             /* max_dma_maps of the specification's default */
};

/* ---- byte planes ---- */

/*
 * A region is a set of equally long byte arrays. For a guest write of d over the stored v, with
 * every name standing for the byte of that plane at the same offset:
 *
 *   v = (v & ~WRITABLE) | (d & WRITABLE)         also ONCE & ~SPENT; then SPENT |= ONCE
 *   v = v & ~(d & W1C) | (d & W1S) ^ (d & W1T)   and the same with ~d for W0C, W0S, W0T
 *   v = v & ~WCLR | WSET                         whatever d is
 *   v = v | (d & PULSE)                          cleared again after the write hook ran
 *   LATCH = (LATCH & ~WO) | (d & WO)             what was last written to write-only bits
 *
 * A guest read answers v & READABLE, then v = v & ~RC | RS. A read-only and a write-only register
 * may share bytes: one lives in VALUE, the other in LATCH.
 */
enum wb_plane {
    WB_VALUE, WB_LATCH, WB_SPENT,               /* state */
    WB_RESET, WB_LATCH_RESET,                   /* state after reset; SPENT resets to 0 */
    WB_READABLE, WB_WRITABLE, WB_ONCE,          /* rules */
    WB_W1C, WB_W1S, WB_W1T, WB_W0C, WB_W0S, WB_W0T,
    WB_WCLR, WB_WSET, WB_WO, WB_PULSE, WB_RC, WB_RS,
    WB_ACCEPT,                                  /* bits a write may change without remark */
    WB_KNOWN,                                   /* bits that some register covers */
    WB_STICKY,                                  /* bits that only a power cycle resets */
    WB_HOOKS,                                   /* per byte: enum wb_hook_bit */
    WB_PLANES
};

enum wb_hook_bit {
    WB_HOOK_READ = 1, WB_HOOK_WRITE = 2,        /* the hook upcall: Python */
    WB_HOOK_NATIVE_READ = 4, WB_HOOK_NATIVE_WRITE = 8   /* set by wb_native_swap() alone */
};

/* ---- the log ---- */

enum wb_kind {
    WB_KIND_READ, WB_KIND_WRITE,                /* by the rules: guest, software or notebook */
    WB_KIND_POKE,                               /* by the workbench, past the rules */
    WB_KIND_IRQ,                                /* offset: index << 16 | vector; value: enum wb_irq_outcome */
    WB_KIND_UNMASK,                             /* a client unmasked INTx */
    WB_KIND_DMA_READ, WB_KIND_DMA_WRITE,        /* offset: IOVA; value: the first 8 bytes */
    WB_KIND_MAP, WB_KIND_UNMAP,                 /* offset: IOVA; value: size in bytes */
    WB_KIND_RESET,                              /* value: enum wb_reset */
    WB_KIND_SWAP,                       /* a hook was set (value: enum wb_hook_bit) or, revision 0, removed */
    WB_KIND_ATTACH, WB_KIND_DETACH,             /* a client came, went; value: errno of the end */
    WB_KIND_ERROR,                              /* a message was refused; offset: command, value: errno */
    WB_KIND_MMAP,                             /* a watch found a word of a mapped page changed (old, value) */
    WB_KIND_STATE,                              /* value: enum wb_state */
    WB_KINDS
};

enum wb_origin { WB_GUEST, WB_NOTEBOOK, WB_DEVICE, WB_ORIGINS };    /* who did it; WB_DEVICE: its hooks */

enum wb_flag {
    WB_UNMAPPED = 1,        /* no register covers any byte of the access */
    WB_VIOLATION = 2,       /* a write changed bits that the guest may not change */
    WB_HOOK_RAN = 4,        /* Python or a native hook was asked; revision says which */
    WB_HOOK_FAILED = 8,     /* the hook raised or returned an error; the stored value was answered */
    WB_LONG = 16,           /* more than 8 bytes: value, old, now show the first 8 */
    WB_REFUSED = 32,        /* a DMA copy that failed: value is the errno, nothing was copied */
    WB_SIGNALLED = 64,      /* a write that the client signalled by eventfd: once or more often */
    WB_MORE = 128,          /* mmap: `value` more words changed from here on, not logged one by one; size: the
                               bytes from the first to the last, 1 MiB if it is more */
    WB_ASLEEP = 256         /* the function is in D1 to D3hot: read as all ones, or the write was lost */
};

/* One touch of the device; 64 bytes, little endian, no holes. */
typedef struct {
    uint64_t seq;           /* 0, 1, 2 ... without gaps */
    uint64_t time;          /* ns, CLOCK_MONOTONIC, when the access began; of a DMA copy not timed: ended */
    uint64_t offset;        /* in the region; see enum wb_kind for the others */
    uint64_t value;         /* read: what was answered; write: what was written */
    uint64_t old;           /* the stored bytes before; write-only bits: as last written */
    uint64_t now;           /* the stored bytes after the rules, before a write hook */
    uint32_t latency;       /* ns from request to answer, hooks included; saturates. mmap: it changed
                               within so long before `time`. 0: a DMA copy too small to be timed */
    uint32_t size;          /* bytes */
    uint16_t revision;      /* of the last hook that ran; 0: none */
    uint16_t flags;         /* enum wb_flag */
    uint8_t kind;           /* enum wb_kind */
    uint8_t origin;         /* enum wb_origin */
    uint8_t region;         /* enum wb_region_index; 255: none */
    uint8_t plane;          /* poke: WB_VALUE or WB_LATCH, whichever it stored into; others: 0 */
} wb_record;

/* What WB_KIND_STATE tells of. Below 256: the client's migration went to that state of the specification. */
enum wb_state { WB_STATE_RESTORED = 256 };

/* ---- upcalls ---- */

enum wb_answer { WB_HOOK_ANSWERED = 0x8000 };   /* out, before a read: `value` is to be stored */

/* What a hook is told. At most 8 bytes, never across an 8-byte boundary when the access is longer. */
typedef struct {
    uint64_t offset;        /* of the first byte in the region */
    uint64_t value;         /* write: the data, little endian; read: 0, out: see WB_HOOK_ANSWERED */
    uint64_t old;           /* stored bytes before the access */
    uint32_t size;          /* bytes, 1 to 8 */
    uint8_t region;
    uint8_t origin;         /* enum wb_origin */
    uint8_t write;          /* 0: before a read; 1: after a write */
    uint8_t spare;
    uint64_t time;          /* ns, wb_clock(), when Python was asked: what passes until it runs is waiting */
    uint16_t revision;      /* out: of the hook that ran */
    uint16_t flags;         /* out: WB_HOOK_RAN, FAILED, ANSWERED; in: FAILED, for callees that fail */
} wb_access;

/* A message that is not hot. Payload and fds are valid during the call only. */
typedef struct {
    uint32_t command;       /* enum Command of protocol.py: 1 is VERSION */
    uint32_t flags;         /* as received */
    const uint8_t *payload; /* after the 16-byte header */
    uint32_t size;          /* of the payload, bytes */
    uint32_t nfds;          /* received with it; the engine closes them afterwards */
    const int *fds;
    uint8_t *reply;         /* out: payload of the reply */
    uint32_t reply_room;    /* bytes */
    uint32_t reply_size;    /* out */
    int reply_fds[16];      /* out: WB_MAX_FDS at most to send along; stay the callee's */
    uint32_t reply_nfds;    /* out */
} wb_message;

typedef struct {
    void *context;
    /* A guest touched bytes that have a hook bit. Must not fail; says so in access->flags. */
    void (*hook)(void *context, wb_access *access);
    /* Answers a cold message: 0, or an errno for an Error reply; negative: closes after it. */
    int (*message)(void *context, wb_message *message);
    /* Sees every message of the wire, header included; called only while tracing is on. */
    void (*trace)(void *context, int from_server, const uint8_t *bytes, uint32_t size, uint32_t nfds);
    /* A config write resets the function. Calls wb_device_reset(kind); unless 0 the engine does. */
    int (*reset)(void *context, uint32_t kind);
} wb_upcalls;

/* ---- device ---- */

typedef struct wb_device wb_device;

enum wb_reset {
    WB_RESET_DEVICE,        /* the client's DEVICE_RESET */
    WB_RESET_NOTEBOOK,      /* power cycle: sticky bits too */
    WB_RESET_FLR,           /* function-level reset, through PCI Express Device Control */
    WB_RESET_D3HOT,         /* D3hot to D0 without No_Soft_Reset */
    WB_RESET_DETACH         /* power cycle because the client is gone */
};

/* log_capacity: records kept, rounded up to a power of two. NULL when memory is short. */
wb_device *wb_device_new(const wb_upcalls *upcalls, uint32_t log_capacity);
void wb_device_free(wb_device *device);                     /* nobody may be in wb_serve() */
void wb_device_reset(wb_device *device, uint32_t kind);     /* planes to reset values, INTx down */

/* ---- function.c: power states and function-level reset ---- */

/*
 * Where the config registers PMCSR and Device Control are (PCI PM 1.2, 3.2.4; PCI Express 7.8.4); 0: there
 * is none. Once, after config space was described. From then on their bits act, whoever writes them.
 */
int wb_function_add(wb_device *device, uint32_t pmcsr, uint32_t device_control);

/* ---- region.c, access.c: bytes and rules ---- */

/* Once per index, before serving. Untouched pages of a large region cost no memory. */
int wb_region_add(wb_device *device, uint32_t region, uint64_t size, uint32_t flags);
/* Writes `size` bytes of one plane; used to program a description and its state. */
int wb_region_set(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset,
                  const uint8_t *bytes, uint64_t size);
/* Reads one plane without side effect: peek. */
int wb_region_get(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset,
                  uint8_t *bytes, uint64_t size);
/* VALUE or LATCH = (old & ~mask) | (bytes & mask), up to 8 bytes, no rules, no hooks; logged. */
int wb_region_poke(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset,
                   uint64_t value, uint64_t mask, uint32_t size, uint32_t origin);
/* Sets (on = 1) or clears hook bits over a range of bytes. */
int wb_region_hook(wb_device *device, uint32_t region, uint64_t offset, uint64_t size,
                   uint32_t bits, int on);
/* The guest's access: rules, hooks, log. -EINVAL outside the region, -EACCES against its flags. */
int wb_region_read(wb_device *device, uint32_t region, uint64_t offset, uint8_t *bytes,
                   uint32_t size, uint32_t origin);
int wb_region_write(wb_device *device, uint32_t region, uint64_t offset, const uint8_t *bytes,
                    uint32_t size, uint32_t origin);

/* ---- native.c: hooks without Python, see wb_native.h ---- */

/*
 * Takes `before` out and puts `after` in (NULL: none), and lets the hook upcall be asked for these bytes as
 * well (python = 1) or not: one exchange between two accesses. Where the upcall is asked it alone is, and
 * calls native hooks by wb_native_call(). Before serving or at any time. -EINVAL, -ENOMEM: nothing has
 * changed.
 */
int wb_native_swap(wb_device *device, wb_native_slot *before, wb_native_slot *after, int python);
/*
 * What the upcall does for a native hook, whether it is in or not. 0, or that it failed: what the hook
 * returned. -EINVAL: none of its bytes.
 */
int wb_native_call(wb_device *device, wb_native_slot *slot, const wb_access *access);
/* 1: calls are under way. Once it is out and idle it stays idle, and may be freed. */
int wb_native_busy(wb_device *device, const wb_native_slot *slot);

/* ---- share.c: pages that the client maps ---- */

/*
 * Makes a range of whole pages shared memory: before serving, and before anything is set there. Such pages
 * have no rules and no hooks: an access by message copies bytes, peek and poke work, a reset leaves them
 * as they are. One memory file a region, sealed against resizing, its offsets those of the region.
 * -EINVAL: not whole pages of the region (its last page may be a part); -EBUSY: too late.
 */
int wb_region_share(wb_device *device, uint32_t region, uint64_t offset, uint64_t size);
/* The memory file of a region, which stays the engine's; -ENOENT: no page is shared, or it was closed. */
int wb_region_fd(wb_device *device, uint32_t region);
/* Closes the memory files of a device that is not served again; the bytes stay. -EBUSY: served or watched. */
int wb_share_close(wb_device *device);

/* ---- watch.c: changes of shared pages, which nobody reports ---- */

typedef struct wb_watch wb_watch;

typedef struct {
    uint64_t samples;       /* taken */
    uint64_t changes;       /* words that were found changed */
    uint64_t unlogged;      /* those of them that only a WB_MORE record tells of */
} wb_watch_counts;

/*
 * Remembers shared pages as they are now. Offset and size are multiples of 8, `period` ns (1 or more).
 * Of one sample at most `most` words are logged, and one record counts the rest. What the engine itself
 * stores there (messages, pokes) is logged as such and not again. -EINVAL, -ENOMEM.
 */
int wb_watch_new(wb_device *device, uint32_t region, uint64_t offset, uint64_t size, uint64_t period,
                 uint32_t most, wb_watch **watch);
void wb_watch_run(wb_watch *watch);                         /* samples until it is stopped */
void wb_watch_stop(wb_watch *watch);                        /* from any thread, any number of times */
void wb_watch_get(wb_watch *watch, wb_watch_counts *counts);
void wb_watch_free(wb_watch *watch);                        /* after wb_watch_run(), before the device */

/* ---- doorbell.c: writes that a client signals by eventfd ---- */

/*
 * The eventfd that stands for a guest's write of `value`; the serving loop carries it out, once for all
 * signals since the last one. Made when first asked for, by the message upcall; closed when the client
 * goes; stays the engine's. -EINVAL, -ENOSPC, or what eventfd() fails with.
 */
int wb_doorbell_open(wb_device *device, uint32_t region, uint64_t offset, uint32_t size, uint64_t value);

/* ---- state.c: state as a value ---- */

/*
 * Finds the next page from *offset on that may hold anything but zeros: 1, and *offset is its start; 0: none.
 */
int wb_state_next(wb_device *device, uint32_t region, uint64_t *offset);

/* What of interrupts is the device's and not the client's; a bit a vector, 2048 of them. */
typedef struct {
    uint64_t sources[32];       /* that are up */
    uint64_t pending[5][32];    /* by enum wb_irq_index */
    uint64_t told[32];          /* MSI-X: the client wrote the vector's mask bit in the table */
} wb_irq_state;

void wb_state_get(wb_device *device, wb_irq_state *state);
/* Puts it back, without an edge: lines and pending bits settle as after any other change. */
void wb_state_set(wb_device *device, const wb_irq_state *state);

enum wb_halt {
    WB_HALT_RESTORE = 1,        /* values are being put back: no interrupts */
    WB_HALT_STOP = 2,           /* the client stopped the device: no interrupts, and no DMA (-ESHUTDOWN) */
    WB_HALT_CLIENT = 4          /* and its own DMA_MAP, DMA_UNMAP, SET_IRQS are refused (-EINVAL) */
};

/* Sets or ends halts; copies under way end before a stop. Interrupts come when the last halt has ended. */
void wb_state_halt(wb_device *device, uint32_t halts, int on);

/* ---- dirty.c: pages that DMA wrote ---- */

typedef struct { uint64_t iova, size; } wb_dma_span;

/*
 * Logs the writes to `count` ranges, 0: to all memory, by pages of *page_size or more bytes (out: how many).
 * -EINVAL: no power of two, or ranges that overlap or are none; -EBUSY: logging is on. Ends with the client.
 */
int wb_dirty_start(wb_device *device, uint64_t *page_size, const wb_dma_span *spans, uint32_t count);
int wb_dirty_stop(wb_device *device);                       /* -EINVAL: was off */
/*
 * Fills a bitmap, a bit for each page_size bytes (a power of two) from iova on, and forgets what it tells.
 * `words`: as many as that takes. -EINVAL also when not all of it is logged.
 */
int wb_dirty_report(wb_device *device, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap,
                    uint64_t words);

/* ---- clock.c ---- */

/* ns of CLOCK_MONOTONIC, as in wb_record.time: within 1 us of clock_gettime(), and never back in a thread. */
uint64_t wb_clock(void);

/* ---- log.c: the ring ---- */

/* Appends a record; seq is filled in, time too when it is 0. */
void wb_log_add(wb_device *device, const wb_record *record);
/*
 * Copies up to `room` records from sequence number *since on, oldest first; returns how many and
 * moves *since behind the last one. Records that were overwritten are skipped: the caller sees it
 * from the gap, and wb_log_dropped() counts them.
 */
uint32_t wb_log_copy(wb_device *device, uint64_t *since, wb_record *records, uint32_t room);
uint64_t wb_log_count(wb_device *device);                   /* ever written = next seq */
uint64_t wb_log_dropped(wb_device *device);                 /* overwritten: no longer in the ring */
/* Blocks until wb_log_count() > seen (1), or for timeout_ms (0). */
int wb_log_wait(wb_device *device, uint64_t seen, uint32_t timeout_ms);

/* ---- irq.c, msi.c: interrupts ---- */

enum wb_irq_outcome {
    WB_IRQ_DELIVERED,       /* the eventfd was written */
    WB_IRQ_PENDING,         /* delivered once: INTx, when the client unmasks; MSI-X, when an eventfd comes */
    WB_IRQ_MASKED,          /* client or guest masked the interrupt; kept and delivered on unmask */
    WB_IRQ_DISABLED,        /* INTx: COMMAND bit 10 (Interrupt Disable) or messages are on; others: not
                               enabled; all: the function sleeps */
    WB_IRQ_NOBODY,          /* no client listens */
    WB_IRQ_RELEASED         /* INTx is down; what was signalled stays signalled */
};

typedef struct {
    uint8_t armed;          /* an eventfd is there */
    uint8_t masked;         /* by client or guest, or automatically after INTx was signalled */
    uint8_t asserted;       /* INTx: level of the line; others: of the source of that number */
    uint8_t pending;        /* delivered on unmask */
    uint8_t enabled;        /* by the guest, in config space */
    uint8_t index;          /* which one it is, if WB_IRQ_ANY was asked */
    uint16_t vector;
    uint64_t count;         /* times the eventfd was written */
} wb_irq_status;

int wb_irq_add(wb_device *device, uint32_t index, uint32_t vectors);    /* before serving */

/* Where the registers of MSI and MSI-X are; offsets are bytes, a capability at 0 is not there. */
typedef struct {
    uint32_t msi;           /* capability in config space: 24 bytes, 64-bit address, masks a vector */
    uint32_t msix;          /* capability in config space: 12 bytes */
    uint32_t table_region;  /* enum wb_region_index */
    uint32_t pba_region;
    uint64_t table;         /* 16 bytes a vector */
    uint64_t pba;           /* Pending Bit Array: 8 bytes for 64 vectors */
} wb_irq_places;

/* After wb_irq_add() and wb_region_add(), before serving. -EINVAL when something is not there. */
int wb_irq_place(wb_device *device, const wb_irq_places *places);
/* What the guest enabled: WB_MSIX, WB_MSI, or else WB_INTX. */
int wb_irq_mode(wb_device *device);
/* SET_IRQS: the payload behind the header. Takes the fds. */
int wb_irq_set(wb_device *device, const uint8_t *payload, uint32_t size, const int *fds, uint32_t nfds);
/*
 * MSI, MSI-X: one message. INTx: a pulse, one interrupt. Returns enum wb_irq_outcome. WB_IRQ_ANY is
 * what the guest enabled; vectors that it has not share those it has: number modulo their count.
 */
int wb_irq_trigger(wb_device *device, uint32_t index, uint32_t vector, uint32_t origin);
/*
 * Source 0, 1 ... of interrupts goes up (1) or down (0). INTx is up while one is, and STATUS bit 3
 * shows it; with MSI or MSI-X the rising edge sends one message. Returns enum wb_irq_outcome.
 */
int wb_irq_level(wb_device *device, uint32_t source, int level, uint32_t origin);
int wb_irq_get(wb_device *device, uint32_t index, uint32_t vector, wb_irq_status *status);
void wb_irq_clear(wb_device *device);                       /* the client is gone: close its eventfds */

/* ---- dma.c: guest memory by I/O address ---- */

enum wb_dma_flag {
    WB_DMA_READABLE = 1, WB_DMA_WRITABLE = 2,   /* what the device may do, as in DMA_MAP */
    WB_DMA_HAS_FD = 4,      /* listed: it came with a file; else messages alone reach it */
    WB_DMA_MAPPED = 8,      /* listed: the file is mapped, copies are memcpy */
    WB_DMA_PRIVATE = 16     /* listed: wb_dma_distrust() was told of the file; messages reach it */
};

typedef struct {
    uint64_t iova;
    uint64_t size;          /* bytes */
    uint64_t offset;        /* in the file */
    uint32_t flags;         /* enum wb_dma_flag */
    uint32_t spare;
} wb_dma_range;

/*
 * The serving thread's. Takes fd (-1: none). -EINVAL, -EEXIST on overlap, -ENOSPC; an identical map is a
 * success.
 */
int wb_dma_map(wb_device *device, const wb_dma_range *range, int fd);
/* Exact match or -ENOENT; all: every range. Waits until running copies have left the range. */
int wb_dma_unmap(wb_device *device, uint64_t iova, uint64_t size, int all);
/* By IOVA; returns how many there are. */
uint32_t wb_dma_list(wb_device *device, wb_dma_range *ranges, uint32_t room);
/* The guest sees other bytes than the file at iova has: until it goes, ask it by messages instead. */
int wb_dma_distrust(wb_device *device, uint64_t iova);

/* ---- dmacopy.c: copies ---- */

enum wb_dma_limit { WB_MAX_SPANS = 16384 };

/*
 * Copies between memory and the guest, across adjacent ranges. -EACCES: bus master is off;
 * -EHOSTDOWN: the function is in D1 to D3hot; -ESHUTDOWN: the client stopped it; -EFAULT: not mapped;
 * -EPERM: range is read-only; -EIO: its owner truncated the file; -EOPNOTSUPP: the file takes no writes
 * (sealed, or opened to be read). Nothing is copied unless the whole range is mapped.
 *
 * Ranges that came without a file are read and written by DMA_READ and DMA_WRITE messages, 32 KiB
 * and 128 KiB at a time. -EDEADLK: the caller is the thread that would take the answers (a hook);
 * -ETIMEDOUT: none came; -ENOTCONN, -ECONNRESET: the client is gone; -EREMOTEIO: it refused;
 * -EPROTO: its answer is malformed. Then a part may have been copied.
 */
int wb_dma_read(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size, uint32_t origin);
int wb_dma_write(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin);
/* A copy inside the guest; the two may overlap. */
int wb_dma_copy(wb_device *device, uint64_t to, uint64_t from, uint64_t size, uint32_t origin);
/* Several spans, one after another in `bytes`; none is copied unless all are mapped. A record each. */
int wb_dma_gather(wb_device *device, const wb_dma_span *spans, uint32_t count, uint8_t *bytes,
                  uint32_t origin);
int wb_dma_scatter(wb_device *device, const wb_dma_span *spans, uint32_t count, const uint8_t *bytes,
                   uint32_t origin);
/* A copy from the guest for displays: no record, bus master need not be on. -ENXIO: needs messages. */
int wb_dma_peek(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size);
/* The workbench changes the guest's memory: a record, but bus master and the range's flags do not matter. */
int wb_dma_poke(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin);
/* Would a copy of these bytes wait for the client's answers? 0 on the serving thread, where it is refused. */
int wb_dma_waits(wb_device *device, uint64_t iova, uint64_t size);

/* ---- peer.c: what the server asks of the client ---- */

/* Reads by DMA_READ whatever the client sent along with its maps, without a record. Fails as wb_dma_read. */
int wb_peer_read(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size);
/* ms that one answer may take before -ETIMEDOUT; 2000 at first, below the 5 s that QEMU gives us. */
void wb_peer_patience(wb_device *device, uint32_t milliseconds);
