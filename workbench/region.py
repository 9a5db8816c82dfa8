"""The bytes of one block of one device, in the engine: peek, poke, read and write by offset; mapped pages."""

import errno
import mmap
import threading
from operator import index
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from .engine import check, ffi, lib
from .errors import StateError
from .hooks import Hooks
from .registers import Block
from .watch import Watch

__all__ = ["Region"]


class Region:
    """The engine's bytes of one block: peek, poke, read, write by offset."""

    __slots__ = ("_memory", "block", "handle", "hooks", "index")

    def __init__(self, handle: Any, index: int, block: Block, hooks: Hooks) -> None:
        self.handle = handle
        self.index = index
        self.block = block
        self.hooks = hooks
        self._memory: tuple[Any, mmap.mmap] | None = None  # of which handle

    def peek(self, offset: int, size: int, plane: int = lib.WB_VALUE) -> int:
        """Return up to 8 stored bytes as a number."""
        if not (0 <= offset <= self.block.size - size and 0 <= size <= 8):
            raise OSError(errno.EINVAL, f"{self.where(offset, size)}: it has {self.block.size:#x} bytes")
        return lib.wb_region_word(self.handle, self.index, plane, offset, size)

    def poke(self, offset: int, size: int, value: int, mask: int, plane: int = lib.WB_VALUE) -> None:
        """Replace the masked bits of up to 8 stored bytes."""
        result = lib.wb_region_poke(
            self.handle, self.index, plane, offset, value, mask, size, self.hooks.origin()
        )
        if result:
            check(result, self.where(offset, size))

    def read(self, offset: int, size: int) -> bytes:
        """Read as the guest would: rules, hooks, log."""
        self.may_hold(offset, size)
        into = ffi.new("uint8_t[]", max(size, 1))
        result = lib.wb_region_read(self.handle, self.index, offset, into, size, self.hooks.origin())
        check(result, self.where(offset, size))
        self._interrupt()
        return bytes(ffi.buffer(into, size))

    def write(self, offset: int, data: bytes) -> None:
        """Write as the guest would: rules, hooks, log."""
        self.may_hold(offset, len(data))
        result = lib.wb_region_write(self.handle, self.index, offset, data, len(data), self.hooks.origin())
        check(result, self.where(offset, len(data)))
        self._interrupt()

    def array(self, dtype: npt.DTypeLike, offset: int | None, count: int | None) -> npt.NDArray[Any]:
        """Return ``count`` elements at ``offset`` of the mapped pages, shared with the guest."""
        kind = np.dtype(dtype)
        start, size = self.mapped(offset)
        offset = start if offset is None else index(offset)
        room = (start + size - offset) // max(kind.itemsize, 1)
        count = room if count is None else count
        if not 1 <= count <= room:
            raise ValueError(
                f"{count} elements of {kind} at {offset:#x} of {self.block.name}: there is room for {room}"
            )
        # The array keeps the mapping, which keeps the memory: it stays good when the device is gone.
        return np.frombuffer(self._shared(), kind, count, offset)

    def watch(self, offset: int | None, size: int | None, period: float) -> Watch:
        """Return a running watch over mapped pages; the core stops it when the device is closed."""
        start, room = self.mapped(offset)
        offset = start if offset is None else index(offset)
        size = start + room - offset if size is None else index(size)
        if not 1 <= size <= start + room - offset:
            raise ValueError(f"{self.where(offset, size)}: the mapped pages end at {start + room:#x}")
        self._file()
        watch, core = Watch(self, offset, size, period), self.hooks.owner()
        if core is not None:
            core.watches[:] = [*(one for one in core.watches if one.running), watch]
        return watch

    def mapped(self, offset: int | None) -> tuple[int, int]:
        """Return the mapped area (start, size) at ``offset``; None: the only one there is.

        Raises StateError when there is none or, without offset, several; ValueError for an offset outside.
        """
        name, areas = self.block.name, self.block.mapped
        said = ", ".join(f"{start:#x}-{start + size - 1:#x}" for start, size in areas)
        if not areas:
            raise StateError(f"{name} has no mapped pages: class {name}(wb.Bar, size=..., mmap=True)")
        if offset is None and len(areas) > 1:
            raise StateError(f"{name} has several mapped areas ({said}): say an offset")
        area = areas[0] if offset is None else self.block.mapped_area(offset)
        if area is None:
            raise ValueError(f"{offset:#x} is in no mapped page of {name}: those are {said}")
        return area

    def _shared(self) -> mmap.mmap:
        if self._memory is None or self._memory[0] is not self.handle:
            self._memory = self.handle, mmap.mmap(self._file(), 0)
        return self._memory[1]

    def _file(self) -> int:
        """Return the file of the mapped pages, which stays the engine's. StateError when it is closed."""
        fd: int = lib.wb_region_fd(self.handle, self.index)
        if fd < 0:
            raise StateError(f"{self.block.name}: the device is closed; arrays made before stay good")
        return fd

    def forget_memory(self) -> None:
        """Let the mapping go when its last array does."""
        self._memory = None

    def may_hold(self, offset: int, size: int) -> None:
        """Raise OSError (EINVAL) for bytes that are in no block of this size, wherever it begins.

        The engine's own numbers have no sign and 64 bits, and room must be had before it is asked.
        """
        if not (0 <= index(offset) < 1 << 64 and 0 <= index(size) <= self.block.size):
            raise OSError(errno.EINVAL, f"{self.where(offset, size)}: it has {self.block.size:#x} bytes")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self.block.name} belongs to a device, which can neither be copied nor pickled")

    def where(self, offset: int, size: int) -> str:
        """Say which bytes are meant, for errors."""
        return f"{self.block.name} at {offset:#x}, {size} bytes"

    def _interrupt(self) -> None:
        if self.hooks.interrupted == threading.get_ident() and not self.hooks.running_here:
            self.hooks.interrupted = 0
            raise KeyboardInterrupt
