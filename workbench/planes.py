"""Compiles described registers into the engine's byte planes (``wb.h``).

Each register becomes one number a plane; elements that touch or share bytes merge into a segment.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .modes import find_mode

if TYPE_CHECKING:
    from .fields import Field
    from .registers import Located

__all__ = ["RULES", "STATE", "WRITES", "Segment", "compile_register", "compile_segments"]

#: Planes that hold a register's value or reset value.
STATE = ("value", "latch", "reset", "latch_reset")
#: Rule planes in which a set bit lets a guest's write change something.
WRITES = ("writable", "once", "w1c", "w1s", "w1t", "w0c", "w0s", "w0t", "wclr", "wset", "wo", "pulse")
#: Every plane that holds rules.
RULES = ("readable", *WRITES, "rc", "rs", "accept", "known", "sticky")


class Segment(NamedTuple):
    """Bytes at ``offset`` of a block: one equally long string a plane. A plane left out is all 0."""

    offset: int
    planes: dict[str, bytes]


def compile_register(
    mode: str, width: int, reset: int, fields: Iterable["Field"], sticky: bool = False
) -> dict[str, int]:
    """Return one number a plane for a register without mistakes; planes that are 0 are left out.

    Bits without a field are reserved; in a register of mode ``ignore`` writes to them are accepted.
    """
    whole = (1 << width) - 1
    fields = list(fields)
    claims = [(field.mask, field.mode or mode) for field in fields] or [(whole, mode)]
    planes = dict.fromkeys(("readable", "accept", "wo"), 0)
    for mask, name in claims:
        for plane in find_mode(name).planes:
            planes[plane] = planes.get(plane, 0) | mask
    spare = whole & ~sum(mask for mask, _ in claims)
    latched = planes["wo"]
    if latched and not planes["readable"]:
        # A register that only takes writes may share its bytes with one that answers the reads, so
        # its reserved bits must claim nothing.
        reset &= ~spare
    else:
        planes["readable"] |= spare
    if find_mode(mode).name == "ignore":
        planes["accept"] |= spare
    planes["value"] = planes["reset"] = reset & ~latched
    planes["latch"] = planes["latch_reset"] = reset & latched
    planes["known"] = whole
    kept = [field.mask for field in fields if field.sticky]
    planes["sticky"] = sum(kept) if fields else whole * sticky
    return {name: mask for name, mask in planes.items() if mask}


def compile_segments(elements: Sequence["Located"], starts: Sequence[int]) -> list[Segment]:
    """Merge elements, sorted by their offsets ``starts``, into segments."""
    segments: list[Segment] = []
    first = 0
    end = -1
    for number, start in enumerate(starts):
        if start > end and number:
            segments.append(_segment(elements[first:number], starts[first:number], end))
            first = number
        end = max(end, start + elements[number].register.size)
    if elements:
        segments.append(_segment(elements[first:], starts[first:], end))
    return segments


def _segment(elements: Sequence["Located"], starts: Sequence[int], end: int) -> Segment:
    origin, planes = starts[0], dict[str, bytearray]()
    reached = origin
    for (register, _), start in zip(elements, starts, strict=True):
        low, high = start - origin, start - origin + register.size
        for name, data in register.plane_bytes.items():
            plane = planes.get(name)
            if plane is None:
                plane = planes[name] = bytearray(end - origin)
            if start < reached:  # a read-only and a write-only register share these bytes
                data = bytes(a | b for a, b in zip(data, plane[low:high], strict=True))
            plane[low:high] = data
        reached = max(reached, start + register.size)
    return Segment(origin, {name: bytes(plane) for name, plane in planes.items()})
