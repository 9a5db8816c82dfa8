"""Registers with a hook in Python: beside the peer's C callback, and while a cell computes.

Client and serving thread share a core; the cell's thread runs wherever the kernel puts it.
"""

import json

from bench_kit import Bench, Client, Served
from bench_table import Figure, row

CARD = """
import os, threading

class Card(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0005)

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0)
        HOOKED = wb.Register(4)
        TOLD = wb.Register(8)
        BUSY = wb.Register(12)

    @bar0.HOOKED.on_read
    def hooked(self):
        return 1

    @bar0.TOLD.on_write
    def told(self, access):
        self.seen = access.value

    @bar0.BUSY.on_read
    def busy(self, access):
        self.bar0.PLAIN.value = access.size

device = Card()
device.serve(path)
"""
#: The main thread may use every core, as a kernel's does; the serving thread stays.
SPREAD = "os.sched_setaffinity(0, {cores})"
#: A loop in pure Python, for so many seconds.
LOOP = """
import time
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    for _ in range(10_000):
        pass
"""
PLAIN, HOOKED, TOLD, BUSY = 0, 4, 8, 12


def beside_peer(bench: Bench, order: str) -> Figure:
    _, client = bench.ours(CARD)
    peer = bench.peer()
    count = bench.count(20_000)
    ours, theirs = bench.compare(
        lambda: client.measure(order.format(count)), lambda: peer.measure(order.format(count))
    )
    return Figure(ours / theirs, f"{ours:.0f} and {theirs:.0f} ns")


@row("4-byte read, a Python hook answers / the peer's with a C callback", at_most=1.05)
def hook(bench: Bench) -> Figure:
    return beside_peer(bench, f"read 0 {HOOKED} 4 {{}}")


@row("4-byte write, a Python hook is told of it / the peer's with a C callback")
def hook_write(bench: Bench) -> Figure:
    return beside_peer(bench, f"write 0 {TOLD} 4 {{}}")


def busy(bench: Bench, server: Served, client: Client, offset: int) -> list[float]:
    """Return how many reads, their 50th and 99th percentile in ns, of a second in which a cell computes."""
    seconds = max(0.2, bench.effort)
    server.start(LOOP.format(seconds=seconds + 0.3))
    figures = client.figures(f"until 0 {offset} 4 {seconds}")
    server.finish()
    return [figures[0] / seconds, *figures[1:]]


def served(bench: Bench) -> tuple[Served, Client]:
    server, client = bench.ours(CARD)
    server.run(SPREAD.format(cores=json.dumps(bench.cores)))
    return server, client


@row("kernel busy, no hook: 99th percentile / idle", at_most=1.2)
def busy_plain(bench: Bench) -> Figure:
    server, client = served(bench)
    seconds = max(0.2, bench.effort)
    one, other = bench.compare(
        lambda: busy(bench, server, client, PLAIN)[2],
        lambda: client.figures(f"until 0 {PLAIN} 4 {seconds}")[2],
    )
    return Figure(one / other, f"{one / 1000:.1f} and {other / 1000:.1f} µs")


def busy_hook(bench: Bench, offset: int, which: int) -> tuple[float, str]:
    server, client = served(bench)
    rounds = [busy(bench, server, client, offset) for _ in range(bench.rounds)]
    rate, half, most = (sorted(figures)[len(figures) // 2] for figures in zip(*rounds, strict=True))
    said = f"{rate:.0f} a second, median {half / 1000:.0f} µs, 99th percentile {most / 1000:.0f} µs"
    return (rate, half, most)[which], said


@row("kernel busy, Python hook: 99th percentile, ms", at_most=1)
def busy_hook_p99(bench: Bench) -> Figure:
    value, said = busy_hook(bench, HOOKED, 2)
    return Figure(value / 1e6, said, "ms")


@row("kernel busy, Python hook: thousands of accesses a second", at_least=10)
def busy_hook_rate(bench: Bench) -> Figure:
    value, said = busy_hook(bench, HOOKED, 0)
    return Figure(value / 1000, said, "")


@row("kernel busy, Python hook that pokes a register: thousands of accesses a second")
def busy_poke_rate(bench: Bench) -> Figure:
    value, said = busy_hook(bench, BUSY, 0)
    return Figure(value / 1000, said, "")
