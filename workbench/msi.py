"""MSI and MSI-X as data: their capabilities, and where the table and the pending bits of MSI-X lie.

The registers are ordinary ones, so that log, views and the guest treat them like any other. Table
and Pending Bit Array go where the description says, else behind the last register of a memory BAR
that has room, else into a BAR of their own.
Source: PCI Local Bus 3.0, 6.8.1 (MSI) and 6.8.2 (MSI-X).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .capabilities import Capability
from .mistakes import BARS
from .registers import Bar, Block, Field, Register

__all__ = [
    "Layout",
    "MessageSignaledInterrupts",
    "MsixCapability",
    "own_bar",
    "place_msix",
    "repeated",
    "with_msix",
]

PAGE = 4096  #: bytes; PCI 3.0, 6.8.2 wants table and PBA that far from other registers, if they can be
MSI, MSIX = 0x05, 0x11  #: capability ids


@dataclass(frozen=True)
class Place:
    """``size`` bytes at ``offset`` of BAR ``slot``."""

    slot: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind."""
        return self.offset + self.size

    def __str__(self) -> str:
        return f"{self.offset:#x}-{self.end - 1:#x}"


@dataclass(frozen=True)
class Layout:
    """Where the MSI-X table and PBA of ``vectors`` vectors are; ``own``: the slot of a BAR made for them."""

    vectors: int
    table: Place
    pba: Place
    own: int | None = None


class MessageSignaledInterrupts(Capability):
    """MSI (id 0x05) with 64-bit address and a mask and a pending bit for each of ``vectors``."""

    def __init__(self, vectors: int) -> None:
        counts = {f"V{1 << power}": power for power in range(6)}
        control = Register(
            2, 16, "ignore", doc="Message Control",
            ENABLE=Field(0, mode="rw"),
            MULTIPLE_CAPABLE=Field(1, 3, reset=vectors.bit_length() - 1, enum=counts),
            MULTIPLE_ENABLE=Field(4, 3, "rw", enum=counts),
            ADDRESS_64=Field(7, reset=1),
            VECTOR_MASKING=Field(8, reset=1),
        )  # fmt: skip
        registers = {
            "CONTROL": control,
            "ADDRESS": Register(4, 32, "ignore", doc="Message Address", DWORD=Field(2, 30, "rw")),
            "ADDRESS_HIGH": Register(8, 32, "rw", doc="Message Upper Address"),
            "DATA": Register(12, 16, "rw", doc="Message Data"),
            "MASK": Register(16, 32, "ignore", doc="A bit a vector", VECTORS=Field(0, vectors, "rw")),
            "PENDING": Register(20, 32, "ignore", doc="A bit a vector", VECTORS=Field(0, vectors)),
        }
        super().__init__(MSI, registers, 24, name="MSI")


class MsixCapability(Capability):
    """MSI-X (id 0x11) that points at ``layout``."""

    def __init__(self, layout: Layout) -> None:
        registers = {
            "CONTROL": Register(
                2, 16, "ignore", doc="Message Control",
                TABLE_SIZE=Field(0, 11, reset=layout.vectors - 1),
                FUNCTION_MASK=Field(14, mode="rw"),
                ENABLE=Field(15, mode="rw"),
            ),
            "TABLE": _pointer(4, layout.table, "Table"),
            "PBA": _pointer(8, layout.pba, "Pending Bit Array"),
        }  # fmt: skip
        super().__init__(MSIX, registers, 12, name="MSIX")


def _pointer(offset: int, place: Place, what: str) -> Register:
    return Register(
        offset, 32, "ignore", doc=f"Where the {what} is",
        BIR=Field(0, 3, reset=place.slot), OFFSET=Field(3, 29, reset=place.offset >> 3),
    )  # fmt: skip


def msix_registers(layout: Layout, slot: int) -> dict[str, Register]:
    """Return the registers of ``layout`` that are in BAR ``slot``, by name."""
    found: dict[str, Register] = {}
    if layout.table.slot == slot:
        at, entry = layout.table.offset, functools.partial(Register, count=layout.vectors, stride=16)
        found = {
            "MSIX_ADDRESS": entry(at, doc="Message Address of each vector"),
            "MSIX_ADDRESS_HIGH": entry(at + 4, doc="Message Upper Address"),
            "MSIX_DATA": entry(at + 8, doc="Message Data"),
            "MSIX_VECTOR_CONTROL": entry(
                at + 12, mode="ignore", doc="Vector Control", MASK=Field(0, mode="rw", reset=1)
            ),
        }
    if layout.pba.slot == slot:
        words = layout.pba.size // 8
        found["MSIX_PENDING"] = Register(
            layout.pba.offset, 64, "ro", count=words, doc="Pending Bit Array, a bit a vector"
        )
    return found


def with_msix(block: Block, layout: Layout, slot: int, problems: list[str]) -> Block:
    """Return ``block`` with the registers of ``layout`` in it; it, if they are elsewhere."""
    added = msix_registers(layout, slot)
    if not added:
        return block
    taken = sorted(added.keys() & block.registers.keys())
    problems += [
        f"{block.name}.{name}: MSI-X brings a register of that name; choose another" for name in taken
    ]
    if taken:
        return block
    registers = {**added, **block.registers}
    return Block(block.name, block.size, registers, holes=block.holes, doc=block.doc, mapped=block.mapped)


def own_bar(slot: int, layout: Layout) -> type[Bar]:
    """Return the BAR that has the MSI-X table and PBA and nothing else."""
    end = max(place.end for place in (layout.table, layout.pba) if place.slot == slot)
    size = max(PAGE, 1 << (end - 1).bit_length())

    class msix(Bar, size=size, doc="MSI-X table and Pending Bit Array"): ...

    msix.__name__ = f"bar{slot}"
    msix.block = Block(msix.__name__, size, msix_registers(layout, slot), doc=msix.doc)
    msix.registers = msix.block.registers
    return msix


# -- where they go --


def place_msix(
    bars: Mapping[int, type[Bar]],
    vectors: int,
    table: tuple[str, int] | None,
    pba: tuple[str, int] | None,
    problems: list[str],
) -> Layout | None:
    """Return where table and PBA go; ``table`` and ``pba`` say it, as ("bar0", offset), or None: anywhere.

    None, and lines in ``problems``, when it cannot be.
    """
    sizes = 16 * vectors, (vectors + 63) // 64 * 8
    said = [
        _said(bars, what, wish, size, problems) if wish else None
        for what, wish, size in zip(("table", "PBA"), (table, pba), sizes, strict=True)
    ]
    if (table and not said[0]) or (pba and not said[1]):
        return None
    if said[0] and said[1]:
        problems += _clash(said[0], said[1])
        return Layout(vectors, said[0], said[1])
    found = _anywhere(bars, vectors, sizes, said[0], said[1])
    if found is None:
        problems.append(_no_room(bars, sum(s for s, at in zip(sizes, said, strict=True) if at is None)))
    return found


def _said(
    bars: Mapping[int, type[Bar]], what: str, wish: tuple[str, int], size: int, problems: list[str]
) -> Place | None:
    """Check a place that the description gives."""
    name, offset = wish
    bar = next((bar for slot, bar in bars.items() if name == f"bar{slot}"), None)
    before = len(problems)
    if bar is None:
        there = ", ".join(f"bar{slot}" for slot in sorted(bars)) or "no BAR"
        problems.append(f"the MSI-X {what} is in {name}, which is not there; there is {there}")
        return None
    place = Place(int(name[3:]), offset, size)
    if bar.kind != "memory":
        problems.append(f"the MSI-X {what} is in {name}, an I/O BAR: name a memory BAR")
    if offset < 0 or offset % 8:
        problems.append(f"the MSI-X {what} is at {offset:#x} of {name}: choose a multiple of 8")
    elif place.end > bar.size:
        problems.append(f"the MSI-X {what} ({place}) is beyond {name}'s {bar.size:#x} bytes")
    for start, length in bar.block.mapped if len(problems) == before else ():
        if start < place.end and offset < start + length:
            pages = f"{start:#x}-{start + length - 1:#x}"
            problems.append(f"the MSI-X {what} ({place}) is in pages of {name} that the guest maps ({pages})")
    for register in bar.block.registers.values() if len(problems) == before else ():
        if hit := _hit(register, place):
            problems.append(f"the MSI-X {what} ({place}) and {hit} overlap in {name}")
    return place if len(problems) == before else None


def _hit(register: Register, place: Place) -> str | None:
    """Return the first element of a register that lies in ``place``, with its bytes."""
    for index in range(max(0, (place.offset - register.offset) // register.stride), register.count):
        start = register.element_offset(index)
        if start >= place.end:
            break
        if start + register.size > place.offset:
            return f"{register.element_name(index)} ({start:#x}-{start + register.size - 1:#x})"
    return None


def _clash(table: Place, pba: Place) -> Iterator[str]:
    if table.slot == pba.slot and table.offset < pba.end and pba.offset < table.end:
        yield f"the MSI-X table ({table}) and PBA ({pba}) overlap in bar{table.slot}"


def _anywhere(
    bars: Mapping[int, type[Bar]],
    vectors: int,
    sizes: tuple[int, int],
    table: Place | None,
    pba: Place | None,
) -> Layout | None:
    for slot, bar in sorted(bars.items()):
        if bar.kind == "memory":
            ends = [one.end for one in bar.block.registers.values()]
            ends += [one.end for one in (table, pba) if one and one.slot == slot]
            last = max(ends, default=0)
            for behind in (last, *(end for end in map(sum, bar.block.mapped) if end > last)):
                for layout in _candidates(slot, behind, vectors, sizes, table, pba):
                    if _fits(bar, slot, layout):
                        return layout
    free = _free_slot(bars)
    if free is None:
        return None
    return replace(next(_candidates(free, 0, vectors, sizes, table, pba)), own=free)


def _fits(bar: type[Bar], slot: int, layout: Layout) -> bool:
    """Tell whether what a layout has in a BAR is inside it and outside of pages that the guest maps."""
    return all(
        place.end <= bar.size
        and all(place.end <= start or start + length <= place.offset for start, length in bar.block.mapped)
        for place in (layout.table, layout.pba)
        if place.slot == slot
    )


def _candidates(
    slot: int, behind: int, vectors: int, sizes: tuple[int, int], table: Place | None, pba: Place | None
) -> Iterator[Layout]:
    """Yield layouts behind the byte ``behind`` of a BAR, the most spacious first."""
    for first, second in ((PAGE, PAGE), (PAGE, 8), (16, 8)):
        one = table or Place(slot, _up(behind, first), sizes[0])
        after = behind if table else one.end
        yield Layout(vectors, one, pba or Place(slot, _up(after, first if table else second), sizes[1]))


def _up(offset: int, step: int) -> int:
    return (offset + step - 1) // step * step


def _free_slot(bars: Mapping[int, type[Bar]]) -> int | None:
    taken = {*bars, *(slot + 1 for slot, bar in bars.items() if bar.bits == 64)}
    return next((slot for slot in range(BARS) if slot not in taken), None)


def _no_room(bars: Mapping[int, type[Bar]], size: int) -> str:
    free = {
        f"bar{slot}": bar.size - max((one.end for one in bar.block.registers.values()), default=0)
        for slot, bar in sorted(bars.items())
        if bar.kind == "memory"
    }
    behind = ", ".join(f"{name} {count:#x}" for name, count in free.items()) or "there is no memory BAR"
    return f"MSI-X needs {size:#x} bytes, no slot is free and behind the last registers are only: {behind}"


def repeated(capabilities: Sequence[Capability], brought: Sequence[Capability]) -> Iterator[str]:
    """Yield a line for each capability that ``irq`` brings by itself."""
    names = {one.cap_id: one.name for one in brought}
    for number, one in enumerate(capabilities):
        if name := names.get(one.cap_id):
            yield f"capabilities[{number}] is {name} (id {one.cap_id:#04x}), which irq brings: remove it"
