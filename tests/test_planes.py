"""The byte planes that a description becomes, bit by bit against a slow oracle."""

import pytest
from hypothesis import given, settings
from pace import cost
from register_kit import MEANING, lamp, maps

from workbench.registers import Block, Field, Register


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


@pytest.mark.slow
@settings(max_examples=150, derandomize=True, deadline=None)
@given(maps())
def test_every_bit_of_every_plane_is_explained(block: Block) -> None:
    assert block.problems == ()
    assert bits_of(block) == oracle(block)


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


def compile_many(count: int) -> None:
    many = {
        f"R{i}": Register(8 * i, A=Field(0), B=Field(1, 4, "w1c"), C=Field(8, 16, "ro")) for i in range(count)
    }
    assert len(Block("big", 1 << 20, many).segments()) == count


@pytest.mark.slow
def test_ten_times_the_registers_take_ten_times_as_long() -> None:
    few, many = cost(lambda: compile_many(1000), lambda: compile_many(10_000))
    assert many < 20 * few
