"""The actions: each does what its name says, and says why when it cannot."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from view_kit import Page, page_on

import workbench as wb
from workbench.views.machines import plugged


@pytest.fixture
def page(device: wb.Device) -> Iterator[Page]:
    with page_on(device) as page:
        yield page


def number(page: Page, name: str) -> int:
    return page.hub.table.numbers[name]


def ok(answer: dict[str, Any]) -> str:
    assert answer["ok"], answer["text"]
    return str(answer["text"])


def refused(answer: dict[str, Any]) -> str:
    assert not answer["ok"]
    return str(answer["text"])


def test_poke_and_write_differ_as_the_workbench_and_the_guest_do(device: wb.Device, page: Page) -> None:
    status = number(page, "bar0.STATUS")
    ok(page.do("poke", register=status, field=None, value="0x3"))
    assert device.bar0.STATUS.value == 3
    ok(page.do("write", register=status, field="DONE", value="0x1"))  # write one to clear
    assert device.bar0.STATUS.value == 1
    ok(page.do("poke", register=status, field="LIT", value="0x0"))
    assert device.bar0.STATUS.value == 0
    ok(page.do("poke", register=number(page, "bar0.WIDE"), field=None, value="0xfedcba9876543210"))
    assert device.bar0.WIDE.value == 0xFEDC_BA98_7654_3210
    ok(page.do("poke", register=number(page, "bar0.BUFFER[63]"), field=None, value="5"))
    assert [record.kind for record in device.log] == ["poke", "write", "poke", "poke", "poke"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"register": 9999, "value": "1"}, "no register number 9999"),
        ({"register": -1, "value": "1"}, "no register number -1"),
        ({"register": 0, "value": "0x1ffffffff"}, "does not fit"),
        ({"register": 0, "value": "many"}, "not a number"),
        ({"register": 0, "field": "NOPE", "value": "1"}, "no field 'NOPE'"),
        ({"register": 0}, "needs 'value'"),
    ],
)
def test_a_poke_that_makes_no_sense_says_why(page: Page, arguments: dict[str, Any], why: str) -> None:
    assert why in refused(page.do("poke", **arguments))


def test_memory_is_poked_in_a_block(device: wb.Device, page: Page) -> None:
    ok(page.do("poke_memory", space="bar0", start="0x101", data="beef"))
    assert device.bar0.peek(0x100, 4) == b"\0\xbe\xef\0"
    assert "no 'log'" in refused(page.do("poke_memory", space="log", start="0x0", data="00"))
    assert refused(page.do("poke_memory", space="bar0", start="0xfff", data="0000"))
    assert "IOVA 0x0" in refused(page.do("poke_memory", space="iova", start="0x0", data="00"))


def test_interrupts_are_triggered_held_and_repeated(device: wb.Device, page: Page) -> None:
    assert ok(page.do("trigger", index=0, vector=0)) == "nobody listens"
    ok(page.do("level", on=True))
    assert device.irq.asserted
    ok(page.do("level", on=False))
    assert not device.irq.asserted
    assert "no vector 3" in refused(page.do("trigger", index=1, vector=3))
    before = device.log.total
    ok(page.do("repeat", index=0, vector=0, hertz=200))
    page.look(irq={})
    page.wait(lambda: page.feeds.get("irq", {}).get("repeat") == {"0:0": 200})
    device.log.wait(5, kind="irq", since=before)
    ok(page.do("repeat", index=0, vector=0, hertz=0))
    page.wait(lambda: page.feeds["irq"]["repeat"] == {})
    assert refused(page.do("repeat", index=0, vector=0, hertz=-1))


def test_a_vector_of_its_own_is_triggered_and_repeated() -> None:
    class Vectored(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B13)
        irq = wb.Interrupts(intx=True, msix=3)

    with Vectored() as card, card.connect() as guest, page_on(card) as other:
        guest.enable_msix()
        assert ok(other.do("trigger", index=2, vector=1)) == "delivered"
        assert guest.wait_irq(1) == 1
        ok(other.do("repeat", index=2, vector=2, hertz=500))
        assert guest.wait_irq(2) >= 1
        ok(other.do("repeat", index=2, vector=2, hertz=0))
        assert "no vector 3" in refused(other.do("trigger", index=2, vector=3))
        assert (guest.irq_count(0), card.irq.intx.count) == (0, 0)


def test_the_server_is_paused_stepped_and_restarted(device: wb.Device, page: Page) -> None:
    assert "not served" in refused(page.do("pause"))
    server = device.serve(trace=True, poll_us=3)
    ok(page.do("pause"))
    assert server.state == "paused"
    ok(page.do("step"))
    ok(page.do("resume"))
    assert "pause() it before" in refused(page.do("step"))
    ok(page.do("restart"))
    assert device.server.running
    assert device.server is not server
    assert device.server.manner == server.manner
    with device.connect():
        assert device.server.trace
    ok(page.do("stop"))
    assert not device.server.running
    ok(page.do("reset"))
    assert "reset" in [record.kind for record in device.log]


def test_hooks_are_reverted_disabled_and_compared(device: wb.Device, page: Page) -> None:
    def first(device: wb.Device) -> int:
        return 1

    def second(device: wb.Device) -> int:
        return 2

    device.bar0.SCRATCH.on_read(first)
    device.bar0.SCRATCH.on_read(second)
    key = "bar0.SCRATCH.on_read"
    assert "-        return 1" in ok(page.do("diff", key=key, old=1, new=2))
    ok(page.do("revert", key=key, revision=1))
    assert device.bar0.SCRATCH.read() == 1
    ok(page.do("disable", key=key, on=True))
    device.bar0.SCRATCH = 9
    assert device.bar0.SCRATCH.read() == 9
    ok(page.do("disable", key=key, on=False))
    assert device.bar0.SCRATCH.read() == 1
    assert "no revision 77" in refused(page.do("revert", key=key, revision=77))
    assert "no hook runs" in refused(page.do("skip"))


def test_a_hook_that_does_not_return_is_skipped_while_a_write_waits_for_it(
    device: wb.Device, page: Page
) -> None:
    entered = threading.Event()

    @device.bar0.SCRATCH.on_write
    def stuck(device: wb.Device) -> None:
        entered.set()
        while True:
            pass

    page.say(
        {"type": "do", "id": 1, "action": "write", "register": number(page, "bar0.SCRATCH"), "value": "1"}
    )
    assert entered.wait(5)
    assert "bar0.SCRATCH.on_write" in ok(page.do("skip"))
    page.wait(lambda: any(content.get("id") == 1 for _, content, _ in page.got))


def test_the_log_is_cleared_and_copied(device: wb.Device, page: Page) -> None:
    device.bar0.SCRATCH.write(1)
    device.bar0.SCRATCH.read()
    lines = ok(page.do("csv", filter="op == w")).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("seq,ms,origin")
    assert "bar0.SCRATCH" in lines[1]
    assert "no op" in refused(page.do("csv", filter="op == nonsense"))
    ok(page.do("clear"))
    assert len(device.log) == 0


def test_a_vm_is_driven_when_there_is_one(device: wb.Device, page: Page) -> None:
    assert "no VM" in refused(page.do("console", text="ls\n"))
    done = []

    class Machine:
        def type(self, text: str) -> None:
            done.append(text)

        def reset(self) -> None:
            done.append("reset")

        powerdown = kill = reset

    machine = Machine()
    plugged(device, machine)
    ok(page.do("console", text="ls\n"))
    ok(page.do("vm", verb="reset"))
    assert done == ["ls\n", "reset"]
    assert "cannot 'fly'" in refused(page.do("vm", verb="fly"))


def test_an_action_that_is_none_says_so(page: Page) -> None:
    assert "no action 'explode'" in refused(page.do("explode"))
    assert "no action 'done'" in refused(page.do("done"))
    nothing: Any = []
    assert "no action '[]'" in refused(page.do(nothing))
