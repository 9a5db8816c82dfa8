"""Fields, registers and bars as data: names, numbers, decoding, look-up."""

import enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from register_kit import Speed, lamp, maps

from workbench.fields import spell
from workbench.registers import Block, Field, Located, Register


def test_names_come_from_the_class_body() -> None:
    assert list(lamp.registers) == ["CTRL", "STATUS", "DB", "RBR", "THR"]
    assert lamp.CTRL.name == "CTRL"
    assert lamp.CTRL.block is lamp.block
    assert lamp.block.registers["DB"] is lamp.DB
    assert (lamp.block.name, lamp.block.size, lamp.block.doc) == ("lamp", 4096, "A lamp")
    assert (lamp.size, lamp.kind, lamp.bits, lamp.prefetchable) == (4096, "memory", 32, False)


def test_registers_are_kept_in_order_of_offset() -> None:
    block = Block("b", 64, {"B": Register(8), "A": Register(4), "C": Register(0)})
    assert list(block.registers) == ["C", "A", "B"]


def test_fields_take_mode_and_reset_from_the_register() -> None:
    lit, done = lamp.STATUS.fields["LIT"], lamp.STATUS.fields["DONE"]
    assert (lit.mode, done.mode) == ("ro", "w1c")
    assert (lit.reset, done.reset) == (1, 0)
    assert lamp.CTRL.reset == 0x300


def test_one_field_object_serves_several_registers() -> None:
    enable = Field(0)
    one, other = Register(0, ON=enable, reset=1), Register(4, mode="ro", OFF=enable)
    assert (one.fields["ON"].name, one.fields["ON"].reset) == ("ON", 1)
    assert (other.fields["OFF"].name, other.fields["OFF"].reset) == ("OFF", 0)
    assert (enable.name, enable.reset, enable.mode) == ("", None, None)


def test_field_extracts_and_inserts() -> None:
    period = lamp.CTRL.fields["PERIOD"]
    assert (period.lsb, period.msb, period.width, period.mask) == (8, 23, 16, 0xFFFF00)
    assert period.extract(0x12345678) == 0x3456
    assert period.insert(0xFFFFFFFF, 0x1234) == 0xFF1234FF


@pytest.mark.parametrize("number", [-1, 0x10000])
def test_field_refuses_a_number_that_does_not_fit(number: int) -> None:
    with pytest.raises(ValueError, match=r"PERIOD: .* does not fit 16 bits \(0 to 0xffff\)"):
        lamp.CTRL.fields["PERIOD"].insert(0, number)


@pytest.mark.parametrize("names", [Speed, {"OFF": 0, "SLOW": 1, "FAST": 2}])
def test_field_knows_its_numbers_by_name(names: type[enum.IntEnum] | dict[str, int]) -> None:
    field = Register(0, SPEED=Field(1, 2, enum=names)).fields["SPEED"]
    assert [field.name_of(n) for n in range(4)] == ["OFF", "SLOW", "FAST", None]
    assert field.number_of("FAST") == 2
    with pytest.raises(ValueError, match="SPEED has no value named 'WARP'; names: OFF, SLOW, FAST"):
        field.number_of("WARP")


def test_register_decodes_fields_with_enum_names() -> None:
    assert lamp.CTRL.decode(0x1005) == {"ENABLE": 1, "SPEED": "FAST", "PERIOD": 0x10}
    assert lamp.CTRL.decode(0x6) == {"ENABLE": 0, "SPEED": 3, "PERIOD": 0}
    assert lamp.RBR.decode(5) == {}


def test_fields_are_spelled_with_names_and_from_ten_on_in_hex() -> None:
    assert lamp.CTRL.spell(0x1003) == "ENABLE=1 SPEED=SLOW PERIOD=0x10"
    assert lamp.CTRL.spell(0x0906) == "ENABLE=0 SPEED=3 PERIOD=9"
    assert lamp.RBR.spell(5) == ""
    assert [spell(n) for n in (0, 9, 10, 255)] == ["0", "9", "0xa", "0xff"]


def test_array_elements_have_names_and_offsets() -> None:
    assert lamp.DB.is_array
    assert not lamp.CTRL.is_array
    assert [lamp.DB.element_offset(i) for i in range(4)] == [0x100, 0x110, 0x120, 0x130]
    assert (lamp.DB.element_name(2), lamp.CTRL.element_name(0)) == ("DB[2]", "CTRL")
    for index in (-1, 4):
        with pytest.raises(IndexError, match="DB has 4 elements"):
            lamp.DB.element_offset(index)


def test_hook_decorators_tag_and_return_the_function() -> None:
    class Device:
        @lamp.CTRL.on_write
        @lamp.CTRL.on_read
        @lamp.STATUS.on_read
        def touched(self: object, access: object) -> None: ...

    touched = Device.touched
    assert touched.__name__ == "touched"
    assert vars(touched)["workbench_hooks"] == [
        (lamp.STATUS, "read"),
        (lamp.CTRL, "read"),
        (lamp.CTRL, "write"),
    ]


def test_a_bar_inherits_registers_and_properties() -> None:
    class bigger(lamp, size=8192):
        """More of it."""

        EXTRA = Register(0x1000)

    assert list(bigger.registers) == [*lamp.registers, "EXTRA"]
    assert bigger.block.registers["CTRL"] is lamp.CTRL
    assert lamp.CTRL.block is lamp.block
    assert (bigger.block.name, bigger.size, lamp.size, bigger.doc) == ("bigger", 8192, 4096, "More of it.")


def test_at_finds_every_touched_element() -> None:
    block = lamp.block
    assert block.at(0, 4) == [(lamp.CTRL, 0)]
    assert block.at(3, 2) == [(lamp.CTRL, 0), (lamp.STATUS, 0)]
    assert block.at(8, 8) == []
    assert block.at(0x107, 1) == [Located(lamp.DB, 0)]
    assert block.at(0x108, 8) == []
    assert block.at(0x104, 0x2D) == [(lamp.DB, 0), (lamp.DB, 1), (lamp.DB, 2), (lamp.DB, 3)]
    assert block.at(0x200, 1) == [(lamp.RBR, 0), (lamp.THR, 0)]


def test_interleaved_arrays_are_found_in_order() -> None:
    block = Block("b", 64, {"A": Register(0, count=4, stride=8), "B": Register(4, count=4, stride=8)})
    assert not block.problems
    assert [(one.name, index) for one, index in block.at(0, 20)] == [
        ("A", 0),
        ("B", 0),
        ("A", 1),
        ("B", 1),
        ("A", 2),
    ]
    assert len(block.segments()) == 1


@pytest.mark.slow
@settings(max_examples=60, derandomize=True, deadline=None)
@given(maps(), st.integers(0, 300), st.integers(1, 64))
def test_at_agrees_with_a_search_through_all(block: Block, offset: int, size: int) -> None:
    touched = []
    for register in block.registers.values():
        for index in range(register.count):
            start = register.offset + index * register.stride
            if start < offset + size and start + register.size > offset:
                touched.append((start, register.name, index))
    assert [(r.element_offset(i), r.name, i) for r, i in block.at(offset, size)] == sorted(touched)
