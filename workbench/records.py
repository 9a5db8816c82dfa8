"""What one log record says in words: the 64-byte layout, register names, field changes.

The engine writes numbers (region, offset, bytes); this module finds the registers they touch.
``Names`` resolves each distinct place once, so a million records cost a few look-ups. ``Record``
is one of them, decoded: ``print(record)`` gives the line of a transcript. ``log.py`` holds many.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .engine import lib, words_of
from .errors import DMA_REASONS
from .fields import Field, spell
from .protocol import (
    IRQ_NAMES,
    REGION_NAMES,
    MigrationState,
    command_name,
    irq_name,
    region_name,
    vector_name,
)
from .registers import Block, Located, Register

__all__ = [
    "FLAGGED", "FLAGS", "KINDS", "ORIGINS", "RECORD", "Names", "Record", "Records", "Touch", "data_size",
    "duration", "kind_of_touch", "vector_name",
]  # fmt: skip

Records = npt.NDArray[np.void]  #: a structured array of RECORD

#: ``wb_record`` of wb.h, offset by offset. Times are ns of CLOCK_MONOTONIC, latency ns, size bytes.
RECORD = np.dtype(
    [(name, "<u8") for name in ("seq", "time", "offset", "value", "old", "now")]
    + [("latency", "<u4"), ("size", "<u4"), ("revision", "<u2"), ("flags", "<u2")]
    + [(name, "u1") for name in ("kind", "origin", "region", "plane")]
)

KINDS = words_of("wb_kind", "WB_KIND_")  #: 0: "read", 1: "write", 2: "poke" ...
ORIGINS = words_of("wb_origin", "WB_")  #: "guest", "notebook", "device"
FLAGS = words_of("wb_flag", "WB_")  #: 1: "unmapped", 2: "violation" ...
#: what deserves a look
FLAGGED = lib.WB_UNMAPPED | lib.WB_VIOLATION | lib.WB_HOOK_FAILED | lib.WB_REFUSED | lib.WB_ASLEEP

_SLOTS = {lib.WB_HOOK_READ: "on_read", lib.WB_HOOK_WRITE: "on_write"}
_OUTCOMES = words_of("wb_irq_outcome", "WB_IRQ_")
_RESETS = {
    lib.WB_RESET_DEVICE: "by the client",
    lib.WB_RESET_NOTEBOOK: "from the notebook",
    lib.WB_RESET_FLR: "of the function (FLR)",
    lib.WB_RESET_D3HOT: "from D3hot to D0",
    lib.WB_RESET_DETACH: "because the client is gone",
}
_STATES = {state.value: f"migration: {state.name}" for state in MigrationState}
_STATES[lib.WB_STATE_RESTORED] = "a snapshot was put back"
_MARKS = {
    "unmapped": "unmapped address",
    "violation": "writes read-only or reserved bits",
    "hook_failed": "hook raised",
    "asleep": "function asleep (D1 to D3hot)",
}
_TOUCHES = (lib.WB_KIND_READ, lib.WB_KIND_WRITE, lib.WB_KIND_POKE, lib.WB_KIND_SWAP, lib.WB_KIND_MMAP)
_RESETTING = (lib.WB_KIND_RESET, lib.WB_KIND_STATE)
_IRQS = (lib.WB_KIND_IRQ, lib.WB_KIND_UNMASK)
_DMA = (lib.WB_KIND_DMA_READ, lib.WB_KIND_DMA_WRITE, lib.WB_KIND_MAP, lib.WB_KIND_UNMAP)
_IS_TOUCH = np.isin(np.arange(256), _TOUCHES)
_IS_IRQ = np.isin(np.arange(256), _IRQS)
_FAR = 1 << 29  # offsets from here on are numbered: a key has 30 bits for them
_CACHED = 1 << 16
_PLAIN_NAMES = {"irq", "dma", "reset", "client", *REGION_NAMES}
_BYTES = re.compile(rf"({'|'.join(REGION_NAMES)})\+0x[0-9a-f]+")  # where no register is
_VECTOR = re.compile(rf"(irq\.)?({'|'.join(IRQ_NAMES)})(\[\d+\])?")


class Touch(NamedTuple):
    """A place that records name: its label, every name that finds it, the registers it covers."""

    label: str
    names: frozenset[str]
    located: tuple[Located, ...] = ()


class Names:
    """Finds registers by region, offset and size. ``blocks``: region index -> description."""

    def __init__(self, blocks: Mapping[int, Block]) -> None:
        self._blocks = dict(blocks)
        self._touches: dict[tuple[int, int, int, int], Touch] = {}
        self._described: set[str] = set()

    def check(self, name: str) -> None:
        """Raise ValueError, with what there is of similar name, when no record can ever be called so."""
        self._described = self._described or _PLAIN_NAMES | set(_described(self._blocks))
        # A label of several registers is "bar0.A+B" or "bar0.A[0]…A[3]".
        parts = {name} if name in self._described else set(re.split("[+…]", name))
        if parts <= self._described or _BYTES.fullmatch(name) or _VECTOR.fullmatch(name):
            return
        near = get_close_matches(name, sorted(self._described), 3, 0.5) or sorted(
            block.name for block in self._blocks.values()
        )
        raise ValueError(f"no register is called {name!r}; there are {', '.join([*near, '...'])}")

    def touch(self, kind: int, region: int, offset: int, size: int) -> Touch:
        """Return the place that a record of this kind (a number) is about."""
        key = (kind, region, offset, size)
        if kind not in _TOUCHES:
            key = (kind, 255, offset if kind in _IRQS else 0, 0)
        touch = self._touches.get(key)
        if touch is None:
            if len(self._touches) >= _CACHED:  # a guest that sweeps a large BAR must not fill memory
                self._touches = {}  # another thread may be looking at the old ones
            touch = self._touches[key] = self._resolve(*key)
        return touch

    def table(self, records: Records) -> tuple[npt.NDArray[np.intp], list[Touch]]:
        """Return the distinct places of the records, and for each record the number of its place."""
        numbering = self.numbering()
        return numbering.codes(records).astype(np.intp), numbering.touches

    def numbering(self) -> "Numbering":
        """Return what numbers the places of many records, piece by piece."""
        return Numbering(self)

    def _resolve(self, kind: int, region: int, offset: int, size: int) -> Touch:
        if kind in _IRQS:
            index = irq_name(offset >> 16)
            vector = vector_name(offset >> 16, offset & 0xFFFF)
            names = {index, vector}
            return Touch(f"irq.{vector}", frozenset({"irq", *names, *(f"irq.{text}" for text in names)}))
        if kind not in _TOUCHES:
            label = "dma" if kind in _DMA else "reset" if kind in _RESETTING else "client"
            return Touch(label, frozenset({label}))
        block = self._blocks.get(region)
        name = block.name if block else region_name(region)
        located = _answering(kind, block.at(offset, size)) if block else ()
        if not located:
            return Touch(f"{name}+{offset:#x}", frozenset({name, f"{name}+{offset:#x}"}))
        elements = [found.register.element_name(found.index) for found in located]
        names = {_join(elements), *elements, *(found.register.name for found in located)}
        full = {f"{name}.{text}" for text in names}
        return Touch(f"{name}.{_join(elements)}", frozenset({name} | names | full), located)


class Numbering:
    """Numbers the places that records touch, in the order in which they come."""

    def __init__(self, names: Names) -> None:
        self._names, self._keys, self._far = names, Distinct(), Distinct()
        self.touches: list[Touch] = []  #: what each number stands for

    def codes(self, records: Records) -> npt.NDArray[np.int32]:
        """Return the number of each record's place."""
        codes, first = self._keys.codes(self._key(records))
        for row in records[["plane", "kind", "region", "offset", "size"]][first].tolist():
            self.touches.append(self._names.touch(kind_of_touch(*row[:2]), *row[2:]))
        return codes

    def _key(self, records: Records) -> npt.NDArray[np.uint64]:
        """Return 5 bits of kind, 8 of region, 21 of size (at most 1 MiB), 30 of offset or of its number."""
        kind = np.where(records["plane"], np.uint8(lib.WB_KIND_WRITE), records["kind"])
        touching = _IS_TOUCH[kind]
        where = np.where(touching | _IS_IRQ[kind], records["offset"], 0)
        far = where >= _FAR
        if far.any():
            where[far] = self._far.codes(where[far])[0] + _FAR
        size = np.where(touching, records["size"], 0).astype(np.uint64)
        key = (where << np.uint64(34)) | (size << np.uint64(13))
        region = records["region"].astype(np.uint64) << np.uint64(5)
        return np.asarray(key | region | kind.astype(np.uint64), np.uint64)


class Distinct:
    """Numbers values in the order in which they come: 0, 1, 2 ..."""

    def __init__(self) -> None:
        self._values = np.array([(1 << 64) - 1], np.uint64)  # sorted; the last one is no value of ours
        self._numbers = np.array([-1], np.int32)

    def codes(self, values: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
        """Return the values' numbers, and where those stand that were not there before."""
        at = np.searchsorted(self._values, values)
        new = np.flatnonzero(self._values[at] != values)
        if not len(new):
            return self._numbers[at], new
        fresh, first = np.unique(values[new], return_index=True)
        places = np.searchsorted(self._values, fresh)
        numbers = np.arange(len(fresh), dtype=np.int32) + len(self._values) - 1
        self._values = np.insert(self._values, places, fresh)
        self._numbers = np.insert(self._numbers, places, numbers)
        return self._numbers[np.searchsorted(self._values, values)], new[first]


def kind_of_touch(plane: int, kind: int) -> int:
    """Return the kind that finds a record's registers: a poke of the latch meets those that a write does."""
    return lib.WB_KIND_WRITE if plane else kind


def _described(blocks: Mapping[int, Block]) -> Iterator[str]:
    """Return every name of the registers described, alone and with its block's."""
    for block in blocks.values():
        yield block.name
        for register in block.registers.values():
            elements = [register.element_name(index) for index in range(register.count)]
            for name in (register.name, *elements):
                yield from (name, f"{block.name}.{name}")


def _answering(kind: int, located: list[Located]) -> tuple[Located, ...]:
    """Leave out, of registers that share bytes, the write-only ones for a read and the reverse."""
    if kind == lib.WB_KIND_SWAP:
        return tuple(located)
    plane = "written_mask" if kind == lib.WB_KIND_WRITE else "stored_mask"
    return tuple(found for found in located if getattr(found.register, plane)) or tuple(located)


def _join(names: list[str]) -> str:
    return "+".join(names) if len(names) <= 3 else f"{names[0]}…{names[-1]}"


@dataclass(frozen=True, slots=True)
class Record:
    """One touch of the device, decoded. ``str(record)`` is its line in the transcript."""

    seq: int  #: counts every record of the device, without gaps
    time: int  #: ns, CLOCK_MONOTONIC, when the access began
    kind: str  #: "read", "write", "poke", "mmap", "irq", "dma_read", "reset", "state", "swap", "attach" ...
    origin: str  #: who did it: "guest", "notebook", "device" (its hooks)
    register: str  #: "bar0.CTRL", "bar0.A+B", "bar0+0x40" where no register is, "irq.INTx", "dma" ...
    offset: int  #: bytes into the region; the IOVA of DMA
    size: int  #: bytes
    value: int  #: what was read or written; of a refused DMA access: the errno
    old: int  #: the stored bytes before; write-only bits: as last written
    now: int  #: the stored bytes after the rules, before a write hook
    #: ns from request to answer, hooks included; "mmap": it changed so long before `time` at most
    latency: int
    revision: int  #: of the last hook that ran; 0: none
    #: "unmapped", "violation", "hook_ran", "hook_failed", "long", "refused", "signalled", "more", "asleep"
    flags: frozenset[str]
    changes: tuple[str, ...]  #: fields that changed, as "ENABLE 0→1"
    text: str  #: what happened, in words
    elapsed: int = 0  #: ns since the first record of the log

    @classmethod
    def decode(cls, row: tuple[Any, ...], names: Names, epoch: int) -> "Record":
        """Return the record for one row of a RECORD array, given as a tuple."""
        seq, time, offset, value, old, now, latency, size, revision, bits, kind, origin, region, plane = row
        touch = names.touch(kind_of_touch(plane, kind), region, offset, size)
        changes: tuple[str, ...] = ()
        if kind in _TOUCHES and kind != lib.WB_KIND_SWAP:
            changes = _changes(touch, offset, size, old, now)
            text = "  ".join(changes) or _decoded(touch, offset, size, value)
            if bits & lib.WB_MORE:
                changes, text = (), f"{value} more words changed"
        else:
            text = _story(kind, offset, size, value, revision)
        flags = frozenset(name for bit, name in FLAGS.items() if bits & bit)
        name = KINDS.get(kind, str(kind))
        who = ORIGINS.get(origin, str(origin))
        return cls(
            seq, time, name, who, touch.label, offset, size, value, old, now, latency, revision, flags,
            changes, text, max(0, time - epoch),
        )  # fmt: skip

    @property
    def digits(self) -> str:
        """The value in hexadecimal, as wide as the access, at most 8 bytes; empty where there is none."""
        has_one = self.kind in ("read", "write", "poke", "mmap", "dma_read", "dma_write")
        has_one = has_one and not self.flags & {"refused", "more"}
        return f"0x{self.value:0{2 * min(self.size, 8)}x}" if has_one else ""

    @property
    def marks(self) -> str:
        """What is wrong with the access, as ``! unmapped address``; empty when nothing is."""
        said = [text for name, text in _MARKS.items() if name in self.flags]
        if "refused" in self.flags:
            code = errno.errorcode.get(self.value, f"errno {self.value}")
            reason, _ = DMA_REASONS.get(self.value, ("", ""))
            said.append(f"refused: {reason} ({code})" if reason else f"refused: {code}")
        return "! " + ", ".join(said) if said else ""

    def __str__(self) -> str:
        revision = f"rev {self.revision}" if self.revision else ""
        latency = duration(self.latency) if self.latency else ""
        line = (
            f"{self.elapsed / 1e6:>12.6f} ms  {self.origin:<8}  {self.kind:<9}  {self.register:<20}  "
            f"{self.digits:<10}  {self.text:<24}  {revision:<6}  {latency:>7}  {self.marks}"
        )
        return line.rstrip()


def duration(ns: float) -> str:
    """Return a time in the unit that suits it: ``850 ns``, ``3.1 µs``, ``12 ms``, ``4.0 s``."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.1f} {unit}" if ns < 10 * size else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns" if ns else "0 s"


def _parts(touch: Touch, offset: int, size: int) -> list[tuple[str, Field | None, int, int]]:
    """Return (name, field, shift, width) of everything the accessed bytes cover, seen from their bit 0.

    A field that is covered only in part comes without itself, named by its bits: its enumeration and
    its number would be wrong.
    """
    found: list[tuple[str, Field | None, int, int]] = []
    bits = 8 * min(size, 8)
    for register, index in touch.located:
        base = 8 * (register.element_offset(index) - offset)
        prefix = register.element_name(index) if len(touch.located) > 1 else ""
        for name, lsb, width, field in _bits(register):
            low, high = max(base + lsb, 0), min(base + lsb + width, bits)
            if high <= low:
                continue
            whole = high - low == width
            cut = "" if whole else f"[{high - 1 - base - lsb}:{low - base - lsb}]"
            title = ".".join(filter(None, (prefix, name)))
            found.append((f"{title}{cut}", field if whole else None, low, high - low))
    return found


def _bits(register: Register) -> list[tuple[str, int, int, Field | None]]:
    if not register.fields:
        return [("", 0, register.width, None)]
    return [(field.name, field.lsb, field.width, field) for field in register.fields.values()]


def _changes(touch: Touch, offset: int, size: int, old: int, now: int) -> tuple[str, ...]:
    said = []
    for name, field, shift, width in _parts(touch, offset, size):
        before, after = (old >> shift) & ((1 << width) - 1), (now >> shift) & ((1 << width) - 1)
        if before != after:
            said.append(f"{name} {spell(before, field)}→{spell(after, field)}".strip())
    return tuple(said)


def _decoded(touch: Touch, offset: int, size: int, value: int) -> str:
    """Return the fields of a value that changed nothing, those at 0 without an own name left out."""
    said = []
    for name, field, shift, width in _parts(touch, offset, size):
        n = (value >> shift) & ((1 << width) - 1)
        text = spell(n, field)
        if name and text != "0":
            said.append(f"{name}={text}")
    return "  ".join(said)


#: How a conversation ended, by errno: whose fault it was.
_ENDS = {
    0: "the client went",
    errno.EPROTO: "the client was cut off, as it broke the protocol (EPROTO)",
    errno.EMFILE: "the client was cut off, as no file descriptors were left here to take its own (EMFILE)",
}


def _story(kind: int, offset: int, size: int, value: int, revision: int) -> str:
    """Return in words what a record that touches no register is about."""
    failed, vector = errno.errorcode.get(value, str(value)), vector_name(offset >> 16, offset & 0xFFFF)
    return {
        lib.WB_KIND_IRQ: f"{vector} {_OUTCOMES.get(value, value)}",
        lib.WB_KIND_UNMASK: f"{vector} unmasked",
        lib.WB_KIND_DMA_READ: f"IOVA {offset:#x}, {size} bytes",
        lib.WB_KIND_DMA_WRITE: f"IOVA {offset:#x}, {size} bytes",
        lib.WB_KIND_MAP: f"IOVA {offset:#x}, {data_size(value)}",
        lib.WB_KIND_UNMAP: f"IOVA {offset:#x}, {data_size(value)}",
        lib.WB_KIND_RESET: _RESETS.get(value, ""),
        lib.WB_KIND_STATE: _STATES.get(value, ""),
        lib.WB_KIND_SWAP: f"{_SLOTS.get(value, 'hook')} {'set' if revision else 'removed'}",
        lib.WB_KIND_ATTACH: "a client came",
        lib.WB_KIND_DETACH: _ENDS.get(value, f"the client went: {failed}"),
        lib.WB_KIND_ERROR: f"malformed message, {command_name(offset)}: {failed}",
    }.get(kind, "")


def data_size(n: int) -> str:
    """Return a number of bytes in the unit that it fills: ``4 KiB``, ``16 MiB``, ``100 bytes``."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= size and n % size == 0:
            return f"{n // size} {unit}"
    return f"{n} bytes"
