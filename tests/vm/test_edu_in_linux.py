"""The edu device in a real guest. Linux has no driver for it: a few words of shell through UIO are one.

``uio_pci_generic`` enables the card and turns its interrupt into something that can be read; the registers
are reached at their physical address. The memory for DMA is kept free of Linux by the kernel's ``memmap=``,
so that it may be read and written through ``/dev/mem``.
"""

import hashlib
import re
from collections.abc import Iterator

import pytest

import workbench as wb
from workbench.devices.edu import Edu
from workbench.vm.kit import Qemu

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

RAM = 0x4000000  # 64 MiB: inside the guest's memory, and below 2**28
BUFFER = 0x40000
CARD = "-d 1234:11e8"
DONE = "while [ $(( $(r 0x98) & 1 )) = 1 ]; do :; done"


@pytest.fixture(scope="module")
def edu(qemu: Qemu | None) -> Iterator[Edu]:
    with Edu(strict=True) as device:
        assert device.bar0.memory.size == 4096  # which maps it, before a test that must leave nothing
        yield device


@pytest.fixture(scope="module")
def vm(edu: Edu, qemu: Qemu | None) -> Iterator[wb.VM]:
    reserved = f"memmap=64K${RAM:#x}"
    with wb.VM(edu, modules="uio_pci_generic", accel="tcg", append=reserved, qemu=qemu) as vm:
        vm.run("echo 1234 11e8 > /sys/bus/pci/drivers/uio_pci_generic/new_id", check=True)
        place = vm.run(f"lspci -v {CARD}", check=True).stdout
        start = re.search(r"BAR 0: Memory at (\w+) .*size=1M", place)
        assert start is not None
        vm.run(f"echo 'r() {{ devmem $((0x{start[1]} + $1)) ${{3:-32}} $2; }}' > /tmp/edu", check=True)
        yield vm


def driver(vm: wb.VM, commands: str) -> list[str]:
    """Run what a driver does; ``r OFFSET [VALUE [WIDTH]]`` is a register. Returns the lines it printed."""
    return vm.run(f". /tmp/edu; {commands}", check=True).stdout.split("\n")[:-1]


def test_linux_finds_it_and_uio_takes_it(edu, vm):
    assert (
        "Device [1234:11e8] (rev 10)\n\tKernel driver in use: uio_pci_generic" in vm.run("lspci -nnk").stdout
    )


def test_identification_and_liveness(edu, vm):
    assert driver(vm, "r 0; r 4 0x12345678; r 4") == ["0x010000ED", "0xEDCBA987"]


def test_a_factorial_by_polling(edu, vm):
    poll = "while [ $(( $(r 0x20) & 1 )) = 1 ]; do n=$((n + 1)); done"
    edu.delay = 500
    said = driver(vm, f"n=0; r 8 10; {poll}; r 8; r 0x20; echo $n")
    edu.delay = 1
    assert said[:2] == [f"0x{3628800:08X}", "0x00000000"]
    assert int(said[2]) > 0  # it was seen busy
    assert not edu.log.filter(kind="irq")


def test_a_factorial_by_an_interrupt_that_the_guest_waits_for(edu, vm):
    # uio_pci_generic leaves INTx disabled after each interrupt, for the program to enable it again.
    wait = "timeout 20 dd bs=4 count=1 <&3 2>/dev/null | od -An -tu4"
    once = f"setpci {CARD} COMMAND=0006; r 0x20 0x80; r 8 10; {wait}; r 8; r 0x24; r 0x64 1; r 0x24"
    said = driver(vm, f"exec 3< /dev/uio0; {once}; {once}; grep uio /proc/interrupts; setpci {CARD} STATUS")
    for number, lines in enumerate((said[:4], said[4:8]), 1):
        assert [int(lines[0]), *lines[1:]] == [number, "0x00375F00", "0x00000001", "0x00000000"]
    assert int(said[8].split()[1]) == 2
    assert int(said[9], 16) & 8 == 0  # the line is down
    assert edu.irq.intx.count == 2


def test_dma_from_the_guests_ram_to_the_device_and_back(edu, vm):
    sent = vm.run(f"setpci {CARD} COMMAND=0406; seq 2000 | head -c 4096 | tee /tmp/sent | md5sum", check=True)
    to_device = f"r 0x80 {RAM} 64; r 0x88 {BUFFER} 64; r 0x90 4096 64; r 0x98 1 64"
    to_ram = f"r 0x80 {BUFFER} 64; r 0x88 {RAM + 4096} 64; r 0x90 4096 64; r 0x98 7 64"
    driver(vm, f"dd if=/tmp/sent of=/dev/mem bs=4096 seek={RAM >> 12} conv=notrunc 2>/dev/null")
    driver(vm, f"{to_device}; {DONE}; {to_ram}; {DONE}")
    back = driver(vm, f"dd if=/dev/mem bs=4096 skip={(RAM >> 12) + 1} count=1 2>/dev/null | md5sum; r 0x24")
    digest = sent.stdout.split()[0]
    assert back == [f"{digest}  -", "0x00000100"]
    assert hashlib.md5(edu.bar0.memory.tobytes()).hexdigest() == digest
    assert driver(vm, f"r {BUFFER}") == ["0x0A320A31"]  # "1\n2\n": the guest maps the buffer, too
    moved = [
        (record.kind, record.offset, record.size) for record in edu.log.filter(kind=["dma_read", "dma_write"])
    ]
    assert moved == [("dma_read", RAM, 4096), ("dma_write", RAM + 4096, 4096)]
    driver(vm, "r 0x64 0x100")


def test_a_device_that_is_no_bus_master_copies_nothing(edu, vm, caplog):
    to_device = f"r 0x80 {RAM} 64; r 0x88 {BUFFER} 64; r 0x90 4 64; r 0x98 1 64"
    driver(vm, f"setpci {CARD} COMMAND=0402; {to_device}; {DONE}")
    assert len(edu.log.filter(kind="dma_read", flagged=True)) == 1
    assert "has not enabled bus mastering" in caplog.text
