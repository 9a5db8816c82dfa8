"""A copy of guest memory that both sides have mapped: beside memcpy, and beside the peer's."""

import contextlib
from pathlib import Path
from statistics import median

from bench_kit import ENGINE, Bench, Program, compiled
from bench_table import Figure, row

import workbench as wb

GUEST = 64 << 20  # as in dma_copy.c
#: A program's buffers keep their physical pages, and with them a place in the caches: 0.7 to 1.3 of a ratio.
STARTS = 9

_found: dict[bool, list[dict[int, list[float]]]] = {}


def figures(bench: Bench, peer: bool, size: int) -> list[list[float]]:
    """Return what each start of dma_copy.c printed of copies of ``size`` bytes: see there."""
    if peer not in _found:
        sources = ("dma_copy.c", *map(str, sorted(ENGINE.glob("*.c"))))
        with_peer = ("-DPEER", *bench.library()) if peer else ()
        program = compiled(*sources, *(["dma_peer.c"] if peer else []), extra=(f"-I{ENGINE}", *with_peer))
        _found[peer] = [_start(bench, program, peer) for _ in range(STARTS)]
    return [found[size] for found in _found[peer]]


def _start(bench: Bench, program: Path, peer: bool) -> dict[int, list[float]]:
    path = bench.path()
    running = bench.keep(Program([program, *([path] if peer else [])], {bench.core}))
    with contextlib.ExitStack() as stack:
        if peer:
            assert running.hear() == "ready"
            stack.enter_context(wb.Client(path, arm=False, memory=GUEST)).memory.map(0, GUEST)
        lines = [running.hear().split() for _ in range(8)]
    return {int(line[0]): [float(word) for word in line[1:]] for line in lines}


@row("DMA of 1 MiB / memcpy on the same buffers: speed", at_least=0.9)
def dma_memcpy(bench: Bench) -> Figure:
    read, write, memcpy, *_ = map(median, zip(*figures(bench, False, 1 << 20), strict=True))
    return Figure(min(read, write), f"read {read:.2f}, write {write:.2f}; memcpy {memcpy / 1000:.0f} µs")


@row("DMA of 4 KiB and its record / memcpy on the same buffers: speed", at_least=0.4)
def dma_page(bench: Bench) -> Figure:
    read, write, memcpy, *_ = map(median, zip(*figures(bench, False, 4096), strict=True))
    return Figure(min(read, write), f"read {read:.2f}, write {write:.2f}; memcpy {memcpy:.0f} ns")


def beside_peer(bench: Bench, which: str) -> Figure:
    at = ("read", "write").index(which)
    pairs = [(line[3 + at], line[5 + at]) for line in figures(bench, True, 4096)]
    ours, theirs = map(median, zip(*pairs, strict=True))
    return Figure(median(theirs / ours for ours, theirs in pairs), f"{ours:.0f} and {theirs:.0f} ns")


@row("DMA read of 4 KiB / the peer's mapped path: speed", at_least=0.9)
def dma_read(bench: Bench) -> Figure:
    return beside_peer(bench, "read")


@row("DMA write of 4 KiB / the peer's mapped path: speed", at_least=0.9)
def dma_write(bench: Bench) -> Figure:
    return beside_peer(bench, "write")
