"""Every mistake in a description: named, all at once, with what would be right."""

import pickle

import pytest
from register_kit import Speed

from workbench.blockhandle import BlockHandle
from workbench.errors import DescriptionError
from workbench.handles import RegisterHandle
from workbench.modes import MODES
from workbench.registers import Bar, Block, Field, Register

KNOWN = f"Known are {', '.join(MODES)}"


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
        (Register(0, mode="r0"), f"R: unknown mode 'r0'; did you mean rw, rs, ro, rc? {KNOWN}"),
        (
            Register(0, F=Field(0, mode="w1x")),
            f"R: field F: unknown mode 'w1x'; did you mean w1, w1t, w1s, w1c? {KNOWN}",
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


def test_no_register_hides_what_a_handle_can_do() -> None:
    for name in {*dir(RegisterHandle), *dir(BlockHandle)}:
        if not name.startswith("_"):
            assert "a handle has an attribute" in problems_of(**{name: Register(0)})[0]


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
        f"B: unknown mode 'rx'; did you mean rw, rs, ro, rc? {KNOWN}",
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


def test_what_is_wrong_can_be_told_by_another_process() -> None:
    error = DescriptionError("Lamp", ["one", "two"])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.subject, again.problems) == (str(error), "Lamp", ("one", "two"))
