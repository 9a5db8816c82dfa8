"""Hot swap of a whole class: a device that is served takes on a new description, guest attached.

What a guest has seen cannot change under it: identity, BARs, capabilities, interrupts (its *layout*).
Everything else can: registers, fields, rules, reset values, hooks, methods. Register values stay.
While the bytes are described anew the guest's next access waits at the gate.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .engine import check, ffi, lib
from .errors import StateError
from .planes import RULES, STATE
from .registers import Block

__all__ = ["PLANES", "WAY_OUT", "describe", "refuse_new_layout"]

#: What to do about another layout, in a notebook.
WAY_OUT = "Close the VM, call serve() on a new instance and start the VM again"

PAGE = 4096
#: Which bytes were described: a byte each, by the offset of their page. A large BAR has few of those.
Known = dict[int, bytearray]

PLANES = {name: getattr(lib, f"WB_{name.upper()}") for name in (*STATE, *RULES)}


def describe(handle: Any, blocks: Mapping[int, Block], old: Mapping[int, Block] | None = None) -> None:
    """Write the planes of every block into the engine. Raises OSError when it refuses.

    With ``old``, the blocks in force: their rules are withdrawn first, values of bytes that were described
    before stay, and bytes that are new get their reset values. A ROM's bytes are those of the new image.
    """
    for index, block in blocks.items():
        if old is None:
            _program(handle, index, block, {})
        elif index != lib.WB_CONFIG:
            known: Known = {}
            for segment in old[index].segments():
                size = len(segment.planes["known"])
                for plane in RULES:
                    _set(handle, index, plane, segment.offset, bytes(size), block)
                _mark(known, segment.offset, size)
            _program(handle, index, block, {} if index == lib.WB_ROM else known)


def _mark(known: Known, offset: int, size: int) -> None:
    for start in range(offset & -PAGE, offset + size, PAGE):
        low, high = max(offset, start) - start, min(offset + size - start, PAGE)
        known.setdefault(start, bytearray(PAGE))[low:high] = b"\1" * (high - low)


def _marks(known: Known, offset: int, size: int) -> bytes:
    first = offset & -PAGE
    pages = b"".join(known.get(start, bytes(PAGE)) for start in range(first, offset + size, PAGE))
    return pages[offset - first : offset - first + size]


def _program(handle: Any, index: int, block: Block, keep: Known) -> None:
    for offset, planes in block.segments():
        for plane, data in planes.items():
            if plane in ("value", "latch") and keep:
                _set_unknown(handle, index, plane, offset, data, block, keep)
            else:
                _set(handle, index, plane, offset, data, block)


def _set_unknown(
    handle: Any, index: int, plane: str, offset: int, data: bytes, block: Block, keep: Known
) -> None:
    size = len(data)
    stored = ffi.new("uint8_t[]", size)
    check(lib.wb_region_get(handle, index, PLANES[plane], offset, stored, size), block.name)
    present = bytes(ffi.buffer(stored, size))
    merged = bytes(
        old if known else new
        for old, new, known in zip(present, data, _marks(keep, offset, size), strict=True)
    )
    _set(handle, index, plane, offset, merged, block)


def _set(handle: Any, index: int, plane: str, offset: int, data: bytes, block: Block) -> None:
    result = lib.wb_region_set(handle, index, PLANES[plane], offset, data, len(data))
    check(result, f"{block.name} at {offset:#x}")


def refuse_new_layout(name: str, changes: Sequence[str]) -> None:
    """Raise StateError naming what changed and the way out, if anything did."""
    if changes:
        seen = f"{name}: the guest has seen another layout ({'; '.join(changes)}). "
        raise StateError(f"{seen}{WAY_OUT}")
