"""Finds the mistakes in a description. Every function yields one line a mistake; none raises.

Numbers of both sides are given in hex, so that a line can be compared with a datasheet.
"""

import inspect
import keyword
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING

from .modes import find_mode

if TYPE_CHECKING:
    from .fields import Field
    from .registers import Located, Register

__all__ = [
    "BARS",
    "LARGEST",
    "MOST_ELEMENTS",
    "NARROW",
    "SMALLEST",
    "bar_problems",
    "block_problems",
    "call_problem",
    "field_problems",
    "flag",
    "integer",
    "misplaced",
    "name_problem",
    "overlaps",
    "register_problems",
    "shown",
    "slot_problems",
    "text",
    "unknown_options",
]

BARS = 6  #: slots of a type-0 header (PCI 3.0, 6.1)
SMALLEST = {"memory": 16, "io": 4}  #: bytes of a BAR: the type bits below are hard-wired
LARGEST = 1 << 40  #: bytes of a BAR: three such, with a plane for each rule, fit an address space
NARROW = 1 << 31  #: bytes of the largest BAR of 32 bits
MOST_ELEMENTS = 1 << 20  #: of one block; each is an object

#: What handles and Bar classes are asked for; a register or field of that name would hide it.
TAKEN = frozenset(
    [
        *("value", "read", "write", "peek", "poke", "on_read", "on_write", "modify", "reset"),
        *("description", "view", "fields", "name", "offset", "index", "hook", "unhook", "set_hook"),
        *("block", "registers", "size", "kind", "bits", "prefetchable", "doc", "mapped"),
        *("memory", "array", "watch", "picture"),
    ]
)


# -- what comes in: a plain value, or a line in ``problems`` and a value to go on with --


def shown(value: object) -> str:
    """Return ``repr`` of anything, in one short line."""
    try:
        text = f"{value:#x}" if isinstance(value, int) and abs(value) >> 64 else reprlib.repr(value)
    except Exception:  # the repr of something inside: anything may happen
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def integer(value: object, what: str, problems: list[str], default: int = 0) -> int:
    """Return a plain int for everything that is one (NumPy's too) and not a bool; at most 64 bits."""
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        problems.append(f"{what} {shown(value)}, expected a whole number")
    elif abs(number) >> 64:
        problems.append(f"{what} {shown(number)} does not fit 64 bits")
    else:
        return int(number)
    return default


def flag(value: object, what: str, problems: list[str]) -> bool:
    """Return a bool that is one."""
    if not isinstance(value, bool):
        problems.append(f"{what} {shown(value)}, expected True or False")
    return value is True


def text(value: object, what: str, problems: list[str]) -> str:
    """Return a text that is one."""
    if isinstance(value, str):
        return value
    problems.append(f"{what} {shown(value)}, expected text")
    return ""


def call_problem(function: object) -> str | None:
    """Say why nobody can call ``function`` and be done, as a hook is called; or None."""
    if isinstance(function, type):
        return f"a hook must be a function, not the class {function.__name__}"
    if not callable(function):
        return f"a hook must be a function, not {shown(function)}"
    for one in (function, type(function).__call__):
        if inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one):
            return "a hook is called, not awaited: leave async out"
        if inspect.isgeneratorfunction(one):
            return "a hook is called, not iterated over: it must not yield"
    return None


# -- what is wrong --


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
    if not isinstance(mode, str):
        return f"mode {shown(mode)}, expected text such as 'rw'"
    try:
        find_mode(mode)
    except ValueError as error:
        return str(error)
    return None


def field_problems(field: "Field") -> Iterator[str]:
    """Yield what is wrong with one field by itself."""
    if problem := name_problem(field.name):
        yield problem
    yield from (f"field {field.name}: {problem}" for problem in field.problems)
    if field.lsb < 0 or field.width < 1:
        yield f"field {field.name}: lsb {field.lsb} and width {field.width}, expected lsb >= 0 and width >= 1"
        return
    if field.mode is not None and (problem := mode_problem(field.mode)):
        yield f"field {field.name}: {problem}"
    if field.width > 64:
        return  # it is beyond its register
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
    for name, other in given.items():
        if name not in register.fields:
            yield f"{name}={shown(other)} is not a Field (misspelt? see Register's own arguments)"
    if problem := mode_problem(register.mode):
        yield problem
    if register.width not in (8, 16, 32, 64):
        yield f"width {register.width}, expected 8, 16, 32 or 64 bits"
        return
    limit = (1 << register.width) - 1
    if not 0 <= register.reset <= limit:
        yield f"reset {register.reset:#x} does not fit {register.width} bits (0 to {limit:#x})"
    fields = []
    for field in register.fields.values():
        yield from field_problems(field)
        if field.lsb >= 0 and field.msb >= register.width:
            yield f"field {field.name} ({_bits(field)}) is beyond the register's {register.width} bits"
        elif not field.problems and field.lsb >= 0:
            fields.append(field)
    fields.sort(key=lambda field: field.lsb)
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
    """Yield the registers' own mistakes, and unless the size is 0 (unknown) those beyond the block."""
    registers = list(registers)
    for register in registers:
        if problem := name_problem(register.name):
            yield problem
        yield from (f"{register.name}: {problem}" for problem in register.problems)
        if size > 0 and not register.problems and register.end > size:
            last = register.element_name(register.count - 1)
            low = register.end - register.size
            yield f"{last} ({_range(low, register.size)}) is beyond the block's {size:#x} bytes"
    elements = sum(register.count for register in registers if not register.problems)
    if elements > MOST_ELEMENTS:
        yield (
            f"{elements:#x} register elements, more than {MOST_ELEMENTS:#x}: leave memory without registers,"
            " peek(), poke(), read() and write() reach every byte"
        )


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


def slot_problems(bits: Mapping[int, int]) -> Iterator[str]:
    """Yield which BARs cannot stand side by side; ``bits``: slot 0 to 5 -> 32 or 64."""
    for slot, width in sorted(bits.items()):
        if width == 64 and slot == BARS - 1:
            yield f"bar{slot} has 64 bits and no slot {BARS} for its upper half: use slot 0 to 4"
        elif width == 64 and slot + 1 in bits:
            yield f"bar{slot + 1} is the upper half of the 64-bit bar{slot}: use another slot"


def misplaced(body: Mapping[str, object]) -> Iterator[str]:
    """Yield what stands in a class body and would be overlooked there."""
    for name, value in body.items():
        kinds = [type(one).__name__ for one in (value if isinstance(value, tuple) else [value])]
        if isinstance(value, tuple) and kinds[:1] in (["Register"], ["Doorbell"], ["Field"]):
            yield f"{name} is a tuple with a {kinds[0]} in it: take the comma away"
        elif kinds == ["Field"]:
            yield f"{name} is a Field: it belongs into a Register, as in Register(0, {name}=Field(0))"
        elif isinstance(value, type) and value.__name__ in ("Register", "Doorbell", "Field"):
            yield f"{name} is the class {value.__name__}: call it, as in {value.__name__}(0)"


def unknown_options(options: Mapping[str, object]) -> Iterator[str]:
    """Yield a line for each option of a Bar that there is not."""
    for name, value in options.items():
        yield f"{name}={shown(value)} is no option; options: size, kind, bits, prefetchable, mmap, doc"


def bar_problems(size: int | None, kind: object, bits: int, prefetchable: bool) -> Iterator[str]:
    """Yield what PCI does not allow in a BAR (PCI Local Bus 3.0, 6.2.5.1); size None: not known."""
    least = SMALLEST.get(kind) if isinstance(kind, str) else None
    if least is None:
        yield f"kind {shown(kind)}, expected 'memory' or 'io'"
    if bits not in (32, 64):
        yield f"bits={bits}, expected 32 or 64"
    if kind == "io" and bits == 64:
        yield "an I/O BAR has 32 bits: leave bits=64 out"
    if kind == "io" and prefetchable:
        yield "an I/O BAR cannot be prefetchable"
    if size is None:
        return
    if size < 1 or size & (size - 1):
        larger = 1 << max(size - 1, (least or 1) - 1).bit_length()
        yield f"size {size:#x} is not a power of two; the next one is {larger:#x}"
    elif least and size < least:
        yield f"size {size:#x} is below {least:#x}, the smallest of this kind"
    elif kind == "io" and size > 256:
        yield f"size {size:#x} is above 0x100, the most that PCI allows an I/O BAR: use a memory BAR"
    elif size > LARGEST:
        yield f"size {size:#x} is above {LARGEST:#x} (1 TiB), the most that the engine holds"
    elif kind == "memory" and size > NARROW and bits == 32:
        yield f"size {size:#x} is above 2 GiB: say bits=64"


def _bits(field: "Field") -> str:
    return f"bit {field.lsb}" if field.width == 1 else f"bits {field.msb}:{field.lsb}"


def _range(offset: int, size: int) -> str:
    return f"{offset:#x}" if size == 1 else f"{offset:#x}-{offset + size - 1:#x}"


def _element(element: "Located", offset: int) -> str:
    return f"{element.register.element_name(element.index)} ({_range(offset, element.register.size)})"
