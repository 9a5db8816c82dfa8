/*
 * vfio_region.c - the regions of a device: what they are, reads and writes, what may be mapped.
 *
 * Nothing a server says of a region is believed: areas must be whole pages, in order, inside the
 * region and inside the file, or else the region is reached by messages only.
 */
#include "vfio_device.h"

#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { INFO = sizeof(struct vfio_region_info), FIRST_ARGSZ = 1024, LAST_ARGSZ = 65536, SMALL = 8 };

/* ---- what the server says ---- */

static int order(const void *one, const void *other)
{
    const struct wbp_area *a = one, *b = other;

    return a->start < b->start ? -1 : a->start > b->start;
}

/* The areas of a sparse-mmap capability that lies at `at` of `size` bytes; 0 when they are all right. */
static int take_areas(struct wbp_region *region, const uint8_t *info, uint32_t size, uint32_t at)
{
    struct vfio_region_info_cap_sparse_mmap cap;
    uint32_t room = size - at;

    if (room < sizeof cap)
        return -EPROTO;
    memcpy(&cap, info + at, sizeof cap);
    if (cap.nr_areas > (room - sizeof cap) / sizeof *region->areas)
        return -EPROTO;
    region->sparse = 1;
    region->areas = calloc(cap.nr_areas + 1, sizeof *region->areas);
    if (!region->areas)
        return -ENOMEM;
    memcpy(region->areas, info + at + sizeof cap, cap.nr_areas * sizeof *region->areas);
    region->area_count = cap.nr_areas;
    qsort(region->areas, region->area_count, sizeof *region->areas, order);
    return 0;
}

/* Follows the chain of capabilities, which only leads forward, to the first sparse-mmap one. */
static int find_areas(struct wbp_region *region, const uint8_t *info, uint32_t size, uint32_t at)
{
    struct vfio_info_cap_header header;

    for (uint32_t next; at; at = next) {
        if (at < INFO || at > size || size - at < sizeof header)
            return -EPROTO;
        memcpy(&header, info + at, sizeof header);
        if (header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
            return take_areas(region, info, size, at);
        next = header.next;
        if (next && next <= at)
            return -EPROTO;
    }
    return 0;
}

static int areas_fit(const struct wbp_region *region)
{
    uint64_t end = 0, last, in_file;
    struct stat status;

    if (region->fd < 0 || fstat(region->fd, &status) || region->fd_offset % WBP_PAGE)
        return 0;
    for (uint32_t i = 0; i < region->area_count; i++) {
        const struct wbp_area *area = &region->areas[i];

        if (!area->size || area->start < end || area->start % WBP_PAGE ||
            __builtin_add_overflow(area->start, area->size, &last) || last > region->size ||
            (area->size % WBP_PAGE && last != region->size) ||
            __builtin_add_overflow(region->fd_offset, last, &in_file) ||
            (S_ISREG(status.st_mode) && in_file > (uint64_t)status.st_size))
            return 0;
        end = last;
    }
    return 1;
}

static void forget_areas(struct wbp_region *region)
{
    region->flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
    region->area_count = 0;
    region->sparse = 0;
    wbp_region_end(region);
    region->areas = NULL;
    region->fd = -1;
}

static int learn_areas(struct wbp_region *region, const uint8_t *info, uint32_t size, uint32_t cap_offset)
{
    int result = cap_offset ? find_areas(region, info, size, cap_offset) : 0;

    if (result || region->sparse)
        return result;
    region->areas = calloc(1, sizeof *region->areas);
    if (!region->areas)
        return -ENOMEM;
    region->areas[0].size = region->size;
    region->area_count = 1;
    return 0;
}

/* Asks with room for some areas, and once more when there are many. */
static int ask(struct wbp_device *device, uint32_t index, uint8_t **info, struct wbp_call *call)
{
    struct vfio_region_info request = {.argsz = FIRST_ARGSZ, .index = index}, said;
    int result;

    for (;;) {
        *info = calloc(1, request.argsz);
        if (!*info)
            return -ENOMEM;
        *call = (struct wbp_call){
            .command = WBP_GET_REGION_INFO, .head = &request, .head_size = sizeof request, .reply = *info,
            .reply_room = request.argsz, .wants_fd = 1,
        };
        result = wbp_client_call(device->client, call);
        if (result)
            return result;
        memcpy(&said, *info, sizeof said);
        if (call->size < INFO || call->size > request.argsz || said.argsz < INFO || said.index != index)
            return -EPROTO;
        if (said.argsz <= request.argsz)
            return 0;
        if (request.argsz != FIRST_ARGSZ || said.argsz > LAST_ARGSZ)
            return -E2BIG;
        if (call->fd >= 0)
            wbp_real.close(call->fd);
        call->fd = -1;
        free(*info);
        request.argsz = said.argsz;
    }
}

static int learn(struct wbp_device *device, uint32_t index, struct wbp_region *region)
{
    struct vfio_region_info info;
    uint8_t *bytes = NULL;
    struct wbp_call call = {.fd = -1};
    int result = ask(device, index, &bytes, &call);

    if (result) {
        if (call.fd >= 0)
            wbp_real.close(call.fd);
        free(bytes);
        wbp_log("%s: region %u: %s", device->path, index, strerror(-result));
        return result;
    }
    memcpy(&info, bytes, sizeof info);
    *region = (struct wbp_region){
        .size = info.size, .fd = call.fd, .fd_offset = info.offset,
        .flags = info.flags & (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
                               VFIO_REGION_INFO_FLAG_MMAP),
    };
    if (region->size >> WBP_OFFSET_SHIFT)
        result = -EFBIG;
    else if (region->flags & VFIO_REGION_INFO_FLAG_MMAP && region->fd >= 0)
        result = learn_areas(region, bytes, call.size,
                             info.flags & VFIO_REGION_INFO_FLAG_CAPS ? info.cap_offset : 0);
    free(bytes);
    if (!(region->flags & VFIO_REGION_INFO_FLAG_MMAP) || result || !areas_fit(region)) {
        if (region->flags & VFIO_REGION_INFO_FLAG_MMAP)
            wbp_log("%s: region %u cannot be mapped as the server says", device->path, index);
        forget_areas(region);
    }
    wbp_log("%s: region %u: %llu bytes, flags %#x, %u areas to map", device->path, index,
            (unsigned long long)region->size, region->flags, region->area_count);
    return result == -EFBIG ? result : 0;
}

const struct wbp_region *wbp_region_get(struct wbp_device *device, uint32_t index, int *error)
{
    struct wbp_region *region;

    *error = index < device->region_count ? 0 : -EINVAL;
    if (*error)
        return NULL;
    region = &device->regions[index];
    if (__atomic_load_n(&region->known, __ATOMIC_ACQUIRE))
        return region;
    pthread_mutex_lock(&device->lock);
    if (!region->known) {
        *error = learn(device, index, region);
        if (!*error)
            __atomic_store_n(&region->known, 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&device->lock);
    return *error ? NULL : region;
}

void wbp_region_end(struct wbp_region *region)
{
    free(region->areas);
    if (region->fd >= 0)
        wbp_real.close(region->fd);
}

/* ---- what QEMU is told ---- */

/* The caller has room for argsz bytes, and not one more is written. */
int wbp_region_info(struct wbp_device *device, void *argument)
{
    struct vfio_region_info info;
    struct vfio_region_info_cap_sparse_mmap cap = {.header = {VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0}};
    const struct wbp_region *region;
    uint32_t needed;
    int error;

    memcpy(&info, argument, sizeof info.argsz);
    if (info.argsz < INFO)
        return -EINVAL;
    memcpy(&info, argument, sizeof info);
    region = wbp_region_get(device, info.index, &error);
    if (!region)
        return error;
    info.flags = region->flags;
    info.size = region->size;
    info.offset = (uint64_t)info.index << WBP_OFFSET_SHIFT;
    info.cap_offset = 0;
    if (region->sparse) {
        info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
        needed = (uint32_t)(INFO + sizeof cap + region->area_count * sizeof *region->areas);
        if (info.argsz < needed) {
            info.argsz = needed;
        } else {
            cap.nr_areas = region->area_count;
            info.cap_offset = INFO;
            memcpy((uint8_t *)argument + INFO, &cap, sizeof cap);
            memcpy((uint8_t *)argument + INFO + sizeof cap, region->areas,
                   region->area_count * sizeof *region->areas);
        }
    }
    memcpy(argument, &info, sizeof info);
    return 0;
}

/* ---- reading and writing ---- */

static int access_once(struct wbp_device *device, uint8_t *data, uint32_t size, uint32_t index, uint64_t at,
                       int write)
{
    struct { uint64_t offset; uint32_t region, count; } place = {at, index, size}, said = {0};
    struct wbp_call call = {
        .command = write ? WBP_REGION_WRITE : WBP_REGION_READ, .head = &place, .head_size = sizeof place,
        .data = write ? data : NULL, .data_size = write ? size : 0,
        .reply = &said, .reply_room = sizeof said, .more = write ? NULL : data, .more_room = write ? 0 : size,
    };
    int result = wbp_client_call(device->client, &call);

    if (result)
        return result;
    return call.size < sizeof said || said.count != size || (!write && call.size != sizeof said + size)
        ? -EIO : 0;
}

/* Of a device that is gone, a register reads as all ones and takes every write. */
static ssize_t gone(struct wbp_device *device, void *data, size_t size, int write)
{
    int settled = __atomic_load_n(&device->settled, __ATOMIC_ACQUIRE);

    if (size > SMALL || !settled || !wbp_client_dead(device->client))
        return -1;
    if (!write)
        memset(data, 0xff, size);
    return (ssize_t)size;
}

ssize_t wbp_device_access(struct wbp_object *object, void *data, size_t size, off_t offset, int write)
{
    struct wbp_device *device = (struct wbp_device *)object;
    uint64_t at = (uint64_t)offset & ((1ULL << WBP_OFFSET_SHIFT) - 1);
    uint32_t index = (uint32_t)((uint64_t)offset >> WBP_OFFSET_SHIFT);
    uint32_t needed = write ? VFIO_REGION_INFO_FLAG_WRITE : VFIO_REGION_INFO_FLAG_READ;
    int error;
    const struct wbp_region *region = wbp_region_get(device, index, &error);
    size_t done = 0;

    if (region && (at >= region->size || !(region->flags & needed)))
        error = -EINVAL;
    if (!error && size > region->size - at)
        size = region->size - at;
    while (!error && done < size) {
        size_t n = size - done, most = wbp_client_max_data(device->client);

        n = n < most ? n : most;
        error = access_once(device, (uint8_t *)data + done, (uint32_t)n, index, at + done, write);
        done += error ? 0 : n;
    }
    if (done && index < WBP_BARS)
        __atomic_store_n(&device->settled, 1, __ATOMIC_RELEASE);
    if (done || !error)
        return (ssize_t)done;
    if (gone(device, data, size, write) >= 0)
        return (ssize_t)size;
    errno = -error;
    return -1;
}

/* ---- mapping ---- */

static const struct wbp_area *area_of(const struct wbp_region *region, uint64_t at, uint64_t size)
{
    for (uint32_t i = 0; i < region->area_count; i++) {
        const struct wbp_area *area = &region->areas[i];
        uint64_t whole = (area->size + WBP_PAGE - 1) / WBP_PAGE * WBP_PAGE;

        if (at >= area->start && at - area->start < whole && size <= whole - (at - area->start))
            return area;
    }
    return NULL;
}

void *wbp_device_mmap(struct wbp_object *object, void *at, size_t size, int prot, int flags, off_t offset)
{
    struct wbp_device *device = (struct wbp_device *)object;
    uint64_t start = (uint64_t)offset & ((1ULL << WBP_OFFSET_SHIFT) - 1);
    uint32_t needed = VFIO_REGION_INFO_FLAG_MMAP | (prot & PROT_READ ? VFIO_REGION_INFO_FLAG_READ : 0) |
                      (prot & PROT_WRITE ? VFIO_REGION_INFO_FLAG_WRITE : 0);
    int error;
    const struct wbp_region *region =
        wbp_region_get(device, (uint32_t)((uint64_t)offset >> WBP_OFFSET_SHIFT), &error);
    void *mapped;

    if (!error && ((flags & MAP_TYPE) == MAP_PRIVATE || !size || (region->flags & needed) != needed ||
                   !area_of(region, start, size)))
        error = -EINVAL;
    if (error) {
        errno = -error;
        return MAP_FAILED;
    }
    mapped = wbp_real.mmap(at, size, prot, flags, region->fd, (off_t)(region->fd_offset + start));
    wbp_log("%s: %zu bytes mapped at offset %#llx: %s", device->path, size, (unsigned long long)offset,
            mapped == MAP_FAILED ? strerror(errno) : "done");
    if (mapped != MAP_FAILED)
        wbp_ram_unmap(mapped, size);    /* what lay there is gone */
    return mapped;
}
