/*
 * preload.h - what the files of the preloaded library share.
 *
 * Preloaded into a QEMU that has VFIO but no vfio-user-pci, the library answers the VFIO calls for
 * a path that is a vfio-user server's socket, and leaves everything else to libc. hooks.c is what
 * the program calls instead of libc; inside, only wbp_real is called, never a hooked name.
 *
 * Results are 0 or a negative errno unless said otherwise; descriptors are -1 when absent.
 * Locks, outermost first: a container's order, a device's lock, a client's talk, a container's
 * maps, the tables of fdtab.c and ramtrack.c. The reader thread of a client takes talk and below.
 */
#ifndef WBP_PRELOAD_H
#define WBP_PRELOAD_H

#undef _FILE_OFFSET_BITS        /* open and open64 are two names here */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vfio-user is little endian, and so must be the machine"
#endif
_Static_assert(sizeof(off_t) == 8 && sizeof(void *) == 8, "64-bit programs only");

enum { WBP_PAGE = 4096, WBP_HEADER = 16, WBP_REGIONS = 9, WBP_CONFIG = 7, WBP_BARS = 6 };

/* ---- libc's own functions, and the settings: settings.c ---- */

struct wbp_real {
    int (*open)(const char *, int, ...);
    int (*openat)(int, const char *, int, ...);
    int (*close)(int);
    int (*ioctl)(int, unsigned long, ...);
    ssize_t (*pread)(int, void *, size_t, off_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    int (*munmap)(void *, size_t);
    void *(*mremap)(void *, size_t, size_t, int, ...);
    ssize_t (*readlink)(const char *, char *, size_t);
    ssize_t (*readlinkat)(int, const char *, char *, size_t);
    char *(*realpath)(const char *, char *);
};

struct wbp_settings {
    const char *log;            /* WORKBENCH_PRELOAD_LOG: a file to append to; NULL: none */
    uint64_t timeout_ms;        /* ..._TIMEOUT_MS: how long a server may take for an answer */
    int stop;                   /* ..._ON_DEATH=stop: tell QEMU to stop the VM when a server is gone */
    int no_share;               /* ..._NO_SHARE=1: hand no memory over, every DMA goes by messages */
};

extern struct wbp_real wbp_real;
extern struct wbp_settings wbp_settings;

void wbp_ready(void);           /* fills in wbp_real; once, whoever comes first */
void wbp_settings_in_use(void); /* a device of ours is opened: LD_PRELOAD has done its work; one at a time */
uint64_t wbp_clock(void);       /* milliseconds */
void wbp_log(const char *format, ...) __attribute__((format(printf, 1, 2)));    /* to the log file */
void wbp_say(const char *format, ...) __attribute__((format(printf, 1, 2)));    /* to stderr, too */

/* ---- descriptors that are ours: fdtab.c ---- */

enum wbp_kind { WBP_CONTAINER = 1, WBP_GROUP, WBP_DEVICE, WBP_KVM };

struct wbp_object {
    enum wbp_kind kind;
    int references;
    void (*end)(struct wbp_object *);       /* the last reference is gone */
};

struct wbp_object *wbp_fd_get(int fd);      /* with a reference; NULL: not ours */
struct wbp_object *wbp_object_take(struct wbp_object *object);
void wbp_object_put(struct wbp_object *object);
int wbp_fd_standin(struct wbp_object *object);          /* a new descriptor that takes the reference over */
int wbp_fd_adopt(int fd, struct wbp_object *object);    /* the same for a descriptor there is */
void wbp_fd_forget(int fd);                 /* not ours any more, stays open */
int wbp_fd_any(void);                       /* whether the process has ever had one */
int wbp_fd_close(int fd);                   /* close(2) for every descriptor */

/* ---- memory that files can be had for: ramtrack.c ---- */

void wbp_ram_map(const void *at, size_t size, int prot, int flags, int fd, off_t offset);
void wbp_ram_unmap(const void *at, size_t size);
void wbp_ram_keep(void);        /* from now on hold descriptors, so that the program may close its own */
/* A new descriptor of the file behind all of it, and where it begins there; -1: there is none. */
int wbp_ram_find(const void *at, size_t size, int writable, uint64_t *offset);
void wbp_ram_fork_begin(void);
void wbp_ram_fork_end(int child);

/* ---- what the guest's DMA addresses are: dmamap.c ---- */

struct wbp_map {
    uint64_t iova, size;
    uint8_t *at;
    uint32_t flags;             /* VFIO_DMA_MAP_FLAG_READ, _WRITE */
};

struct wbp_maps {
    pthread_rwlock_t lock;      /* held while copying: an entry leaves when nobody uses its memory */
    struct wbp_map *list;       /* by IOVA; changed by who holds the container's order, too */
    size_t count, room;
};

void wbp_maps_begin(struct wbp_maps *maps);
void wbp_maps_end(struct wbp_maps *maps);
int wbp_maps_add(struct wbp_maps *maps, const struct wbp_map *map);
size_t wbp_maps_first(const struct wbp_maps *maps, uint64_t iova);  /* the first that ends behind it */
void wbp_maps_remove(struct wbp_maps *maps, size_t first, size_t count);
int wbp_maps_copy(struct wbp_maps *maps, uint64_t iova, void *data, uint64_t size, int write);

/* ---- a vfio-user server: vu_client.c, and its thread: vu_reader.c ---- */

enum wbp_command {
    WBP_VERSION = 1, WBP_DMA_MAP, WBP_DMA_UNMAP, WBP_GET_INFO, WBP_GET_REGION_INFO, WBP_GET_REGION_IO_FDS,
    WBP_GET_IRQ_INFO, WBP_SET_IRQS, WBP_REGION_READ, WBP_REGION_WRITE, WBP_DMA_READ, WBP_DMA_WRITE,
    WBP_RESET
};

enum { WBP_MAX_FDS = 16 };      /* of one message */

struct wbp_call {               /* a question and its answer; what is not used is zero */
    uint16_t command;
    uint16_t nfds;
    uint8_t wants_fd;
    const void *head, *data;    /* the payload, in two parts */
    uint32_t head_size, data_size;
    const int *fds;
    void *reply, *more;         /* where the answer's payload goes: first here, the rest there */
    uint32_t reply_room, more_room;
    uint32_t size;              /* of that payload */
    int fd;                     /* that came with it when it was wanted, or -1; the caller closes it */
};

struct wbp_client;

struct wbp_client *wbp_client_open(const char *path, struct wbp_maps *maps, int *error);
void wbp_client_close(struct wbp_client *client);
int wbp_client_call(struct wbp_client *client, struct wbp_call *call);
int wbp_client_dead(const struct wbp_client *client);
uint32_t wbp_client_max_fds(const struct wbp_client *client);
uint32_t wbp_client_max_data(const struct wbp_client *client);
void wbp_client_resample(struct wbp_client *client, int fd);    /* KVM's: read it, then unmask INTx */
void wbp_client_on_death(struct wbp_client *client, int fd);    /* an eventfd to write then */

/* ---- containers, groups, devices: vfio_container.c, vfio_emul.c, vfio_device.c, vfio_region.c ---- */

struct wbp_device;

struct wbp_container {
    struct wbp_object object;
    pthread_mutex_t order;      /* of maps, unmaps and devices that come and go; held while asking servers */
    struct wbp_maps maps;
    struct wbp_device *devices;
    int ours;                   /* a group of ours was put in: it can no longer become the kernel's */
};

int wbp_container_open(void);               /* a descriptor */
int wbp_container_ioctl(struct wbp_container *container, unsigned long number, void *argument);

void wbp_vfio_fork_begin(void);
void wbp_vfio_fork_end(int child);
/* The group of a path that ends in `last` below a server's address, socket or directory; 0: none of ours. */
unsigned wbp_group_of(const char *path, const char *last);
int wbp_vfio_open(const char *path);        /* a descriptor, -1 with errno, or -2: not ours */
int wbp_vfio_ioctl(int fd, unsigned long number, void *argument);      /* ioctl(2) for every descriptor */

int wbp_device_open(const char *path, struct wbp_container *container);    /* a descriptor */
int wbp_device_ioctl(struct wbp_object *object, unsigned long number, void *argument);
ssize_t wbp_device_access(struct wbp_object *object, void *data, size_t size, off_t offset, int write);
void *wbp_device_mmap(struct wbp_object *object, void *at, size_t size, int prot, int flags, off_t offset);
void wbp_device_map(struct wbp_device *device, const struct wbp_map *map);
void wbp_device_unmap(struct wbp_device *device, const struct wbp_map *map);
struct wbp_device *wbp_device_next(struct wbp_device *device);

#endif
