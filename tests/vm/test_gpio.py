"""The main job: Linux's own driver on a device written in Python, through kills, reboots and hook swaps."""

from collections.abc import Iterator

import pytest

import workbench as wb
from workbench.devices.gpio_pci_idio_16 import PciIdio16

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]

MODULES = ("gpio-pci-idio-16",)
GPIO = "cd /sys/class/gpio; "
# One read(2) each: the shell's own read and cat read more than once, and each read toggles the input.
READ_IIN0 = "dd if=IIN0/value bs=64 count=1 2>/dev/null"


@pytest.fixture
def card() -> Iterator[PciIdio16]:
    with PciIdio16() as card:
        yield card


def twelve_reads(vm: wb.VM) -> str:
    loop = f"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do {READ_IIN0}; done"
    return "".join(vm.run(f"{GPIO}echo 528 >export; {loop}", check=True).stdout.split())


def test_the_driver_binds_and_each_side_sees_what_the_other_does(card: PciIdio16) -> None:
    with wb.VM(card, modules=MODULES) as vm:
        assert (
            "Device [494f:0dc8]\n\tKernel driver in use: pci-idio-16" in vm.run("lspci -nnk -d 494f:").stdout
        )
        assert twelve_reads(vm) == "000111000111"
        lines = " ".join(f"$((512 + {n}))" for n in (0, 3, 9, 15))
        vm.run(f"{GPIO}for n in {lines}; do echo $n >export; echo 1 >OUT$((n - 512))/value; done", check=True)
        assert (card.bar2.OUT0_7.value, card.bar2.OUT8_15.value) == (0b1001, 0b10000010)
        assert len(card.log.filter(register="IN0_7", kind="read", origin="guest")) >= 12
        assert len(card.log.filter(register="OUT8_15", kind="write", origin="guest")) >= 2


def test_the_device_outlives_a_reboot_a_killed_vm_and_serves_the_next(card: PciIdio16) -> None:
    with wb.VM(card, modules=MODULES) as vm:
        assert twelve_reads(vm) == "000111000111"
        vm.reboot()
        assert twelve_reads(vm) == "000111000111"
        vm.kill()
        assert not vm.alive
    with wb.VM(card, modules=MODULES) as vm:
        assert twelve_reads(vm) == "000111000111"


def test_a_hook_is_swapped_while_the_guest_reads_and_each_read_is_answered_once(card: PciIdio16) -> None:
    count = 2000
    with wb.VM(card, modules=MODULES) as vm:
        vm.run(f"{GPIO}echo 528 >export", check=True)
        card.log.clear()
        loop = f"{GPIO}i=0; while [ $i -lt {count} ]; do read -r v <IIN0/value; i=$((i + 1)); done"
        vm.run(f"({loop}; touch /tmp/done) >/dev/null 2>&1 &")
        swaps = 0
        while vm.run("test -e /tmp/done").returncode:

            @card.bar2.IN0_7.on_read
            def sample(dev: PciIdio16, access: wb.Access, value: int = swaps % 2 * 0xFF) -> int:
                return value

            swaps += 1
        reads = card.log.filter(register="IN0_7", kind="read", origin="guest")
        assert swaps > 1
        # The shell's read takes the file more than once, the same number of times each round.
        assert len(reads) % count == 0
        assert len(reads) >= count
        assert card.log.dropped == 0
        assert {record.value for record in reads} <= {0x00, 0xFF}


def test_two_devices_in_one_machine() -> None:
    with PciIdio16("one") as one, PciIdio16("two") as two, wb.VM(one, two, modules=MODULES) as vm:
        assert vm.run("lspci -nn -d 494f:0dc8").stdout.count("[494f:0dc8]") == 2
        assert len(vm.run("ls -d /sys/class/gpio/gpiochip*").stdout.split()) == 2
