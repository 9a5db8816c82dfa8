"""The bytes of one block of one device, in the engine: peek, poke, read and write by offset."""

import errno
import threading
from operator import index
from typing import Any, NoReturn

from .engine import check, ffi, lib
from .hooks import Hooks
from .registers import Block

__all__ = ["Region"]


class Region:
    """The engine's bytes of one block: peek, poke, read, write by offset."""

    __slots__ = ("block", "handle", "hooks", "index")

    def __init__(self, handle: Any, index: int, block: Block, hooks: Hooks) -> None:
        self.handle = handle
        self.index = index
        self.block = block
        self.hooks = hooks

    def peek(self, offset: int, size: int, plane: int = lib.WB_VALUE) -> int:
        """Return up to 8 stored bytes as a number."""
        word = ffi.new("uint64_t *")
        into = ffi.cast("uint8_t *", word)
        check(lib.wb_region_get(self.handle, self.index, plane, offset, into, size), self.where(offset, size))
        return int(word[0])

    def poke(self, offset: int, size: int, value: int, mask: int, plane: int = lib.WB_VALUE) -> None:
        """Replace the masked bits of up to 8 stored bytes."""
        result = lib.wb_region_poke(
            self.handle, self.index, plane, offset, value, mask, size, self.hooks.origin()
        )
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
