"""Guest memory as the device sees it: ``dev.dma``, by I/O virtual address (IOVA).

The client maps its memory with DMA_MAP; the engine keeps the table and copies: from a mapping, from
a file that could shrink by system calls, and where the client shared no file by DMA_READ and
DMA_WRITE messages. No view of guest memory escapes: the client may unmap it at any moment. Every
copy is a log record, asks for bus mastering, and raises DmaError when it fails.
"""

import errno
import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from .buffers import refuse_objects
from .engine import ffi, lib
from .errors import DMA_REASONS, DmaError
from .sharing import PRIVATE, Sharing, differs, in_time

__all__ = ["IOVA_SIZE", "DmaMemory", "DmaRegion"]

IOVA_SIZE = 1 << 64
BYTE = np.dtype(np.uint8)
RANGE = np.dtype(
    [(name, "<u8") for name in ("iova", "size", "offset")] + [("flags", "<u4"), ("spare", "<u4")]
)
NO_RAM = "a software guest has none at first, guest.memory.map(0, 1 << 20) gives it some"
_LINES = 64  # regions that the plain text lists


class DmaRegion(NamedTuple):
    """One range the client mapped: IOVA, size in bytes, and what the device may do there.

    ``reach`` is how copies get there: "mapped", "file" (system calls) or "messages".
    """

    iova: int
    size: int
    readable: bool
    writable: bool
    shared: bool  #: a file descriptor came with it
    reach: str
    private: bool  #: but the guest does not see what is in the file (``check()``)

    def __repr__(self) -> str:
        note = " (private to the guest)" if self.private else "" if self.shared else " without fd"
        return f"<DmaRegion {self.iova:#x}+{self.size:#x} {self.rights} {self.reach}{note}>"

    @property
    def rights(self) -> str:
        """What the device may do: "rw", "r-", "-w" or "--"."""
        return ("r" if self.readable else "-") + ("w" if self.writable else "-")


class DmaMemory:
    """Copies to, from and inside guest memory; ``regions`` lists what is mapped now.

    Callable from any thread. Memory that is reached by messages is out of reach for a hook: the guest
    waits for the hook and answers nothing meanwhile. Do such copies in ``dev.defer(fn)`` or in a cell;
    while a deferred function waits for the guest's answer, hooks may run.
    """

    def __init__(self, handle: Any, origin: Callable[[], int]) -> None:
        self._handle = handle
        self._origin = origin  # who acts: a cell, or the device in one of its hooks
        self.owner: Callable[[], Any] = lambda: None  #: the core it belongs to
        self.away: Callable[[], AbstractContextManager[None]] = nullcontext  # hooks may run meanwhile
        self.sharing = Sharing(self.check)
        self._timeout = 2.0

    def view(self, iova: int | None = None) -> Any:
        """Return a live view of regions and transfers; with an IOVA, of the guest's memory from there on."""
        from .views.doors import view_of

        if iova is None:
            return view_of(self.owner, "dma")
        return view_of(self.owner, "memory", iova=hex(_address(iova)))

    @property
    def regions(self) -> list[DmaRegion]:
        """The ranges the client has mapped, by ascending IOVA."""
        return [_region(*row) for row in self._ranges().tolist()]

    def some_regions(self, first: int, count: int) -> tuple[list[DmaRegion], int, int]:
        """Return ``count`` regions from number ``first`` on, how many there are, and their bytes in all.

        For displays: a client may have mapped 65,535.
        """
        ranges = self._ranges()
        pages = int((ranges["size"] >> np.uint64(12)).sum())  # whole pages; bytes in all may take 65 bits
        shown = ranges[first : first + count].tolist()
        return [_region(*row) for row in shown], len(ranges), pages << 12

    def _ranges(self) -> "np.ndarray[Any, Any]":
        room = 64
        while True:
            ranges = np.empty(room, RANGE)
            into = ffi.from_buffer("wb_dma_range[]", ranges.view(np.uint8))
            count = lib.wb_dma_list(self._handle, into, room)
            if count <= room:
                return ranges[:count]
            room = count

    @property
    def timeout(self) -> float:
        """Seconds that an answer to one DMA_READ or DMA_WRITE message may take; 2 at first.

        QEMU gives a device up after 5 s, so a copy that waits for a guest that waits for us ends before.
        """
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        if not 0 < seconds <= 3600:
            raise ValueError(f"timeout is seconds above 0 and up to 3600, not {seconds!r}")
        self._timeout = seconds
        lib.wb_peer_patience(self._handle, max(1, round(seconds * 1000)))

    # -- copies --

    def read(self, iova: int, size: int) -> bytes:
        """Copy ``size`` bytes from the guest. Raises DmaError when they cannot be reached."""
        into = self._room("read", iova, size)
        self.read_into(iova, into)
        return into.tobytes()

    def read_into(self, iova: int, buffer: Any) -> None:
        """Fill a writable buffer (bytearray, NumPy array ...) from the guest, without a copy in between.

        Raises DmaError, and TypeError or ValueError when the buffer is no place to put bytes.
        """
        iova, (into, size) = _address(iova), _writable(buffer)
        self._end(self._run(lib.wb_dma_read, [(iova, size)], iova, into, size), "read", iova, size)

    def array(self, iova: int, dtype: Any, count: int = 1) -> "np.ndarray[Any, Any]":
        """Copy ``count`` elements of a NumPy dtype from the guest into a new array. Raises DmaError.

        PCI is little endian: give dtypes as ``"<u4"``, structures with ``align=False``.
        """
        kind = np.dtype(dtype)
        if kind.hasobject or not kind.itemsize:
            raise ValueError(f"elements of type {kind} are no bytes of memory")
        into = self._room("read", iova, count, kind)
        self.read_into(iova, into.view(np.uint8))
        return into

    def write(self, iova: int, data: Any) -> None:
        """Copy bytes, or any other buffer such as a NumPy array, to the guest.

        Raises DmaError; nothing is written then, unless the client fails in the middle.
        """
        iova, (source, size) = _address(iova), _readable(data)
        self._end(self._run(lib.wb_dma_write, [(iova, size)], iova, source, size), "write", iova, size)

    def copy(self, to: int, source: int, size: int) -> None:
        """Copy ``size`` bytes inside the guest, from IOVA ``source`` to IOVA ``to``; they may overlap.

        Two log records. Raises DmaError; nothing is copied unless both ranges are mapped.
        """
        ends = _spans([(to, size), (source, size)])
        result = self._run(lib.wb_dma_copy, ends, ends[0][0], *ends[1])
        self._end(result, f"copy to {to:#x}", source, size)

    def gather(self, pieces: Iterable[tuple[int, int]]) -> bytes:
        """Copy a list of (IOVA, bytes) from the guest, joined. A log record for each piece.

        Raises DmaError, and copies nothing, when one of them is not mapped; at most 16384 pieces.
        """
        spans = _spans(pieces)
        into = self._room("gather", spans[0][0] if spans else 0, sum(size for _, size in spans))
        self._many(lib.wb_dma_gather, spans, ffi.from_buffer("uint8_t[]", into), "gather")
        return into.tobytes()

    def scatter(self, pieces: Iterable[tuple[int, int]], data: Any) -> None:
        """Copy ``data`` to a list of (IOVA, bytes), one after another. A log record for each piece.

        Raises DmaError, and copies nothing, when one of them is not mapped; ValueError when ``data`` has
        another length than the pieces together; at most 16384 pieces.
        """
        spans = _spans(pieces)
        source, size = _readable(data)
        if size != (room := sum(length for _, length in spans)):
            raise ValueError(f"{size} bytes of data do not fill pieces of {room} bytes in all")
        self._many(lib.wb_dma_scatter, spans, source, "scatter")

    def peek(self, iova: int, size: int) -> bytes:
        """Copy ``size`` bytes for a display: not logged, bus mastering may be off. Raises DmaError.

        The guest is not asked: what messages alone reach cannot be seen.
        """
        into = self._room("peek at", iova, size)
        result = lib.wb_dma_peek(self._handle, _address(iova), ffi.from_buffer("uint8_t[]", into), size)
        self._end(result, "peek at", iova, size)
        return into.tobytes()

    def poke(self, iova: int, data: Any) -> None:
        """Copy bytes as the workbench: logged, bus mastering may be off. Raises DmaError."""
        source, size = _readable(data)
        result = lib.wb_dma_poke(self._handle, _address(iova), source, size, self._origin())
        self._end(result, "poke", iova, size)

    def _room(self, verb: str, iova: int, count: int, kind: "np.dtype[Any]" = BYTE) -> "np.ndarray[Any, Any]":
        count = _size(count)
        try:
            return np.empty(count, kind)
        except (MemoryError, ValueError):  # no guest has mapped that much
            self._end(-errno.EFAULT, verb, iova, count * kind.itemsize)
            raise

    # -- is it shared? --

    def check(self) -> list[DmaRegion]:
        """Ask the guest whether it sees the memory it shared; return the ranges that it does not.

        QEMU sends a file for private memory too (``share=off``). What is found private is reached by messages
        until the client goes. Done by itself once in a conversation with QEMU. Raises DmaError when the
        guest cannot be asked: bus mastering is off, no answer, called in a hook, or 3 s were not enough.
        """
        ask = in_time(self._ask)
        private = {region.iova for region in self.regions if region.private}
        for region in self.regions:
            if not region.shared or not region.readable or region.iova in private:
                continue  # perhaps it has the file of one before
            if differs(region.iova, region.size, self.peek, ask):
                self._end(lib.wb_dma_distrust(self._handle, region.iova), "doubt", region.iova, region.size)
                private = {region.iova for region in self.regions if region.private}
        return [region for region in self.regions if region.private]

    def _ask(self, iova: int, size: int) -> bytes:
        into = np.empty(size, np.uint8)
        # A hook of the guest's is refused.
        with nullcontext() if lib.wb_turn_now(self._handle) else self.away():
            result = lib.wb_peer_read(self._handle, iova, ffi.from_buffer("uint8_t[]", into), size)
        self._end(result, "ask the guest for", iova, size)
        return into.tobytes()

    # -- around each copy --

    def _run(self, function: Callable[..., int], spans: Sequence[tuple[int, int]], *arguments: Any) -> int:
        if self.sharing.doubtful:
            self.sharing.look()
        origin = self._origin()
        waits = origin == lib.WB_DEVICE and any(lib.wb_dma_waits(self._handle, *span) for span in spans)
        if not waits:
            return function(self._handle, *arguments, origin)
        with self.away():
            return function(self._handle, *arguments, origin)

    def _many(
        self, function: Callable[..., int], spans: Sequence[tuple[int, int]], data: Any, verb: str
    ) -> None:
        if len(spans) > lib.WB_MAX_SPANS:
            raise ValueError(f"{len(spans)} pieces are too many: {lib.WB_MAX_SPANS} at once")
        result = self._run(function, spans, ffi.new("wb_dma_span[]", spans), len(spans), data)
        if result < 0:
            raise self._error(-result, f"cannot {verb} {len(spans)} pieces (dev.log names the one)")

    def _end(self, result: int, verb: str, iova: int, size: int) -> None:
        if result < 0:
            raise self._error(-result, f"cannot {verb} {size} bytes at IOVA {iova:#x}")

    def _error(self, code: int, what: str) -> DmaError:
        _, reason = DMA_REASONS.get(code, ("", errno.errorcode.get(code, str(code))))
        server = getattr(self.owner(), "server", None)
        if code == errno.EFAULT and server is not None and server.stays() and not len(self._ranges()):
            reason += f": {NO_RAM}"
        if code == errno.EDEADLK and any(region.private for region in self.regions):
            reason = f"{PRIVATE}. Now {reason}"
        return DmaError(code, f"{what}: {reason}")

    # -- shown --

    def __repr__(self) -> str:
        shown, total, _ = self.some_regions(0, _LINES)
        more = [f"… and {total - len(shown):,} more"] if total > len(shown) else []
        return "\n".join([*map(repr, shown), *more]) or "<no guest memory mapped>"

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view()._repr_mimebundle_()


def _region(iova: int, size: int, offset: int, flags: int, spare: int) -> DmaRegion:
    bits = (lib.WB_DMA_READABLE, lib.WB_DMA_WRITABLE, lib.WB_DMA_HAS_FD, lib.WB_DMA_MAPPED)
    readable, writable, shared, mapped = (bool(flags & bit) for bit in bits)
    private = bool(flags & lib.WB_DMA_PRIVATE)
    reach = "messages" if private or not shared else "mapped" if mapped else "file"
    return DmaRegion(iova, size, readable, writable, shared, reach, private)


def _address(iova: int) -> int:
    iova = operator.index(iova)
    if not 0 <= iova < IOVA_SIZE:
        raise ValueError(f"an IOVA has 64 bits: {iova:#x}")
    return iova


def _size(size: int) -> int:
    size = operator.index(size)
    if not 0 <= size < 1 << 63:
        raise ValueError(f"a size is a number of bytes from 0 on: {size}")
    return size


def _spans(pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(_address(iova), _size(size)) for iova, size in pieces]


def _readable(data: Any) -> tuple[Any, int]:
    view = memoryview(data)  # an int is no data
    refuse_objects(view)
    source = view if view.c_contiguous else view.tobytes()
    return ffi.from_buffer("uint8_t[]", source), view.nbytes


def _writable(buffer: Any) -> tuple[Any, int]:
    view = memoryview(buffer)
    refuse_objects(view)
    if view.readonly:
        raise TypeError(f"{type(buffer).__name__} is read-only: give a bytearray or a writable array")
    if not view.c_contiguous:
        raise ValueError("the buffer is not contiguous: give one in which byte follows byte")
    return ffi.from_buffer("uint8_t[]", view, require_writable=True), view.nbytes
