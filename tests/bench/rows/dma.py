"""A copy of guest memory that both sides have mapped: beside memcpy, and beside the peer's."""

import contextlib

from bench_kit import ENGINE, Bench, Program, compiled
from bench_table import Figure, row

import workbench as wb

GUEST = 64 << 20  # as in dma_copy.c

_found: dict[bool, dict[int, list[float]]] = {}


def figures(bench: Bench, peer: bool) -> dict[int, list[float]]:
    """Run dma_copy.c once; return, by bytes of a copy, what it printed: see there."""
    if peer not in _found:
        sources = ("dma_copy.c", *map(str, sorted(ENGINE.glob("*.c"))))
        with_peer = ("-DPEER", *bench.library()) if peer else ()
        program = compiled(*sources, *(["dma_peer.c"] if peer else []), extra=(f"-I{ENGINE}", *with_peer))
        path = bench.path()
        running = bench.keep(Program([program, *([path] if peer else [])], {bench.core}))
        with contextlib.ExitStack() as stack:
            if peer:
                assert running.hear() == "ready"
                stack.enter_context(wb.Client(path, arm=False, memory=GUEST)).memory.map(0, GUEST)
            lines = [running.hear().split() for _ in range(8)]
        _found[peer] = {int(line[0]): [float(word) for word in line[1:]] for line in lines}
    return _found[peer]


@row("DMA of 1 MiB / memcpy on the same buffers: speed", at_least=0.9)
def dma_memcpy(bench: Bench) -> Figure:
    read, write, *times = figures(bench, False)[1 << 20]
    return Figure(min(read, write), f"read {read:.2f}, write {write:.2f}; memcpy {times[0] / 1000:.0f} µs")


@row("DMA of 4 KiB and its record / memcpy on the same buffers: speed", at_least=0.4)
def dma_page(bench: Bench) -> Figure:
    read, write, *times = figures(bench, False)[4096]
    return Figure(min(read, write), f"read {read:.2f}, write {write:.2f}; memcpy {times[0]:.0f} ns")


def beside_peer(bench: Bench, which: str) -> Figure:
    _, _, _, read, write, peer_read, peer_write = figures(bench, True)[4096]
    ours, theirs = (read, peer_read) if which == "read" else (write, peer_write)
    return Figure(theirs / ours, f"{ours:.0f} and {theirs:.0f} ns")


@row("DMA read of 4 KiB / the peer's mapped path: speed", at_least=0.9)
def dma_read(bench: Bench) -> Figure:
    return beside_peer(bench, "read")


@row("DMA write of 4 KiB / the peer's mapped path: speed", at_least=0.9)
def dma_write(bench: Bench) -> Figure:
    return beside_peer(bench, "write")
