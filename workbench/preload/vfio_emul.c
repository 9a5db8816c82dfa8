/*
 * vfio_emul.c - the paths and groups of VFIO, for servers; and whose a descriptor is.
 *
 * A server's path has a group of its own, with a number that no kernel gives. /dev/vfio/vfio is
 * taken only while such a group is open, and becomes the kernel's if one of its groups is put in.
 *
 * The numbers of ioctls mean different things on a container, a group and a device.
 */
#include "preload.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_GROUP = 0x5f000000 };

struct place {                  /* a server's address and its group; stays for the life of the process */
    struct place *next;
    unsigned number;
    char *path;                 /* that QEMU was given; its last part is the device's name */
    char *socket;
};

struct group {
    struct wbp_object object;
    const struct place *place;
    struct wbp_container *container;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* of what follows, and of group->container */
static struct place *places;
static int open_groups;

/* ---- paths ---- */

static int is_socket(const char *path)
{
    struct stat status;

    return !stat(path, &status) && S_ISSOCK(status.st_mode);
}

/* The socket of a server's path: the path, or `cntrl` in that directory. NULL: none; else to be freed. */
static char *socket_of(const char *path)
{
    char *inside = NULL;

    if (is_socket(path))
        return strdup(path);
    if (asprintf(&inside, "%s/cntrl", path) < 0)
        return NULL;
    if (is_socket(inside))
        return inside;
    free(inside);
    return NULL;
}

/* Both strings are the table's from now on. */
static unsigned number_of_locked(char *path, char *socket)
{
    struct place *place = places;

    while (place && (strcmp(place->path, path) || strcmp(place->socket, socket)))
        place = place->next;
    if (!place)
        place = calloc(1, sizeof *place);
    if (!place || place->number) {
        free(path);
        free(socket);
        return place ? place->number : 0;
    }
    place->path = path;
    place->socket = socket;
    place->number = places ? places->number + 1 : FIRST_GROUP;
    place->next = places;
    places = place;
    wbp_log("%s: a vfio-user server, group %u", place->path, place->number);
    return place->number;
}

unsigned wbp_group_of(const char *path, const char *last)
{
    size_t size = path ? strlen(path) : 0, tail = strlen(last);
    int before = errno;
    unsigned number = 0;
    char *server, *socket;      /* taken over together, or not at all */

    if (size <= tail + 1 || strcmp(path + size - tail, last) || path[size - tail - 1] != '/')
        return 0;
    for (size -= tail; size > 1 && path[size - 1] == '/'; size--)
        ;
    server = strndup(path, size);
    socket = server ? socket_of(server) : NULL;
    if (socket) {
        pthread_mutex_lock(&lock);
        number = number_of_locked(server, socket);
        pthread_mutex_unlock(&lock);
    } else {
        free(server);
    }
    errno = before;
    return number;
}

/* ---- groups ---- */

static void end_group(struct wbp_object *object)
{
    struct group *group = (struct group *)object;

    pthread_mutex_lock(&lock);
    open_groups--;
    pthread_mutex_unlock(&lock);
    if (group->container)
        wbp_object_put(&group->container->object);
    free(group);
}

static int open_group(const struct place *place)
{
    struct group *group = calloc(1, sizeof *group);
    int fd;

    if (!group)
        return -ENOMEM;
    group->object = (struct wbp_object){WBP_GROUP, 1, end_group};
    group->place = place;
    pthread_mutex_lock(&lock);
    if (!open_groups++)
        wbp_settings_in_use();
    pthread_mutex_unlock(&lock);
    wbp_ram_keep();
    fd = wbp_fd_standin(&group->object);
    if (fd < 0)
        end_group(&group->object);
    else
        wbp_log("%s: group %u, descriptor %d", place->path, place->number, fd);
    return fd;
}

int wbp_vfio_open(const char *path)
{
    static const char directory[] = "/dev/vfio/";
    const struct place *place = NULL;
    int before = errno, container = 0, fd;
    char *end;
    unsigned long number;

    if (!path || strncmp(path, directory, sizeof directory - 1))
        return -2;
    path += sizeof directory - 1;
    number = strtoul(path, &end, 10);
    pthread_mutex_lock(&lock);
    if (!strcmp(path, "vfio"))
        container = open_groups > 0;
    else if (end != path && !*end)
        for (place = places; place && place->number != number; place = place->next)
            ;
    pthread_mutex_unlock(&lock);
    errno = before;
    if (!container && !place)
        return -2;
    fd = container ? wbp_container_open() : open_group(place);
    if (fd < 0)
        errno = -fd;
    return fd < 0 ? -1 : fd;
}

static int set_container(struct group *group, const int *argument)
{
    struct wbp_object *object = wbp_fd_get(*argument);
    int result = 0;

    if (!object || object->kind != WBP_CONTAINER) {
        if (object)
            wbp_object_put(object);
        return -EINVAL;         /* the kernel's container: QEMU then opens another */
    }
    pthread_mutex_lock(&lock);
    if (group->container) {
        result = -EINVAL;
    } else {
        group->container = (struct wbp_container *)object;      /* with the reference */
        group->container->ours = 1;
    }
    pthread_mutex_unlock(&lock);
    if (result)
        wbp_object_put(object);
    return result;
}

static int unset_container(struct group *group)
{
    struct wbp_container *container;

    pthread_mutex_lock(&lock);
    container = group->container;
    group->container = NULL;
    pthread_mutex_unlock(&lock);
    if (!container)
        return -EINVAL;
    wbp_object_put(&container->object);
    return 0;
}

/* QEMU may add options behind the name. */
static int get_device(struct group *group, const char *name)
{
    const char *slash = strrchr(group->place->path, '/'), *own = slash ? slash + 1 : group->place->path;
    size_t size = strlen(own);
    struct wbp_container *container = NULL;
    int fd;

    if (!size || strncmp(name, own, size) || (name[size] && name[size] != ' '))
        return -ENODEV;
    pthread_mutex_lock(&lock);
    if (group->container)
        container = (struct wbp_container *)wbp_object_take(&group->container->object);
    pthread_mutex_unlock(&lock);
    if (!container)
        return -EINVAL;
    fd = wbp_device_open(group->place->socket, container);
    wbp_object_put(&container->object);
    return fd;
}

static int group_ioctl(struct group *group, unsigned long number, void *argument)
{
    struct vfio_group_status status = {.argsz = sizeof status, .flags = VFIO_GROUP_FLAGS_VIABLE};

    if (number == VFIO_GROUP_UNSET_CONTAINER)
        return unset_container(group);
    if (number != VFIO_GROUP_GET_STATUS && number != VFIO_GROUP_SET_CONTAINER &&
        number != VFIO_GROUP_GET_DEVICE_FD)
        return -ENOTTY;
    if (!argument)
        return -EFAULT;
    if (number == VFIO_GROUP_SET_CONTAINER)
        return set_container(group, argument);
    if (number == VFIO_GROUP_GET_DEVICE_FD)
        return get_device(group, argument);
    memcpy(&status.argsz, argument, sizeof status.argsz);
    if (status.argsz < sizeof status)
        return -EINVAL;
    pthread_mutex_lock(&lock);
    if (group->container)
        status.flags |= VFIO_GROUP_FLAGS_CONTAINER_SET;
    pthread_mutex_unlock(&lock);
    memcpy(argument, &status, sizeof status);
    return 0;
}

/* ---- forks ---- */

void wbp_vfio_fork_begin(void)
{
    pthread_mutex_lock(&lock);
}

void wbp_vfio_fork_end(int child)
{
    if (child)
        open_groups = 0;
    pthread_mutex_unlock(&lock);
}

/* ---- the kernel's descriptors ---- */

static void end_kvm(struct wbp_object *object)
{
    free(object);
}

/* KVM's VFIO device is watched: our groups are none of KVM's business. */
static void watch_kvm(const struct kvm_create_device *created)
{
    struct wbp_object *object;

    if (created->type != KVM_DEV_TYPE_VFIO || created->flags & KVM_CREATE_DEVICE_TEST)
        return;
    object = calloc(1, sizeof *object);
    if (!object)
        return;
    *object = (struct wbp_object){WBP_KVM, 1, end_kvm};
    if (wbp_fd_adopt((int)created->fd, object) < 0)
        free(object);
}

static int kvm_ioctl(int fd, unsigned long number, void *argument)
{
    struct kvm_device_attr *attribute = argument;
    struct wbp_object *named;
    int ours;

    if (number == KVM_SET_DEVICE_ATTR && attribute && attribute->group == KVM_DEV_VFIO_GROUP &&
        attribute->addr) {
        named = wbp_fd_get(*(const int32_t *)(uintptr_t)attribute->addr);
        ours = named && named->kind != WBP_KVM;
        if (named)
            wbp_object_put(named);
        if (ours)
            return 0;
    }
    return wbp_real.ioctl(fd, number, argument);
}

/* A group of the kernel's is put into a container that we opened: it becomes the kernel's, or stays ours. */
static int foreign_group(int fd, const int *argument)
{
    struct wbp_object *object = wbp_fd_get(*argument);
    int result = 0, real;

    if (object && object->kind == WBP_CONTAINER) {
        pthread_mutex_lock(&lock);
        if (((struct wbp_container *)object)->ours)
            result = -EINVAL;
        pthread_mutex_unlock(&lock);
        real = result ? -1 : wbp_real.open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
        if (!result && real < 0)
            result = -errno;
        if (real >= 0) {
            wbp_fd_forget(*argument);
            if (dup3(real, *argument, O_CLOEXEC) < 0)
                result = -errno;
            wbp_real.close(real);
            wbp_log("container: descriptor %d is the kernel's", *argument);
        }
    }
    if (object)
        wbp_object_put(object);
    if (result) {
        errno = -result;
        return -1;
    }
    return wbp_real.ioctl(fd, VFIO_GROUP_SET_CONTAINER, argument);
}

static int foreign_ioctl(int fd, unsigned long number, void *argument)
{
    int result;

    if (number == VFIO_GROUP_SET_CONTAINER && argument && wbp_fd_any())
        return foreign_group(fd, argument);
    result = wbp_real.ioctl(fd, number, argument);
    if (number == KVM_CREATE_DEVICE && !result && argument)
        watch_kvm(argument);
    return result;
}

int wbp_vfio_ioctl(int fd, unsigned long number, void *argument)
{
    struct wbp_object *object = wbp_fd_get(fd);
    int result;

    if (!object)
        return foreign_ioctl(fd, number, argument);
    if (object->kind == WBP_KVM) {
        wbp_object_put(object);
        return kvm_ioctl(fd, number, argument);
    }
    if (object->kind == WBP_CONTAINER)
        result = wbp_container_ioctl((struct wbp_container *)object, number, argument);
    else if (object->kind == WBP_GROUP)
        result = group_ioctl((struct group *)object, number, argument);
    else
        result = wbp_device_ioctl(object, number, argument);
    wbp_object_put(object);
    if (result < 0)
        errno = -result;
    return result < 0 ? -1 : result;
}
