/*
 * wb_native.h - what a native hook sees: C compiled from a cell, a cffi function pointer, numba's machine
 * code.
 *
 *   int hook(const wb_native *wb, wb_touch *access)
 *   {
 *       wb->poke(wb, 0, 0x08, wb->peek(wb, 0, 0x08, 4) + 1, 4);     // BAR 0, offset 8, 4 bytes
 *       return 0;                                                   // anything else: it failed
 *   }
 *
 * It runs on the thread of the access, without the device's lock and without Python's; of one device one at
 * a time. It may call everything below. What fails answers a negative errno. A hook that returns anything but
 * 0 has failed: the stored value is answered, the record is flagged, the error is counted.
 *
 * Read three times, as wb.h is twice: the third reader is the compiler of a cell. Nothing here needs linking.
 */

/* The access that made the hook run, as the register of the hook would show it. */
typedef struct {
    uint64_t offset;        /* of the first byte touched, in the region */
    uint64_t value;      /* write: the data. Read: what is stored; store another number here to answer that */
    uint64_t old;           /* what was stored before, write-only bits as last written */
    uint64_t mask;          /* a one for each bit the access touched */
    uint32_t size;          /* bytes touched */
    uint32_t index;         /* the element of a register array; else 0 */
    uint8_t region;         /* 0 to 5: the BAR; 7: config space */
    uint8_t origin;         /* 0: the guest, 1: the notebook, 2: the device */
    uint8_t write;          /* 0: before a read; 1: after a write was stored */
    uint8_t spare[5];
} wb_touch;

typedef struct wb_native wb_native;

/* A device as its native hooks see it. Regions are numbered as in wb_touch; offsets and sizes are bytes. */
struct wb_native {
    void *state;            /* memory of the hook's own, which Python sees too; NULL: none was asked for */
    uint64_t state_size;
    void *device;
    /* The stored bytes, up to 8; 0 outside the region. No rules, no hooks. */
    uint64_t (*peek)(const wb_native *wb, uint32_t region, uint64_t offset, uint32_t size);
    /* Stores up to 8 bytes: no rules, no hooks; logged. */
    int (*poke)(const wb_native *wb, uint32_t region, uint64_t offset, uint64_t value, uint32_t size);
    /* One interrupt, of the kind that the guest enabled. Answers enum wb_irq_outcome, 0: delivered. */
    int (*trigger)(const wb_native *wb, uint32_t vector);
    /* A source of interrupts goes up (1) or down (0). */
    int (*level)(const wb_native *wb, uint32_t source, int level);
    /*
     * Guest memory by I/O address; each copy is a record. -EDEADLK: it is reached by messages, not in a hook.
     */
    int (*dma_read)(const wb_native *wb, uint64_t iova, void *bytes, uint64_t size);
    int (*dma_write)(const wb_native *wb, uint64_t iova, const void *bytes, uint64_t size);
    uint64_t (*now)(void);  /* ns, CLOCK_MONOTONIC, as in the log */
};

typedef int (*wb_native_hook)(const wb_native *wb, wb_touch *access);

/* ---- where the engine keeps one: nothing for a hook ---- */

enum wb_native_limit { WB_NATIVE_SAMPLED = 16, WB_NATIVE_TIMES = 64 };

/* A native hook in its place. The caller's memory: it and all it leads to stay while it is in or busy. */
typedef struct {
    wb_native wb;           /* state and state_size are the caller's, the rest is filled in */
    wb_native_hook hook;
    uint64_t offset;        /* of the register, in its region */
    uint32_t size;          /* of the register, 1 to 8 bytes */
    uint32_t index;         /* what wb_touch.index shall say */
    uint8_t region;
    uint8_t write;          /* 0: before reads; 1: after writes */
    uint16_t revision;      /* for the records */
    int32_t result;         /* out: what the last call that failed returned */
    uint64_t calls, errors; /* out */
    uint64_t began;         /* out: wb_clock() of the call under way, if it is timed; 0: none is */
    uint32_t running;       /* out: calls under way or about to begin */
    uint32_t longest;       /* out: ns, of the calls that were timed: the first and every 16th */
    uint32_t times[64];     /* out: ns, of the last WB_NATIVE_TIMES of them */
} wb_native_slot;
