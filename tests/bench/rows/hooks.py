"""Registers with a hook in Python: beside the peer's C callback, and while a cell computes.

Client and serving thread share a core. The cell's thread is on that core, too, or on another, or wherever
the kernel puts it; a row shows all three, and its bar judges the worst. The floor is what the kernel's
scheduler leaves on the shared core: a native hook answers, a program in C computes, and there is no Python.
"""

import json
import statistics

from bench_kit import Bench, Client, Program, Served, compiled
from bench_table import Figure, beside, row

CARD = """
import os, threading

class Card(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0005)

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0)
        HOOKED = wb.Register(4)
        TOLD = wb.Register(8)
        BUSY = wb.Register(12)
        NATIVE = wb.Register(16)

    @bar0.HOOKED.on_read
    def hooked(self):
        return 1

    @bar0.TOLD.on_write
    def told(self, access):
        self.seen = access.value

    @bar0.BUSY.on_read
    def busy(self, access):
        self.bar0.PLAIN.value = access.size

    native = bar0.NATIVE.on_read.native(
        "int hook(const wb_native *wb, wb_touch *access) { access->value = 1; return 0; }"
    )

device = Card()
device.serve(path)
"""
#: Where the main thread runs, which is the cell; the serving thread stays where it is.
SPREAD = "os.sched_setaffinity(0, {cores})"
#: A loop in pure Python, for so many seconds.
LOOP = """
import time
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    for _ in range(10_000):
        pass
"""
PLAIN, HOOKED, TOLD, BUSY, NATIVE = 0, 4, 8, 12, 16


def beside_peer(bench: Bench, order: str) -> Figure:
    _, client = bench.ours(CARD)
    return beside(bench, client, bench.peer(), order.format(bench.count(20_000)))


@row("4-byte read, a Python hook answers / the peer's with a C callback", at_most=1.05)
def hook(bench: Bench) -> Figure:
    return beside_peer(bench, f"read 0 {HOOKED} 4 {{}}")


@row("4-byte write, a Python hook is told of it / the peer's with a C callback")
def hook_write(bench: Bench) -> Figure:
    return beside_peer(bench, f"write 0 {TOLD} 4 {{}}")


def seconds(bench: Bench) -> float:
    """Return how long one measurement takes."""
    return max(0.2, bench.effort / 2)


def busy(bench: Bench, server: Served, client: Client, offset: int, cores: list[int]) -> list[float]:
    """Return reads a second, their 50th and 99th percentile in ns, while a cell computes on the cores."""
    server.run(SPREAD.format(cores=json.dumps(cores)))
    server.start(LOOP.format(seconds=seconds(bench) + 0.2))
    count, *spread = client.figures(f"until 0 {offset} 4 {seconds(bench)}")
    server.finish()
    return [count / seconds(bench), *spread]


def burning(bench: Bench, burner: Program, client: Client) -> list[float]:
    """Return the same of a native hook while a C program computes on the shared core."""
    burner.tell(str(seconds(bench) + 0.2))
    count, *spread = client.figures(f"until 0 {NATIVE} 4 {seconds(bench)}")
    burner.hear()
    return [count / seconds(bench), *spread]


@row("kernel busy, no hook: 99th percentile / idle", at_most=1.2)
def busy_plain(bench: Bench) -> Figure:
    server, client = bench.ours(CARD)
    one, other = bench.compare(
        lambda: busy(bench, server, client, PLAIN, bench.cores[:1])[2],
        lambda: client.figures(f"until 0 {PLAIN} 4 {seconds(bench)}")[2],
    )
    return Figure(one / other, f"{one / 1000:.1f} and {other / 1000:.1f} µs, the cell has a core of its own")


def busy_hook(bench: Bench, offset: int) -> tuple[float, float, str]:
    """Return the lowest rate a second, the longest 99th percentile in ns, and all of it in words."""
    server, client = bench.ours(CARD)
    burner = bench.keep(Program([compiled("burn.c")], {bench.core}))
    places = {"shared core": [bench.core], "own core": bench.cores[:1], "any core": bench.cores}
    found: dict[str, list[list[float]]] = {name: [] for name in ["floor on the shared core", *places]}
    for _ in range(bench.rounds):
        found["floor on the shared core"].append(burning(bench, burner, client))
        for name, cores in places.items():
            found[name].append(busy(bench, server, client, offset, cores))
    medians = {
        name: [statistics.median(column) for column in zip(*of, strict=True)] for name, of in found.items()
    }
    said = "; ".join(f"{name} {rate:.0f} a second, {half / 1000:.0f} and {most / 1000:.0f} µs"
                     for name, (rate, half, most) in medians.items())  # fmt: skip
    rates, _, most = zip(*(medians[name] for name in places), strict=True)
    return min(rates), max(most), said


@row("kernel busy, Python hook: 99th percentile, ms", at_most=1)
def busy_hook_p99(bench: Bench) -> Figure:
    _, most, said = busy_hook(bench, HOOKED)
    return Figure(most / 1e6, said, "ms")


@row("kernel busy, Python hook: thousands of accesses a second", at_least=10)
def busy_hook_rate(bench: Bench) -> Figure:
    rate, _, said = busy_hook(bench, HOOKED)
    return Figure(rate / 1000, said, "")


@row("kernel busy, Python hook that pokes a register: thousands of accesses a second")
def busy_poke_rate(bench: Bench) -> Figure:
    rate, _, said = busy_hook(bench, BUSY)
    return Figure(rate / 1000, said, "")


@row("kernel busy, 8 devices on one core, Python hooks / native, beside C")
def busy_many(bench: Bench) -> Figure:
    path, one = bench.path(), "device = Card()\ndevice.serve(path)\n"
    many = "devices = [Card(f'card{i}') for i in range(8)]\n[d.serve(path + d.name) for d in devices]\n"
    server = bench.serve(path, CARD.replace(one, many))
    clients = [bench.client(f"{path}card{number}") for number in range(8)]
    burner = bench.keep(Program([compiled("burn.c")], {bench.core}))

    def together(offset: int) -> float:
        for client in clients:
            client.tell(f"until 0 {offset} 4 {seconds(bench)}")
        return sum(float(client.hear().split()[0]) for client in clients) / seconds(bench)

    def cell() -> float:
        server.start(LOOP.format(seconds=seconds(bench) + 0.2))
        rate = together(HOOKED)
        server.finish()
        return rate

    def floor() -> float:
        burner.tell(str(seconds(bench) + 0.2))
        rate = together(NATIVE)
        burner.hear()
        return rate

    ours, least = bench.compare(cell, floor)
    return Figure(ours / least, f"{ours:.0f} and {least:.0f} a second")
