"""MSI-X through a real QEMU and Linux, without a driver: the shell programs the table, the kernel counts.

A vector's message is that of the kernel's own rescheduling interrupt (0xfd, arch/x86 irq_vectors.h),
which /proc/interrupts counts as RES. Nobody minds one more of these.
"""

import pytest

import workbench as wb

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

RESCHEDULE = 0xFD
RES = "grep RES: /proc/interrupts | tr -dc '0-9 \n' | tr -s ' ' '\n' | awk '{n += $1} END {print n}'"
HERE = "[ $d ] || d=$(basename $(dirname $(grep -l 0x0b12 /sys/bus/pci/devices/*/device)))"
WORD = "devmem $(( $(head -n 1 /sys/bus/pci/devices/$d/resource | cut -d' ' -f1) + {offset} )) 32 {value}"


class Card(wb.Device):
    """Four vectors behind one register."""

    id = wb.PciId(vendor=0x1234, device=0x0B12)
    irq = wb.Interrupts(intx=True, msix=4)

    class bar0(wb.Bar, size=0x4000):
        CTRL = wb.Register(0x00)


def table(card, vm, vector, *words):
    """Write words of a vector's entry: address, upper address, data, control."""
    start = card.bar0.MSIX_ADDRESS[vector].offset
    for place, word in words:
        vm.run(f"{HERE}; " + WORD.format(offset=start + 4 * place, value=hex(word)), check=True)


def counted(vm):
    return int(vm.run(RES, check=True).stdout)


def test_messages_reach_the_kernel_and_masks_hold_them_back():
    with Card(strict=True) as card, wb.VM(card, accel="tcg") as vm:
        config = f"{HERE}; setpci -s $d"
        vm.run(f"{config} COMMAND=6", check=True)
        capability = card.config.MSIX_CONTROL.offset
        assert card.irq.msix[1].trigger() == "disabled"
        vm.run(f"{config} {capability:x}.w=8000", check=True)
        assert card.irq.mode == "MSI-X"
        assert card.irq[1].trigger() == "pending"  # masked in QEMU's table: no eventfd yet
        assert card.bar0.MSIX_PENDING.value == 2
        before = counted(vm)
        since = card.log.total
        table(card, vm, 1, (0, 0xFEE00000), (1, 0), (2, RESCHEDULE), (3, 0))
        card.log.wait(kind="irq", since=since)
        assert card.bar0.MSIX_PENDING.value == 0
        assert card.irq[1].count == 1
        assert counted(vm) > before
        assert [card.irq[1].trigger() for _ in range(5)] == ["delivered"] * 5
        assert card.irq[0].trigger() == card.irq[3].trigger() == "pending"
        vm.run(f"{config} {capability:x}.w=c000", check=True)  # the function mask
        assert card.irq[1].trigger() == "masked"
        since = card.log.total
        vm.run(f"{config} {capability:x}.w=8000", check=True)
        card.log.wait(kind="irq", since=since)
        assert not card.irq[1].pending
        vm.run(f"{config} {capability:x}.w=0", check=True)
        assert card.irq.mode == "INTx"
        assert card.bar0.MSIX_PENDING.value == 0
        # QEMU forwards the table to nobody: our copy is as it was made.
        assert card.bar0.MSIX_VECTOR_CONTROL[1].MASK == 1
        assert not card.log.filter(register="MSIX_VECTOR_CONTROL", origin="guest")
