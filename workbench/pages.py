"""Pages of a BAR that the guest maps: as people say them, checked, in order.

They are for frame buffers, rings and other memory. The guest's accesses there reach nobody, so a
register in such a page can only name bytes: plain "rw", no hook.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .mistakes import integer, shown

if TYPE_CHECKING:
    from .registers import Register

__all__ = ["PAGE", "Area", "covering", "mapped_areas", "unhookable", "unmappable"]

PAGE = 4096  #: bytes

#: First byte and number of bytes.
Area = tuple[int, int]


def mapped_areas(said: object, size: int | None, kind: object, problems: list[str]) -> tuple[Area, ...]:
    """Return the areas that ``mmap=`` says, ascending and apart; what is wrong goes to ``problems``.

    ``said``: True (all of ``size`` bytes), False, or (start, size) pairs in whole pages; ``size`` None:
    not known.
    """
    if said is False or size is None:
        return ()
    pairs = [(0, size)] if said is True else _pairs(said, problems)
    if kind == "io" and (pairs or said is True):
        problems.append("mmap: an I/O BAR cannot be mapped: use a memory BAR")
    elif said is not True:
        wrong = [line for pair in pairs for line in _area_problems(*pair, size)]
        problems += wrong or _overlaps(sorted(pairs))
    return _merged(sorted(pairs)) if not problems else ()


def _pairs(said: object, problems: list[str]) -> list[Area]:
    how = "expected True or (start, size) pairs such as [(0x1000, 0x2000)]"
    if not isinstance(said, Iterable) or isinstance(said, (str, bytes)):
        problems.append(f"mmap={shown(said)}, {how}")
        return []
    pairs = []
    for one in said:
        if not isinstance(one, (tuple, list)) or len(one) != 2:
            problems.append(f"mmap: {shown(one)}, {how}")
        else:
            pairs.append((integer(one[0], "mmap: start", problems), integer(one[1], "mmap: size", problems)))
    return pairs


def _area_problems(start: int, size: int, whole: int) -> Iterator[str]:
    name = f"mmap: {size:#x} bytes at {start:#x}"
    if start % PAGE or size % PAGE:
        yield f"{name}: not whole pages of {PAGE:#x} bytes"
    elif size <= 0 or start < 0 or start + size > whole:
        yield f"{name}: not inside the BAR's {whole:#x} bytes"


def _overlaps(pairs: Sequence[Area]) -> list[str]:
    return [
        f"mmap: {low:#x}-{low + size - 1:#x} and {high:#x}-{high + other - 1:#x} overlap"
        for (low, size), (high, other) in pairwise(pairs)
        if low + size > high
    ]


def _merged(pairs: Sequence[Area]) -> tuple[Area, ...]:
    merged: list[Area] = []
    for start, size in pairs:
        if merged and sum(merged[-1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + size)
        else:
            merged.append((start, size))
    return tuple(merged)


def covering(areas: Iterable[Area], offset: int, size: int = 1) -> Area | None:
    """Return the area in which all of the bytes lie, or None."""
    return next((one for one in areas if one[0] <= offset and offset + size <= sum(one)), None)


def unmappable(areas: Sequence[Area], registers: Iterable["Register"]) -> Iterator[str]:
    """Yield which registers have rules or hooks that could not be kept in mapped pages."""
    for register in registers if areas else ():
        inside = [start for start, _ in _elements(register) if covering(areas, start)]
        if not inside:
            continue
        rules = {name for name in register.plane_bytes if name not in _PLAIN}
        if register.signalled:
            yield f"{register.name} ({inside[0]:#x}) is a Doorbell: {unhookable(inside[0])}"
        elif rules or register.modes != "rw":
            what = f"mode {register.modes}" if register.modes != "rw" else "rules"
            yield (
                f"{register.name} ({inside[0]:#x}) has {what} in a mapped page, where no rule is kept:"
                ' make it plain "rw", or take its page out of mmap'
            )


#: What "rw" compiles to.
_PLAIN = ("value", "reset", "readable", "writable", "accept", "known")


def unhookable(offset: int) -> str:
    """Say why a register there cannot be hooked."""
    return (
        f"the guest maps the page at {offset & -PAGE:#x}, so no hook sees its accesses; watch() finds changes"
    )


def _elements(register: "Register") -> Iterator[Area]:
    return ((register.element_offset(index), register.size) for index in range(register.count))
