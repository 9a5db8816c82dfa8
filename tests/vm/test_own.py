"""A kernel and a QEMU of one's own: the guest kernel by its path, and a QEMU that the user starts."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench import VM, Device, VmError
from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.vm import kit

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]

MEMORY = 192 << 20
#: Bytes that a PC puts below 1 MiB for itself are no memory that a device can use.
LOW = 1 << 20


@pytest.fixture
def card() -> Iterator[Device]:
    with PciIdio16() as device:
        yield device


def test_a_kernel_given_by_its_path_boots_and_is_that_one(tmp_path: Path) -> None:
    _, guest = kit.fetch()
    own = tmp_path / "my kernel"
    shutil.copy(guest.vmlinuz, own)
    with VM(kernel=own, accel="tcg") as vm:
        assert vm.run("uname -r", check=True).stdout == f"{guest.version}\n"
        assert vm.pid is not None
        words = Path(f"/proc/{vm.pid}/cmdline").read_bytes().split(b"\0")
        assert words[words.index(b"-kernel") + 1] == os.fsencode(own)


def test_the_kits_kernel_is_not_unpacked_in_the_guest() -> None:
    """The host has done that; it is the same kernel."""
    _, guest = kit.fetch()
    with VM(accel="tcg") as vm:
        assert vm.run("uname -rv", check=True).stdout.startswith(f"{guest.version} #1 SMP")
        assert vm.pid is not None
        words = Path(f"/proc/{vm.pid}/cmdline").read_bytes().split(b"\0")
        with open(os.fsdecode(words[words.index(b"-kernel") + 1]), "rb") as kernel:
            assert kernel.read(4) == b"\x7fELF"


def test_a_kernel_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(VmError, match=r"QEMU ended(.|\n)*no-such-kernel"):
        VM(kernel=tmp_path / "no-such-kernel", accel="tcg").start()


def test_a_qemu_of_ones_own_takes_the_arguments_and_shares_its_memory(card: Device) -> None:
    """No guest runs: the firmware finds the device, and what it does shows in the log."""
    qemu, _ = kit.fetch()
    arguments = card.qemu_args(memory=f"{MEMORY >> 20}M")
    command = [*qemu.command, "-nodefaults", "-display", "none", "-accel", "tcg", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            card.server.wait_attached()
            # QEMU itself switches everything off at its start; the firmware gives the BAR an address and
            # switches it on.
            card.log.wait(
                lambda record: record.value & 3, 60, register="config.COMMAND", kind="write", since=0
            )
            regions = card.dma.regions
            assert sum(region.size for region in regions if region.shared and region.writable) > MEMORY - LOW
            assert any(card.dma.peek(0, 1024))  # the firmware's interrupt vectors: it is the same memory
            assert f"pid {process.pid} " in str(card.server.client)
        finally:
            process.kill()
            said = process.communicate()[1]
    assert all(": warning: " in line for line in said.splitlines()), said
    card.server.wait_listening()
    assert card.dma.regions == []
