"""Descriptions as data: planes, look-up, decoding, and every mistake's message."""

import enum
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import DescriptionError
from workbench.fields import spell
from workbench.modes import MODES, find_mode
from workbench.registers import Bar, Block, Field, Located, Register

#: The planes a bit of each mode has to be in, written down a second time.
MEANING = {
    "ro": {"readable"},
    "rw": {"readable", "writable", "accept"},
    "wo": {"wo", "accept"},
    "w1c": {"readable", "w1c", "accept"},
    "w1s": {"readable", "w1s", "accept"},
    "w1t": {"readable", "w1t", "accept"},
    "w0c": {"readable", "w0c", "accept"},
    "w0s": {"readable", "w0s", "accept"},
    "w0t": {"readable", "w0t", "accept"},
    "wclr": {"readable", "wclr", "accept"},
    "wset": {"readable", "wset", "accept"},
    "rc": {"readable", "rc"},
    "rs": {"readable", "rs"},
    "rw1": {"readable", "once", "accept"},
    "w1": {"once", "accept"},
    "pulse": {"readable", "pulse", "accept"},
    "const": {"readable"},
    "rsvd": {"readable"},
    "ignore": {"readable", "accept"},
    "rw rc": {"readable", "writable", "accept", "rc"},
    "w1s rc": {"readable", "w1s", "accept", "rc"},
}
RULES = {"known", *set().union(*MEANING.values())}


# -- modes --


@pytest.mark.parametrize("name", MODES)
def test_each_short_mode_means_its_planes(name: str) -> None:
    assert find_mode(name).planes == MEANING[name]
    assert MODES[name].doc


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("RW", "rw"), ("R/W", "rw"), ("read-write", "rw"), ("sw=rw", "rw"), ("read, write", "rw"),
        ("read-only", "ro"), ("sw=r", "ro"), ("HwInit", "ro"), ("access=read-only", "ro"),
        ("write-only", "wo"), ("sw=w", "wo"), ("modify", "rw"), ("modifiedWriteValue=modify", "rw"),
        ("RW1C", "w1c"), ("oneToClear", "w1c"), ("onwrite=woclr", "w1c"), ("sw=rw onwrite=woclr", "w1c"),
        ("woset", "w1s"), ("oneToSet", "w1s"), ("wot", "w1t"), ("oneToToggle", "w1t"),
        ("wzc", "w0c"), ("zeroToClear", "w0c"), ("wzs", "w0s"), ("zeroToSet", "w0s"), ("zeroToToggle", "w0t"),
        ("modifiedWriteValue=clear", "wclr"), ("modifiedWriteValue=set", "wset"), ("onwrite=wclr", "wclr"),
        ("rclr", "rc"), ("rset", "rs"), ("ro + rc", "rc"), ("readAction=clear", "rc"),
        ("readAction=set", "rs"),
        ("writeOnce", "w1"), ("read-writeOnce", "rw1"), ("RWO", "rw1"), ("singlepulse", "pulse"),
        ("RsvdP", "rsvd"), ("RO/W1C", "w1c"), ("rw, rclr", "rw rc"), ("W1SRC", "w1s rc"),
    ],
)  # fmt: skip
def test_every_dialect_is_understood(spelling: str, name: str) -> None:
    assert (find_mode(spelling).name, find_mode(spelling).planes) == (name, MEANING[name])


def test_write_only_takes_away_reading_from_what_it_is_combined_with() -> None:
    assert find_mode("wo w1c").planes == {"w1c", "accept"}


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("rww", "unknown mode 'rww'; did you mean rw"),
        ("banana", "unknown mode 'banana'"),
        ("", "unknown mode ''; known are ro, rw"),
        ("clear", "say readAction=clear or modifiedWriteValue=clear"),
        ("w1c w1s", "w1c and w1s contradict each other"),
        ("ro wo", "ro and wo contradict each other"),
        ("rc rs", "rc and rs contradict each other"),
        ("wo rc", "rc needs a bit that can be read"),
        ("w1 rc", "rc needs a bit that can be read"),
        ("colour=rw", "unknown mode 'colour=rw'"),
    ],
)
def test_a_bad_mode_says_what_would_be_right(spelling: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        find_mode(spelling)


# -- fields and registers --


class Speed(enum.IntEnum):
    OFF = 0
    SLOW = 1
    FAST = 2


class lamp(Bar, size=4096, doc="A lamp"):
    CTRL = Register(0x00, ENABLE=Field(0), SPEED=Field(1, 2, enum=Speed), PERIOD=Field(8, 16, reset=3))
    STATUS = Register(0x04, mode="ro", LIT=Field(0), DONE=Field(1, mode="w1c"), reset=0x8000_0001)
    DB = Register(0x100, 64, "wo", count=4, stride=16, doc="Doorbells")
    RBR = Register(0x200, 8, "rc", reset=0x41)
    THR = Register(0x200, 8, "wo", reset=0x99)


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


# -- look-up --


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


# -- planes --


def bits_of(block: Block) -> dict[tuple[str, int], int]:
    """Return {(plane, bit number in the block): 1} of all segments; checks their shape."""
    found = {}
    behind = -1
    for segment in block.segments():
        length = len(segment.planes["known"])
        assert segment.offset > behind, "segments must be ascending and not touch"
        assert {len(data) for data in segment.planes.values()} == {length}
        behind = segment.offset + length
        for plane, data in segment.planes.items():
            number = int.from_bytes(data, "little")
            found |= {(plane, 8 * segment.offset + bit): 1 for bit in range(8 * length) if number >> bit & 1}
    return found


def explain(register: Register, bit: int) -> set[str]:
    """Return the planes that one bit of a register has to be in: the slow oracle."""
    fields = [field for field in register.fields.values() if field.lsb <= bit < field.lsb + field.width]
    modes = [field.mode for field in register.fields.values()] or [register.mode]
    writes_only = "wo" in modes and all("readable" not in MEANING[mode] for mode in modes if mode)
    planes = {"known"}
    if fields or not register.fields:
        mode = str(fields[0].mode) if fields else register.mode
        planes |= MEANING[mode]
        if register.reset >> bit & 1:
            planes |= {"latch", "latch_reset"} if mode == "wo" else {"value", "reset"}
    elif not writes_only:
        planes |= {"readable"}
        if register.reset >> bit & 1:
            planes |= {"value", "reset"}
    if not fields and register.fields and register.mode == "ignore":
        planes.add("accept")
    return planes


def oracle(block: Block) -> dict[tuple[str, int], int]:
    found = {}
    for register in block.registers.values():
        for index in range(register.count):
            base = 8 * (register.offset + index * register.stride)
            for bit in range(register.width):
                found |= {(plane, base + bit): 1 for plane in explain(register, bit)}
    return found


modes = st.sampled_from(sorted(MEANING))


@st.composite
def registers(draw: st.DrawFn, at: int) -> Register:
    """One sound register at or behind a byte offset."""
    width = draw(st.sampled_from([8, 16, 32, 64]))
    size = width // 8
    fields, lsb = {}, 0
    for number in range(draw(st.integers(0, 4))):
        lsb += draw(st.integers(0, width // 4))
        length = draw(st.integers(1, max(1, width // 3)))
        if lsb + length > width:
            break
        reset = draw(st.none() | st.integers(0, (1 << length) - 1))
        fields[f"F{number}"] = Field(lsb, length, draw(st.none() | modes), reset=reset)
        lsb += length
    return Register(
        -(-at // size) * size + size * draw(st.integers(0, 1)),
        width,
        draw(modes),
        reset=draw(st.integers(0, (1 << width) - 1)),
        count=draw(st.integers(1, 3)),
        stride=size * draw(st.integers(1, 2)),
        **fields,
    )


@st.composite
def maps(draw: st.DrawFn) -> Block:
    chosen, at = {}, 0
    for number in range(draw(st.integers(0, 5))):
        register = draw(registers(at))
        chosen[f"R{number}"], at = register, register.end
    return Block("random", 4096, chosen)


@pytest.mark.slow
@settings(max_examples=150, derandomize=True, deadline=None)
@given(maps())
def test_every_bit_of_every_plane_is_explained(block: Block) -> None:
    assert block.problems == ()
    assert bits_of(block) == oracle(block)


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


@pytest.mark.parametrize("name", MEANING)
def test_a_bare_register_of_each_mode(name: str) -> None:
    block = Block("b", 16, {"A": Register(4, 8, name, reset=0xA5)})
    assert bits_of(block) == oracle(block)


def test_adjacent_registers_merge_and_gaps_stay_out() -> None:
    block = Block("b", 64, {"A": Register(0), "B": Register(4, 16), "C": Register(8), "D": Register(32, 64)})
    assert [(s.offset, len(s.planes["known"])) for s in block.segments()] == [(0, 6), (8, 4), (32, 8)]
    assert Block("empty", 64, {}).segments() == []


def test_a_read_only_and_a_write_only_register_share_bytes() -> None:
    planes = next(s for s in lamp.block.segments() if s.offset == 0x200).planes
    assert planes == {
        "readable": b"\xff", "rc": b"\xff", "value": b"\x41", "reset": b"\x41",
        "wo": b"\xff", "accept": b"\xff", "latch": b"\x99", "latch_reset": b"\x99", "known": b"\xff",
    }  # fmt: skip


def test_reserved_bits_of_a_write_only_register_claim_nothing() -> None:
    block = Block(
        "uart",
        8,
        {
            "IIR": Register(2, 8, "ro", reset=0xC1),
            "FCR": Register(2, 8, "wo", reset=0xFF, ENABLE=Field(0), TRIGGER=Field(6, 2)),
        },
    )
    assert block.problems == ()
    assert block.segments()[0].planes == {
        "readable": b"\xff", "value": b"\xc1", "reset": b"\xc1", "known": b"\xff",
        "wo": b"\xc1", "accept": b"\xc1", "latch": b"\xc1", "latch_reset": b"\xc1",
    }  # fmt: skip
    assert (block.registers["FCR"].stored_mask, block.registers["IIR"].stored_mask) == (0, 0xFF)


def test_shared_bytes_of_different_width() -> None:
    block = Block("b", 8, {"WIDE": Register(0, 32, "ro", reset=0x44332211), "NARROW": Register(2, 8, "wo")})
    assert block.problems == ()
    assert block.segments()[0].planes["wo"] == b"\x00\x00\xff\x00"
    assert block.segments()[0].planes["readable"] == b"\xff" * 4
    assert block.at(2, 1) == [(block.registers["WIDE"], 0), (block.registers["NARROW"], 0)]


@pytest.mark.parametrize(
    ("one", "other"),
    [("ro", "ro"), ("wo", "wo"), ("rw", "wo"), ("ro", "rw"), ("ro", "w1c"), ("ro", "w1"), ("ignore", "rw")],
)
def test_only_purely_read_and_purely_written_share(one: str, other: str) -> None:
    for modes_ in ((one, other), (other, one)):
        block = Block("b", 8, {"A": Register(0, 8, modes_[0]), "B": Register(0, 8, modes_[1])})
        assert block.problems == ("A (0x0) and B (0x0) overlap",)


def test_holes_may_be_ignored() -> None:
    (segment,) = Block("b", 8, {"A": Register(2, 16, reset=5)}, holes="ignore").segments()
    assert segment.offset == 0
    assert segment.planes["known"] == segment.planes["readable"] == segment.planes["accept"] == b"\xff" * 8
    assert segment.planes["writable"] == b"\0\0\xff\xff\0\0\0\0"
    assert segment.planes["value"] == b"\0\0\5\0\0\0\0\0"


@pytest.mark.slow
def test_ten_thousand_registers_compile_quickly() -> None:
    many = {
        f"R{i}": Register(8 * i, A=Field(0), B=Field(1, 4, "w1c"), C=Field(8, 16, "ro")) for i in range(10000)
    }
    block = Block("big", 1 << 20, many)
    start = time.process_time()
    assert len(block.segments()) == 10000
    assert time.process_time() - start < 0.5


# -- mistakes --


def problems_of(**registers: Register) -> tuple[str, ...]:
    return Block("b", 0x100, registers).problems


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (Register(2), "R: offset 0x2 is not a multiple of its 4 bytes"),
        (Register(-4), "R: offset -0x4 is not a multiple of its 4 bytes"),
        (Register(4, 64), "R: offset 0x4 is not a multiple of its 8 bytes"),
        (Register(0x100), "R (0x100-0x103) is beyond the block's 0x100 bytes"),
        (Register(0xF8, count=3), "R[2] (0x100-0x103) is beyond the block's 0x100 bytes"),
        (Register(0, 24), "R: width 24, expected 8, 16, 32 or 64 bits"),
        (Register(0, count=0), "R: count 0, expected 1 or more"),
        (Register(0, count=2, stride=2), "R: stride 0x2 is smaller than the register's 4 bytes"),
        (Register(0, count=2, stride=6), "R: stride 0x6 is not a multiple of its 4 bytes"),
        (Register(0, 8, reset=0x100), "R: reset 0x100 does not fit 8 bits (0 to 0xff)"),
        (Register(0, 8, reset=-1), "R: reset -0x1 does not fit 8 bits (0 to 0xff)"),
        (Register(0, mode="r0"), "R: unknown mode 'r0'; did you mean rw, rs, ro, rc?"),
        (
            Register(0, F=Field(0, mode="w1x")),
            "R: field F: unknown mode 'w1x'; did you mean w1, w1t, w1s, w1c?",
        ),
        (Register(0, F=Field(30, 4)), "R: field F (bits 33:30) is beyond the register's 32 bits"),
        (Register(0, F=Field(32)), "R: field F (bit 32) is beyond the register's 32 bits"),
        (Register(0, F=Field(-1)), "R: field F: lsb -1 and width 1, expected lsb >= 0 and width >= 1"),
        (Register(0, F=Field(0, 0)), "R: field F: lsb 0 and width 0, expected lsb >= 0 and width >= 1"),
        (Register(0, A=Field(0, 4), B=Field(3)), "R: fields A (bits 3:0) and B (bit 3) overlap"),
        (Register(0, F=Field(0, 2, reset=4)), "R: field F: reset 0x4 does not fit 2 bits (0 to 0x3)"),
        (
            Register(0, F=Field(0, enum=Speed)),
            "R: field F: enum value FAST = 0x2 does not fit 1 bits (0 to 0x1)",
        ),
        (Register(0, rest=5), "R: rest=5 is not a Field (misspelt? see Register's own arguments)"),  # type: ignore[arg-type]
        (
            Register(0, value=Field(0)),
            "R: value: a handle has an attribute of that name already; choose another, such as VALUE",
        ),
    ],
)
def test_each_mistake_is_named(register: Register, message: str) -> None:
    assert problems_of(R=register) == (message,)


def test_overlap_names_both_sides_in_hex() -> None:
    assert problems_of(A=Register(0x10, 64), B=Register(0x14)) == ("A (0x10-0x17) and B (0x14-0x17) overlap",)


def test_overlapping_arrays_are_told_once() -> None:
    found = problems_of(A=Register(0, count=8), B=Register(4, 8, count=8, stride=4))
    assert found == ("A[1] (0x4-0x7) and B[0] (0x4) overlap",)


@pytest.mark.parametrize(
    "name",
    [
        "value",
        "read",
        "write",
        "peek",
        "poke",
        "on_read",
        "on_write",
        "modify",
        "reset",
        "view",
        "fields",
        "size",
    ],
)
def test_names_of_handle_attributes_are_refused(name: str) -> None:
    assert problems_of(**{name: Register(0)})[0].startswith(f"{name}: a handle has an attribute of that name")


def test_private_names_are_refused() -> None:
    assert problems_of(_A=Register(0)) == ("'_A' is not a public Python name",)


def test_a_register_object_has_one_name() -> None:
    shared = Register(0)
    assert problems_of(A=shared, B=shared)[0] == "A: B is the same Register object: describe it a second time"


def test_all_mistakes_of_a_bar_come_at_once() -> None:
    with pytest.raises(DescriptionError) as caught:

        class bad(Bar, size=1000, kind="io", bits=64, prefetchable=True):
            A = Register(2)
            B = Register(4, mode="rx")
            C = Register(8)
            D = Register(8)

    assert caught.value.subject == "bad"
    assert caught.value.problems == (
        "an I/O BAR has 32 bits: leave bits=64 out",
        "an I/O BAR cannot be prefetchable",
        "size 0x3e8 is not a power of two; the next one is 0x400",
        "A: offset 0x2 is not a multiple of its 4 bytes",
        "B: unknown mode 'rx'; did you mean rw, rs, ro, rc?",
        "C (0x8-0xb) and D (0x8-0xb) overlap",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "its size is missing: class bar0(Bar, size=4096)"),
        ({"size": 0}, "size 0x0 is not a power of two; the next one is 0x10"),
        ({"size": 4097}, "size 0x1001 is not a power of two; the next one is 0x2000"),
        ({"size": 8}, "size 0x8 is below 0x10, the smallest of this kind"),
        ({"size": 2, "kind": "io"}, "size 0x2 is below 0x4, the smallest of this kind"),
        (
            {"size": 512, "kind": "io"},
            "size 0x200 is above 0x100, the most that PCI allows an I/O BAR: use a memory BAR",
        ),
        ({"size": 1 << 32}, "size 0x100000000 is above 2 GiB: say bits=64"),
        ({"size": 4096, "bits": 16}, "bits=16, expected 32 or 64"),
        ({"size": 4096, "kind": "ram"}, "kind 'ram', expected 'memory' or 'io'"),
    ],
)
def test_what_pci_does_not_allow_in_a_bar(options: dict[str, object], message: str) -> None:
    with pytest.raises(DescriptionError) as caught:

        class bar(Bar, **options):  # type: ignore[call-arg]
            R = Register(0, 8)

    assert caught.value.problems[0] == message


@pytest.mark.parametrize(
    "options",
    [{"size": 16}, {"size": 4, "kind": "io"}, {"size": 256, "kind": "io"}, {"size": 1 << 40, "bits": 64}],
)
def test_bars_at_the_limits_are_taken(options: dict[str, object]) -> None:
    class bar(Bar, **options):  # type: ignore[call-arg]
        R = Register(0, 8)

    assert bar.block.segments()
