/*
 * dma_peer.c - the same copies as dma_copy.c, done as a device on libvfio-user does them: look the
 * address up, take the mapping, memcpy, give it back. Compiled only where there is such a library.
 */
#define _GNU_SOURCE
#include <libvfio-user.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

int peer_open(const char *path);
void peer_copy(uint64_t at, void *to, const void *from, size_t size);

static vfu_ctx_t *context;
static dma_sg_t *piece;
static size_t mapped;

static void add(vfu_ctx_t *unused, vfu_dma_info_t *info)
{
    (void)unused;
    mapped = info->vaddr ? info->iova.iov_len : 0;
}

static void take(vfu_ctx_t *unused, vfu_dma_info_t *info)
{
    (void)unused;
    (void)info;
}

/* Says that it listens, and serves at `path` until a client has mapped memory. */
int peer_open(const char *path)
{
    context = vfu_create_ctx(VFU_TRANS_SOCK, path, LIBVFIO_USER_FLAG_ATTACH_NB, NULL, VFU_DEV_TYPE_PCI);
    piece = malloc(dma_sg_size());
    if (!context || !piece || vfu_pci_init(context, VFU_PCI_TYPE_CONVENTIONAL, PCI_HEADER_TYPE_NORMAL, 0)
        || vfu_setup_device_dma(context, 16, add, take) || vfu_realize_ctx(context))
        return -1;
    printf("ready\n");
    fflush(stdout);
    while (vfu_attach_ctx(context))
        if (errno != EAGAIN)
            return -1;
    while (!mapped)
        if (vfu_run_ctx(context) < 0)
            return -1;
    return 0;
}

/* From the guest if there is a `to`, else to it. */
void peer_copy(uint64_t at, void *to, const void *from, size_t size)
{
    struct iovec bytes;

    if (vfu_addr_to_sgl(context, (vfu_dma_addr_t)at, size, piece, 1, to ? PROT_READ : PROT_WRITE) != 1
        || vfu_sgl_get(context, piece, &bytes, 1, 0))
        abort();
    if (to)
        memcpy(to, bytes.iov_base, size);
    else
        memcpy(bytes.iov_base, from, size);
    vfu_sgl_put(context, piece, &bytes, 1);
}
