/*
 * msi.c - interrupts as messages: who enabled MSI or MSI-X, what masks a vector, what is pending.
 *
 * Their registers are ordinary bytes of config space and of BARs; here they are looked at, and what
 * is pending is shown in them. One invariant carries it: a vector that is pending has no eventfd or
 * is masked, unless the device is halted. settle_locked() restores it after every change. Without an eventfd
 * a vector keeps what is pending only while its kind is enabled: QEMU assigns eventfds when it unmasks.
 *
 * QEMU keeps the MSI-X table to itself and forwards no write to it, so that our copy says "masked"
 * for ever. A vector's mask bit therefore counts from the client's first write to it on.
 * PCI Local Bus 3.0, 6.8.1 (MSI) and 6.8.2 (MSI-X).
 */
#include "internal.h"

enum {                          /* bytes in a capability, bits of its control word */
    CONTROL = 2,
    MSI_ENABLE = 1, MSI_MASKS = 16, MSI_PENDING = 20, MSI_SIZE = 24,
    MSIX_ENABLE = 0x8000, MSIX_MASK_ALL = 0x4000, MSIX_SIZE = 12,
    ENTRY = 16, ENTRY_CONTROL = 12          /* of the table */
};

static uint16_t control_locked(const wb_device *device, uint32_t capability)
{
    uint16_t control = 0;

    if (capability)
        memcpy(&control, wb_plane_at(&device->regions[WB_CONFIG], WB_VALUE, capability + CONTROL), 2);
    return control;
}

int wb_msi_enabled_locked(const wb_device *device, uint32_t index)
{
    if (index == WB_MSI)
        return (control_locked(device, device->places.msi) & MSI_ENABLE) != 0;
    return index == WB_MSIX && control_locked(device, device->places.msix) & MSIX_ENABLE;
}

uint32_t wb_msi_mode_locked(const wb_device *device)
{
    if (wb_msi_enabled_locked(device, WB_MSIX))
        return WB_MSIX;
    return wb_msi_enabled_locked(device, WB_MSI) ? WB_MSI : WB_INTX;
}

int wb_irq_mode(wb_device *device)
{
    int mode;

    wb_lock(device);
    mode = (int)wb_msi_mode_locked(device);
    wb_unlock(device);
    return mode;
}

uint32_t wb_msi_granted_locked(const wb_device *device, uint32_t index)
{
    uint32_t have = device->irqs[index].vectors;
    /* Multiple Message Enable */
    uint32_t granted = 1u << (control_locked(device, device->places.msi) >> 4 & 7);

    return index == WB_MSI && device->places.msi && granted < have ? granted : have;
}

/* ---- masks and pending bits ---- */

static int bit_at(const struct wb_region *region, uint64_t offset, uint32_t bit)
{
    return *wb_plane_at(region, WB_VALUE, offset + bit / 8) >> bit % 8 & 1;
}

int wb_msi_masked_locked(const wb_device *device, uint32_t index, uint32_t number)
{
    const wb_irq_places *at = &device->places;
    const struct wb_vector *vector = &device->irqs[index].vector[number];

    if (vector->masked)
        return 1;
    if (index == WB_MSI && at->msi)
        return bit_at(&device->regions[WB_CONFIG], at->msi + MSI_MASKS, number);
    if (index != WB_MSIX || !at->msix)
        return 0;
    if (control_locked(device, at->msix) & MSIX_MASK_ALL)
        return 1;
    return vector->told
           && bit_at(&device->regions[at->table_region],
                     at->table + (uint64_t)ENTRY * number + ENTRY_CONTROL, 0);
}

static void show_locked(wb_device *device, uint32_t index, uint32_t number)
{
    const wb_irq_places *at = &device->places;
    int pending = device->irqs[index].vector[number].pending;
    uint8_t bit = (uint8_t)(1 << number % 8);

    if (index == WB_MSI && at->msi)
        wb_bits_show(&device->regions[WB_CONFIG], at->msi + MSI_PENDING + number / 8, bit, pending);
    else if (index == WB_MSIX && at->msix)
        wb_bits_show(&device->regions[at->pba_region], at->pba + number / 8, bit, pending);
}

static void keep_locked(wb_device *device, uint32_t index, uint32_t number, int pending)
{
    struct wb_vector *vector = &device->irqs[index].vector[number];

    if (vector->pending != pending) {
        vector->pending = (uint8_t)pending;
        show_locked(device, index, number);
    }
}

/* ---- delivery ---- */

int wb_msi_trigger_locked(wb_device *device, uint32_t index, uint32_t number)
{
    struct wb_vector *vector = &device->irqs[index].vector[number];
    int masked = wb_msi_masked_locked(device, index, number);

    if (vector->fd < 0) {
        int placed = index == WB_MSI ? device->places.msi != 0 : index == WB_MSIX && device->places.msix;

        if (!placed || !device->accepted)
            return WB_IRQ_NOBODY;
        if (!wb_msi_enabled_locked(device, index))
            return WB_IRQ_DISABLED;
        if (!masked && index == WB_MSI)         /* MSI is armed as a whole: nobody is going to come */
            return WB_IRQ_NOBODY;
    } else if (!masked && wb_asleep(device)) {
        return WB_IRQ_DISABLED;
    } else if (!masked && !wb_irqs_halted(device)) {
        wb_vector_signal_locked(vector);
        return WB_IRQ_DELIVERED;
    }
    keep_locked(device, index, number, 1);
    return masked ? WB_IRQ_MASKED : WB_IRQ_PENDING;
}

void wb_msi_settle_locked(wb_device *device, uint32_t index, uint32_t number)
{
    struct wb_vector *vector = &device->irqs[index].vector[number];

    if (!vector->pending)
        return;
    if (vector->fd < 0) {
        if (!wb_msi_enabled_locked(device, index) || !device->accepted)
            keep_locked(device, index, number, 0);
    } else if (!wb_msi_masked_locked(device, index, number) && !wb_asleep(device)
               && !wb_irqs_halted(device)) {
        keep_locked(device, index, number, 0);
        wb_vector_signal_locked(vector);
        wb_event_locked(device, WB_KIND_IRQ, WB_GUEST, (uint64_t)index << 16 | number, WB_IRQ_DELIVERED);
    }
}

/* Everything about a kind may have changed, the bytes that show what is pending too. */
static void refresh_locked(wb_device *device, uint32_t index)
{
    for (uint32_t number = 0; number < device->irqs[index].vectors; number++) {
        show_locked(device, index, number);
        wb_msi_settle_locked(device, index, number);
    }
}

void wb_msi_refresh_locked(wb_device *device)
{
    refresh_locked(device, WB_MSI);
    refresh_locked(device, WB_MSIX);
}

void wb_msi_forget_locked(wb_device *device, uint32_t index, uint32_t number)
{
    device->irqs[index].vector[number].told = 0;
    keep_locked(device, index, number, 0);
}

/* ---- the registers are touched ---- */

static int overlap(uint64_t offset, uint64_t size, uint64_t start, uint64_t length)
{
    return offset < start + length && start < offset + size;
}

static void touch_table_locked(wb_device *device, uint64_t offset, uint64_t size, int by_rules)
{
    uint64_t table = device->places.table;
    uint64_t first = offset > table ? (offset - table) / ENTRY : 0;

    for (uint64_t n = first; n < device->irqs[WB_MSIX].vectors; n++) {
        uint64_t entry = table + ENTRY * n;

        if (entry >= offset + size)
            return;
        if (by_rules && overlap(offset, size, entry + ENTRY_CONTROL, 4))
            device->irqs[WB_MSIX].vector[n].told = 1;
        wb_msi_settle_locked(device, WB_MSIX, (uint32_t)n);
    }
}

void wb_msi_touch_locked(wb_device *device, const struct wb_region *region, uint64_t offset, uint64_t size,
                         int by_rules)
{
    const wb_irq_places *at = &device->places;
    const struct wb_region *config = &device->regions[WB_CONFIG];

    if (at->msi && region == config && overlap(offset, size, at->msi, MSI_SIZE))
        refresh_locked(device, WB_MSI);
    if (!at->msix)
        return;
    if (region == config && overlap(offset, size, at->msix, MSIX_SIZE))
        refresh_locked(device, WB_MSIX);
    if (region == &device->regions[at->table_region])
        touch_table_locked(device, offset, size, by_rules);
    if (region == &device->regions[at->pba_region])
        for (uint64_t n = 0; n < device->irqs[WB_MSIX].vectors; n++)
            if (overlap(offset, size, at->pba + n / 8, 1))
                show_locked(device, WB_MSIX, (uint32_t)n);
}

/* ---- where they are ---- */

static int fits(const wb_device *device, uint32_t region, uint64_t offset, uint64_t size)
{
    const struct wb_region *in = region < WB_REGIONS ? &device->regions[region] : NULL;

    if (!in || !in->planes || offset > in->size || size > in->size - offset)
        return 0;
    for (uint64_t at = offset; at < offset + size; at += wb_to_page_end(at, offset + size - at))
        if (wb_page_shared(in, at))         /* nobody hears of a write there */
            return 0;
    return 1;
}

static void mark(wb_device *device, uint32_t index, uint64_t offset, uint64_t size)
{
    struct wb_region *region = &device->regions[index];

    if (!region->irq_end || offset < region->irq_start)
        region->irq_start = offset;
    if (offset + size > region->irq_end)
        region->irq_end = offset + size;
}

int wb_irq_place(wb_device *device, const wb_irq_places *places)
{
    uint64_t vectors, table, pba;
    int result = -EINVAL;

    wb_lock(device);
    vectors = device->irqs[WB_MSIX].vectors;
    table = ENTRY * vectors;
    pba = (vectors + 63) / 64 * 8;
    if ((!places->msi || (device->irqs[WB_MSI].vectors && fits(device, WB_CONFIG, places->msi, MSI_SIZE)))
        && (!places->msix
            || (vectors && fits(device, WB_CONFIG, places->msix, MSIX_SIZE)
                && fits(device, places->table_region, places->table, table)
                && fits(device, places->pba_region, places->pba, pba)))) {
        device->places = *places;
        if (places->msi)
            mark(device, WB_CONFIG, places->msi, MSI_SIZE);
        if (places->msix) {
            mark(device, WB_CONFIG, places->msix, MSIX_SIZE);
            mark(device, places->table_region, places->table, table);
            mark(device, places->pba_region, places->pba, pba);
        }
        result = 0;
    }
    wb_unlock(device);
    return result;
}
