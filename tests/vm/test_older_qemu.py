"""What only a QEMU without vfio-user-pci has to show: the preloaded library inside it, in every situation."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb
from workbench.devices.nvme import Nvme
from workbench.vm.kit import Qemu, fetch_qemu

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
MIB = 1 << 20


class Card(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x7200)
    irq = wb.Interrupts(msix=2)

    class bar0(wb.Bar, size=4096):
        WORD = wb.Register(0, reset=0x12345678)


@pytest.fixture(scope="module", params=["bookworm", "trixie"], ids=["qemu-7.2", "qemu-10.0"])
def older(request: pytest.FixtureRequest) -> Qemu:
    return fetch_qemu(request.param)


def word(vm: wb.VM, identity: str = "1234:7200") -> str:
    """Return what the guest reads in the first register of BAR 0."""
    at = vm.run(f"lspci -n -d {identity}", check=True).stdout.split()[0]
    place = f"/sys/bus/pci/devices/0000:{at.removeprefix('0000:')}"
    start = vm.run(f"echo 1 > {place}/enable; head -n 1 {place}/resource", check=True).stdout.split()[0]
    return vm.run(f"devmem {start} 32", check=True).stdout.strip()


@pytest.fixture(scope="module")
def vm(older: Qemu) -> Iterator[wb.VM]:
    """A machine in QEMU's sandbox: nothing of ours needs what that denies."""
    with Card("first") as card, wb.VM(card, qemu=older, accel="tcg", extra_args=["-sandbox", SANDBOX]) as vm:
        vm.qmp("query-status")  # its connection outlives the test that opens it
        yield vm


def test_devices_come_and_go_with_msix_in_a_sandbox(vm: wb.VM):
    with Card("second") as second:
        assert vm.plug(second).startswith("0000:")
        assert word(vm) == "0x12345678"
        vm.unplug(second)
        assert second.server is not None
        assert second.server.state == "listening"
        vm.plug(second)
        vm.unplug(second)


def test_a_device_that_dies_reads_as_all_ones_and_the_machine_goes_on(vm: wb.VM, tmp_path: Path):
    code = (
        "import sys, workbench as wb\n"
        "class Card(wb.Device):\n"
        "    id = wb.PciId(vendor=0x1234, device=0x7201)\n"
        "    class bar0(wb.Bar, size=4096):\n"
        "        WORD = wb.Register(0, reset=0x55AA)\n"
        "card = Card()\ncard.serve(sys.argv[1])\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    path = tmp_path / "card.sock"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as served:
        assert served.stdout is not None
        assert served.stdout.readline() == "ready\n"
        vm.qmp("device_add", driver="vfio-pci", sysfsdev=str(path), id="doomed", bus="wb-slot3")
        vm.run("until lspci -n | grep -q 1234:7201; do sleep 0.1; done", check=True)
        assert word(vm, "1234:7201") == "0x000055AA"
        served.send_signal(signal.SIGKILL)
    start = vm.run("head -n 1 /sys/bus/pci/devices/0000:03:00.0/resource", check=True).stdout.split()[0]
    assert vm.run(f"devmem {start} 32", check=True).stdout.strip() == "0xFFFFFFFF"
    assert vm.run("echo alive", check=True).stdout == "alive\n"


def test_a_disk_behind_an_iommu_is_read_and_written(older: Qemu):
    """Each transfer is mapped for it alone: DMA_MAP and DMA_UNMAP by the guest's own page tables."""
    with Nvme(size=16 * MIB, strict=True) as disk:
        plug = {"driver": "vfio-pci", "sysfsdev": disk.serve().path}
        extra = ["-device", "intel-iommu,caching-mode=on", "-device", json.dumps(plug)]
        with wb.VM(
            qemu=older, accel="tcg", modules="nvme", extra_args=extra, append="intel_iommu=on iommu.strict=1"
        ) as vm:
            vm.run("dd if=/dev/urandom of=/tmp/content bs=64k count=8 2>/dev/null", check=True)
            vm.run("dd if=/tmp/content of=/dev/nvme0n1 bs=64k oflag=direct 2>/dev/null", check=True)
            vm.run("dd if=/dev/nvme0n1 of=/tmp/back bs=64k count=8 iflag=direct 2>/dev/null", check=True)
            vm.run("cmp /tmp/content /tmp/back", check=True)
        maps = len(disk.log.filter(kind="map"))
        assert maps > 16
        assert len(disk.log.filter(kind="dma_write")) > 8
