"""PCI capabilities as data: registers with offsets from the capability's start, put into a list.

A new capability is a subclass (or an instance) of Capability: its id, its length in bytes, and its
registers behind the header; the header, with the pointer to the next one, is added here. In the config
space its registers get the capability's name in front: ``PM_PMCSR``. The kinds that PCI defines are in
``capability_kinds.py``. Source: PCI Local Bus 3.0, 6.7 and appendix H; PCI Express Base, 7.9.1 and 7.9.2.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .errors import DescriptionError
from .mistakes import flag, integer, shown, text
from .registers import Field, Register

__all__ = [
    "CONVENTIONAL",
    "EXPRESS",
    "EXTENDED",
    "Capability",
    "Window",
    "capability_registers",
    "place",
    "refuse",
]

EXPRESS = 0x10  #: id of the PCI Express capability, without which nobody looks for extended ones


class Window(NamedTuple):
    """Where a list of capabilities lives in the config space, and how long the header of each is."""

    first: int
    limit: int
    header: int  #: bytes
    largest_id: int
    name: str


CONVENTIONAL = Window(0x40, 0x100, 2, 0xFF, "capability")
EXTENDED = Window(0x100, 0x1000, 4, 0xFFFF, "extended capability")


class Capability:
    """One capability: ``length`` bytes with header, ``registers`` at offsets from its start.

    ``at`` fixes its place in the config space; otherwise it gets the first that is free.
    ``name`` stands in front of its registers' names. ``extended`` ones live from 0x100 on, have a header
    of 4 bytes with a ``version``, and need a PciExpress beside them.
    """

    def __init__(
        self,
        cap_id: int,
        registers: Mapping[str, Register],
        length: int,
        *,
        name: str = "CAP",
        at: int | None = None,
        extended: bool = False,
        version: int = 1,
    ) -> None:
        self.wrong: list[str] = []  #: types that cannot be used, one line each
        self.extended = flag(extended, "extended", self.wrong)
        self.window = EXTENDED if self.extended else CONVENTIONAL
        self.cap_id = integer(cap_id, "capability id", self.wrong, 1)
        self.length = integer(length, "length", self.wrong, self.window.header)
        self.name = text(name, "name", self.wrong) or "CAP"
        self.at = None if at is None else integer(at, "at", self.wrong, self.window.first)
        self.version = integer(version, "version", self.wrong, 1)
        self.registers = self._sorted_out(registers)

    def _sorted_out(self, registers: object) -> dict[str, Register]:
        if not isinstance(registers, Mapping):
            self.wrong.append(f"registers {shown(registers)}, expected a dict of names and Registers")
            return {}
        for name, one in registers.items():
            if not (isinstance(name, str) and isinstance(one, Register)):
                self.wrong.append(f"registers: {shown(name)} is {shown(one)}, expected a Register")
        return {name: one for name, one in registers.items() if isinstance(one, Register)}

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with it by itself."""
        first, limit, header, largest, kind = self.window
        yield from (f"{self.name}: {problem}" for problem in self.wrong)
        if not self.name.isidentifier():
            yield f"{shown(self.name)} cannot stand in front of registers' names"
        if not 1 <= self.cap_id <= largest:
            yield f"{self.name}: {kind} id {self.cap_id:#x}, expected 0x1 to {largest:#x}"
        if not 1 <= self.version <= 0xF:
            yield f"{self.name}: version {self.version}, expected 1 to 15"
        if not header <= self.length <= limit - first:
            yield f"{self.name}: length {self.length:#x}, expected {header:#x} to {limit - first:#x} bytes"
        yield from self._register_problems(header)
        if self.at is not None and (self.at % 4 or not first <= self.at < limit):
            yield f"{self.name}: at={self.at:#x}, expected a multiple of 4 from {first:#x} to {limit - 4:#x}"

    def _register_problems(self, header: int) -> Iterator[str]:
        for name, register in self.registers.items():
            yield from (f"{self.name}: {name}: {problem}" for problem in register.problems)
            if register.problems:
                continue
            if register.offset < header or register.end > self.length:
                place = f"{name} ({register.offset:#x}-{register.end - 1:#x})"
                inside = f"{header:#x}-{self.length - 1:#x}"
                yield f"{self.name}: {place} is not inside the capability's {inside}"

    def headed(self, prefix: str, start: int, following: int) -> dict[str, Register]:
        """Return the registers of its header at ``start``, which point to the capability ``following``."""
        if not self.extended:
            return {
                f"{prefix}_CAP_ID": Register(start, 8, "ignore", reset=self.cap_id),
                f"{prefix}_NEXT": Register(start + 1, 8, "ignore", reset=following),
            }
        return {
            f"{prefix}_CAP_ID": Register(start, 16, "ignore", reset=self.cap_id),
            f"{prefix}_NEXT": Register(
                start + 2,
                16,
                "ignore",
                VERSION=Field(0, 4, reset=self.version),
                NEXT=Field(4, 12, reset=following),
            ),
        }

    def __repr__(self) -> str:
        return f"<Capability {self.name} id {self.cap_id:#04x}, {self.length} bytes>"


def place(capabilities: Sequence[Capability], problems: list[str]) -> list[int]:
    """Return a start for each capability, 4-aligned; what does not fit goes to ``problems``."""
    taken: list[tuple[int, int, str]] = []
    for one in capabilities:
        if one.at is None:
            continue
        end = one.at + one.length
        for low, high, other in taken:
            if one.at < high and low < end:
                problems.append(
                    f"capabilities {other} ({low:#x}-{high - 1:#x}) and {one.name}"
                    f" ({one.at:#x}-{end - 1:#x}) overlap"
                )
        taken.append((one.at, end, one.name))
        first, limit, *_ = one.window
        if first <= one.at < limit < end:
            problems.append(
                f"{one.name} ({one.at:#x}-{end - 1:#x}) is beyond the config space's {limit:#x} bytes"
            )
    starts = [_free(one, taken, problems) if one.at is None else one.at for one in capabilities]
    extended = [start for one, start in zip(capabilities, starts, strict=True) if one.extended]
    if extended and not any(one.cap_id == EXPRESS and not one.extended for one in capabilities):
        problems.append("extended capabilities need a PCI Express one: add wb.PciExpress()")
    elif extended and min(extended) != EXTENDED.first:
        problems.append(f"the first extended capability is at {min(extended):#x}: put one at 0x100")
    return starts


def _free(one: Capability, taken: list[tuple[int, int, str]], problems: list[str]) -> int:
    first, limit, *_ = one.window
    for start in range(first, limit - one.length + 1, 4):
        if all(start >= high or low >= start + one.length for low, high, _ in taken):
            taken.append((start, start + one.length, one.name))
            return start
    problems.append(f"{one.name}: no {one.length:#x} free bytes left in {first:#x}-{limit - 1:#x}")
    return first


def capability_registers(capabilities: Sequence[Capability], starts: Sequence[int]) -> dict[str, Register]:
    """Return every register of both lists, headers included, named and placed in the config space.

    The conventional list keeps the order given; the extended one is in order of address, for it begins
    at 0x100 and nowhere else.
    """
    placed = list(zip(capabilities, starts, strict=True))
    conventional = [found for found in placed if not found[0].extended]
    extended = sorted((found for found in placed if found[0].extended), key=lambda found: found[1])
    registers: dict[str, Register] = {}
    for chain in (conventional, extended):
        following = [*(start for _, start in chain[1:]), 0]
        for (one, start), after in zip(chain, following, strict=False):
            prefix = _prefix(one.name, registers)
            registers.update(one.headed(prefix, start, after))
            registers.update({f"{prefix}_{name}": part.moved(start) for name, part in one.registers.items()})
    return registers


def _prefix(name: str, registers: Mapping[str, Register]) -> str:
    """Return the name, numbered from the second of a kind on: VENDOR_2 ..."""
    prefix, number = name, 1
    while f"{prefix}_CAP_ID" in registers:
        number += 1
        prefix = f"{name}_{number}"
    return prefix


def refuse(kind: str, problems: Sequence[str]) -> None:
    """Raise DescriptionError for a capability whose arguments are wrong, if any is."""
    if problems:
        raise DescriptionError(kind, problems)
