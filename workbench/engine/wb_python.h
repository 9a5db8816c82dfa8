/*
 * wb_python.h - between the engine and the interpreter; read by the C compiler and by cffi, after wb.h.
 *
 * The short way is for an access by a guest of all of one register that has one hook, which is nearly every
 * access: what is known of it beforehand lies in a slot, filled by upcall.py, and C calls the function
 * itself. Everything here is looked at and changed by whoever holds the interpreter. An object is there as
 * its address (id()), and kept alive by the tuple `keep`.
 */

/* ---- device.c ---- */

/* What the hook upcall gets instead of wb_upcalls.context; before serving. */
void wb_device_hooks(wb_device *device, void *context);

/* ---- region.c ---- */

/* wb_region_get() as a number, up to 8 bytes; 0 outside the region. */
uint64_t wb_region_word(wb_device *device, uint32_t region, uint32_t plane, uint64_t offset, uint32_t size);

/* ---- thread.c ---- */

void wb_thread_hurry(void);     /* the calling thread is to run soon after it is woken; for its whole life */
/*
 * The calling thread holds what other threads want (the interpreter), until it says so with NULL. Where it
 * would have to wait for a device's lock, let_go() comes first, and take_back() with its result afterwards.
 */
void wb_thread_hold(void *(*let_go)(void), void (*take_back)(void *));

/* ---- trampoline.h ---- */

enum { WB_SLOTS = 509, WB_TIMES = 256 };

/* How a hook fares. */
typedef struct {
    uint64_t calls;
    uint64_t longest;           /* ns */
    uint32_t times[256];        /* ns, of the last calls: number n is in n % WB_TIMES; saturates */
} wb_calls;

typedef struct {
    uint64_t key;               /* which access: offset << 10 | region << 6 | write << 3 | size - 1 */
    uint64_t generation;        /* good while it is that of all; 0: never */
    uint64_t whole;             /* the largest value of the register */
    void *keep;
    void *hook, *function, *device, *touch;     /* touch: None when the function takes no access */
    wb_calls *calls;
    uint16_t revision;
} wb_slot;

/* The hooks of one device. */
typedef struct {
    uint64_t generation;        /* counts the swaps, from 1 */
    uint64_t since;             /* ns, when the hook that runs now began */
    uint64_t thread;            /* where a hook or a timer runs now; 0: nowhere */
    int64_t asked;              /* the thread whose hook is to be skipped, see skip.py; 0: none */
    uint32_t too_deep;          /* hooks nested until that was refused, and the first has not returned */
    uint32_t depth;             /* of hooks that touch hooked registers */
    uint32_t running;           /* the slot whose hook runs now, plus 1; 0: none that went the short way */
    void *handle;               /* ffi.new_handle() of the core, for everything else */
    void *take, *give;          /* of the lock that lets one hook run at a time */
    void *access, *origin;      /* the class Access, and "guest" */
    void *answer, *failed, *waited;     /* of a result that is no plain number, an exception, a wait */
    void *settle;               /* of a skip */
    wb_slot slots[509];         /* by key % WB_SLOTS */
} wb_short;
