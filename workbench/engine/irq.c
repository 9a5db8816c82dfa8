/*
 * irq.c - interrupts: eventfds that the client gave us, and the INTx line. Messages are in msi.c.
 *
 * INTx is a level in the guest and an edge on the wire: it is signalled once, counts as masked from
 * then on, and is signalled again at the unmask while the line is still up. One invariant carries
 * it: line up (or pulse pending), eventfd there, not disabled, not masked => signalled, and so
 * masked. settle_intx_locked() restores it after every change.
 *
 * An eventfd is signalled under the device's lock, so that a client that replaces one knows that the
 * old one is silent afterwards. That does not wait for whoever else has it: eventfd.c.
 */
#include "internal.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    DATA_NONE = 1, DATA_BOOL = 2, DATA_EVENTFD = 4, DATA = 7,
    ACTION_MASK = 8, ACTION_UNMASK = 0x10, ACTION_TRIGGER = 0x20, ACTION = 0x38
};

struct irq_set {                /* payload of SET_IRQS */
    uint32_t argsz, flags, index, start, count;
};

static void close_fds(const int *fds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        close(fds[i]);
}

static struct wb_vector *find_vector(wb_device *device, uint32_t index, uint32_t vector)
{
    if (index >= WB_IRQS || vector >= device->irqs[index].vectors)
        return NULL;
    return &device->irqs[index].vector[vector];
}

int wb_irq_add(wb_device *device, uint32_t index, uint32_t vectors)
{
    static const uint32_t most[WB_IRQS] = {[WB_INTX] = 1, [WB_MSI] = 32, [WB_MSIX] = WB_MAX_VECTORS, 1, 1};
    struct wb_vector *vector;
    int result = 0;

    if (index >= WB_IRQS || !vectors || vectors > most[index])
        return -EINVAL;
    vector = calloc(vectors, sizeof *vector);
    if (!vector)
        return -ENOMEM;
    for (uint32_t i = 0; i < vectors; i++)
        vector[i].fd = -1;
    wb_lock(device);
    if (device->irqs[index].vectors)
        result = -EEXIST;
    else
        device->irqs[index] = (struct wb_index){.vector = vector, .vectors = vectors};
    wb_unlock(device);
    if (result)
        free(vector);
    return result;
}

/* ---- delivery ---- */

void wb_vector_signal_locked(struct wb_vector *vector)
{
    vector->count += (uint64_t)wb_eventfd_signal(vector->fd);
}

/* Signals INTx if it is due; says what happened, or what would happen to a line that is up. */
static int settle_intx_locked(wb_device *device)
{
    struct wb_vector *intx = find_vector(device, WB_INTX, 0);
    int messages = wb_msi_mode_locked(device) != WB_INTX;   /* the line is not used then: PCI 3.0, 6.8.1 */

    if (!intx || (intx->fd < 0 && !(messages && device->accepted)))
        return WB_IRQ_NOBODY;
    if (messages || wb_asleep(device) || wb_command_locked(device, 0) & WB_PCI_COMMAND_NO_INTX)
        return WB_IRQ_DISABLED;
    if (intx->masked)
        return WB_IRQ_MASKED;
    if (intx->automasked)
        return WB_IRQ_PENDING;
    if (!device->up && !intx->pending)
        return WB_IRQ_NOBODY;
    if (wb_irqs_halted(device))
        return WB_IRQ_PENDING;
    intx->pending = 0;
    intx->automasked = 1;
    wb_vector_signal_locked(intx);
    return WB_IRQ_DELIVERED;
}

/* As above, for causes other than a call of the device: leaves a record when it signals. */
static int resettle_intx_locked(wb_device *device)
{
    int outcome = settle_intx_locked(device);

    if (outcome == WB_IRQ_DELIVERED)
        wb_event_locked(device, WB_KIND_IRQ, WB_GUEST, 0, WB_IRQ_DELIVERED);
    return outcome;
}

static int pulse_locked(wb_device *device)
{
    struct wb_vector *intx = &device->irqs[WB_INTX].vector[0];
    uint8_t before = intx->pending;
    int outcome;

    intx->pending = 1;
    outcome = settle_intx_locked(device);
    if (outcome == WB_IRQ_NOBODY || outcome == WB_IRQ_DISABLED)
        intx->pending = before;         /* this pulse is lost */
    return outcome;
}

static int log_locked(wb_device *device, uint32_t index, uint32_t vector, uint32_t origin, int outcome)
{
    wb_event_locked(device, WB_KIND_IRQ, (uint8_t)origin, (uint64_t)index << 16 | vector, (uint64_t)outcome);
    return outcome;
}

static int trigger_locked(wb_device *device, uint32_t index, uint32_t vector, uint32_t origin)
{
    int outcome = index == WB_INTX ? pulse_locked(device) : wb_msi_trigger_locked(device, index, vector);

    return log_locked(device, index, vector, origin, outcome);
}

uint32_t wb_irq_sources(const wb_device *device)
{
    uint32_t most = 0;

    for (uint32_t index = 0; index <= WB_MSIX; index++)
        if (device->irqs[index].vectors > most)
            most = device->irqs[index].vectors;
    return most;
}

/* Makes WB_IRQ_ANY definite: what the guest enabled, or what it could enable if there is no INTx. */
static struct wb_vector *resolve_locked(wb_device *device, uint32_t *index, uint32_t *vector)
{
    if (*index == WB_IRQ_ANY) {
        if (*vector >= wb_irq_sources(device))
            return NULL;
        *index = wb_msi_mode_locked(device);
        if (!device->irqs[*index].vectors)
            *index = device->irqs[WB_MSIX].vectors ? WB_MSIX : WB_MSI;
        *vector %= wb_msi_granted_locked(device, *index);
    }
    return find_vector(device, *index, *vector);
}

int wb_irq_trigger(wb_device *device, uint32_t index, uint32_t vector, uint32_t origin)
{
    int outcome = -EINVAL;

    wb_lock(device);
    if (resolve_locked(device, &index, &vector) && origin < WB_ORIGINS)
        outcome = trigger_locked(device, index, vector, origin);
    wb_unlock(device);
    return outcome;
}

/* STATUS bit 3 shows the line, whoever wrote the register. */
static void mirror_line_locked(wb_device *device)
{
    struct wb_region *config = &device->regions[WB_CONFIG];

    if (config->planes && config->size >= WB_PCI_STATUS + 2)
        wb_bits_show(config, WB_PCI_STATUS, WB_PCI_STATUS_INTX, device->up && device->irqs[WB_INTX].vectors);
}

static int source_up(const wb_device *device, uint32_t source)
{
    return device->sources[source / 64] >> source % 64 & 1;
}

static void move_source_locked(wb_device *device, uint32_t source, int level)
{
    if (source_up(device, source) != level) {
        device->sources[source / 64] ^= UINT64_C(1) << source % 64;
        device->up += level ? 1 : UINT32_MAX;
        mirror_line_locked(device);
    }
}

int wb_irq_level(wb_device *device, uint32_t source, int level, uint32_t origin)
{
    uint32_t index = WB_IRQ_ANY, vector = source;
    int outcome = -EINVAL;

    wb_lock(device);
    if (resolve_locked(device, &index, &vector) && origin < WB_ORIGINS) {
        int was = source_up(device, source);

        move_source_locked(device, source, level != 0);
        if (!level && !was)
            outcome = WB_IRQ_RELEASED;
        else if (level && !was && index != WB_INTX)
            outcome = trigger_locked(device, index, vector, origin);
        else if (level && index != WB_INTX)
            outcome = WB_IRQ_PENDING;           /* no edge, no message */
        else
            outcome = log_locked(device, index, vector, origin,
                                 level ? settle_intx_locked(device) : WB_IRQ_RELEASED);
    }
    wb_unlock(device);
    return outcome;
}

static int enabled_locked(wb_device *device, uint32_t index)
{
    if (index != WB_INTX)
        return wb_msi_enabled_locked(device, index);
    return wb_msi_mode_locked(device) == WB_INTX && !(wb_command_locked(device, 0) & WB_PCI_COMMAND_NO_INTX);
}

int wb_irq_get(wb_device *device, uint32_t index, uint32_t vector, wb_irq_status *status)
{
    struct wb_vector *found;

    wb_lock(device);
    found = resolve_locked(device, &index, &vector);
    if (found)
        *status = (wb_irq_status){
            .armed = found->fd >= 0,
            .masked = found->automasked || wb_msi_masked_locked(device, index, vector),
            .asserted = index == WB_INTX ? device->up != 0 : index <= WB_MSIX && source_up(device, vector),
            .pending = found->pending, .enabled = (uint8_t)enabled_locked(device, index),
            .index = (uint8_t)index, .vector = (uint16_t)vector, .count = found->count,
        };
    wb_unlock(device);
    return found ? 0 : -EINVAL;
}

void wb_irq_config_locked(wb_device *device)
{
    mirror_line_locked(device);
    resettle_intx_locked(device);
}

void wb_irq_touch_locked(wb_device *device, const struct wb_region *region, uint64_t offset, uint64_t size,
                         int by_rules)
{
    wb_msi_touch_locked(device, region, offset, size, by_rules);
    if (region == &device->regions[WB_CONFIG])
        wb_irq_config_locked(device);
}

void wb_irq_reset_locked(wb_device *device)
{
    memset(device->sources, 0, sizeof device->sources);
    device->up = 0;
    for (uint32_t index = 0; index < WB_IRQS; index++)
        for (uint32_t i = 0; i < device->irqs[index].vectors; i++)
            wb_msi_forget_locked(device, index, i);
}

/* ---- what the client sets ---- */

static void unmask_locked(wb_device *device, uint32_t index, uint32_t number)
{
    struct wb_vector *vector = &device->irqs[index].vector[number];

    vector->masked = 0;
    if (index == WB_INTX) {
        vector->automasked = 0;
        wb_event_locked(device, WB_KIND_UNMASK, WB_GUEST, 0, 0);
        resettle_intx_locked(device);
    } else {
        wb_msi_settle_locked(device, index, number);
    }
}

/* Installs an eventfd, or with -1 takes it away; what is pending then depends on the kind. */
static void assign_locked(wb_device *device, uint32_t index, uint32_t number, int fd)
{
    struct wb_vector *vector = &device->irqs[index].vector[number];

    if (vector->fd >= 0)
        close(vector->fd);
    vector->fd = fd;
    if (fd < 0)
        vector->masked = vector->automasked = 0;
    if (index != WB_INTX)
        wb_msi_settle_locked(device, index, number);
    else if (fd < 0)
        vector->pending = 0;
    else
        resettle_intx_locked(device);
}

static void assign_unmask_locked(wb_device *device, int fd)
{
    int old = __atomic_exchange_n(&device->unmask_fd, fd, __ATOMIC_SEQ_CST);

    if (old >= 0)
        close(old);
}

static void disable_locked(wb_device *device, uint32_t index)
{
    for (uint32_t i = 0; i < device->irqs[index].vectors; i++)
        assign_locked(device, index, i, -1);
    if (index == WB_INTX)
        assign_unmask_locked(device, -1);
}

static int one_bit(uint32_t bits)
{
    return bits && !(bits & (bits - 1));
}

/* Everything that makes SET_IRQS invalid; vectors: how many the index has. */
static int check_set(const struct irq_set *set, uint32_t vectors, uint32_t size, uint32_t nfds)
{
    uint32_t data = set->flags & DATA, action = set->flags & ACTION;

    if (set->flags & ~(uint32_t)(DATA | ACTION) || !one_bit(data) || !one_bit(action))
        return -EINVAL;
    if (set->index >= WB_ERR && (action != ACTION_TRIGGER || set->count > 1))
        return -EINVAL;
    if (nfds && (data != DATA_EVENTFD || nfds != set->count))
        return -EINVAL;
    if (!set->count)
        return data == DATA_NONE && action == ACTION_TRIGGER && !set->start ? 0 : -EINVAL;
    if (set->start >= vectors || set->count > vectors - set->start)
        return -EINVAL;
    if (data == DATA_BOOL && size - sizeof *set != set->count)
        return -EINVAL;
    if (data == DATA_EVENTFD && (action == ACTION_MASK || (action == ACTION_UNMASK && set->index != WB_INTX)))
        return -ENOTSUP;
    return 0;
}

static void apply_locked(wb_device *device, const struct irq_set *set, const uint8_t *flags, const int *fds)
{
    uint32_t action = set->flags & ACTION;

    for (uint32_t i = 0; i < set->count; i++) {
        uint32_t number = set->start + i;
        int fd = fds ? fds[i] : -1;

        if (set->flags & DATA_EVENTFD && action == ACTION_TRIGGER)
            assign_locked(device, set->index, number, fd);
        else if (set->flags & DATA_EVENTFD)
            assign_unmask_locked(device, fd);
        else if (flags && !flags[i])
            continue;
        else if (action == ACTION_TRIGGER)
            trigger_locked(device, set->index, number, WB_GUEST);
        else if (action == ACTION_UNMASK)
            unmask_locked(device, set->index, number);
        else
            device->irqs[set->index].vector[number].masked = 1;
    }
}

int wb_irq_set(wb_device *device, const uint8_t *payload, uint32_t size, const int *fds, uint32_t nfds)
{
    struct irq_set set = {0};
    const uint8_t *flags = NULL;
    int result = -EINVAL;

    if (size >= sizeof set)
        memcpy(&set, payload, sizeof set);
    if (set.argsz >= sizeof set && set.index < WB_IRQS)
        result = check_set(&set, device->irqs[set.index].vectors, size, nfds);
    for (uint32_t i = 0; !result && i < nfds; i++)
        result = wb_eventfd_check(fds[i]) ? 0 : -EINVAL;
    if (result) {
        close_fds(fds, nfds);
        return result;
    }
    if (set.flags & DATA_BOOL)
        flags = payload + sizeof set;
    wb_lock(device);
    if (set.count)
        apply_locked(device, &set, flags, nfds ? fds : NULL);
    else
        disable_locked(device, set.index);
    wb_unlock(device);
    return 0;
}

void wb_irq_poll_unmask(wb_device *device)
{
    struct pollfd ready = {.events = POLLIN};
    int intx;

    wb_lock(device);
    intx = device->irqs[WB_INTX].vectors != 0;
    ready.fd = device->unmask_fd;
    if (intx && ready.fd >= 0 && poll(&ready, 1, 0) == 1) {
        if (ready.revents & POLLIN && wb_eventfd_take(ready.fd))
            unmask_locked(device, WB_INTX, 0);
        else if (!(ready.revents & POLLIN))     /* broken: do not spin on it */
            assign_unmask_locked(device, -1);
    }
    wb_unlock(device);
}

void wb_irq_clear_locked(wb_device *device)
{
    for (uint32_t index = 0; index < WB_IRQS; index++) {
        disable_locked(device, index);
        for (uint32_t i = 0; i < device->irqs[index].vectors; i++)
            wb_msi_forget_locked(device, index, i);
    }
}

void wb_irq_clear(wb_device *device)
{
    wb_lock(device);
    wb_irq_clear_locked(device);
    wb_unlock(device);
}

void wb_irq_free(wb_device *device)
{
    wb_irq_clear(device);
    for (uint32_t index = 0; index < WB_IRQS; index++)
        free(device->irqs[index].vector);
}
