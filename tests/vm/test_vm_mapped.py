"""A real guest on mapped BARs and an option ROM: its stores reach the same bytes, without a message."""

import hashlib
import struct

import pytest

import workbench as wb

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]

#: PCI 3.0, 6.3.1: the header says where its data structure is, that how many 512 bytes there are: 2.
PCIR = b"PCIR" + struct.pack("<HHHHBxxxHHBB", 0x1234, 0x0B19, 0, 0x18, 0, 2, 0, 0, 0x80)
IMAGE = (b"\x55\xaa\x02".ljust(0x18, b"\0") + b"\x1c\0\0\0" + PCIR + bytes(range(250)) * 4)[:1024]


class Card(wb.Device):
    """A frame of 1 MiB, a BAR that is mapped in part, a ROM."""

    id = wb.PciId(vendor=0x1234, device=0x0B19)
    rom = IMAGE

    class bar0(wb.Bar, size=1 << 20, mmap=True, prefetchable=True):
        FIRST = wb.Register(0)

    class bar2(wb.Bar, size=0x4000, mmap=[(0x1000, 0x1000)]):
        CTRL = wb.Register(0x0000)
        STATUS = wb.Register(0x2000, mode="ro", reset=0x77)


def test_a_guest_maps_what_is_shared_and_sends_messages_for_the_rest() -> None:
    with Card() as card, wb.VM(card) as vm:
        place = vm.run("grep -l 0x0b19 /sys/bus/pci/devices/*/device").stdout.strip().removesuffix("/device")
        vm.run(f"echo 1 > {place}/enable", check=True)
        starts = [int(line.split()[0], 16) for line in vm.run(f"cat {place}/resource").stdout.splitlines()]

        def devmem(address: int, value: int | None = None) -> int:
            text = "" if value is None else f" {value:#x}"
            return int(vm.run(f"devmem {address:#x} 32{text}", check=True).stdout or "0", 16)

        with card.bar0.watch(period=0.001) as watch:
            devmem(starts[0] + 0x80000, 0xCAFE)
            devmem(starts[0], 0x1234)
            card.bar0.memory[0x100:0x104] = [1, 2, 3, 4]
            assert devmem(starts[0] + 0x100) == 0x04030201
        assert card.bar0.peek(0x80000, 4) == b"\xfe\xca\0\0"
        assert card.bar0.FIRST == 0x1234
        assert watch.changes >= 3
        devmem(starts[2] + 0x1000, 7)
        devmem(starts[2], 9)
        assert devmem(starts[2] + 0x2000) == 0x77
        assert (card.bar2.peek(0x1000, 1), int(card.bar2.CTRL)) == (b"\7", 9)
        kinds = {(one.kind, one.register) for one in card.log if one.register.startswith("bar")}
        assert {("mmap", "bar0.FIRST"), ("write", "bar2.CTRL"), ("read", "bar2.STATUS")} <= kinds
        assert not any(kind == "write" and name.startswith("bar0") for kind, name in kinds)
        assert ("write", "bar2+0x1000") not in kinds
        read = vm.run(f"echo 1 > {place}/rom; md5sum < {place}/rom", check=True).stdout.split()[0]
        assert read == hashlib.md5(IMAGE).hexdigest()
