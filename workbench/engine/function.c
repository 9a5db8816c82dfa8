/*
 * function.c - what config space does to the function as a whole: power states and resets.
 *
 * A guest writes PMCSR or Device Control like any other register; the state that comes of it is kept here
 * as one byte, which every access looks at. A reset is not done in the middle of the access: it is due
 * when the write is stored, its hooks ran and its record is in the log. Then Python is asked, since timers
 * have to stop before and on_reset() runs after it; who has no Python gets the reset alone.
 */
#include "internal.h"

enum {                              /* PCI Power Management 1.2, 3.2.3 and 3.2.4; PCI Express, 7.8.4 */
    PMC_BEFORE = 2, PMC_D1 = 1 << 9, PMC_D2 = 1 << 10,
    PMCSR_STATE = 3, PMCSR_NO_SOFT_RESET = 8,
    CONTROL_FLR = 1 << 15
};

enum { D0, D1, D2, D3HOT };

static uint16_t get_locked(const wb_device *device, uint32_t offset)
{
    uint16_t word;

    memcpy(&word, wb_plane_at(&device->regions[WB_CONFIG], WB_VALUE, offset), sizeof word);
    return word;
}

static void set_locked(wb_device *device, uint32_t offset, uint16_t word)
{
    memcpy(wb_plane_at(&device->regions[WB_CONFIG], WB_VALUE, offset), &word, sizeof word);
}

static int touched(uint32_t at, uint64_t offset, uint64_t size)
{
    return at && offset < at + 2 && offset + size > at;
}

/* Down, or up to D0; a state that the function does not have is not entered (3.2.4). */
static int may_enter_locked(const wb_device *device, uint16_t state)
{
    uint16_t pmc = get_locked(device, device->pmcsr - PMC_BEFORE);

    if (state == D0)
        return 1;
    if ((state == D1 && !(pmc & PMC_D1)) || (state == D2 && !(pmc & PMC_D2)))
        return 0;
    return state > device->power;
}

static void enter_locked(wb_device *device, uint16_t state)
{
    __atomic_store_n(&device->power, (uint8_t)state, __ATOMIC_RELAXED);
}

static uint32_t power_locked(wb_device *device, int write)
{
    uint16_t word = get_locked(device, device->pmcsr), state = word & PMCSR_STATE, before = device->power;

    if (state == before)
        return 0;
    if (write && !may_enter_locked(device, state)) {
        set_locked(device, device->pmcsr, (uint16_t)((word & ~PMCSR_STATE) | before));
        return 0;
    }
    enter_locked(device, state);
    if (write && state == D0 && before == D3HOT && !(word & PMCSR_NO_SOFT_RESET))
        return WB_RESET_D3HOT;
    wb_msi_refresh_locked(device);              /* what is pending may be heard again */
    wb_irq_config_locked(device);
    return 0;
}

/* The bit reads as 0, whoever set it. */
static uint32_t control_locked(wb_device *device, int write)
{
    uint16_t word = get_locked(device, device->device_control);

    if (!(word & CONTROL_FLR))
        return 0;
    set_locked(device, device->device_control, (uint16_t)(word & ~CONTROL_FLR));
    return write ? WB_RESET_FLR : 0;
}

uint32_t wb_function_config_locked(wb_device *device, uint64_t offset, uint64_t size, int write)
{
    uint32_t due = 0, flr = 0;

    if (touched(device->pmcsr, offset, size))
        due = power_locked(device, write);
    if (touched(device->device_control, offset, size))
        flr = control_locked(device, write);
    return flr ? flr : due;
}

static int fits(const struct wb_region *config, uint32_t at)
{
    return !at || (config->planes && at >= WB_PCI_STATUS + 2 && at + UINT64_C(2) <= config->size);
}

int wb_function_add(wb_device *device, uint32_t pmcsr, uint32_t device_control)
{
    const struct wb_region *config = &device->regions[WB_CONFIG];
    int result = -EINVAL;

    wb_lock(device);
    if (fits(config, pmcsr) && fits(config, device_control)) {
        device->pmcsr = pmcsr;
        device->device_control = device_control;
        wb_function_config_locked(device, 0, UINT32_MAX, 0);
        result = 0;
    }
    wb_unlock(device);
    return result;
}

void wb_function_reset(wb_device *device, uint32_t kind)
{
    int ask;

    wb_lock(device);
    ask = device->upcalls.reset && !device->abandoned;
    wb_unlock(device);
    if (!ask || device->upcalls.reset(device->upcalls.context, kind))
        wb_device_reset(device, kind);
}
