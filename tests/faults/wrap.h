/* wrap.h - makes the n-th call of a function of the C library fail, be interrupted or do less than asked. */
#ifndef WRAP_H
#define WRAP_H

enum wrapped {
    MALLOC, CALLOC, REALLOC, MMAP, RECVMSG, SENDMSG, SEND, POLL, EPOLL_CREATE1, EPOLL_CTL, EPOLL_WAIT,
    EVENTFD, MEMFD_CREATE, FCNTL, FTRUNCATE, FSTAT, FSTATFS, PREAD, PWRITE, PREADV2, READ, WRITE, READLINK,
    LSEEK, SYSCALL, WRAPPED
};

enum fault { FAILS, INTERRUPTED, SHORT, CUT };      /* cut: short, and the next one fails */

extern const char *const wrap_names[WRAPPED];
extern __thread int wrap_armed;     /* only calls of such threads count */

/* From now on: `at` is 1 for the first call, 0 for all of them; `error` is an errno for FAILS and CUT. */
void wrap_plan(enum wrapped which, enum fault fault, unsigned at, int error);
unsigned wrap_count(void);          /* calls of that function since then */
unsigned wrap_struck(void);         /* how many of them were spoilt */

#endif
