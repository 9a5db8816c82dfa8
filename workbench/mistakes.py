"""Finds the mistakes in a description. Every function yields one line a mistake; none raises.

Numbers of both sides are given in hex, so that a line can be compared with a datasheet.
"""

import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .modes import find_mode

if TYPE_CHECKING:
    from .fields import Field
    from .registers import Located, Register

__all__ = [
    "bar_problems",
    "block_problems",
    "field_problems",
    "name_problem",
    "overlaps",
    "register_problems",
]

#: What handles and Bar classes are asked for; a register or field of that name would hide it.
TAKEN = frozenset(
    [
        *("value", "read", "write", "peek", "poke", "on_read", "on_write", "modify", "reset"),
        *("description", "view", "fields", "name", "offset", "index", "hook", "unhook"),
        *("block", "registers", "size", "kind", "bits", "prefetchable", "doc"),
    ]
)
_KINDS = {"memory": 16, "io": 4}  # smallest BAR: the type bits below it are hard-wired


def name_problem(name: str) -> str | None:
    """Say why ``name`` cannot name a register or a field, or None."""
    if name in TAKEN:
        return (
            f"{name}: a handle has an attribute of that name already; choose another, such as {name.upper()}"
        )
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        return f"{name!r} is not a public Python name"
    return None


def mode_problem(mode: object) -> str | None:
    """Say why ``mode`` is no mode, or None."""
    try:
        find_mode(str(mode))
    except ValueError as error:
        return str(error)
    return None


def field_problems(field: "Field") -> Iterator[str]:
    """Yield what is wrong with one field by itself."""
    if problem := name_problem(field.name):
        yield problem
    if field.lsb < 0 or field.width < 1:
        yield f"field {field.name}: lsb {field.lsb} and width {field.width}, expected lsb >= 0 and width >= 1"
        return
    if field.mode is not None and (problem := mode_problem(field.mode)):
        yield f"field {field.name}: {problem}"
    limit = (1 << field.width) - 1
    if field.reset is not None and not 0 <= field.reset <= limit:
        yield f"field {field.name}: reset {field.reset:#x} does not fit {field.width} bits (0 to {limit:#x})"
    for name, value in field.names.items():
        if not 0 <= value <= limit:
            yield (
                f"field {field.name}: enum value {name} = {value:#x} does not fit {field.width} bits"
                f" (0 to {limit:#x})"
            )


def register_problems(register: "Register", given: Mapping[str, object]) -> Iterator[str]:
    """Yield what is wrong with a register and its fields; ``given`` are its keyword arguments."""
    for name in given.keys() - register.fields.keys():
        yield f"{name}={given[name]!r} is not a Field (misspelt? see Register's own arguments)"
    if problem := mode_problem(register.mode):
        yield problem
    if register.width not in (8, 16, 32, 64):
        yield f"width {register.width}, expected 8, 16, 32 or 64 bits"
        return
    limit = (1 << register.width) - 1
    if not 0 <= register.reset <= limit:
        yield f"reset {register.reset:#x} does not fit {register.width} bits (0 to {limit:#x})"
    for field in register.fields.values():
        yield from field_problems(field)
        if field.lsb >= 0 and field.msb >= register.width:
            yield f"field {field.name} ({_bits(field)}) is beyond the register's {register.width} bits"
    fields = sorted(register.fields.values(), key=lambda field: field.lsb)
    for number, low in enumerate(fields):
        for high in fields[number + 1 :]:
            if low.mask & high.mask:
                yield f"fields {low.name} ({_bits(low)}) and {high.name} ({_bits(high)}) overlap"
    yield from _place_problems(register)


def _place_problems(register: "Register") -> Iterator[str]:
    size = register.size
    if register.offset < 0 or register.offset % size:
        yield f"offset {register.offset:#x} is not a multiple of its {size} bytes"
    if register.count < 1:
        yield f"count {register.count}, expected 1 or more"
    if register.stride < size:
        yield f"stride {register.stride:#x} is smaller than the register's {size} bytes"
    elif register.stride % size:
        yield f"stride {register.stride:#x} is not a multiple of its {size} bytes"


def block_problems(size: int, registers: Iterable["Register"]) -> Iterator[str]:
    """Yield the registers' own mistakes and those that lie beyond the block."""
    for register in registers:
        if problem := name_problem(register.name):
            yield problem
        yield from (f"{register.name}: {problem}" for problem in register.problems)
        if not register.problems and register.end > size:
            last = register.element_name(register.count - 1)
            low = register.end - register.size
            yield f"{last} ({_range(low, register.size)}) is beyond the block's {size:#x} bytes"


def overlaps(elements: Sequence["Located"], starts: Sequence[int]) -> Iterator[str]:
    """Yield one line a pair of registers that cover the same bytes and may not."""
    told: set[tuple[int, int]] = set()
    open_: list[tuple[int, Located]] = []
    for start, element in zip(starts, elements, strict=True):
        open_ = [(at, other) for at, other in open_ if at + other.register.size > start]
        for at, other in open_:
            pair = id(other.register), id(element.register)
            if pair not in told and not _may_share(other.register, at, element.register, start):
                told.add(pair)
                yield f"{_element(other, at)} and {_element(element, start)} overlap"
        open_.append((start, element))


def _may_share(one: "Register", low: int, other: "Register", high: int) -> bool:
    """Tell whether of each shared bit one register is purely read and the other purely written."""
    shift = 8 * (high - low)
    shared = ((1 << one.width) - 1) >> shift & ((1 << other.width) - 1)

    def pure(register: "Register", down: int, written: bool) -> bool:
        plane = register.plane_mask
        latched = plane("wo") >> down & shared
        changed = (register.written_mask | plane("rc") | plane("rs")) >> down & shared
        seen = plane("readable") >> down & shared
        return not seen and changed == latched if written else not register.written_mask >> down & shared

    return (pure(one, shift, False) and pure(other, 0, True)) or (
        pure(one, shift, True) and pure(other, 0, False)
    )


def bar_problems(size: int | None, kind: str, bits: int, prefetchable: bool) -> Iterator[str]:
    """Yield what PCI does not allow in a BAR (PCI Local Bus 3.0, 6.2.5.1)."""
    if kind not in _KINDS:
        yield f"kind {kind!r}, expected 'memory' or 'io'"
    if bits not in (32, 64):
        yield f"bits={bits}, expected 32 or 64"
    if kind == "io" and bits == 64:
        yield "an I/O BAR has 32 bits: leave bits=64 out"
    if kind == "io" and prefetchable:
        yield "an I/O BAR cannot be prefetchable"
    if size is None:
        yield "its size is missing: class bar0(Bar, size=4096)"
        return
    if size < 1 or size & (size - 1):
        larger = 1 << max(size - 1, _KINDS.get(kind, 1) - 1).bit_length()
        yield f"size {size:#x} is not a power of two; the next one is {larger:#x}"
    elif size < _KINDS.get(kind, 0):
        yield f"size {size:#x} is below {_KINDS[kind]:#x}, the smallest of this kind"
    elif kind == "io" and size > 256:
        yield f"size {size:#x} is above 0x100, the most that PCI allows an I/O BAR: use a memory BAR"
    elif kind == "memory" and size > 1 << 31 and bits == 32:
        yield f"size {size:#x} is above 2 GiB: say bits=64"


def _bits(field: "Field") -> str:
    return f"bit {field.lsb}" if field.width == 1 else f"bits {field.msb}:{field.lsb}"


def _range(offset: int, size: int) -> str:
    return f"{offset:#x}" if size == 1 else f"{offset:#x}-{offset + size - 1:#x}"


def _element(element: "Located", offset: int) -> str:
    return f"{element.register.element_name(element.index)} ({_range(offset, element.register.size)})"
