"""Live views in a real kernel: frames, answers, budget, reload, a busy cell, no browser, the end."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from kernel_kit import FrontEnd, front_end

pytestmark = pytest.mark.slow

DEVICE = """
import json, threading, workbench as wb
class Lamp(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0B11)
    irq = wb.Interrupts(intx=True)
    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0x00, ON=wb.Field(0))
        DATA = wb.Register(0x100, count=100)
dev = Lamp()
"""
THREADS = "print(json.dumps([t.name for t in threading.enumerate() if 'views' in t.name]))"


@pytest.fixture(scope="module")
def kernel() -> Iterator[FrontEnd]:
    with front_end() as end:
        end.run(DEVICE)
        yield end


@pytest.fixture
def end(kernel: FrontEnd) -> FrontEnd:
    kernel.messages.clear()
    kernel.acks = True
    return kernel


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind() -> None:
    """The kernel lives as long as the module: its channels are looked at when that ends."""


def value(end: FrontEnd, number: int) -> int | None:
    found = None
    for _, said in end.frames("registers"):
        data = b"".join(map(bytes, said["buffers"]))[: 32 * said["feeds"]["registers"]["count"]]
        for entry in struct.iter_unpack("<IIQQQ", data):
            found = entry[2] if entry[0] == number else found
    return found


def test_a_device_shows_a_panel_with_its_card_beside_it(end: FrontEnd) -> None:
    (shown,) = end.run("dev")
    data = shown["content"]["data"]
    assert "Lamp" in data["text/plain"]
    assert "<table" in data["text/html"]
    assert len(data["text/html"]) < 64_000
    model = end.models[data["application/vnd.jupyter.widget-view+json"]["model_id"]]
    assert model["kind"] == "panel"
    assert model["device_layout"]["name"] == "Lamp"
    assert model["_esm"].count("export default") == 1
    assert end.ask(THREADS) == []  # nobody looks yet


def test_the_same_cell_shows_the_same_view_again(end: FrontEnd) -> None:
    first = end.show("dev", "a")
    assert end.show("dev", "a") == first
    assert end.show("dev", "b") != first


def test_a_page_that_looks_is_sent_values_and_what_it_pokes(end: FrontEnd) -> None:
    comm = end.show("dev.bar0.view()")
    end.look(comm, registers={"block": "bar0"})
    end.until(lambda: value(end, 0) == 0)
    _, answer = end.do(comm, "poke", register=0, field="ON", value="0x1")
    assert answer["ok"], answer
    end.until(lambda: value(end, 0) == 1)
    assert end.ask("print(int(dev.bar0.CTRL))") == 1
    assert end.ask(THREADS) == ["workbench views"]


def test_a_reloaded_page_is_sent_everything(end: FrontEnd) -> None:
    comm = end.show("dev.bar0.view()")
    for _ in range(2):
        end.messages.clear()
        end.look(comm, registers={"block": "bar0"})
        end.until(lambda: end.frames("registers"))
        assert end.frames("registers")[0][1]["feeds"]["registers"]["count"] == 101


@pytest.mark.alone
def test_a_cell_that_computes_leaves_views_alive_and_messages_few(end: FrontEnd) -> None:
    subshells = end.open_subshell()
    comm = end.show("dev.bar0.view()")
    end.look(comm, registers={"block": "bar0"}, state={}, log={"rows": 50, "filter": ""})
    end.until(lambda: value(end, 0) is not None)
    end.messages.clear()
    code = (
        "import time\nend, n = time.monotonic() + 3, 0\n"
        "while time.monotonic() < end:\n    n += 1\n    dev.bar0.DATA[0].write(n)\nlast = n"
    )
    request = end.start(code)
    trips: list[float] = []
    while request not in end.idle:
        if subshells and len(trips) < 8:
            trips.append(end.do(comm, "poke", register=5, field=None, value="0x1")[0])
        end.listen(0.1)
    times = [at for at, _ in end.messages]
    worst = max(sum(at <= other < at + 0.95 for other in times) for at in times)
    assert worst <= 24
    assert len(times) > 10
    assert (
        not subshells or sorted(trips)[len(trips) // 2] < 0.15
    )  # buttons are answered while the cell computes
    last = end.ask("print(last)")
    end.until(lambda: value(end, 1) == last)


def test_a_page_that_is_gone_is_sent_little(end: FrontEnd) -> None:
    comm = end.show("dev.bar0.view()")
    end.acks = False
    end.look(comm, registers={"block": "bar0"})
    code = "for n in range(40):\n    dev.bar0.CTRL.value = n\n    time.sleep(0.1)"
    end.run("import time")
    end.run(code)
    late = [at for at, _ in end.messages if at > end.messages[0][0] + 2.2]
    assert len(late) <= 6


def test_a_hook_and_its_failure_are_named_by_the_cell_that_defined_it(end: FrontEnd) -> None:
    (defined,) = end.run("def light(dev, access): ...\n0")
    (used,) = end.run("dev.bar0.CTRL.on_write(light)\n@dev.bar0.CTRL.on_read\ndef look(dev): ...\ndev.hooks")
    first, then = (f"In[{one['content']['execution_count']}]" for one in (defined, used))
    shown = used["content"]["data"]["text/plain"]
    assert f"= light {first} rev 1" in shown
    assert f"= look {then} rev 1" in shown
    end.run("dev.bar0.CTRL.unhook('read'), dev.bar0.CTRL.unhook('write')")


def test_closing_the_views_ends_the_thread(end: FrontEnd) -> None:
    comm = end.show("dev.irq.view()", "closing")
    end.look(comm, irq={})
    end.until(lambda: end.frames("irq"))
    end.run("import ipywidgets; ipywidgets.Widget.close_all()")
    end.run(
        "from time import monotonic, sleep\nuntil = monotonic() + 3\n"
        "while monotonic() < until and any(t.name == 'workbench views' for t in threading.enumerate()):\n"
        "    sleep(0.02)"
    )
    assert end.ask(THREADS) == []


def test_without_a_front_end_that_names_cells_there_is_the_card_alone(end: FrontEnd) -> None:
    outputs: list[dict[str, Any]] = end.run("dev", cell="")
    assert set(outputs[0]["content"]["data"]) == {"text/plain", "text/html"}
    outputs = end.run("dev.log.view('w')", cell="")
    assert set(outputs[0]["content"]["data"]) == {"text/plain", "text/html"}
    assert end.ask(THREADS) == []
