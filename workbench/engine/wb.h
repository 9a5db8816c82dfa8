/*
 * wb.h - the whole C interface of the engine, read twice: by the C compiler and by cffi.
 *
 * The engine holds every byte a guest can see and answers the guest on the thread that calls
 * wb_serve(). It knows regions, bytes and masks; it knows no register, no field and no Python.
 *
 * Ownership. Who allocates frees. wb_device_new() allocates everything a conversation needs; only
 * the DMA table grows later. The engine owns every file descriptor that arrives on the socket or
 * is handed to a wb_ function, and closes it on every path, errors included. The socket itself
 * stays the caller's.
 *
 * Locks. One mutex a device, taken inside every wb_ function that touches shared state and held
 * for straight-line code only: never while upcalling, never while sending, never while copying
 * guest memory. (One exception: a client's eventfd is polled and written under it.) So every
 * function may be called from any thread, hooks included.
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
    WB_INTX = 0, WB_MSI = 1, WB_MSIX = 2, WB_ERR = 3, WB_REQ = 4, WB_IRQS = 5
};

enum wb_limit {
    WB_MAX_TRANSFER = 1048576,      /* bytes of data in one message: our max_data_xfer_size */
    WB_MAX_FDS = 16,                /* our max_msg_fds; up to 253 (SCM_MAX_FD) are accepted */
    WB_MAX_VECTORS = 2048,          /* MSI-X */
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
    WB_HOOKS,                                   /* per byte: enum wb_hook_bit */
    WB_PLANES
};

enum wb_hook_bit { WB_HOOK_READ = 1, WB_HOOK_WRITE = 2 };

/* ---- the log ---- */

enum wb_kind {
    WB_KIND_READ, WB_KIND_WRITE,                /* by the rules: guest, software or notebook */
    WB_KIND_POKE,                               /* by the workbench, past the rules */
    WB_KIND_IRQ,                                /* offset: index << 16 | vector; value: enum wb_irq_outcome */
    WB_KIND_UNMASK,                             /* a client unmasked INTx */
    WB_KIND_DMA_READ, WB_KIND_DMA_WRITE,        /* offset: IOVA; value: the first 8 bytes */
    WB_KIND_MAP, WB_KIND_UNMAP,                 /* offset: IOVA; value: size in bytes */
    WB_KIND_RESET,                              /* value: enum wb_reset */
    WB_KIND_SWAP,                               /* a hook was set (value: enum wb_hook_bit) or, revision 0, removed */
    WB_KIND_ATTACH, WB_KIND_DETACH,             /* a client came, went; value: errno of the end */
    WB_KIND_ERROR,                              /* a message was refused; offset: command, value: errno */
    WB_KINDS
};

enum wb_origin { WB_GUEST, WB_NOTEBOOK, WB_DEVICE, WB_ORIGINS };    /* who did it; WB_DEVICE: its hooks */

enum wb_flag {
    WB_UNMAPPED = 1,        /* no register covers any byte of the access */
    WB_VIOLATION = 2,       /* a write changed bits that the guest may not change */
    WB_HOOK_RAN = 4,        /* Python was asked; revision says which */
    WB_HOOK_FAILED = 8,     /* the hook raised; the stored value was answered */
    WB_LONG = 16,           /* more than 8 bytes: value, old, now show the first 8 */
    WB_REFUSED = 32         /* a DMA copy that failed: value is the errno, nothing was copied */
};

/* One touch of the device; 64 bytes, little endian, no holes. */
typedef struct {
    uint64_t seq;           /* 0, 1, 2 ... without gaps */
    uint64_t time;          /* ns, CLOCK_MONOTONIC, when the access began */
    uint64_t offset;        /* in the region; see enum wb_kind for the others */
    uint64_t value;         /* read: what was answered; write: what was written */
    uint64_t old;           /* the stored bytes before; write-only bits: as last written */
    uint64_t now;           /* the stored bytes after the rules, before a write hook */
    uint32_t latency;       /* ns from request to answer, hooks included; saturates */
    uint32_t size;          /* bytes */
    uint16_t revision;      /* of the last hook that ran; 0: none */
    uint16_t flags;         /* enum wb_flag */
    uint8_t kind;           /* enum wb_kind */
    uint8_t origin;         /* enum wb_origin */
    uint8_t region;         /* enum wb_region_index; 255: none */
    uint8_t plane;          /* poke: WB_VALUE or WB_LATCH, whichever it stored into; others: 0 */
} wb_record;

/* ---- upcalls ---- */

/* What a hook is told. At most 8 bytes, never across an 8-byte boundary when the access is longer. */
typedef struct {
    uint64_t offset;        /* of the first byte in the region */
    uint64_t value;         /* write: the data, little endian; read: 0 */
    uint64_t old;           /* stored bytes before the access */
    uint32_t size;          /* bytes, 1 to 8 */
    uint8_t region;
    uint8_t origin;         /* enum wb_origin */
    uint8_t write;          /* 0: before a read; 1: after a write */
    uint8_t spare;
    uint64_t time;          /* ns, wb_clock(), when Python was asked: what passes until it runs is waiting */
    uint16_t revision;      /* out: of the hook that ran */
    uint16_t flags;         /* out: WB_HOOK_RAN, WB_HOOK_FAILED; in: the latter, for callees that fail */
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
    int reply_fd;           /* out: one fd to send along, or -1; stays the callee's */
} wb_message;

typedef struct {
    void *context;
    /* A guest touched bytes that have a hook bit. Must not fail; says so in access->flags. */
    void (*hook)(void *context, wb_access *access);
    /* Answers a cold message: 0, or an errno for an Error reply; negative: closes after it. */
    int (*message)(void *context, wb_message *message);
    /* Sees every message of the wire, header included; called only while tracing is on. */
    void (*trace)(void *context, int from_server, const uint8_t *bytes, uint32_t size, uint32_t nfds);
} wb_upcalls;

/* ---- device ---- */

typedef struct wb_device wb_device;

enum wb_reset { WB_RESET_DEVICE, WB_RESET_NOTEBOOK };

/* log_capacity: records kept, rounded up to a power of two. NULL when memory is short. */
wb_device *wb_device_new(const wb_upcalls *upcalls, uint32_t log_capacity);
void wb_device_free(wb_device *device);                     /* nobody may be in wb_serve() */
void wb_device_reset(wb_device *device, uint32_t kind);     /* planes to reset values, INTx down */

/* ---- region.c: bytes and rules ---- */

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

/* ---- log.c: the ring ---- */

uint64_t wb_clock(void);                                    /* ns, as in wb_record.time */
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

/* ---- irq.c: interrupts ---- */

enum wb_irq_outcome {
    WB_IRQ_DELIVERED,       /* the eventfd was written */
    WB_IRQ_PENDING,         /* INTx is auto-masked: delivered once when the client unmasks */
    WB_IRQ_MASKED,          /* the client masked the interrupt; kept and delivered on unmask */
    WB_IRQ_DISABLED,        /* COMMAND bit 10 (Interrupt Disable) is set */
    WB_IRQ_NOBODY,          /* no client listens */
    WB_IRQ_RELEASED         /* INTx is down; what was signalled stays signalled */
};

typedef struct {
    uint8_t armed;          /* an eventfd is there */
    uint8_t masked;         /* by the client, or automatically after INTx was signalled */
    uint8_t asserted;       /* INTx: level of the line */
    uint8_t pending;        /* delivered on unmask */
    uint32_t spare;
    uint64_t count;         /* times the eventfd was written */
} wb_irq_status;

int wb_irq_add(wb_device *device, uint32_t index, uint32_t vectors);    /* before serving */
/* SET_IRQS: the payload behind the header. Takes the fds. */
int wb_irq_set(wb_device *device, const uint8_t *payload, uint32_t size, const int *fds, uint32_t nfds);
/* MSI, MSI-X: one message. INTx: a pulse, one interrupt. Returns enum wb_irq_outcome. */
int wb_irq_trigger(wb_device *device, uint32_t index, uint32_t vector, uint32_t origin);
/* INTx: 1 asserts, 0 deasserts (returns 0, no record). Mirrors STATUS bit 3. Returns enum wb_irq_outcome. */
int wb_irq_level(wb_device *device, int level, uint32_t origin);
int wb_irq_get(wb_device *device, uint32_t index, uint32_t vector, wb_irq_status *status);
void wb_irq_clear(wb_device *device);                       /* the client is gone: close its eventfds */

/* ---- dma.c: guest memory by I/O address ---- */

enum wb_dma_flag { WB_DMA_READABLE = 1, WB_DMA_WRITABLE = 2, WB_DMA_HAS_FD = 4 };

typedef struct {
    uint64_t iova;
    uint64_t size;          /* bytes */
    uint64_t offset;        /* in the file */
    uint32_t flags;         /* enum wb_dma_flag */
    uint32_t spare;
} wb_dma_range;

/* Takes fd (-1: none). -EINVAL, -EEXIST on overlap, -ENOSPC; an identical map is a success. */
int wb_dma_map(wb_device *device, const wb_dma_range *range, int fd);
/* Exact match or -ENOENT; all: every range. Waits until running copies have left the range. */
int wb_dma_unmap(wb_device *device, uint64_t iova, uint64_t size, int all);
/*
 * Copies between memory and the guest, across adjacent ranges. -EACCES: bus master is off;
 * -EFAULT: not mapped; -EPERM: range is read-only; -ENXIO: range came without a file descriptor;
 * -EIO: its owner truncated the file; -EOPNOTSUPP: the file refuses (it is sealed, or of huge pages, which
 * nobody can write so). Nothing is copied unless the whole range is mapped.
 */
int wb_dma_read(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size, uint32_t origin);
int wb_dma_write(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin);
/* The workbench's own: whatever bus master and the range's flags say. A peek leaves no record. */
int wb_dma_peek(wb_device *device, uint64_t iova, uint8_t *bytes, uint64_t size);
int wb_dma_poke(wb_device *device, uint64_t iova, const uint8_t *bytes, uint64_t size, uint32_t origin);
/* By IOVA; returns how many there are. */
uint32_t wb_dma_list(wb_device *device, wb_dma_range *ranges, uint32_t room);

/* ---- gate.c: pause and step ---- */

void wb_gate_pause(wb_device *device, int on);              /* 1: the guest's next region access waits */
void wb_gate_step(wb_device *device, uint32_t accesses);    /* lets so many pass while paused */
int wb_gate_waiting(wb_device *device);                     /* 1: an access waits now */
void wb_gate_abandon(wb_device *device, int on);            /* 1: guests are answered without hooks: we stop */

/* ---- server.c: the loop ---- */

/*
 * Serves one client on a connected stream socket until it goes (0), breaks the protocol (-EPROTO)
 * or the socket fails (-errno). Shutting the socket down from another thread ends it. On return
 * the client's DMA maps and eventfds are gone and the device's state is kept.
 */
int wb_serve(wb_device *device, int socket);
/* Called by the message upcall when it accepts VERSION: the conversation is open. */
void wb_serve_accept(wb_device *device, uint32_t max_transfer, int write_multiple);
void wb_serve_trace(wb_device *device, int on);
