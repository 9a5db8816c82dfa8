"""What a program in a guest sees: one VM, our device and the peer's plugged in side by side."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bench_kit import Bench, alone, compiled
from bench_table import Figure, row

import workbench as wb


class Card(wb.Device):
    """As the peer's: a BAR of 4096 bytes, a register in it."""

    id = wb.PciId(vendor=0x1234, device=0x0006)

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0, reset=0x1234)


@contextmanager
def pinned(process: int, core: int) -> Iterator[None]:
    """Treat every thread of a process as the peer's server is treated, which is a program of the kit."""
    threads = [int(thread) for thread in os.listdir(f"/proc/{process}/task")]
    before = {thread: (os.sched_getaffinity(thread), os.getpriority(0, thread)) for thread in threads}
    for thread in threads:
        alone({core}, thread)
    yield
    for thread, (cores, priority) in before.items():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, cores)
            os.setpriority(os.PRIO_PROCESS, thread, priority)


def resource(vm: wb.VM, identity: str) -> str:
    """Return the guest's file of a device's BAR 0, the device switched on."""
    for line in vm.run("lspci -n").stdout.splitlines():
        if identity in line:
            place = f"/sys/bus/pci/devices/0000:{line.split()[0].removeprefix('0000:')}"
            vm.run(f"echo 1 > {place}/enable", check=True)
            return f"{place}/resource0"
    raise RuntimeError(f"the guest does not see {identity}")


@row("a guest's MMIO reads per second / on the peer's device, same VM", at_least=1)
def guest(bench: Bench) -> Figure:
    path = bench.peer_server()
    plug = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": str(path)}}
    program = compiled("mmio.c", extra=("-static",)).read_bytes()
    with (
        Card() as card,
        wb.VM(card, extra_args=["-device", json.dumps(plug)], files={"/mmio": program}) as vm,
    ):
        bars = [resource(vm, identity) for identity in ("1234:0006", "1234:0005")]
        assert vm.pid
        run = f"/mmio {{}} {bench.count(3000)}"
        with pinned(vm.pid, bench.core), pinned(os.getpid(), bench.core):
            ours, theirs = bench.compare(
                *(lambda bar=bar: float(vm.run(run.format(bar), check=True).stdout) for bar in bars)
            )
        used = str(vm.accelerator).upper()
    return Figure(theirs / ours, f"{1e9 / ours:,.0f} and {1e9 / theirs:,.0f} reads/s, {used}")
