"""What a trapped read costs through the preloaded library: beside QEMU's own client, in one guest."""

import dataclasses
import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench_kit import HERE

from workbench import VM, Bar, Device, PciId, Register
from workbench.compiler import find_compiler
from workbench.vm.kit import fetch

pytestmark = [pytest.mark.vm, pytest.mark.alone, pytest.mark.timeout(300)]

MMIO = HERE / "mmio.c"
ROUNDS, READS = 11, 3000


class Ours(Device):
    """Through the library."""

    id = PciId(vendor=0x1234, device=0x0B31)

    class bar0(Bar, size=4096):
        PLAIN = Register(0, reset=0x1234)


class Theirs(Device):
    """Through QEMU's own client."""

    id = PciId(vendor=0x1234, device=0x0B32)

    class bar0(Bar, size=4096):
        PLAIN = Register(0, reset=0x1234)


@contextmanager
def pinned(process: int, cores: set[int]) -> Iterator[None]:
    """Put every thread of a process on the cores, and back."""
    threads = [int(name) for name in os.listdir(f"/proc/{process}/task")]
    before = {thread: os.sched_getaffinity(thread) for thread in threads}
    try:
        for thread in threads:
            os.sched_setaffinity(thread, cores)
        yield
    finally:
        for thread, cores_ in before.items():
            os.sched_setaffinity(thread, cores_)


def resource(vm: VM, identity: str) -> str:
    """The guest's file of a device's BAR 0, the device switched on."""
    found = vm.run(f"dirname $(grep -l 0x{identity} /sys/bus/pci/devices/*/device)", check=True)
    place = found.stdout.strip()
    vm.run(f"echo 1 > {place}/enable", check=True)
    return f"{place}/resource0"


def test_a_trapped_read_costs_no_more_than_through_qemu_s_own_client(tmp_path: Path) -> None:
    program = tmp_path / "mmio"
    subprocess.run([*find_compiler(), "-O2", "-static", MMIO, "-o", program], check=True)
    newest = dataclasses.replace(fetch()[0], preload=True)
    with Ours() as ours, Theirs() as theirs:
        plug = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": theirs.serve().path}}
        files = {"/mmio": program.read_bytes()}
        with VM(ours, qemu=newest, accel="tcg", extra_args=["-device", json.dumps(plug)], files=files) as vm:
            bars = [resource(vm, identity) for identity in ("0b31", "0b32")]
            core = {min(os.sched_getaffinity(0))}
            ratios = []
            assert vm.pid
            with pinned(vm.pid, core), pinned(os.getpid(), core):
                for _ in range(ROUNDS):
                    one, other = (float(vm.run(f"/mmio {bar} {READS}", check=True).stdout) for bar in bars)
                    ratios.append(one / other)
    print(f"library / own client: {statistics.median(ratios):.2f} of {sorted(ratios)}")
    assert statistics.median(ratios) <= 1.15
