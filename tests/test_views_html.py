"""The cards: what they say about a device, that they never touch it, and that they escape."""

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

import workbench as wb
from workbench.views.fallback import static_html, static_text
from workbench.views.html import device_card, device_text, register_card


class Lamp(wb.Device):
    """A lamp <for tests>."""

    id = wb.PciId(vendor=0x1234, device=0x0B11, class_code=0xFF0000)
    irq = wb.Interrupts(intx=True)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0x00, reset=2, ON=wb.Field(0), MODE=wb.Field(1, 2, enum={"SLOW": 0, "FAST<1>": 1}))
        COUNT = wb.Register(0x04, mode="rc", reset=7, doc="Cleared & read.\nMore.")
        DATA = wb.Register(0x10, width=8, count=70)

    class bar2(wb.Bar, size=256, kind="io"):
        PORT = wb.Register(0x00, width=8)


@pytest.fixture
def lamp() -> Iterator[Lamp]:
    with Lamp(name="lamp") as device:
        yield device


class Checker(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(html: str) -> str:
    checker = Checker()
    checker.feed(html)
    assert not checker.open
    return re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)


def test_the_text_says_who_the_device_is_and_what_it_holds(lamp: Lamp) -> None:
    text = device_text(lamp)
    assert text.startswith("lamp · A lamp <for tests>.")
    for words in (
        "1234:0b11, class ff0000",
        "bar0 4 KiB 32-bit memory",
        "bar2 256 bytes I/O",
        "not served: dev.serve() starts it",
        "none, C answers everything",
        "0 dropped",
        "INTA",
    ):
        assert words in text, words
    assert re.search(r"0x00 +CTRL +rw +0x00000002 +ON=0 MODE=FAST<1> +C$", text, re.MULTILINE)
    assert repr(lamp) == device_text(lamp)


def test_a_long_block_is_cut_in_text_and_folded_in_html(lamp: Lamp) -> None:
    text = device_text(lamp)
    folded = r"0x10 +DATA\[0\.\.69\] +rw +70 registers every 0x1 bytes, none not as reset +C$"
    assert re.search(folded, text, re.MULTILINE)
    assert "DATA[3]" not in text
    html = check(device_card(lamp))
    assert "DATA[69]" in html
    assert "<details><summary>bar0" in html
    assert "<details open><summary>bar2" in html
    assert "<details><summary>config" in html


def test_the_card_is_sound_html_and_escapes_everything(lamp: Lamp) -> None:
    html = check(device_card(lamp))
    assert "A lamp &lt;for tests&gt;." in html
    assert "MODE=FAST&lt;1&gt;" in html
    assert "Cleared &amp; read." in html
    assert "<script" not in html
    check(register_card(lamp.bar0.CTRL))
    check(lamp.log._repr_html_())


def test_a_huge_block_stays_small() -> None:
    class Huge(wb.Device):
        id = wb.PciId(vendor=0x1234, device=1)

        class bar0(wb.Bar, size=1 << 16):
            DATA = wb.Register(0, count=1 << 14)

    with Huge() as device:
        html = check(device_card(device))
        assert "16384 registers" in html
        assert "… and 16128 more" in html
        device.bar0.DATA[5] = device.bar0.DATA[9] = 1
        assert "DATA[0..16383]" in device_text(device)
        assert "2 of the first 4096 not as reset" in device_text(device)
        assert len(device_text(device)) < 1000
        assert len(html) < 100_000


def test_displaying_runs_no_hook_and_changes_nothing(lamp: Lamp) -> None:
    calls: list[str] = []
    lamp.bar0.COUNT.on_read(lambda device: calls.append("read"))
    before = lamp.log.total
    device_card(lamp), device_text(lamp), register_card(lamp.bar0.COUNT)
    assert calls == []
    assert lamp.log.total == before
    assert lamp.bar0.COUNT == 7


def test_the_card_says_who_answers_and_what_went_wrong(lamp: Lamp) -> None:
    @lamp.bar0.CTRL.on_write
    def broken(device: Any) -> None:
        raise ValueError("<b>no</b>")

    for _ in range(3):
        lamp.bar0.CTRL.write(1)
    html = check(device_card(lamp))
    assert "Python on_write rev 1" in html
    assert "bar0.CTRL.on_write raised, 3 times" in html
    assert "&lt;b&gt;no&lt;/b&gt;" in html
    assert "! 1 in Python, C answers the rest; 3 errors" in html
    assert "! 1 in Python, C answers the rest; 3 errors" in device_text(lamp)


def test_the_card_says_what_keeps_the_guest_waiting_and_how_that_ends(lamp: Lamp) -> None:
    stalls = lamp.hooks.stalls
    stalls.event, stalls.event_since = "after(blink)", time.monotonic_ns()
    assert "hooks.skip" not in device_text(lamp)
    stalls.event_since -= 3_000_000_000
    for shown in (device_text(lamp), device_card(lamp)):
        assert "after(blink) for 3 s; dev.hooks.skip() ends it" in shown


def test_the_card_follows_the_server(lamp: Lamp) -> None:
    server = lamp.serve()
    assert f"on {server.path}" in device_text(lamp)
    guest = lamp.connect()
    assert "attached on" in device_text(lamp)
    guest.disconnect()
    lamp.close()
    assert re.search(r"server +closed", device_text(lamp))
    assert "closed" in check(device_card(lamp))


def test_a_register_card_lists_its_fields(lamp: Lamp) -> None:
    html = check(register_card(lamp.bar0.CTRL))
    assert "bar0.CTRL" in html
    assert "[2:1]" in html
    assert "FAST&lt;1&gt;" in html
    assert "reset 0x00000002" in html


def test_a_block_and_an_array_show_their_registers(lamp: Lamp) -> None:
    lamp.bar0.DATA[1] = 0xAB
    assert repr(lamp.bar2).splitlines() == ["bar2: 256 bytes, 1 registers", "    0x00  PORT  rw  0x00    C"]
    text = repr(lamp.bar0.DATA)
    assert text.startswith("bar0.DATA: 70 registers every 0x1 bytes, 1 not as reset\n")
    assert re.search(r"0x11 +DATA\[1\] +rw +0xab +C$", text, re.MULTILINE)
    assert text.endswith("… and 6 more")
    assert "DATA[69]" in check(lamp.bar0.DATA._repr_html_())
    assert "MODE=FAST&lt;1&gt;" in check(lamp.bar0._repr_html_())
    assert "VENDOR_ID" in repr(lamp.config)


def test_a_saved_view_of_the_log_shows_what_its_filter_lets_through(lamp: Lamp) -> None:
    lamp.bar0.CTRL.write(3)
    lamp.bar0.CTRL.read()
    options = {"filter": "reg == CTRL && op == w"}
    assert static_text(lamp, "log", options) == repr(lamp.log.filter(register="CTRL", kind="write"))
    assert "<b>1 records</b>" in static_html(lamp, "log", options)
    assert static_text(lamp, "log", {"filter": ""}) == repr(lamp.log)
    for shown in (static_text, static_html):
        assert "nothing is found by" in shown(lamp, "log", {"filter": "reg == "})
