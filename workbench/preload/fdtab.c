/*
 * fdtab.c - which descriptors are ours: a number to an object, counted references.
 *
 * What is not ours costs one atomic load. A stand-in is an O_PATH descriptor, on which every call
 * that got past the hooks fails with EBADF instead of doing something somewhere.
 *
 * A forked child has no descriptors of ours: what it closes (helpers close everything) must not
 * reach the parent's servers. Its copies of our sockets stay open until it executes something. A
 * child of vfork() still uses the parent's memory: what it closes changes nothing here.
 */
#include "preload.h"

#include <fcntl.h>
#include <unistd.h>

enum { ROOM = 65536 };

static struct wbp_object *table[ROOM];      /* loaded without the lock; nothing is followed without it */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int highest = -1;
static int any;
static pid_t owner;             /* the process whose descriptors these are */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fork_begin(void)
{
    wbp_vfio_fork_begin();
    pthread_mutex_lock(&lock);
    wbp_ram_fork_begin();
}

static void fork_end_parent(void)
{
    wbp_ram_fork_end(0);
    pthread_mutex_unlock(&lock);
    wbp_vfio_fork_end(0);
}

static void fork_end_child(void)
{
    for (int fd = 0; fd <= highest; fd++)
        __atomic_store_n(&table[fd], NULL, __ATOMIC_RELEASE);
    highest = -1;
    wbp_ram_fork_end(1);
    pthread_mutex_unlock(&lock);
    wbp_vfio_fork_end(1);
}

static void watch_forks(void)
{
    pthread_atfork(fork_begin, fork_end_parent, fork_end_child);
}

struct wbp_object *wbp_fd_get(int fd)
{
    struct wbp_object *object;

    if (fd < 0 || fd >= ROOM || !__atomic_load_n(&table[fd], __ATOMIC_ACQUIRE))
        return NULL;
    pthread_mutex_lock(&lock);
    object = table[fd];
    if (object)
        object->references++;
    pthread_mutex_unlock(&lock);
    return object;
}

struct wbp_object *wbp_object_take(struct wbp_object *object)
{
    pthread_mutex_lock(&lock);
    object->references++;
    pthread_mutex_unlock(&lock);
    return object;
}

void wbp_object_put(struct wbp_object *object)
{
    int left;

    pthread_mutex_lock(&lock);
    left = --object->references;
    pthread_mutex_unlock(&lock);
    if (!left)
        object->end(object);
}

int wbp_fd_adopt(int fd, struct wbp_object *object)
{
    struct wbp_object *before;

    if (fd < 0 || fd >= ROOM)
        return -EMFILE;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&lock);
    before = table[fd];         /* its descriptor was closed behind our back, or the number were not free */
    __atomic_store_n(&table[fd], object, __ATOMIC_RELEASE);
    if (fd > highest)
        highest = fd;
    owner = getpid();
    __atomic_store_n(&any, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    if (before)
        wbp_object_put(before);
    return fd;
}

int wbp_fd_standin(struct wbp_object *object)
{
    int fd = wbp_real.open("/", O_PATH | O_CLOEXEC);
    int result;

    if (fd < 0)
        return -errno;
    result = wbp_fd_adopt(fd, object);
    if (result < 0)
        wbp_real.close(fd);
    return result;
}

static struct wbp_object *remove_entry(int fd)
{
    struct wbp_object *object;

    if (fd < 0 || fd >= ROOM || !__atomic_load_n(&table[fd], __ATOMIC_ACQUIRE))
        return NULL;
    pthread_mutex_lock(&lock);
    object = owner == getpid() ? table[fd] : NULL;
    if (object)
        __atomic_store_n(&table[fd], NULL, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    return object;
}

void wbp_fd_forget(int fd)
{
    struct wbp_object *object = remove_entry(fd);

    if (object)
        wbp_object_put(object);
}

int wbp_fd_any(void)
{
    return __atomic_load_n(&any, __ATOMIC_ACQUIRE);
}

/* The number leaves the table first: once it is closed, it may be anybody's. */
int wbp_fd_close(int fd)
{
    struct wbp_object *object = remove_entry(fd);
    int result = wbp_real.close(fd);
    int error = errno;

    if (object) {
        wbp_log("descriptor %d closed", fd);
        wbp_object_put(object);
    }
    errno = error;
    return result;
}
