"""The hub: who is sent what, how often, and by whom. A plain object plays the browser."""

import gc
import itertools
import shlex
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sample import Sample
from view_kit import Page, page_on

import workbench as wb
from workbench.views.budget import ANSWERS, FRAMES, IN_FLIGHT, MESSAGES, Budget, Pace
from workbench.views.flusher import NAME, flusher
from workbench.views.hub import Hub, hub_of
from workbench.views.seat import IDLE


def flushers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture
def page(device: wb.Device) -> Iterator[Page]:
    with page_on(device) as page:
        yield page


def quiet(page: Page, flushes: int = 3) -> int:
    """Let the flusher pass a few times; return how many messages there are then."""
    last = page.hub.flushes + flushes
    deadline = time.monotonic() + 5
    while page.hub.flushes < last and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return len(page.got)


def test_a_page_that_looks_is_sent_everything_and_then_only_what_changed(
    device: wb.Device, page: Page
) -> None:
    page.look(registers={"block": "bar0"})
    page.wait(lambda: page.frames)
    assert page.feeds["registers"]["count"] == 68
    assert page.value("bar0.SCRATCH") == 0x11223344
    device.bar0.WIDE.value = 0xFEDC_BA98_7654_3210
    page.wait(lambda: page.values.get(page.hub.table.numbers["bar0.WIDE"]) == 0xFEDC_BA98_7654_3210)
    assert page.feeds["registers"]["count"] == 1
    device.bar0.SCRATCH.write(5)
    page.wait(lambda: page.counts[page.hub.table.numbers["bar0.SCRATCH"]] == (0, 1))
    assert page.threads == {NAME}


def test_nothing_is_sent_while_nothing_changes(page: Page) -> None:
    page.look(
        registers={"block": None}, irq={}, log={"filter": "", "before": None, "rows": 50, "paused": False},
        timeline={"from": None, "to": None, "pixels": 900, "lanes": 8}, hooks={}, state={}, console={},
        memory={"space": "bar0", "start": "0x0", "length": 4096}, dma={},
    )  # fmt: skip
    page.wait(lambda: len(page.feeds) == 9)
    sent = quiet(page, 10)
    assert quiet(page, 10) == sent
    assert page.hub.problems == {}


def test_nothing_is_sent_while_nobody_looks(device: wb.Device, page: Page) -> None:
    page.look(visible=False, registers={"block": None})
    device.bar0.SCRATCH = 1
    page.look(visible=True, registers={"block": "bar2"})
    page.wait(lambda: page.frames)
    page.say({"type": "want", "visible": False, "feeds": {}})
    sent = len(page.got)
    for n in range(50):
        device.bar2.PORT = n
    assert page.do("clear")["ok"]
    assert len(page.got) == sent + 1


def test_there_is_one_thread_and_it_ends_with_the_last_view(device: wb.Device) -> None:
    assert flushers() == []
    with page_on(device) as first:
        assert flushers() == []  # nobody looks yet
        first.look(state={})
        with page_on(device) as second:
            second.look(state={})
            second.wait(lambda: second.frames)
            assert len(flushers()) == 1
    for thread in flushers():
        thread.join(2)
    assert flushers() == []


def test_a_reloaded_page_is_sent_everything_again(device: wb.Device, page: Page) -> None:
    page.look(registers={"block": "bar2"})
    page.wait(lambda: page.frames)
    page.values.clear()
    page.look(registers={"block": "bar2"})
    page.wait(lambda: page.values)
    assert page.feeds["registers"]["count"] == 2


def test_two_pages_wish_for_themselves_and_are_sent_the_same(device: wb.Device, page: Page) -> None:
    page.look(registers={"block": "bar2"})
    page.wait(lambda: page.frames)
    page.hub.receive(page, {"type": "hello"}, "other tab")
    page.hub.receive(page, {"type": "want", "visible": True, "feeds": {"irq": {}}}, "other tab")
    page.wait(lambda: "irq" in page.feeds)
    page.hub.receive(page, {"type": "want", "visible": False, "feeds": {}}, "other tab")
    device.bar2.PORT = 0x77
    page.wait(lambda: page.value("bar2.PORT") == 0x77)


@pytest.mark.slow
def test_the_budget_holds_over_all_views_of_a_device(device: wb.Device) -> None:
    hub = Hub(device)
    pages = [Page(hub) for _ in range(4)]
    for page in pages:
        page.look(registers={"block": "bar0"})
    end = time.monotonic() + 2.5
    number = 0
    while time.monotonic() < end:
        number += 1
        device.bar0.SCRATCH = number & 0xFFFF
        if number % 300 == 0:
            pages[0].say({"type": "do", "id": number, "action": "poke", "register": 0, "value": "0x1"})
    times = sorted(at for page in pages for at, _, _ in page.got)
    worst = max(sum(1 for other in times if at <= other < at + 0.9) for at in times)
    assert worst <= MESSAGES
    assert min(len(page.frames) for page in pages) >= 5  # fairly shared
    device.bar0.SCRATCH = 0xABCDEF
    for page in pages:
        page.wait(lambda page=page: page.value("bar0.SCRATCH") == 0xABCDEF)
        page.close()


@pytest.mark.slow
def test_a_page_that_does_not_acknowledge_is_sent_less_until_it_does(device: wb.Device) -> None:
    with page_on(device, acks=False) as page, ThreadPoolExecutor(1) as pool:
        page.look(registers={"block": "bar0"})
        ending = threading.Event()

        def change() -> None:
            while not ending.wait(0.005):
                device.bar0.SCRATCH.value = (int(device.bar0.SCRATCH) + 1) & 0xFFFF

        work = pool.submit(change)
        try:
            page.wait(lambda: len(page.frames) >= IN_FLIGHT + 3, 8)
            late = [at for at, _, _ in page.got if at > page.got[0][0] + 2.05]
            assert len(late) >= 2
            pause = min(b - a for a, b in itertools.pairwise(late))
            assert pause > 0.45
            page.say({"type": "ack", "seq": page.frames[-1]["seq"]})
            have = len(page.frames)
            begun = time.monotonic()
            page.wait(lambda: len(page.frames) >= have + 4)
            assert time.monotonic() - begun < 3 * pause  # four of the slow ones have three pauses between
        finally:
            ending.set()
            work.result()


def test_a_view_of_a_device_that_is_gone_is_closed() -> None:
    device = Sample()
    page = Page(Hub(device))
    page.look(state={})
    page.wait(lambda: page.frames)
    alive = weakref.ref(device)
    device.close()
    del device
    deadline = time.monotonic() + 5
    while alive() is not None and time.monotonic() < deadline:
        gc.collect()
        page.say({"type": "ack", "seq": 0})
    assert alive() is None
    page.wait(lambda: page.closed or page.say({"type": "ack", "seq": 0}), 2)
    for thread in flushers():
        thread.join(2)


def test_views_follow_a_device_that_was_made_again(page: Page) -> None:
    class Lamp(wb.Device):
        id = wb.PciId(vendor=0x1234, device=1)

        class bar0(wb.Bar, size=4096):
            CTRL = wb.Register(0)

    first = Lamp(name="lamp")
    first.serve()
    hub = hub_of(first)
    page = Page(hub)
    page.look(registers={"block": "bar0"})
    page.wait(lambda: page.frames)
    second = Lamp(name="lamp")
    second.serve()  # takes over in place
    second.bar0.CTRL = 7
    page.wait(lambda: page.value("bar0.CTRL") == 7)
    assert hub.device is second
    second.close()
    page.close()


def test_a_swapped_class_gives_a_new_layout_and_keeps_the_counts() -> None:
    class Lamp(wb.Device):
        id = wb.PciId(vendor=0x1234, device=1)

        class bar0(wb.Bar, size=4096):
            CTRL = wb.Register(0)

    class Better(wb.Device):
        id = wb.PciId(vendor=0x1234, device=1)

        class bar0(wb.Bar, size=4096):
            CTRL = wb.Register(0)
            MORE = wb.Register(4, doc="new")

    with Lamp() as lamp, page_on(lamp) as page:
        lamp.bar0.CTRL.write(3)
        page.look(registers={"block": "bar0"}, log={"filter": "CTRL", "rows": 10})
        page.wait(lambda: page.frames)
        version = page.layout["version"]
        lamp.swap(Better)
        page.wait(lambda: page.layout["version"] > version)
        assert [one["name"] for one in page.layout["registers"]][:2] == ["CTRL", "MORE"]
        page.wait(lambda: page.counts.get(page.hub.table.numbers["bar0.CTRL"]) == (0, 1))
        page.wait(lambda: page.values.get(page.hub.table.numbers["bar0.MORE"]) == 0)
        assert page.hub.problems == {}


def test_serving_gives_a_new_layout_with_the_socket(device: wb.Device, page: Page) -> None:
    page.look(state={})
    assert page.layout["socket"] == ""
    server = device.serve()
    page.wait(lambda: page.layout["socket"] == server.path)
    assert shlex.split(page.layout["qemu_args"]) == device.qemu_args()


def test_a_feed_that_fails_is_counted_and_shown_and_the_others_go_on(page: Page) -> None:
    page.look(registers={"block": "bar0"}, memory={"space": "bar0", "start": "nonsense"}, state={})
    page.wait(
        lambda: any(e["name"] == "views: memory" for e in page.feeds.get("state", {}).get("errors", ()))
    )
    assert page.value("bar0.SCRATCH") == 0x11223344


@pytest.mark.parametrize(
    "content",
    [
        {}, {"type": "ack"}, {"type": "ack", "seq": "x"}, {"type": "want"}, {"type": "want", "feeds": 3},
        {"type": "want", "visible": True, "feeds": {"nothing": {}, "log": 5, "state": None}},
        {"type": "want", "visible": True, "feeds": {"timeline": {"pixels": "many"}}},
        {"type": "do"}, {"type": "do", "id": None, "action": "__init__"}, {"type": 7},
    ],
)  # fmt: skip
def test_a_senseless_message_harms_nobody(page: Page, content: dict[str, Any]) -> None:
    page.say(content)
    page.look(registers={"block": "bar2"})
    page.wait(lambda: "registers" in page.feeds)
    assert flusher is not None


@pytest.mark.parametrize("feeds", [{}, {"of the future": {}}, {"log": {"rows": "many"}}, [1]])
def test_a_page_for_which_nothing_works_is_looked_after_once_a_second(page: Page, feeds: Any) -> None:
    now = time.monotonic()
    with page.hub._lock:
        seat = page.hub._seats[page]
        seat.want(page.name, {"visible": True, "feeds": feeds}, now)
        assert seat.delay(now) == 0  # the flusher must look at the wish ...
        seat.prepare(now, 30)
        assert seat.delay(now) == IDLE  # ... but not again and again: that took a whole core
        assert seat.delay(now + IDLE) == 0


class Spy(wb.Device):
    """Counts every hook that runs."""

    id = wb.PciId(vendor=0x1234, device=2)
    irq = wb.Interrupts(intx=True)
    ran = 0

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0)
        GONE = wb.Register(4, mode="rc", reset=7)

    @bar0.CTRL.on_read
    @bar0.GONE.on_read
    @bar0.CTRL.on_write
    def touched(self):
        self.ran += 1


def test_looking_reads_nothing_and_runs_no_hook() -> None:
    with Spy() as spy, page_on(spy) as page:
        page.look(
            registers={"block": None}, irq={}, log={"filter": "CTRL", "rows": 50}, timeline={}, hooks={},
            state={}, console={}, memory={"space": "bar0", "start": "0x0", "length": 4096}, dma={},
        )  # fmt: skip
        page.wait(lambda: len(page.feeds) == 9)
        page.look(memory={"space": "iova", "start": "0x1000", "length": 64}, registers={"block": "config"})
        page.wait(lambda: page.feeds["memory"]["space"] == "iova")
        quiet(page)
        assert spy.ran == 0
        assert len(spy.log) == 0
        assert int(spy.bar0.GONE) == 7


def test_the_budget_counts_frames_and_answers() -> None:
    budget = Budget()
    for n in range(FRAMES):
        assert budget.delay(n * 0.01, True) == 0
        budget.spend(n * 0.01, True)
    assert budget.delay(0.5, True) == pytest.approx(0.5)
    for _ in range(MESSAGES - FRAMES):
        assert budget.delay(0.5, False) == 0
        budget.spend(0.5, False)
    assert budget.delay(0.5, False) == pytest.approx(0.5)
    assert budget.delay(1.0, True) == 0
    for n in range(ANSWERS):
        assert budget.delay(3.0, False) == 0, n
        budget.spend(3.0, False)
    assert budget.delay(3.0, False) == pytest.approx(1.0)
    assert budget.delay(3.0, True) == 0  # clicks leave room for frames


def test_pace_waits_for_acknowledgements() -> None:
    pace = Pace()
    for n in range(IN_FLIGHT):
        assert pace.delay(n * 0.05) == 0
        pace.sent(n * 0.05)
    assert pace.delay(0.8) == pytest.approx(1.2)  # as many are open as may be
    assert pace.delay(2.0) == 0  # and late: one each half second
    pace.sent(2.0)
    assert pace.delay(2.1) == pytest.approx(0.4)
    pace.acknowledged(99)
    assert pace.late(2.1)
    pace.acknowledged(IN_FLIGHT + 1)
    assert pace.delay(2.1) == 0


def test_every_script_and_style_is_in_the_list() -> None:
    from workbench.views import widget

    files = {path.name for path in widget.STATIC.iterdir() if path.suffix in (".js", ".css")}
    assert files == {*widget.SCRIPTS, *widget.STYLES}
