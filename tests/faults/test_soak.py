"""Soak: millions of accesses with hooks, swaps, resets, interrupts, reconnects; nothing grows or is lost.

``WORKBENCH_SOAK=100000000`` says how many accesses (a short one by default). The C client of tests/bench does
most of them; between its visits a client in Python takes interrupts and resets.
"""

import gc
import os
import threading
import time

import bench_kit
import numpy as np
import pytest
from leaks import open_fds, resident

import workbench as wb
from workbench.records import KINDS

SOAK = int(os.environ.get("WORKBENCH_SOAK", "600000"))
ROUNDS = 60
POSTED, HOOKED = SOAK * 98 // 100 // ROUNDS, SOAK // 100 // ROUNDS

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(120 + SOAK / 10_000)]


class Card(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x5047)
    irq = wb.Interrupts(msix=2)
    ran = 0

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0)
        HOOKED = wb.Register(4)
        BELL = wb.Register(8)

    @bar0.BELL.on_write
    def ring(self, access):
        self.irq[1].trigger()


def swap(card: Card, number: int) -> None:
    """Replace the hook; each of them counts."""

    @card.bar0.HOOKED.on_read
    def count(dev, access):
        dev.ran += 1
        dev.bar0.HOOKED = number


def meddle(card: Card, stop: threading.Event, number: list[int]) -> None:
    """What a person does to a busy device."""
    while not stop.wait(0.001):
        number[0] += 1
        swap(card, number[0])
        card.bar0.PLAIN.value = number[0]
        if number[0] % 16 == 0:
            card.reset()


def visit(card: Card) -> None:
    """A guest that takes interrupts, resets the device and goes."""
    with card.connect() as guest:
        guest.enable_msix()
        for _ in range(4):
            guest.bar0.write32(8, 1)
            guest.wait_irq(1, timeout=10)
        guest.reset()


def one_round(card: Card, client: bench_kit.Client) -> float:
    """Return the serving thread's processor time an access, ns; check that each left its record."""
    clock = next(
        time.pthread_getcpuclockid(thread.ident)
        for thread in threading.enumerate()
        if thread.name == "workbench Card" and thread.ident
    )
    begin, total, ran = time.clock_gettime_ns(clock), card.log.first + card.log.total, card.ran
    client.measure(f"post 0 0 4 {POSTED} 64")
    client.measure(f"read 0 4 4 {HOOKED}")
    spent = time.clock_gettime_ns(clock) - begin
    assert card.log.first + card.log.total - total >= POSTED + HOOKED
    assert card.ran - ran >= HOOKED  # each access was answered by one of the hooks
    return spent / (POSTED + HOOKED)


def check_log(card: Card) -> None:
    """The records that are left follow one another, and none tells of a failure."""
    records = card.log.records()
    assert (np.diff(records["seq"]) == 1).all()
    assert len(card.log) + card.log.dropped == card.log.total
    errors = records[records["kind"] == next(code for code, name in KINDS.items() if name == "error")]
    assert len(errors) == 0
    assert len(card.hooks.failures) == 0


def test_nothing_grows_and_nothing_is_lost():
    stop, number, costs, memory, files = threading.Event(), [0], [], [], []
    with Card(strict=True, log_records=65536) as card, bench_kit.Bench() as bench:
        server = card.serve()
        swap(card, 0)
        thread = threading.Thread(target=meddle, args=(card, stop, number))
        thread.start()
        try:
            for _ in range(ROUNDS):
                client = bench_kit.Client([bench_kit.compiled("client.c"), server.path], set(bench.cores))
                assert client.hear() == "ready"
                costs.append(one_round(card, client))
                client.close()
                server.wait_listening(30)
                visit(card)
                server.wait_listening(30)
                gc.collect()
                memory.append(resident())
                files.append(open_fds())
        finally:
            stop.set()
            thread.join()
        check_log(card)
    quarter = ROUNDS // 4
    cost = [min(costs[:quarter]), min(costs[-quarter:])]  # of rounds that nothing else disturbed
    print(f"{card.log.total:,} records, {number[0]:,} swaps; {cost[0]:.0f} to {cost[1]:.0f} ns an access")
    print(f"memory after each round, KiB: {[size >> 10 for size in memory]}")
    assert max(files[quarter:]) <= max(files[:quarter])
    assert max(memory[-quarter:]) - max(memory[:quarter]) < 4 << 20
    assert cost[1] < 1.5 * cost[0]
