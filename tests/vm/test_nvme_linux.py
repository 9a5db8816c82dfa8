"""Linux's own nvme on a disk written in Python: a file system, a killed machine, swaps and resets."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb
from workbench.devices.nvme import Nvme
from workbench.vm.kit import Qemu

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

MIB = 1 << 20
MODULES = ("nvme", "ext4")
MOUNT = "mkdir -p /m && mount -t ext2 /dev/nvme0n1 /m"
RANDOM = "dd if=/dev/urandom bs=1M count={} 2>/dev/null"


def machine(dev: Nvme, qemu: Qemu | None = None) -> wb.VM:
    return wb.VM(dev, modules=MODULES, accel="tcg", qemu=qemu)


def digest(vm: wb.VM, command: str) -> str:
    return vm.run(command, check=True, timeout=120).stdout.split()[0]


def read_back(vm: wb.VM) -> str:
    """Return the checksum of the first 32 MiB, from the disk and not from the guest's cache."""
    vm.run("echo 3 > /proc/sys/vm/drop_caches")
    return digest(vm, "dd if=/dev/nvme0n1 bs=1M count=32 2>/dev/null | md5sum")


def new_content(vm: wb.VM) -> str:
    """Make 32 MiB in /tmp/content that were never there before; return their checksum."""
    vm.run(f"{RANDOM.format(32)} > /tmp/content", check=True, timeout=120)
    return digest(vm, "md5sum /tmp/content")


def test_a_file_system_is_filled_in_one_machine_and_read_in_another(tmp_path: Path, qemu: Qemu | None):
    path = tmp_path / "disk.img"
    with Nvme(backing=path, size=96 * MIB, strict=True) as dev, machine(dev, qemu) as vm:
        assert "Kernel driver in use: nvme" in vm.run("lspci -nnk").stdout
        told = vm.run("dmesg | grep nvme").stdout
        assert "1/0/0 default/read/poll queues" in told
        assert "bogus" not in told
        assert vm.run("cat /sys/class/nvme/nvme0/serial").stdout.strip() == "Nvme"
        vm.run(f"mke2fs -F /dev/nvme0n1 >/dev/null && {MOUNT}", check=True, timeout=60)
        vm.run(f"{RANDOM.format(64)} > /m/file && sync", check=True, timeout=120)
        assert int(vm.run("stat -c %s /m/file").stdout) == 64 * MIB
        written = digest(vm, "md5sum /m/file")
        assert int(vm.run("awk '/nvme0q1/ { print $2 }' /proc/interrupts").stdout) > 10
        vm.run("umount /m && echo 1 > /sys/class/nvme/nvme0/device/remove", check=True, timeout=60)
        assert len(dev.log.filter(flagged=True)) == 0
        assert dev.bar0.CSTS.SHST == "COMPLETE"  # the driver said goodbye
    with Nvme("second", backing=path, strict=True) as dev, machine(dev, qemu) as vm:
        vm.run(MOUNT, check=True)
        assert digest(vm, "md5sum /m/file") == written


#: Writes of 4 KiB, each flushed and then counted on the console.
ACKNOWLEDGED = (
    "n=0; while n=$((n + 1)); do line=$(printf '%015d' $n); yes $line | head -c 4096 | "
    "dd of=/dev/nvme0n1 bs=4096 seek=$n conv=fsync 2>/dev/null && echo done $n. > /dev/ttyS0; done"
)


def block(number: int) -> bytes:
    return b"%015d\n" % number * (4096 // 16)


def test_writes_acknowledged_with_a_flush_survive_the_machine(tmp_path: Path):
    path = tmp_path / "disk.img"
    with Nvme(backing=path, size=16 * MIB, strict=True) as dev, machine(dev) as vm:
        vm.run(f"({ACKNOWLEDGED}) >/dev/null 2>&1 &")
        vm.wait_console("done 25.", 60)
        vm.kill()
        dev.server.wait_listening(5)
        data = path.read_bytes()
        acknowledged = max(map(int, re.findall(r"done (\d+)\.", str(vm.console))))
        assert acknowledged >= 25
        for number in range(1, acknowledged + 1):
            assert data[number * 4096 : (number + 1) * 4096] == block(number)


@pytest.fixture(scope="module")
def disk() -> Iterator[Nvme]:
    with Nvme(size=48 * MIB, strict=True) as device:
        yield device


@pytest.fixture(scope="module")
def vm(disk: Nvme) -> Iterator[wb.VM]:
    with machine(disk) as vm:
        yield vm


def test_hooks_are_swapped_while_linux_writes_and_reads(disk, vm):
    stop, original, swaps, content = threading.Event(), Nvme.submitted, [], new_content(vm)

    def swap() -> None:
        while not stop.wait(0.002):
            disk.bar0.SQ_TAIL[1].on_write(lambda device, access: original(device, access))
            disk.swap(type(disk))
            swaps.append(1)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        vm.run("cat /tmp/content > /dev/nvme0n1 && sync", check=True, timeout=120)
        assert read_back(vm) == content
    finally:
        stop.set()
        thread.join()
    assert len(swaps) > 20


def test_resets_of_the_controller_while_linux_writes(disk, vm):
    since, content = disk.log.total, new_content(vm)
    vm.run("(cat /tmp/content > /dev/nvme0n1; sync; touch /tmp/written) >/dev/null 2>&1 &")
    reset = "echo 1 > /sys/class/nvme/nvme0/reset_controller; cat /sys/class/nvme/nvme0/state"
    for _ in range(5):
        assert vm.run(reset, check=True, timeout=60).stdout == "live\n"
    vm.run("while [ ! -e /tmp/written ]; do sleep 0.1; done", check=True, timeout=120)
    assert read_back(vm) == content
    log = [one for one in disk.log.filter(kind="write", origin="guest") if one.seq >= since]
    starts = [one.seq for one in log if one.register == "bar0.CC" and one.value & 1]
    bells = [one.seq for one in log if one.register == "bar0.SQ_TAIL[1]"]
    assert len(starts) >= 5
    assert any(starts[0] < bell < starts[-1] for bell in bells)


def test_a_function_level_reset_by_the_kernel_brings_the_disk_back(disk, vm):
    at = "/sys/bus/pci/devices/0000:01:00.0"
    vm.run(f"echo flr > {at}/reset_method && echo 1 > {at}/reset", check=True, timeout=60)
    assert disk.log.filter(kind="reset")
    vm.run("dd if=/dev/nvme0n1 of=/dev/null bs=1M count=1 iflag=direct", check=True, timeout=60)


def test_what_linux_gives_back_reads_as_zeroes(disk, vm):
    disk.disk.write(0, b"\xaa" * (4 << 20))
    vm.run("blkdiscard -o 1048576 -l 2097152 /dev/nvme0n1", check=True, timeout=60)
    expected = b"\xaa" * (1 << 20) + bytes(2 << 20) + b"\xaa" * (1 << 20)
    assert disk.disk.read(0, 4 << 20) == expected
