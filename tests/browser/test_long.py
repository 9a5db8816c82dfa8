"""The panel for a minute while a guest hammers the device: memory stays flat. It measures no speed."""

import itertools
import os

import psutil
import pytest
from mill import DEVICE, hammering
from panel import Panel
from test_panel import SHOW

FILL = """from workbench.views.history import LIMIT
from workbench.views.hub import hub_of
history = hub_of(dev).history
while history.next - history.missed < 3 * LIMIT:
    for _ in range(1000):
        dev.bar0.R[9].write(1)
"""
TABS = ("Log", "Timeline", "Memory", "Interrupts", "Hooks", "Registers")
STAY = 6  # seconds on each
MINUTES = float(os.environ.get("WORKBENCH_MINUTES", "0.6"))  # 10 for a long session, by hand


@pytest.fixture
def panel(notebook):
    book = notebook(DEVICE, SHOW)
    book.run(0, 1)
    return Panel(book).wait()


def _lowest(marks: list[tuple[float, float]]) -> tuple[float, float]:
    return min(heap for heap, _ in marks), min(rss for _, rss in marks)


@pytest.mark.slow
@pytest.mark.timeout(180 + 60 * MINUTES)
def test_a_minute_under_load_leaves_memory_flat_and_the_file_small(panel, tmp_path):
    book, page = panel.book, panel.page
    process = psutil.Process(book.pid)
    session = book.lab.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")

    def browser() -> float:
        session.send("HeapProfiler.collectGarbage")
        used = session.send("Runtime.getHeapUsage")
        return sum(used[name] for name in ("usedSize", "embedderHeapUsedSize", "backingStorageSize"))

    with hammering(book.output_text(0).strip(), tmp_path):
        # Ring and history are written for the first time until they are full: that is no leak.
        book.ask(FILL)
        for tab in TABS:
            panel.tab(tab)
            page.wait_for_timeout(1000)
        marks = []
        for tab in itertools.islice(itertools.cycle(TABS), round(60 * MINUTES / STAY)):
            panel.tab(tab)
            page.wait_for_timeout(1000 * STAY)
            marks.append((browser() / 1e6, process.memory_info().rss / 1e6))
    session.detach()
    total, size = int(book.ask("print(dev.log.total)")), book.save().stat().st_size
    every = 1 if MINUTES < 2 else 60 // STAY
    told = ", ".join(f"{heap:.1f} {rss:.1f}" for heap, rss in marks[every - 1 :: every])
    print(f"MB of the page's objects and of the kernel: {told}; {total:,} records; file of {size:,} bytes")
    # A frame's temporaries come and go, some MB at a time: what leaks raises the lowest marks too.
    third = len(marks) // 3
    for what, between, last, more in zip(
        ("page", "kernel"), _lowest(marks[third:-third]), _lowest(marks[-third:]), (5, 3), strict=True
    ):
        assert last < between + more, f"{what}: {between:.1f} MB, at last {last:.1f}; {told}"
    assert size < 1_000_000
