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

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/types.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "PCI and vfio-user are little endian, and so must be the machine"
#endif

enum {
    WB_PAGE = 4096,
    WB_NO_REGION = 255,
    WB_HEADER = 16,                                         /* bytes in front of every message */
    WB_MAX_MESSAGE = WB_HEADER + 16 + WB_MAX_TRANSFER,      /* a REGION_WRITE of the largest size */
    WB_IN_SIZE = WB_MAX_MESSAGE + 65536,                    /* room for what arrives behind it */
    WB_SCM_MAX = 253                                        /* SCM_MAX_FD of the kernel */
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
};

struct wb_vector {
    int fd;
    uint8_t masked;             /* by the client */
    uint8_t automasked;         /* INTx only: signalled, not unmasked yet */
    uint8_t pending;
    uint64_t count;
};

struct wb_index {
    struct wb_vector *vector;
    uint32_t vectors;
};

struct wb_file;                 /* dma.c: a file descriptor that several ranges share */
struct wb_range;                /* dma.c: one mapping */

struct wb_device {
    pthread_mutex_t lock;
    wb_upcalls upcalls;

    wb_record *ring;            /* log.c */
    uint64_t ring_mask;
    uint64_t seq;
    uint32_t waiters;
    pthread_cond_t logged;

    struct wb_region regions[WB_REGIONS];

    struct wb_index irqs[WB_IRQS];
    int unmask_fd;              /* INTx; read without the lock by the serving loop */
    uint8_t asserted;           /* INTx */

    struct wb_range **ranges;   /* dma.c: by IOVA */
    uint32_t range_count, range_room;
    struct wb_file *files;
    uint64_t departures;        /* numbers the unmaps, so that each removes its own ranges only */
    pthread_cond_t left;        /* a copy has left its ranges */

    pthread_cond_t gate;        /* gate.c */
    int paused;                 /* read without the lock */
    uint32_t steps;             /* accesses that may pass a closed gate */
    uint8_t at_gate, abandoned;

    uint8_t *in, *out;          /* server.c */
    uint32_t max_transfer;
    int tracing;                /* read without the lock */
    uint8_t serving, accepted, write_multiple;
};

/* A message on its way through commands.c. */
struct wb_request {
    uint32_t command, flags, size;
    const uint8_t *payload;     /* size bytes */
    const int *fds;
    uint32_t nfds;              /* set to 0 by whoever took them */
    uint8_t *reply;             /* room for WB_MAX_MESSAGE - WB_HEADER bytes */
    uint32_t reply_size;
    int reply_fd;
    int fatal;                  /* answer, then close */
};

/* commands.c: 0, or a positive errno for an Error reply. */
int wb_request_run(wb_device *device, struct wb_request *request);

/* log.c */
void wb_log_add_locked(wb_device *device, wb_record *record);

/* region.c */
void wb_region_reset_locked(wb_device *device, struct wb_region *region);   /* drops the lock now and then */
void wb_region_free(struct wb_region *region);

/* irq.c */
void wb_irq_free(wb_device *device);
void wb_irq_reset_locked(wb_device *device);
void wb_irq_config_locked(wb_device *device);   /* COMMAND or STATUS was written */
void wb_irq_poll_unmask(wb_device *device);     /* the UNMASK eventfd is readable */

/* gate.c */
void wb_gate_wait(wb_device *device);           /* returns when an access of the guest may go on */

/* dma.c */
void wb_dma_free(wb_device *device);

static inline void wb_lock(wb_device *device)
{
    pthread_mutex_lock(&device->lock);
}

static inline void wb_unlock(wb_device *device)
{
    pthread_mutex_unlock(&device->lock);
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
