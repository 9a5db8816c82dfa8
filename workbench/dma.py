"""Guest memory as the device sees it: ``dev.dma``, by I/O virtual address (IOVA).

The client maps its memory with DMA_MAP; the engine keeps the table and copies through the file
descriptors that came along, so a file truncated by its owner is an error and never a crash. No
view of guest memory escapes: the client may unmap it at any moment.
"""

import errno
from collections.abc import Callable
from operator import index
from typing import Any, NamedTuple

from .engine import ffi, lib
from .errors import DMA_REASONS, DmaError

__all__ = ["DmaMemory", "DmaRegion"]


class DmaRegion(NamedTuple):
    """One range the client mapped: IOVA, size in bytes, and what the device may do there."""

    iova: int
    size: int
    readable: bool
    writable: bool
    shared: bool  #: a file descriptor came with it

    def __repr__(self) -> str:
        rights = ("r" if self.readable else "-") + ("w" if self.writable else "-")
        return f"<DmaRegion {self.iova:#x}+{self.size:#x} {rights}{'' if self.shared else ' without fd'}>"


class DmaMemory:
    """Copies to and from guest memory; ``regions`` lists what is mapped now."""

    def __init__(self, handle: Any, origin: Callable[[], int]) -> None:
        self._handle = handle
        self._origin = origin  # who acts: a cell, or the device in one of its hooks
        self.owner: Callable[[], Any] = lambda: None  #: the core it belongs to

    def view(self, iova: int = 0) -> Any:
        """Return a live view of the guest's memory from an IOVA on."""
        from .views.doors import view_of

        return view_of(self.owner, "memory", iova=hex(iova))

    @property
    def regions(self) -> list[DmaRegion]:
        """The ranges the client has mapped, by ascending IOVA."""
        room = 64
        while True:
            ranges = ffi.new("wb_dma_range[]", room)
            count = lib.wb_dma_list(self._handle, ranges, room)
            if count <= room:
                return [self._region(ranges[i]) for i in range(count)]
            room = count

    def read(self, iova: int, size: int) -> bytes:
        """Copy ``size`` bytes from the guest. Raises DmaError when they cannot be reached."""
        into = self._room("read", iova, size)
        self._check(lib.wb_dma_read(self._handle, iova, into, size, self._origin()), "read", iova, size)
        return bytes(ffi.buffer(into, size))

    def write(self, iova: int, data: bytes) -> None:
        """Copy ``data`` to the guest. Raises DmaError, and writes nothing, when it cannot be reached."""
        data = bytes(memoryview(data))  # an int is no data
        self._reach("write", iova, len(data))
        self._check(
            lib.wb_dma_write(self._handle, iova, data, len(data), self._origin()), "write", iova, len(data)
        )

    def peek(self, iova: int, size: int) -> bytes:
        """Copy ``size`` bytes for a display: not logged, bus mastering may be off. Raises DmaError."""
        into = self._room("peek at", iova, size)
        self._check(lib.wb_dma_peek(self._handle, iova, into, size), "peek at", iova, size)
        return bytes(ffi.buffer(into, size))

    def poke(self, iova: int, data: bytes) -> None:
        """Copy ``data`` as the workbench: logged, bus mastering may be off. Raises DmaError."""
        data = bytes(memoryview(data))
        self._reach("poke", iova, len(data))
        self._check(
            lib.wb_dma_poke(self._handle, iova, data, len(data), self._origin()), "poke", iova, len(data)
        )

    def _room(self, verb: str, iova: int, size: int) -> Any:
        """Return room for so many bytes of guest memory. DmaError when there cannot be so many."""
        if index(size) < 0:
            raise ValueError(f"a size is 0 or more bytes, not {size}")
        self._reach(verb, iova, size)
        try:
            return ffi.new("uint8_t[]", max(size, 1))
        except MemoryError:  # no guest has mapped that much
            self._check(-errno.EFAULT, verb, iova, size)

    def _reach(self, verb: str, iova: int, size: int) -> None:
        """Raise DmaError for what is beyond every address."""
        if index(iova) < 0 or iova + size > 1 << 64:
            self._check(-errno.EFAULT, verb, iova, size)

    @staticmethod
    def _region(found: Any) -> DmaRegion:
        bits = (lib.WB_DMA_READABLE, lib.WB_DMA_WRITABLE, lib.WB_DMA_HAS_FD)
        return DmaRegion(found.iova, found.size, *(bool(found.flags & bit) for bit in bits))

    @staticmethod
    def _check(result: int, verb: str, iova: int, size: int) -> None:
        if result < 0:
            _, reason = DMA_REASONS.get(-result, ("", errno.errorcode.get(-result, str(-result))))
            raise DmaError(-result, f"cannot {verb} {size} bytes at IOVA {iova:#x}: {reason}")

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.regions)) or "<no guest memory mapped>"
