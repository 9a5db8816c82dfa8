/*
 * state.c - state as a value: what a snapshot has to copy, and what keeps still meanwhile.
 *
 * Bytes are copied with wb_region_get() and wb_region_set(), a page at a time; here is found where there
 * are any. Interrupts are bits of the device's own (what is up, what is pending), never the client's
 * eventfds.
 *
 * A halted device signals no eventfd. What it would have signalled is pending until the halt ends, and
 * then everything settles as after any other change.
 */
#include "dmafile.h"

#include <fcntl.h>
#include <unistd.h>

/* ---- pages ---- */

static uint64_t page_start(uint64_t offset)
{
    return offset / WB_PAGE * WB_PAGE;
}

/*
 * Another descriptor of a region's memory file, or -1: the region's own may be closed meanwhile. The file is
 * not searched under the lock, as a client that allocates its pages makes that wait.
 */
static int borrow_file(wb_device *device, const struct wb_region *region)
{
    int fd = -1;

    wb_lock(device);
    if (region->shared && region->share_fd >= 0)
        fd = fcntl(region->share_fd, F_DUPFD_CLOEXEC, 0);
    wb_unlock(device);
    return fd;
}

/* The next page from `offset` on that is shared and was ever touched; the region's size: none. */
static uint64_t next_shared(const struct wb_region *region, int file, uint64_t offset)
{
    while (region->shared && offset < region->size) {
        off_t data = lseek(file, (off_t)offset, SEEK_DATA);

        if (data < 0 && errno != ENXIO)         /* there is no file: its pages are looked at one by one */
            data = (off_t)offset;
        if (data < 0 || (uint64_t)data >= region->size)
            break;
        offset = page_start((uint64_t)data);
        if (wb_page_shared(region, offset))
            return offset;
        offset += WB_PAGE;
    }
    return region->size;
}

static uint64_t next_programmed_locked(const struct wb_region *region, uint64_t offset)
{
    uint64_t pages = (region->size - 1) / WB_PAGE + 1;

    for (uint64_t page = offset / WB_PAGE; page < pages; page = (page | 63) + 1) {
        uint64_t bits = region->programmed[page / 64] >> page % 64;

        if (bits) {
            page += (uint64_t)__builtin_ctzll(bits);
            return page < pages ? page * WB_PAGE : region->size;
        }
    }
    return region->size;
}

int wb_state_next(wb_device *device, uint32_t region, uint64_t *offset)
{
    const struct wb_region *in = region < WB_REGIONS ? &device->regions[region] : NULL;
    uint64_t programmed, shared;
    int file;

    if (!in || !in->planes)
        return -EINVAL;
    if (*offset >= in->size)
        return 0;
    *offset = page_start(*offset);
    file = borrow_file(device, in);
    shared = next_shared(in, file, *offset);
    if (file >= 0)
        close(file);
    wb_lock(device);
    programmed = next_programmed_locked(in, *offset);
    wb_unlock(device);
    *offset = programmed < shared ? programmed : shared;
    return *offset < in->size;
}

/* ---- interrupts ---- */

static void put_bit(uint64_t *bits, uint32_t number, int on)
{
    bits[number / 64] |= (uint64_t)(on != 0) << number % 64;
}

static int get_bit(const uint64_t *bits, uint32_t number)
{
    return bits[number / 64] >> number % 64 & 1;
}

void wb_state_get(wb_device *device, wb_irq_state *state)
{
    memset(state, 0, sizeof *state);
    wb_lock(device);
    memcpy(state->sources, device->sources, sizeof state->sources);
    for (uint32_t index = 0; index < WB_IRQS; index++)
        for (uint32_t i = 0; i < device->irqs[index].vectors; i++)
            put_bit(state->pending[index], i, device->irqs[index].vector[i].pending);
    for (uint32_t i = 0; i < device->irqs[WB_MSIX].vectors; i++)
        put_bit(state->told, i, device->irqs[WB_MSIX].vector[i].told);
    wb_unlock(device);
}

static void settle_locked(wb_device *device)
{
    wb_msi_refresh_locked(device);
    for (uint32_t index = WB_ERR; index < WB_IRQS; index++)
        for (uint32_t i = 0; i < device->irqs[index].vectors; i++)
            wb_msi_settle_locked(device, index, i);
    wb_irq_config_locked(device);
}

void wb_state_set(wb_device *device, const wb_irq_state *state)
{
    wb_lock(device);
    memset(device->sources, 0, sizeof device->sources);
    device->up = 0;
    for (uint32_t i = 0; i < wb_irq_sources(device); i++) {     /* another could never go down */
        put_bit(device->sources, i, get_bit(state->sources, i));
        device->up += (uint32_t)get_bit(state->sources, i);
    }
    for (uint32_t index = 0; index < WB_IRQS; index++)
        for (uint32_t i = 0; i < device->irqs[index].vectors; i++)
            device->irqs[index].vector[i].pending = (uint8_t)get_bit(state->pending[index], i);
    for (uint32_t i = 0; i < device->irqs[WB_MSIX].vectors; i++)
        device->irqs[WB_MSIX].vector[i].told = (uint8_t)get_bit(state->told, i);
    settle_locked(device);
    wb_unlock(device);
}

/* ---- halts ---- */

static int any_pinned_locked(const wb_device *device)
{
    for (uint32_t i = 0; i < device->range_count; i++)
        if (device->ranges[i]->pins)
            return 1;
    return 0;
}

void wb_state_halt(wb_device *device, uint32_t halts, int on)
{
    wb_lock(device);
    device->halted = (uint8_t)(on ? device->halted | halts : device->halted & ~halts);
    while (on && halts & WB_HALT_STOP && any_pinned_locked(device))     /* copies under way end first */
        pthread_cond_wait(&device->left, &device->lock);
    if (!wb_irqs_halted(device))
        settle_locked(device);
    wb_unlock(device);
}
