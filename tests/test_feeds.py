"""The feeds: what each says about a device, first everything and then only what changed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sample import Sample

import workbench as wb
from workbench.views.feeds import FEEDS, Part, Source
from workbench.views.feeds.registers import ENTRY
from workbench.views.feeds.timeline import MARK, MOST
from workbench.views.history import History
from workbench.views.layout import layout_of
from workbench.views.table import RegisterTable


class Look:
    """Polls feeds of a device by hand."""

    def __init__(self, device: wb.Device, limit: int = 1 << 18) -> None:
        self.device, self.table = device, RegisterTable(device)
        self.history = History(self.table, limit)
        self.now = 100.0
        self.machine: Any = None

    def source(self) -> Source:
        self.now += 1
        self.history.drain(self.device)
        return Source(self.device, self.table, self.history, self.now, machine=self.machine)

    def feed(self, name: str, **parameters: Any) -> Any:
        feed = FEEDS[name](parameters)
        return lambda: feed.poll(self.source())

    def counts(self, name: str) -> list[int]:
        self.history.drain(self.device)
        return [int(n) for n in self.history.counts[:, self.table.numbers[name]]]


@pytest.fixture
def look(device: wb.Device) -> Look:
    return Look(device)


def entries(part: Part) -> dict[int, tuple[int, ...]]:
    rows = np.frombuffer(part.buffers[part.json["buffer"]], ENTRY).tolist()
    assert len(rows) == part.json["count"]
    return {number: tuple(rest) for number, *rest in rows}


def test_registers_come_all_and_then_the_changed_ones(device: wb.Device, look: Look) -> None:
    poll = look.feed("registers", block=None)
    found = entries(poll())
    assert len(found) == look.table.count
    for block in (device.bar0, device.bar2, device.config):
        for register in block.registers():
            assert found[look.table.numbers[register.name]][1] == register.value, register.name
    assert poll() is None
    device.bar0.BUFFER[7].write(9)
    assert entries(poll()) == {look.table.numbers["bar0.BUFFER[7]"]: (0, 9, 0, 1)}
    device.bar0.BUFFER[7].on_write(lambda device: None)
    assert entries(poll()) == {look.table.numbers["bar0.BUFFER[7]"]: (1, 9, 0, 1)}


class Odd(wb.Device):
    """Registers that share bytes, lie far apart, and are write-only."""

    id = wb.PciId(vendor=0x1234, device=3)

    class bar0(wb.Bar, size=1 << 24):
        RBR = wb.Register(0, 8, mode="ro", reset=0x11)
        THR = wb.Register(0, 8, mode="wo")
        NEXT = wb.Register(1, 8)
        PAIR = wb.Register(2, 16)
        FAR = wb.Register(0xFFFFF8, 64, reset=0xFEDC_BA98_7654_3210)


def test_values_and_counts_of_odd_registers_are_right() -> None:
    with Odd() as odd:
        look = Look(odd)
        odd.bar0.THR.write(0x77)
        odd.bar0.RBR.read()
        odd.bar0.RBR.read()
        odd.bar0.read(0, 4)  # all four
        odd.bar0.write(2, b"\x01")  # half of one
        odd.bar0.read(0x1000, 4)  # none
        assert look.counts("bar0.RBR") == [3, 0]
        assert look.counts("bar0.THR") == [0, 1]
        assert look.counts("bar0.NEXT") == [1, 0]
        assert look.counts("bar0.PAIR") == [1, 1]
        assert (look.history.reads, look.history.writes, look.history.flagged) == (4, 2, 1)
        found = entries(look.feed("registers", block="bar0")())
        for register in odd.bar0.registers():
            assert found[look.table.numbers[register.name]][1] == register.value, register.name


def test_a_poke_of_shared_bytes_belongs_to_the_register_that_was_poked() -> None:
    with Odd() as odd:
        table = RegisterTable(odd)
        odd.bar0.THR = 1
        odd.bar0.RBR = 2
        places, besides = table.places(odd.log.records(), odd.log.names)
        assert [table.label(place) for place in places] == ["bar0.THR", "bar0.RBR"]
        assert besides == []


def test_a_ring_that_was_overrun_is_counted(look: Look) -> None:
    with Sample(log_records=256) as small:
        look = Look(small)
        look.history.drain(small)
        for n in range(1000):
            small.bar0.SCRATCH.write(n)
        look.history.drain(small)
        assert look.history.missed == 1000 - 256
        assert look.counts("bar0.SCRATCH") == [0, 256]
        assert look.feed("state")().json["uncounted"] == 744


def test_the_history_keeps_the_newest_and_finds_them_by_number() -> None:
    with Sample() as device:
        look = Look(device, limit=100)
        for n in range(470):
            device.bar0.SCRATCH.write(n)
            if n % 7 == 0:
                look.history.drain(device)
        look.history.drain(device)
        history = look.history
        assert len(history) == 100
        assert history.records["value"].tolist() == list(range(370, 470))
        assert history.records["seq"].tolist() == list(range(370, 470))
        assert [history.behind(seq) for seq in (0, 370, 400, 469, 470, 999)] == [0, 0, 30, 99, 100, 100]
        assert (history.places == look.table.numbers["bar0.SCRATCH"]).all()
        assert (history.times == history.records["time"]).all()


def test_log_rows_are_the_newest_older_ones_or_those_that_fit(device: wb.Device, look: Look) -> None:
    for n in range(500):
        device.bar0.SCRATCH.write(n)
    device.bar2.PORT = 3
    poll = look.feed("log", filter="", before=None, rows=50, paused=False)
    json = poll().json
    assert [row[0] for row in json["rows"]] == list(range(451, 501))
    assert (json["total"], json["matching"], json["dropped"], json["error"]) == (501, 501, 0, "")
    assert json["rows"][-1][2:6] == ["notebook", "poke", "bar2.PORT", "0x03"]
    assert poll() is None
    json = look.feed("log", filter="w && value & 1", before=400, rows=3)().json
    assert [row[0] for row in json["rows"]] == [395, 397, 399]
    assert json["matching"] == 250
    json = look.feed("log", filter="w &&", rows=3)().json
    assert json["rows"] == []
    assert "missing" in json["error"]


def test_a_filter_follows_new_records_and_clear(device: wb.Device, look: Look) -> None:
    poll = look.feed("log", filter="PORT", rows=10)
    assert poll().json["rows"] == []
    assert poll() is None
    device.bar0.SCRATCH.write(1)
    device.bar2.PORT = 3
    json = poll().json
    assert (len(json["rows"]), json["matching"], json["total"]) == (1, 1, 2)
    device.log.clear()
    json = poll().json
    assert (json["rows"], json["matching"], json["total"]) == ([], 0, 0)


def test_a_paused_log_stands_still(device: wb.Device, look: Look) -> None:
    device.bar2.PORT = 3
    poll = look.feed("log", filter="", rows=10, paused=True)
    assert len(poll().json["rows"]) == 1
    device.bar2.PORT = 4
    assert poll() is None


@pytest.mark.filterwarnings("ignore")
def test_a_row_names_the_traceback_of_its_hook(look: Look) -> None:
    with Sample() as device:
        look = Look(device)

        @device.bar0.SCRATCH.on_write
        def broken(device):
            raise RuntimeError("oh no")

        device.bar0.SCRATCH.write(1)
        row = look.feed("log", filter="w", rows=10)().json["rows"][-1]
        assert row[10] == "bar0.SCRATCH.on_write"
        error = look.feed("state")().json["errors"][0]
        assert (error["name"], error["count"]) == ("bar0.SCRATCH.on_write", 1)
        assert "oh no" in error["text"]
        hook = look.feed("hooks")().json["rows"][0]
        assert (hook["function"], hook["revision"], hook["calls"], hook["revisions"]) == ("broken", 1, 1, [1])
        assert "oh no" in hook["error"]


def test_memory_comes_when_a_byte_of_the_window_changed(device: wb.Device, look: Look) -> None:
    poll = look.feed("memory", space="bar0", start="0xf0", length=64)
    part = poll()
    assert part.json | {"buffer": 0} == {
        "space": "bar0", "start": "0xf0", "size": "0x1000", "error": "", "gaps": [], "buffer": 0,
    }  # fmt: skip
    assert part.buffers[0] == device.bar0.peek(0xF0, 64)
    device.bar0.SCRATCH = 1  # elsewhere
    assert poll() is None
    device.bar0.BUFFER[0] = 0xAB
    assert poll().buffers[0][16] == 0xAB
    assert look.feed("memory", space="bar0", start="0xff0", length=64)().buffers == (bytes(16),)
    assert "no 'bar9'" in look.feed("memory", space="bar9", start="0x0", length=4)().json["error"]
    assert "mapped no memory" in look.feed("memory", space="iova", start="0x1000", length=4)().json["error"]


def test_what_is_mapped_of_guest_memory_is_shown(device: wb.Device, look: Look) -> None:
    with device.connect() as guest:
        guest.memory.write(0xFFFFC, b"last")
        guest.memory.map(0x102000, 0x1000)
        guest.memory.map(0x103000, 0x1000, shared=False)
        guest.memory.write(0x102000, b"next")
        poll = look.feed("memory", space="iova", start="0xffff0", length=0x3FF0)
        part = poll()
        assert (part.json["error"], part.json["gaps"]) == ("", [[0x10, 0x2000], [0x3010, 0xFE0]])
        assert (part.buffers[0][0xC:0x10], part.buffers[0][0x2010:0x2014]) == (b"last", b"next")
        assert poll() is None
        guest.memory.unmap(0x102000)
        assert poll().json["gaps"] == [[0x10, 0x3FE0]]
        begin = look.feed("memory", space="iova", start="0x101ff0", length=0x20)()
        assert "mapped no memory" in begin.json["error"]


def test_interrupts_say_how_they_stand(device: wb.Device, look: Look) -> None:
    poll = look.feed("irq")
    (line,) = poll().json["lines"]
    assert (line["name"], line["armed"], line["enabled"], line["count"], line["last"]) == (
        "INTx", False, True, 0, 0,
    )  # fmt: skip
    assert poll() is None
    device.bar0.SCRATCH.write(1)
    device.irq.assert_()
    (line,) = poll().json["lines"]
    assert line["asserted"]
    assert line["last"] > 0


class Many(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0B13)
    irq = wb.Interrupts(intx=True, msi=2, msix=2048)


def test_of_many_vectors_only_a_window_is_told() -> None:
    with Many() as device, device.connect() as guest:
        look = Look(device)
        guest.enable_msix(4)
        assert layout_of(device, look.table, 1)["irqs"] == [
            {"index": 0, "name": "INTx", "count": 1},
            {"index": 1, "name": "MSI", "count": 2},
            {"index": 2, "name": "MSI-X", "count": 2048},
        ]
        poll = look.feed("irq", first=2, count=3)
        json = poll().json
        assert (json["first"], json["total"], json["mode"]) == (2, 2051, "MSI-X")
        names = [(line["name"], line["armed"], line["enabled"]) for line in json["lines"]]
        assert names == [("MSI[1]", False, False), ("MSI-X[0]", True, True), ("MSI-X[1]", True, True)]
        device.irq[1].trigger()
        assert [line["count"] for line in poll().json["lines"]] == [0, 0, 1]
        device.irq[3].trigger()  # out of sight
        assert poll() is None
        assert len(look.feed("irq", first=0, count=5000)().json["lines"]) == 128
        assert look.feed("irq", first=9999, count=5)().json["lines"] == []


def test_dma_tells_what_is_mapped_and_what_was_copied(device: wb.Device, look: Look) -> None:
    poll = look.feed("dma")
    json = poll().json
    assert (json["total"], json["regions"], json["master"], json["last"]) == (0, [], False, [])
    assert poll() is None
    with device.connect() as guest:
        guest.enable()
        guest.memory.map(0, 0x100000)
        guest.memory.map(0x102000, 0x1000, shared=False)
        guest.memory.map(0x104000, 0x2000, sealed=False, readonly=True)
        guest.memory[0x1000:0x1003] = b"abc"
        device.dma.read(0x1000, 3)
        device.dma.write(0x2000, bytes(5000))
        with pytest.raises(wb.DmaError):
            device.dma.write(0x104000, b"no")
        json = poll().json
        assert (json["total"], json["bytes"], json["master"]) == (3, hex(0x100000 + 0x3000), True)
        assert json["regions"][1:] == [
            ["0x102000", "0x1000", "rw", "messages", False], ["0x104000", "0x2000", "r-", "file", False],
        ]  # fmt: skip
        assert {name: json["read"][name] for name in ("count", "bytes", "refused")} == {
            "count": 1, "bytes": 3, "refused": 0,
        }  # fmt: skip
        assert [json["write"][name] for name in ("count", "bytes", "refused")] == [1, 5000, 1]
        read, wrote, refused = json["last"]
        assert read[2:7] == ["dma_read", "notebook", "0x1000", 3, "0x636261"]
        assert wrote[2:6] == ["dma_write", "notebook", "0x2000", 5000]
        assert (refused[4], refused[8]) == ("0x104000", "! refused: mapped read-only (EPERM)")
        assert [one[1] for one in json["last"]] == sorted(one[1] for one in json["last"])


def test_of_many_regions_and_copies_only_a_window_is_told(device: wb.Device, look: Look) -> None:
    with device.connect() as guest:
        guest.enable()
        guest.memory.map(0, 0x100000)
        for n in range(300):
            guest.memory.map(0x200000 + 0x2000 * n, 0x1000, shared=False)
        for n in range(150):
            device.dma.write(0x1000 + n, b"x")
        json = look.feed("dma", first=200, count=5)().json
        assert (json["first"], json["total"], len(json["last"])) == (200, 301, 100)
        assert [one[0] for one in json["regions"]] == [hex(0x200000 + 0x2000 * n) for n in range(199, 204)]
        assert [one[4] for one in json["last"]] == [hex(0x1000 + n) for n in range(50, 150)]
        assert len(look.feed("dma", first=0, count=5000)().json["regions"]) == 128
        few = look.feed("dma", last=2)
        assert [one[4] for one in few().json["last"]] == ["0x1094", "0x1095"]
        device.dma.read(0x1000, 1)
        assert [one[2] for one in few().json["last"]] == ["dma_write", "dma_read"]
        device.log.clear()
        json = few().json
        assert (json["last"], json["read"]["count"]) == ([], 1)


def test_rates_of_copies_are_those_of_the_last_second(device: wb.Device, look: Look) -> None:
    with device.connect() as guest:
        guest.enable()
        guest.memory.map(0, 0x100000)
        poll = look.feed("dma")
        assert poll().json["read"]["rate"] == 0
        for _ in range(10):
            device.dma.read(0x1000, 100)
        told = poll().json["read"]  # the played time goes on by a second a poll
        assert (told["rate"], told["speed"]) == (10, 1000)
        assert poll().json["read"]["speed"] == 0


def test_a_timeline_has_a_lane_for_each_register_and_a_mark_for_each_record(
    device: wb.Device, look: Look
) -> None:
    assert look.feed("timeline")().json["lanes"] == []
    for n in range(20):
        device.bar0.SCRATCH.write(n)
        device.bar0.BUFFER[1].read()
    device.bar0.read(0x900, 4)
    device.irq.trigger()
    poll = look.feed("timeline", pixels=900, lanes=16)
    part = poll()
    marks = np.frombuffer(part.buffers[0], MARK)
    lanes = part.json["lanes"]
    assert lanes == ["bar0.SCRATCH", "bar0.BUFFER[1]", "bar0 elsewhere", "INTx"]
    assert (len(marks), part.json["count"], part.json["thinned"]) == (42, 42, False)
    assert marks["value"][marks["lane"] == 0].tolist() == list(range(20))
    assert marks["flags"][marks["lane"] == 2].tolist() == [1]
    assert (np.diff(marks["time"]) >= 0).all()
    assert poll() is None
    begin, end = int(marks["time"][10]), int(marks["time"][19])
    part = look.feed("timeline", **{"from": begin, "to": end, "pixels": 900, "lanes": 1})()
    assert part.json["count"] == 10
    assert part.json["lanes"] == ["bar0.SCRATCH", "1 others"]


def test_a_dense_timeline_is_thinned_and_keeps_every_lane(device: wb.Device, look: Look) -> None:
    for n in range(30_000):
        device.bar0.BUFFER[n % 60].write(n)
    part = look.feed("timeline", pixels=500, lanes=64)()
    assert part.json["thinned"]
    assert 60 <= part.json["count"] <= MOST
    marks = np.frombuffer(part.buffers[0], MARK)
    assert set(marks["lane"].tolist()) == set(range(60))


def test_the_state_says_who_is_attached_and_how_fast(device: wb.Device, look: Look) -> None:
    poll = look.feed("state")
    assert poll().json["server"] == "not served"
    with device.connect() as guest:
        for n in range(100):
            guest.bar0.write32(0, n)
        guest.bar0.read32(0)
        json = poll().json
        assert json["server"] == "attached"
        assert json["client"].startswith("pid ")
        assert (json["reads"], json["writes"]) == (look.history.reads, look.history.writes)
        assert json["rate"] >= 101  # in the one second that passed for the feed
        device.server.pause()
        assert poll().json["server"] == "paused"
        device.server.resume()
    device.close()
    json = poll().json
    assert (json["server"], json["rate"]) == ("stopped", 0)


class Machine:
    alive, accelerator, pid = True, "tcg", 12
    text = "booting\n"

    def read_console(self, since: int) -> tuple[int, str]:
        return len(self.text), self.text[since:]


def test_the_console_comes_in_pieces(look: Look) -> None:
    poll = look.feed("console", **{"from": 0})
    assert poll().json["vm"].startswith("no VM")
    look.machine = Machine()
    assert poll().json == {"from": 0, "text": "booting\n", "alive": True, "vm": "tcg, pid 12"}
    assert poll() is None
    look.machine.text += "login: "
    assert poll().json["text"] == "login: "
    look.machine.text = "new"
    assert poll().json == {"from": 0, "text": "new", "alive": True, "vm": "tcg, pid 12"}


def test_the_layout_lists_what_there_is(device: wb.Device, look: Look) -> None:
    layout = layout_of(device, look.table, 3)
    assert (layout["version"], layout["name"], layout["id"]) == (3, "Sample", "1234:0b11")
    assert [(one["name"], one["kind"]) for one in layout["blocks"]] == [
        ("bar0", "32-bit memory"), ("bar2", "I/O"), ("config", "config space"),
    ]  # fmt: skip
    names = [f"{one['block']}.{one['name']}" for one in layout["registers"]]
    assert names == look.table.names
    status = layout["registers"][look.table.numbers["bar0.STATUS"]]
    assert [field["name"] for field in status["fields"]] == ["DONE", "LIT"] or len(status["fields"]) == 2
    assert layout["irqs"] == [{"index": 0, "name": "INTx", "count": 1}]


@pytest.fixture
def many() -> Iterator[wb.Device]:
    class Many(wb.Device):
        id = wb.PciId(vendor=0x1234, device=4)

        class bar0(wb.Bar, size=8192):
            R = wb.Register(0, count=1000)

    with Many() as device:
        yield device


def test_catching_up_with_a_hundred_thousand_records_is_exact(many: wb.Device) -> None:
    look = Look(many)
    for n in range(100_000):
        many.bar0.write(4 * (n % 1000), b"abcd")
    look.history.drain(many)
    assert look.history.counts[1, :1000].tolist() == [100] * 1000
