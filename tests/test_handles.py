"""Bars, registers and fields seen through one device."""

import copy
import enum
import gc
import pickle

import pytest

import workbench as wb
from workbench.handles import RegisterHandle


class Speed(enum.IntEnum):
    SLOW = 0
    FAST = 2


class Lamp(wb.Device):
    """A device with one of everything."""

    id = wb.PciId(vendor=0x1234, device=0x0B11)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(
            0x00, ON=wb.Field(0), SPEED=wb.Field(1, 2, enum=Speed), LEVEL=wb.Field(8, 8), doc="Control"
        )
        STATUS = wb.Register(0x04, LIT=wb.Field(0, mode="ro"), DONE=wb.Field(1, mode="w1c"))
        COUNT = wb.Register(0x08, mode="rc", reset=7)
        RX = wb.Register(0x0C, 8, "ro", reset=0x11)
        TX = wb.Register(0x0C, 8, "wo")
        WIDE = wb.Register(0x10, 64)
        DB = wb.Register(0x100, 16, count=4, stride=8)


@pytest.fixture
def lamp():
    with Lamp() as device:
        yield device


def test_assigning_pokes_and_reading_peeks(lamp):
    lamp.bar0.CTRL = 0x0301
    assert lamp.bar0.CTRL.value == 0x0301
    lamp.bar0.CTRL.LEVEL = 0x7F
    assert lamp.bar0.CTRL == 0x7F01
    lamp.bar0.COUNT += 3
    assert [lamp.bar0.COUNT.value, lamp.bar0.COUNT.value] == [10, 10]  # a peek has no side effect
    assert lamp.bar0.CTRL.ON
    assert not lamp.bar0.STATUS.DONE


def test_reading_and_writing_as_the_guest_follows_the_rules(lamp):
    assert [lamp.bar0.COUNT.read(), lamp.bar0.COUNT.read()] == [7, 0]
    lamp.bar0.STATUS.DONE = 1
    lamp.bar0.STATUS.write(0x3)
    assert lamp.bar0.STATUS.value == 0
    lamp.bar0.CTRL.write(0xFF, size=1)
    assert lamp.bar0.CTRL.value == 0x07  # bits 3 to 7 belong to no field


def test_a_read_only_and_a_write_only_register_share_an_offset(lamp):
    lamp.bar0.TX.write(0x55)
    assert (lamp.bar0.RX.value, lamp.bar0.TX.value, lamp.bar0.RX.read()) == (0x11, 0x55, 0x11)
    lamp.bar0.RX = 0x22
    lamp.bar0.TX = 0x66
    assert (lamp.bar0.RX.value, lamp.bar0.TX.value) == (0x22, 0x66)
    assert [record.register for record in lamp.log[-2:]] == ["bar0.RX", "bar0.TX"]
    assert [hex(record.value) for record in lamp.log.filter(register="TX", kind="poke")] == ["0x66"]


def test_enum_names_go_in_and_come_out(lamp):
    lamp.bar0.CTRL.SPEED = "FAST"
    assert lamp.bar0.CTRL.SPEED.value is Speed.FAST
    assert "SPEED=FAST" in repr(lamp.bar0.CTRL)
    with pytest.raises(ValueError, match="names: SLOW, FAST"):
        lamp.bar0.CTRL.SPEED = "WARP"


def test_an_array_is_a_tuple_whose_elements_are_made_when_asked_for():
    class Ring(wb.Device):
        id = wb.PciId(vendor=0x1234, device=2)

        class bar0(wb.Bar, size=1 << 14):
            SLOT = wb.Register(0, count=1 << 12, reset=3)

    def handles():
        return sum(isinstance(thing, RegisterHandle) for thing in gc.get_objects())

    before = handles()
    with Ring() as ring:
        slots = ring.bar0.SLOT
        made = handles() - before
        assert slots[-1] is slots[4095]
        slots[7] = 5
        assert handles() - before == made + 2
        assert made < 1000
        assert isinstance(slots, tuple)
        assert (len(slots), slots.index(5), slots.count(3), 4 in slots, slots[7] in slots) == (
            1 << 12, 7, 4095, False, True,
        )  # fmt: skip
        assert [slot.offset for slot in slots[1:6:2]] == [4, 12, 20]
        assert next(reversed(slots)) is slots[-1]
        one = (1,)
        assert (slots + one)[-2:] == (slots[-1], 1)
        assert (one + slots)[1] is slots[0]


def test_arrays_are_indexed(lamp):
    lamp.bar0.DB[2] = 0xABCD
    assert lamp.bar0.DB[2].offset == 0x110
    assert lamp.bar0.peek(0x110, 2) == b"\xcd\xab"
    assert [int(db) for db in lamp.bar0.DB] == [0, 0, 0xABCD, 0]
    assert lamp.bar0.DB[-1].name == "bar0.DB[3]"
    with pytest.raises(AttributeError, match=r"bar0.DB is an array: assign to DB\[0\]"):
        lamp.bar0.DB = 1


def test_a_slice_of_an_array_takes_a_value_for_each_element(lamp):
    lamp.bar0.DB[:] = [1, 2, 3, 4]
    lamp.bar0.DB[1:3] = (n for n in (7, lamp.bar0.DB[3]))
    assert [int(db) for db in lamp.bar0.DB] == [1, 7, 4, 4]
    assert len(lamp.log.filter(register="DB", kind="poke")) == 6
    with pytest.raises(ValueError, match="3 values for 4 elements"):
        lamp.bar0.DB[:] = [1, 2, 3]
    with pytest.raises(TypeError, match=r"such as \[0\] \* 2"):
        lamp.bar0.DB[2:] = 0
    assert [int(db) for db in lamp.bar0.DB] == [1, 7, 4, 4]


def test_64_bits_fit(lamp):
    lamp.bar0.WIDE = 2**64 - 1
    assert lamp.bar0.WIDE.read() == 2**64 - 1


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_a_value_that_does_not_fit_is_refused(lamp, value):
    with pytest.raises(ValueError, match=r"bar0\.CTRL"):
        lamp.bar0.CTRL = value
    with pytest.raises(ValueError, match=r"bar0\.CTRL"):
        lamp.bar0.CTRL.write(value)


@pytest.mark.parametrize("value", [1.5, "ON", None, b"1"])
def test_a_value_that_is_no_whole_number_is_refused_by_name(lamp, value):
    ctrl = lamp.bar0.CTRL
    for name, store in (
        ("CTRL", ctrl.write),
        ("CTRL", ctrl.poke),
        ("CTRL", lambda value: setattr(ctrl, "value", value)),
        ("CTRL", lambda value: setattr(lamp.bar0, "CTRL", value)),
        (r"DB\[1\]", lambda value: lamp.bar0.DB.__setitem__(1, value)),
        ("DB", lambda value: lamp.bar0.DB.__setitem__(slice(1), [value])),
    ):
        with pytest.raises(TypeError, match=rf"bar0\.{name} takes a whole number, not {value!r}"):
            store(value)
    if not isinstance(value, str):
        with pytest.raises(TypeError, match=rf"bar0\.CTRL\.ON takes a whole number, not {value!r}"):
            ctrl.ON = value
    assert not lamp.log.total


def test_a_handle_is_copied_and_its_device_is_not(lamp):
    lamp.bar0.DB[2] = 7
    assert copy.copy(lamp.bar0.DB)[2] == copy.copy(lamp.bar0).DB[2] == copy.copy(lamp.bar0.DB[2]) == 7
    for handle in (lamp.bar0, lamp.bar0.DB, lamp.bar0.CTRL, lamp.bar0.CTRL.ON):
        for make in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="bar0 belongs to a device, which can neither be copied nor"):
                make(handle)


def test_a_wrong_name_says_what_there_is(lamp):
    with pytest.raises(AttributeError, match=r"no register 'CTLR'; did you mean CTRL\?"):
        lamp.bar0.CTLR = 1
    with pytest.raises(AttributeError, match="no register 'ZZZZ'; there are CTRL, "):
        lamp.bar0.ZZZZ  # noqa: B018
    with pytest.raises(AttributeError, match="fields: ON, SPEED, LEVEL"):
        lamp.bar0.CTRL.OFF = 1
    with pytest.raises(AttributeError, match="no field 'OFF'"):
        lamp.bar0.CTRL.OFF  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean on_read"):
        lamp.bar0.CTRL.on_red  # noqa: B018


def test_handles_count_like_numbers(lamp):
    lamp.bar0.CTRL = 0x0A00
    ctrl = lamp.bar0.CTRL
    assert (ctrl + 1, 1 + ctrl, ctrl - 1, ctrl & 0xF00, ctrl | 1, ctrl ^ 1, ctrl >> 8, ctrl << 1) == (
        0xA01, 0xA01, 0x9FF, 0xA00, 0xA01, 0xA01, 0xA, 0x1400)  # fmt: skip
    lamp.bar0.CTRL.LEVEL = 5
    level = ctrl.LEVEL
    assert (4 * level, level * level, b"ab" * level, 1 << level, 0x40 >> level) == (
        20, 25, b"ab" * 5, 32, 2)  # fmt: skip
    assert (level // 2, 17 // level, level % 3, 17 % level) == (2, 3, 2, 2)
    assert ctrl < 0x501 <= ctrl + 1
    assert f"{ctrl:#06x}" == "0x0500"
    assert hex(ctrl) == "0x500"


def test_completion_and_repr_touch_nothing(lamp):
    before = lamp.log.total
    assert {"CTRL", "STATUS", "DB"} <= set(dir(lamp.bar0))
    assert {"ON", "SPEED", "value", "on_write"} <= set(dir(lamp.bar0.CTRL))
    assert "bar0.COUNT" in repr(lamp.bar0.COUNT)
    assert repr(lamp.bar0)
    assert repr(lamp.bar0.DB)
    assert repr(lamp.bar0.CTRL.ON)
    assert lamp.log.total == before
    assert lamp.bar0.COUNT.value == 7


def test_outside_the_bar_is_an_error(lamp):
    for touch in (lamp.bar0.read, lamp.bar0.peek):
        with pytest.raises(OSError, match="bar0 at 0xfff, 2 bytes"):
            touch(4095, 2)
    with pytest.raises(OSError, match="bar0 at 0x1000"):
        lamp.bar0.write(4096, b"x")
    for touch in (lamp.bar0.read, lamp.bar0.peek):
        for offset, size in ((-1, 2), (0, -2), (1 << 64, 2), (0, 1 << 50)):
            with pytest.raises(OSError, match=f"bar0 at {offset:#x}, {size} bytes: it has 0x1000 bytes"):
                touch(offset, size)
    with pytest.raises(OSError, match="bar0 at -0x1, 1 bytes"):
        lamp.bar0.poke(-1, b"x")
    for size in (-1, 1 << 40):
        with pytest.raises(OSError, match=f"bar0 at 0x0, {size} bytes"):
            lamp.bar0.CTRL.write(1, size)


def test_bytes_can_be_poked_over_any_range(lamp):
    lamp.bar0.poke(0x100, bytes(range(12)))
    assert lamp.bar0.peek(0x100, 12) == bytes(range(12))


def test_reset_of_one_register(lamp):
    lamp.bar0.COUNT = 99
    lamp.bar0.COUNT.reset()
    assert lamp.bar0.COUNT.value == 7
