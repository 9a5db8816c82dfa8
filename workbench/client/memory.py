"""The guest's RAM as the software guest owns it: ranges of I/O addresses, each a memory file.

A range is announced to the device with DMA_MAP, with its file or without; then the device has to ask
with DMA_READ and DMA_WRITE, which are answered from here. Files are sealed against shrinking as
QEMU's are, so that the device may map them.
"""

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import overload

from .. import protocol
from ..errors import ProtocolError
from ..protocol import DMA_ACCESS, DMA_MAP, DMA_UNMAP, Command, DmaFlag, UnmapFlag
from .link import Sender

__all__ = ["GuestMemory", "Range"]

PAGE = 4096


@dataclass
class Range:
    """``size`` bytes of guest memory from I/O address ``iova``; ``readonly`` is for the device.

    ``private``: what the guest writes does not reach the file, as with QEMU's ``share=off``.
    """

    iova: int
    size: int
    readonly: bool
    shared: bool
    private: bool
    bytes: mmap.mmap
    file: int

    @classmethod
    def make(cls, iova: int, size: int, readonly: bool, shared: bool, sealed: bool, private: bool) -> "Range":
        """Make zeroed memory in a file of its own."""
        file = os.memfd_create("guest-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(file, size)
            if sealed:
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            kind = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
            return cls(iova, size, readonly, shared, private, mmap.mmap(file, size, flags=kind), file)
        except BaseException:
            os.close(file)
            raise

    @property
    def end(self) -> int:
        """The first I/O address behind the area."""
        return self.iova + self.size

    def close(self) -> None:
        """Give the memory back."""
        self.bytes.close()
        os.close(self.file)


class GuestMemory:
    """Guest RAM: ``memory[iova]`` is a byte, ``memory[a:b]`` are bytes; both can be assigned.

    ``size`` bytes of RAM at I/O address 0 appear at the first use if nothing was mapped before.
    Addresses outside every range raise IndexError.
    """

    def __init__(self, size: int, send: Sender, serve: Callable[[], None]) -> None:
        self._size = size
        self._send = send
        self._serve = serve
        self._ranges: list[Range] = []
        self._untouched = True
        self._lock = threading.RLock()

    @property
    def ranges(self) -> tuple[Range, ...]:
        """What is mapped, by ascending I/O address."""
        with self._lock:
            return tuple(sorted(self._ranges, key=lambda area: area.iova))

    def __repr__(self) -> str:
        parts = [f"{r.iova:#x}+{r.size:#x}{' ro' * r.readonly}" for r in self.ranges]
        return f"<GuestMemory {', '.join(parts) or 'nothing mapped yet'}>"

    def map(
        self,
        iova: int,
        size: int,
        readonly: bool = False,
        shared: bool = True,
        *,
        sealed: bool = True,
        private: bool = False,
    ) -> None:
        """Give the device ``size`` bytes of zeroed memory at ``iova`` (DMA_MAP); both in whole pages.

        ``shared=False``: the device gets no file and has to ask the guest for every byte. ``private=True``:
        it gets the file, but the guest's bytes are elsewhere (QEMU's ``share=off``). ``sealed=False``: the
        file can be truncated. Raises ValueError for a bad range, ProtocolError when the device refuses.
        """
        _check(iova, size)
        self._untouched = False
        with self._lock:
            if any(iova < other.end and other.iova < iova + size for other in self._ranges):
                raise ValueError(f"memory at {iova:#x}+{size:#x} overlaps what is mapped already")
            new = Range.make(iova, size, readonly, shared, sealed, private)
            self._ranges.append(new)
        try:
            self._announce(new)
        except BaseException:
            self._forget(new)
            raise

    def unmap(self, iova: int, size: int | None = None) -> None:
        """Take a range back (DMA_UNMAP) as it was mapped.

        Raises ValueError when there is none, ProtocolError when the device refuses.
        """
        old = next((r for r in self.ranges if r.iova == iova and size in (None, r.size)), None)
        if old is None:
            raise ValueError(f"nothing is mapped at {iova:#x}")
        payload = DMA_UNMAP.pack(DMA_UNMAP.size, 0, old.iova, old.size)
        self._send(Command.DMA_UNMAP, payload, (), f"DMA_UNMAP of {old.iova:#x}+{old.size:#x}")
        self._forget(old)

    def unmap_all(self) -> None:
        """Take everything back with one DMA_UNMAP. Raises ProtocolError when the device refuses."""
        payload = DMA_UNMAP.pack(DMA_UNMAP.size, UnmapFlag.ALL, 0, 0)
        self._send(Command.DMA_UNMAP, payload, (), "DMA_UNMAP of everything")
        self.close()

    def read(self, iova: int, size: int) -> bytes:
        """Return ``size`` bytes from ``iova``, across adjacent ranges. Raises IndexError."""
        self._map_default()
        return self._read(iova, size)

    def write(self, iova: int, data: bytes) -> None:
        """Store ``data`` at ``iova``, across adjacent ranges. Raises IndexError, and stores nothing then."""
        self._map_default()
        self._write(iova, data)

    def _map_default(self) -> None:
        # Never with the lock held: the connection's lock comes first, its answers take ours.
        if self._untouched and self._size:
            self.map(0, self._size)

    def _read(self, iova: int, size: int) -> bytes:
        with self._lock:
            return b"".join(area.bytes[at : at + count] for area, at, count in self._spans(iova, size))

    def _write(self, iova: int, data: bytes) -> None:
        with self._lock:
            done = 0
            for area, at, count in list(self._spans(iova, len(data))):
                area.bytes[at : at + count] = bytes(data[done : done + count])
                done += count

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, slice):
            return self.read(*_extent(key))
        return self.read(key, 1)[0]

    def __setitem__(self, key: int | slice, value: int | bytes) -> None:
        if isinstance(key, int) and isinstance(value, int):
            self.write(key, bytes([value]))
        elif isinstance(key, slice) and not isinstance(value, int):
            start, size = _extent(key)
            if len(value) != size:
                raise ValueError(f"{len(value)} bytes do not fill {size} bytes of memory")
            self.write(start, value)
        else:
            raise TypeError("assign a byte to memory[iova] or bytes to memory[start:stop]")

    # ---- for the client

    def announce(self) -> None:
        """Map every range again, for a server that does not know them."""
        for area in self.ranges:
            self._announce(area)

    def close(self) -> None:
        """Forget all memory."""
        with self._lock:
            for area in self._ranges:
                area.close()
            self._ranges.clear()

    def respond(self, command: int, payload: bytes) -> bytes:
        """Answer the device's DMA_READ or DMA_WRITE. Raises ProtocolError with the errno to send."""
        if command not in (Command.DMA_READ, Command.DMA_WRITE):
            raise ProtocolError("not implemented", errno.ENOSYS)
        if len(payload) < DMA_ACCESS.size:
            raise ProtocolError("short", errno.EINVAL)
        iova, count = DMA_ACCESS.unpack_from(payload)
        data = payload[DMA_ACCESS.size :]
        if count > protocol.MAX_TRANSFER or (command == Command.DMA_WRITE and count > len(data)):
            raise ProtocolError("too big", errno.E2BIG)
        try:
            if command == Command.DMA_READ:
                return payload[: DMA_ACCESS.size] + self._read(iova, count)
            self._device_writes(iova, data[:count])
        except IndexError:
            # QEMU's answer for an address that its memory cannot serve
            raise ProtocolError("not mapped", errno.ENODEV) from None
        return payload[: DMA_ACCESS.size]

    def _device_writes(self, iova: int, data: bytes) -> None:
        with self._lock:
            if any(area.readonly for area, _, _ in self._spans(iova, len(data))):
                raise IndexError
            self._write(iova, data)

    def _announce(self, area: Range) -> None:
        flags = DmaFlag.READ | (0 if area.readonly else DmaFlag.WRITE)
        payload = DMA_MAP.pack(DMA_MAP.size, flags, 0, area.iova, area.size)
        if not area.shared or area.private:
            self._serve()
        fds = [area.file] if area.shared else []
        self._send(Command.DMA_MAP, payload, fds, f"DMA_MAP of {area.iova:#x}+{area.size:#x}")

    def _forget(self, area: Range) -> None:
        with self._lock:
            self._ranges.remove(area)
            area.close()

    def _spans(self, iova: int, size: int) -> Iterator[tuple[Range, int, int]]:
        at, end = iova, iova + size
        while at < end:
            area = next((r for r in self._ranges if r.iova <= at < r.end), None)
            if area is None:
                raise IndexError(f"no guest memory at {at:#x}; see memory.map()")
            count = min(area.end, end) - at
            yield area, at - area.iova, count
            at += count


def _check(iova: int, size: int) -> None:
    if iova < 0 or size <= 0 or iova + size > 1 << 64 or (iova | size) % PAGE:
        raise ValueError(f"memory at {iova:#x}+{size:#x}: address and size must be whole pages of 4096 bytes")


def _extent(key: slice) -> tuple[int, int]:
    if key.start is None or key.stop is None or key.step not in (None, 1) or not 0 <= key.start <= key.stop:
        raise IndexError("memory wants memory[start:stop] with both ends given")
    return key.start, key.stop - key.start
