"""A cell that computes does not slow registers that C or native hooks answer: the promise of the design."""

import os
import select
import statistics
import subprocess
import sys
import threading

import pytest

import workbench as wb

ROUNDS = 5  # of a second each, idle and busy in turn: the cell computes for 5 s in all
SECONDS = 1.0

#: The software guest in a process of its own: for each line it gets, reads a register for a
#: second and answers with the 50th and 99th percentile in ns.
GUEST = f"""
import os, sys, time, workbench as wb
os.sched_setaffinity(0, {{int(sys.argv[2])}})
guest = wb.Client(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    times = []
    until = time.perf_counter() + {SECONDS}
    while time.perf_counter() < until:
        start = time.perf_counter_ns()
        guest.bar0.read32(int(line))
        times.append(time.perf_counter_ns() - start)
    times.sort()
    print(times[len(times) // 2], times[len(times) * 99 // 100], flush=True)
"""


class Card(wb.Device):
    """One register that C answers, one with a hook in Python, one with a native hook."""

    id = wb.PciId(vendor=0x1234, device=0x0004)

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0, reset=0x1234)
        HOOKED = wb.Register(4)
        NATIVE = wb.Register(8)

    @bar0.HOOKED.on_read
    def hooked(self):
        return 1

    native = bar0.NATIVE.on_read.native(
        "int hook(const wb_native *wb, wb_touch *access) { access->value = 1; return 0; }"
    )


@pytest.fixture
def guest():
    with Card() as card:
        path = card.serve().path
        threads = {thread.name: thread.native_id for thread in threading.enumerate()}
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(threads["workbench Card"], {max(cores)})  # beside the guest
        os.sched_setaffinity(0, {min(cores)})  # the cell
        process = subprocess.Popen(
            [sys.executable, "-c", GUEST, path, str(max(cores))], stdin=-1, stdout=-1, text=True
        )
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.communicate()
            os.sched_setaffinity(0, cores)


def measure(guest, offset, busy):
    """Return p50 and p99 in ns of reads at ``offset``, while this thread waits or computes."""
    guest.stdin.write(f"{offset}\n")
    guest.stdin.flush()
    while busy and not select.select([guest.stdout], [], [], 0)[0]:
        for _ in range(10_000):
            pass
    return tuple(map(int, guest.stdout.readline().split()))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="with one core a busy cell shares it with the guest"
)
def test_a_busy_cell_does_not_slow_a_register_without_hook_nor_one_with_a_native_hook(guest, capsys):
    figures = {}
    for name, offset in (("plain", 0), ("hooked", 4), ("native", 8)):
        rounds = [(measure(guest, offset, False), measure(guest, offset, True)) for _ in range(ROUNDS)]
        figures[name] = [statistics.median(r[busy][p] for r in rounds) for busy in (0, 1) for p in (0, 1)]
    with capsys.disabled():
        print()
        for name, values in figures.items():
            idle50, idle99, busy50, busy99 = (value / 1e3 for value in values)
            print(f"  {name}: p50 {idle50:.0f} µs idle, {busy50:.0f} busy;", end=" ")
            print(f"p99 {idle99:.0f} idle, {busy99:.0f} busy, ratio {busy99 / idle99:.2f}")
    for name in ("plain", "native"):
        _, idle99, _, busy99 = figures[name]
        assert busy99 < 2 * idle99, name
