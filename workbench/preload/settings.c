/*
 * settings.c - what is looked up once: libc's own functions and the environment; and what we say.
 *
 * The environment is read and changed in place, without getenv and setenv: a shell has its own, and
 * they do not work before its main(). Our own entry leaves LD_PRELOAD, so that what QEMU starts
 * (network scripts, helpers) does not load the library again: at once in a program that is called
 * qemu..., in another when it opens the first device. A wrapper that becomes QEMU passes it on.
 */
#include "preload.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000, LONGEST_MS = 24 * 3600 * 1000, LINE = 512 };

extern char **environ;

struct wbp_real wbp_real;
struct wbp_settings wbp_settings = {.timeout_ms = TIMEOUT_MS};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int wrong_timeout, wrong_death;  /* settings that say nothing we know */
static int log_fd = -1;
static pthread_once_t log_once = PTHREAD_ONCE_INIT;

/* ---- the environment ---- */

static char **find(const char *name)
{
    size_t size = strlen(name);

    for (char **entry = environ; entry && *entry; entry++)
        if (!strncmp(*entry, name, size) && (*entry)[size] == '=')
            return entry;
    return NULL;
}

static const char *value_of(const char *name)
{
    char **entry = find(name);
    const char *value = entry ? *entry + strlen(name) + 1 : NULL;

    return value && *value ? value : NULL;
}

static int is_this(const char *path, const char *own)
{
    struct stat a, b;

    if (!strcmp(path, own))
        return 1;
    return !stat(path, &a) && !stat(own, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Copies the parts of `list` that are not this library to `to`; returns how many stayed. */
static int copy_others(const char *list, const char *own, char *to)
{
    char part[LINE * 8];
    int stayed = 0;

    *to = 0;
    for (const char *at = list; *at; ) {
        size_t size = strcspn(at, ": ");

        if (size && size < sizeof part) {
            memcpy(part, at, size);
            part[size] = 0;
        }
        if (size && (size >= sizeof part || !is_this(part, own))) {
            if (stayed++)
                strcat(to, ":");
            strncat(to, at, size);
        }
        at += size + (at[size] != 0);
    }
    return stayed;
}

/* Several threads may be reading the environment, unless `alone`. */
static void leave_environment(int alone)
{
    char **entry = find("LD_PRELOAD");
    Dl_info info;
    char *list, *others;

    if (!entry || !dladdr((void *)&wbp_real, &info) || !info.dli_fname)
        return;
    list = *entry + strlen("LD_PRELOAD=");
    others = malloc(2 * strlen(list) + 1);
    if (!others)
        return;
    if (copy_others(list, info.dli_fname, others)) {
        if (strlen(others) < strlen(list))
            strcpy(list, others);
    } else {
        *list = 0;
        for (; alone && *entry; entry++)
            entry[0] = entry[1];
    }
    free(others);
}

/* Said when a device is opened, not by each shell and wrapper before QEMU. */
static void tell_wrong(void)
{
    if (wrong_timeout)
        wbp_say("WORKBENCH_PRELOAD_TIMEOUT_MS is a number from 1 to %d: %d it is", LONGEST_MS, TIMEOUT_MS);
    if (wrong_death)
        wbp_say("WORKBENCH_PRELOAD_ON_DEATH is stop or continue: continue it is");
    wrong_timeout = wrong_death = 0;
}

void wbp_settings_in_use(void)
{
    leave_environment(0);
    tell_wrong();
}

/* "5s" is no number of milliseconds; 0: it is none. */
static uint64_t number_of(const char *text)
{
    int plain = text && strspn(text, "0123456789") == strlen(text);

    return plain ? strtoull(text, NULL, 10) : 0;
}

static void read_settings(void)
{
    const char *timeout = value_of("WORKBENCH_PRELOAD_TIMEOUT_MS");
    const char *death = value_of("WORKBENCH_PRELOAD_ON_DEATH");
    const char *no_share = value_of("WORKBENCH_PRELOAD_NO_SHARE");
    const char *log = value_of("WORKBENCH_PRELOAD_LOG");
    uint64_t number = number_of(timeout);

    wrong_timeout = timeout && (!number || number > LONGEST_MS);
    wrong_death = death && strcmp(death, "stop") && strcmp(death, "continue");
    if (number && !wrong_timeout)
        wbp_settings.timeout_ms = number;
    wbp_settings.stop = death && !strcmp(death, "stop");
    wbp_settings.no_share = no_share && strcmp(no_share, "0");
    wbp_settings.log = log ? strdup(log) : NULL;
}

/* ---- libc ---- */

/* musl has no names with 64; where there are both, they are one function on a 64-bit machine. */
static void look_up(void *function, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    memcpy(function, &found, sizeof found);
}

static void set_up(void)
{
    look_up(&wbp_real.open, "open");
    look_up(&wbp_real.openat, "openat");
    look_up(&wbp_real.close, "close");
    look_up(&wbp_real.ioctl, "ioctl");
    look_up(&wbp_real.pread, "pread");
    look_up(&wbp_real.pwrite, "pwrite");
    look_up(&wbp_real.mmap, "mmap");
    look_up(&wbp_real.munmap, "munmap");
    look_up(&wbp_real.mremap, "mremap");
    look_up(&wbp_real.readlink, "readlink");
    look_up(&wbp_real.readlinkat, "readlinkat");
    look_up(&wbp_real.realpath, "realpath");
}

void wbp_ready(void)
{
    pthread_once(&once, set_up);
}

/* The environment may not be there yet when the first hook is called. */
__attribute__((constructor)) static void begin(void)
{
    int before = errno;

    wbp_ready();
    read_settings();
    if (!strncmp(program_invocation_short_name, "qemu", 4) || !strcmp(program_invocation_short_name, "kvm"))
        leave_environment(1);
    errno = before;
}

/* ---- saying ---- */

uint64_t wbp_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void open_log(void)
{
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY;

    log_fd = wbp_real.open(wbp_settings.log, flags, 0600);
    if (log_fd < 0)
        dprintf(2, "workbench preload: cannot write the log %s: %s\n", wbp_settings.log, strerror(errno));
}

/* One line is one write, so that lines of several threads and processes stay whole. */
static void log_line(const char *text)
{
    char line[LINE + 64];
    struct timespec now;
    int size;

    if (!wbp_settings.log)
        return;
    pthread_once(&log_once, open_log);
    clock_gettime(CLOCK_REALTIME, &now);
    size = snprintf(line, sizeof line, "%lld.%06ld %d %s\n", (long long)now.tv_sec, now.tv_nsec / 1000,
                    (int)getpid(), text);
    if (log_fd >= 0 && size > 0 && write(log_fd, line, (size_t)size) < 0)
        return;                 /* a full disk is no reason to disturb the VM */
}

void wbp_log(const char *format, ...)
{
    int before = errno;
    char text[LINE];
    va_list list;

    if (!wbp_settings.log)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    log_line(text);
    errno = before;
}

void wbp_say(const char *format, ...)
{
    int before = errno;
    char text[LINE];
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    dprintf(2, "workbench preload: %s\n", text);
    log_line(text);
    errno = before;
}
