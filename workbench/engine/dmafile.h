/*
 * dmafile.h - guest memory inside the engine: dma.c keeps the table, dmafile.c its files, dmacopy.c copies.
 */
#ifndef WB_DMAFILE_H
#define WB_DMAFILE_H

#include "internal.h"

#include <sys/stat.h>

struct wb_file {                /* a file of the client's that ranges share */
    struct wb_file *next, **link;   /* in its list; what leads to it */
    dev_t device;
    ino_t inode;
    int fd;
    int mode;                   /* O_RDONLY or O_RDWR: a read-only range may not lend out more */
    uint32_t users;             /* ranges */
    uint8_t private;            /* the guest sees other bytes: it is reached by messages */
    uint8_t huge;               /* on hugetlbfs, which has no pwrite */
    uint8_t *bytes;             /* the mapping; NULL: pread and pwrite */
    uint64_t mapped;            /* bytes of it */
};

struct wb_range {
    wb_dma_range at;
    struct wb_file *file;       /* NULL: reachable by messages only */
    uint32_t pins;              /* copies under way */
    uint64_t leaving;           /* number of the unmap that takes it away; 0: stays */
};

/* ---- dmafile.c ---- */

/* Is fd the memory that the range says it is? Gives its identity and how it was opened. */
int wb_file_check(const wb_dma_range *range, int fd, struct stat *status, int *mode);
int wb_file_is(const struct wb_file *file, const struct stat *status, int mode);
/* Shares a file that reaches to `end`, or takes *fd, which is -1 then. */
int wb_file_use_locked(wb_device *device, const struct stat *status, int mode, int *fd, uint64_t end,
                       struct wb_file **used);
/* A range needs the file no more. What nobody needs is moved to *dead: free it without the lock. */
void wb_file_drop_locked(wb_device *device, struct wb_file *file, struct wb_file **dead);
/* It is private, however it was opened. */
void wb_file_distrust_locked(wb_device *device, const struct wb_file *of);
/* private files of a client that is gone */
void wb_file_forget_locked(wb_device *device, struct wb_file **dead);
void wb_file_free(struct wb_file *dead);
/*
 * Copies at an offset of the file, `to` or `from` being our side and the other NULL: 0, -EIO or -EOPNOTSUPP.
 */
int wb_file_copy(const struct wb_file *file, uint64_t offset, uint8_t *to, const uint8_t *from,
                 uint64_t size);

/* ---- dma.c ---- */

/* Index of the first range that ends behind iova. */
uint32_t wb_range_find_locked(const wb_device *device, uint64_t iova);
/* The range at iova: 0, or why `access` (enum wb_dma_flag) is not possible there. */
int wb_range_get_locked(wb_device *device, uint64_t iova, uint32_t access, struct wb_range **range);

/* Is the range reached by messages alone? */
static inline int wb_range_is_far(const struct wb_range *range)
{
    return !range->file || range->file->private;
}

#endif
