/* vfio_device.h - a device, as vfio_device.c and vfio_region.c share it. */
#ifndef WBP_VFIO_DEVICE_H
#define WBP_VFIO_DEVICE_H

#include "preload.h"

enum { WBP_OFFSET_SHIFT = 40 };     /* a region's place in the device's descriptor: index << 40 */

struct wbp_area {
    uint64_t start, size;
};

struct wbp_region {
    int known;                  /* atomic; the rest does not change from then on */
    uint32_t flags;             /* VFIO_REGION_INFO_FLAG_*; MMAP only with areas and a file */
    uint64_t size;
    int fd;                     /* the file to map, and where the region begins in it */
    uint64_t fd_offset;
    struct wbp_area *areas;     /* sorted, inside the region, none overlaps another */
    uint32_t area_count;
    int sparse;                 /* the areas are not simply all of it */
};

struct wbp_device {
    struct wbp_object object;
    struct wbp_device *next;    /* in the container */
    struct wbp_container *container;
    struct wbp_client *client;
    pthread_mutex_t lock;       /* of learning what a region is */
    struct wbp_region regions[WBP_REGIONS];
    uint32_t flags, region_count, irq_count;
    int settled;                /* atomic: QEMU has set it up; from now on its end is no error */
    char *path;
};

/* What the server says of a region; asked once. NULL: *error. */
const struct wbp_region *wbp_region_get(struct wbp_device *device, uint32_t index, int *error);
int wbp_region_info(struct wbp_device *device, void *argument);
void wbp_region_end(struct wbp_region *region);

#endif
