"""dev.diff(): what changed, by register and field, as text and as a table."""

import pytest
from state_kit import Stateful


@pytest.fixture
def device():
    with Stateful() as stateful:
        yield stateful


def lines(device, old, new=None):
    return repr(device.diff(old, new)).splitlines()


def test_nothing_changed(device):
    found = device.diff(device.snapshot())
    assert found == []
    assert repr(found) == "<no changes>"
    assert "no changes" in found._repr_html_()


def test_fields_and_registers_are_named_with_old_and_new(device):
    before = device.snapshot()
    device.bar0.CTRL.ENABLE = 1
    device.bar0.CTRL.SPEED = "FAST"
    device.bar0.COUNT = 0x80
    device.bar0.PORTS[3] = 5
    assert lines(device, before) == [
        "bar0.CTRL.ENABLE 0 -> 1",
        "bar0.CTRL.SPEED SLOW -> FAST",
        "bar0.COUNT 7 -> 0x80",
        "bar0.PORTS[3] 0 -> 5",
    ]


def test_each_change_has_numbers(device):
    before = device.snapshot()
    device.bar0.COUNT = 0x80
    [change] = device.diff(before)
    assert change[:3] == ("bar0.COUNT", 7, 0x80)
    assert device.diff(before).names == ["bar0.COUNT"]
    assert device.diff(before)[:1] == [change]


def test_bits_outside_of_every_field_are_the_registers(device):
    before = device.snapshot()
    device.bar0.CTRL = 0x80000001
    assert lines(device, before) == ["bar0.CTRL.ENABLE 0 -> 1", "bar0.CTRL 0 -> 0x80000001"]


def test_write_only_and_once_written_registers(device):
    before = device.snapshot()
    device.bar0.KEY.write(6)
    device.bar0.LOCK.write(1)
    assert lines(device, before) == [
        "bar0.KEY 0 -> 6",
        "bar0.LOCK 0 -> 1",
        "bar0.LOCK may be written once -> was written once",
    ]


def test_bytes_without_a_register_are_ranges(device):
    before = device.snapshot()
    device.bar2.array()[0x1000:0x3000] = 7
    device.bar2.array()[0x80000] = 1
    device.bar0.poke(0x800, b"\xff")
    assert lines(device, before) == [
        "bar0+0x800…0x800: 1 bytes changed",
        "bar2+0x1000…0x2fff: 8192 bytes changed",
        "bar2+0x80000…0x80000: 1 bytes changed",
    ]


def test_interrupts_and_the_devices_own_state(device):
    before = device.snapshot()
    device.irq.assert_(2)
    device.steps = 4
    assert lines(device, before) == [
        "config.STATUS.INTERRUPT_STATUS 0 -> 1",
        "irq[2].asserted 0 -> 1",
        "on_snapshot()['steps'] 0 -> 4",
    ]


def test_own_state_that_is_no_dict(device):
    device.on_snapshot = lambda: b"one"
    before = device.snapshot()
    device.on_snapshot = lambda: [2]
    assert lines(device, before) == ["on_snapshot() b'one' -> [2]"]


def test_two_snapshots_are_compared_without_looking_at_the_device(device):
    one = device.snapshot()
    device.bar0.FAR = 1
    two = device.snapshot()
    device.bar0.FAR = 2
    assert lines(device, one, two) == ["bar0.FAR 0 -> 1"]
    assert lines(device, two, one) == ["bar0.FAR 1 -> 0"]


def test_the_table_is_escaped(device):
    device.on_snapshot = lambda: {"<b>": "<i>"}
    before = device.snapshot()
    device.on_snapshot = lambda: {"<b>": "</table>"}
    device.bar0.FAR = 1
    html = device.diff(before)._repr_html_()
    assert "<code>bar0.FAR</code></td><td>0</td><td>1</td>" in html
    assert "<b>" not in html
    assert html.count("</table>") == 1


def test_a_frame_buffer_that_changed_everywhere_is_one_line(device):
    before = device.snapshot()
    pixels = device.bar2.array()
    pixels[::2] = 9
    [line] = lines(device, before)
    assert line == f"bar2+0x0…{len(pixels) - 2:#x}: {len(pixels) // 2} bytes changed"
