/*
 * peer.c - the peer: a device on libvfio-user with one BAR of 4096 bytes that a C callback answers.
 *
 * peer SOCKET: says "ready" when it listens, serves one client after another. Compiled only where there is
 * such a library.
 */
#include <libvfio-user.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static char registers[4096];

static ssize_t touch(vfu_ctx_t *context, char *bytes, size_t count, loff_t offset, bool is_write)
{
    (void)context;
    if (offset < 0 || (size_t)offset > sizeof registers || count > sizeof registers - (size_t)offset)
        return -1;
    if (is_write)
        memcpy(registers + offset, bytes, count);
    else
        memcpy(bytes, registers + offset, count);
    return (ssize_t)count;
}

int main(int count, char **arguments)
{
    vfu_ctx_t *context;

    if (count != 2)
        return 2;
    context = vfu_create_ctx(VFU_TRANS_SOCK, arguments[1], 0, NULL, VFU_DEV_TYPE_PCI);
    if (!context || vfu_pci_init(context, VFU_PCI_TYPE_CONVENTIONAL, PCI_HEADER_TYPE_NORMAL, 0))
        return 1;
    vfu_pci_set_id(context, 0x1234, 0x0005, 0, 0);
    vfu_pci_set_class(context, 0xff, 0, 0);
    if (vfu_setup_region(context, VFU_PCI_DEV_BAR0_REGION_IDX, sizeof registers, touch,
                         VFU_REGION_FLAG_RW | VFU_REGION_FLAG_MEM, NULL, 0, -1, 0)
        || vfu_realize_ctx(context))
        return 1;
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        if (vfu_attach_ctx(context))
            return 1;
        while (vfu_run_ctx(context) >= 0 || errno == EINTR)
            ;
        if (errno != ENOTCONN)
            return 1;
    }
}
