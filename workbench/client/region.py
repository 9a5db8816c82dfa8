"""One region of the device (a BAR, config space, the ROM) as the software guest reads and writes it."""

import mmap
import operator
import os
import struct
from dataclasses import dataclass
from typing import Any, Self

from .. import protocol
from ..errors import ProtocolError, StateError
from ..protocol import (
    IO_EVENTFD,
    IO_FDS,
    REGION_ACCESS,
    REGION_INFO,
    Command,
    IoEventfdFlag,
    RegionCapability,
    RegionFlag,
    region_name,
)
from .link import Request, close_fds

__all__ = ["IoEventfd", "RegionInfo", "RegionView"]


@dataclass(frozen=True)
class IoEventfd:
    """A write of ``size`` bytes at ``offset`` to signal on ``fd``; ``match``: of that value only."""

    offset: int
    size: int
    match: int | None
    fd: int

    def ring(self) -> None:
        """Signal, as a hypervisor does in place of the write."""
        os.eventfd_write(self.fd, 1)


@dataclass(frozen=True)
class RegionInfo:
    """What GET_REGION_INFO says: size and mmap offset in bytes, areas to map as (offset, size)."""

    index: int
    name: str
    size: int
    flags: RegionFlag
    offset: int
    capabilities: tuple[RegionCapability, ...]
    areas: tuple[tuple[int, int], ...]

    @classmethod
    def ask(cls, index: int, request: Request) -> Self:
        """Ask the device, twice when the answer needs more room. Raises ProtocolError."""
        reply, fds = _ask(index, request)
        close_fds(fds)
        _, flags, _, _, size, offset = REGION_INFO.unpack_from(reply)
        capabilities = tuple(protocol.region_capabilities(reply))
        areas = [protocol.sparse_areas(one) for one in capabilities if one.id == protocol.SPARSE_MMAP]
        whole = [(0, size)] if flags & RegionFlag.MMAP else []
        return cls(
            index,
            region_name(index),
            size,
            RegionFlag(flags),
            offset,
            capabilities,
            tuple(areas[0] if areas else whole),
        )

    def map(self, request: Request, start: int = 0, size: int | None = None) -> mmap.mmap:
        """Return bytes of the region mapped (default: all). Raises ProtocolError when there comes no file."""
        _, fds = _ask(self.index, request)
        try:
            if len(fds) != 1:
                raise ProtocolError(f"{self.name} says MMAP but came with {len(fds)} file descriptors")
            access = mmap.PROT_READ | (mmap.PROT_WRITE if self.flags & RegionFlag.WRITE else 0)
            length = self.size if size is None else size
            return mmap.mmap(fds[0], length, mmap.MAP_SHARED, access, offset=self.offset + start)
        finally:
            close_fds(fds)


def _ask(index: int, request: Request) -> tuple[bytes, tuple[int, ...]]:
    # As QEMU: ask for the plain structure, and again when its argsz says that there is more.
    room = REGION_INFO.size
    for _ in range(2):
        payload = REGION_INFO.pack(room, 0, index, 0, 0, 0)
        about = f"GET_REGION_INFO of {region_name(index)}"
        reply, fds = request(Command.DEVICE_GET_REGION_INFO, payload, about=about)
        if len(reply) < REGION_INFO.size or len(reply) > room:
            close_fds(fds)
            raise ProtocolError(f"{about}: the reply has {len(reply)} bytes, asked were {room}")
        wanted = REGION_INFO.unpack_from(reply)[0]
        if wanted <= room:
            return reply, fds
        close_fds(fds)
        room = wanted
    raise ProtocolError(f"{about}: the answer grows each time it is asked for")


def _io_eventfds(index: int, request: Request) -> tuple[IoEventfd, ...]:
    about = f"GET_REGION_IO_FDS of {region_name(index)}"
    room = IO_FDS.size
    for _ in range(2):
        payload = IO_FDS.pack(room, 0, index, 0)
        reply, fds = request(Command.DEVICE_GET_REGION_IO_FDS, payload, about=about)
        try:
            room, _, _, count = IO_FDS.unpack_from(reply)
            if len(reply) == room == IO_FDS.size + count * IO_EVENTFD.size:
                return tuple(_io_eventfd(reply, number, fds) for number in range(count))
        except (struct.error, IndexError):
            close_fds(fds)
            raise ProtocolError(f"{about}: the reply has {len(reply)} bytes and {len(fds)} fds") from None
        close_fds(fds)
    raise ProtocolError(f"{about}: the reply has {len(reply)} bytes and says {room}")


def _io_eventfd(reply: bytes, number: int, fds: tuple[int, ...]) -> IoEventfd:
    entry = IO_EVENTFD.unpack_from(reply, IO_FDS.size + number * IO_EVENTFD.size)
    offset, size, place, _, flags, _, match = entry
    return IoEventfd(offset, size, match if flags & IoEventfdFlag.DATAMATCH else None, fds[place])


class RegionView:
    """A region to read and write: ``read32(offset)``, ``write8(offset, value)``, ``read(offset, n)`` ...

    Every access is a message, so it does what a driver's access does. Offsets and sizes are bytes;
    numbers are little endian. A refused access raises ProtocolError, a value that does not fit ValueError.
    """

    __slots__ = ("_request", "flags", "info", "size")  # so that assigning to a register's name is an error

    def __init__(self, info: RegionInfo, request: Request) -> None:
        self.info = info
        self.size = info.size
        self.flags = info.flags
        self._request = request

    def __getattr__(self, name: str) -> Any:
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        if not name.startswith("_"):  # what copy, pickle and displays ask for needs no advice
            text += f": a guest knows no names, only offsets, as in guest.{self.info.name}.read32(offset)"
        raise AttributeError(text)

    def __repr__(self) -> str:
        return f"<{self.info.name}: {self.size} bytes, {self.flags.name or 'no access'}>"

    def read(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes in one message."""
        about = f"REGION_READ of {count} bytes at {self._at(offset)}"
        reply, fds = self._request(Command.REGION_READ, self._access(offset, count), about=about)
        close_fds(fds)
        if len(reply) != REGION_ACCESS.size + count:
            raise ProtocolError(f"{about}: the reply has {len(reply) - REGION_ACCESS.size} bytes of data")
        return reply[REGION_ACCESS.size :]

    def write(self, offset: int, data: bytes, posted: bool = False) -> None:
        """Write ``data`` in one message. ``posted``: do not wait for an answer, as drivers' MMIO writes."""
        if hasattr(data, "__index__"):
            one = f"{self.info.name}.write32({offset}, {data!r})"
            raise TypeError(f"write() takes bytes, not {type(data).__name__}: a number is written by {one}")
        about = f"REGION_WRITE of {len(data)} bytes at {self._at(offset)}"
        payload = self._access(offset, len(data)) + data
        _, fds = self._request(Command.REGION_WRITE, payload, no_reply=posted, about=about)
        close_fds(fds)

    def read8(self, offset: int) -> int:
        """Read a byte."""
        return self._number(offset, 1)

    def read16(self, offset: int) -> int:
        """Read 16 bits."""
        return self._number(offset, 2)

    def read32(self, offset: int) -> int:
        """Read 32 bits."""
        return self._number(offset, 4)

    def read64(self, offset: int) -> int:
        """Read 64 bits."""
        return self._number(offset, 8)

    def write8(self, offset: int, value: int, posted: bool = False) -> None:
        """Write a byte."""
        self.write(offset, self._bytes(value, 1), posted)

    def write16(self, offset: int, value: int, posted: bool = False) -> None:
        """Write 16 bits."""
        self.write(offset, self._bytes(value, 2), posted)

    def write32(self, offset: int, value: int, posted: bool = False) -> None:
        """Write 32 bits."""
        self.write(offset, self._bytes(value, 4), posted)

    def write64(self, offset: int, value: int, posted: bool = False) -> None:
        """Write 64 bits."""
        self.write(offset, self._bytes(value, 8), posted)

    def mmap(self, start: int | None = None) -> mmap.mmap:
        """Map the area of ``info.areas`` that begins at ``start`` (default: the first); the caller closes it.

        Stores there are no messages. Raises StateError when the device does not share that area.
        """
        for area, size in self.info.areas:
            if start in (None, area):
                return self.info.map(self._request, area, size)
        shared = ", ".join(f"{area:#x}" for area, _ in self.info.areas) or "nothing"
        raise StateError(f"{self.info.name}: no area at {start} is shared for mmap; shared: {shared}")

    def io_eventfds(self) -> tuple[IoEventfd, ...]:
        """Ask which writes may be signalled by eventfd (GET_REGION_IO_FDS); the caller closes the fds."""
        return _io_eventfds(self.info.index, self._request)

    def _number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.read(offset, size), "little")

    def _bytes(self, value: int, size: int) -> bytes:
        number = operator.index(value)  # NumPy's and those of a device's registers too
        if not 0 <= number < 1 << 8 * size:
            raise ValueError(f"{number:#x} does not fit {8 * size} bits")
        return number.to_bytes(size, "little")

    def _access(self, offset: int, count: int) -> bytes:
        if not 0 <= offset < 1 << 64 or not 0 <= count < 1 << 32:
            raise ValueError(f"{count} bytes at {offset} cannot be said in a message")
        return REGION_ACCESS.pack(offset, self.info.index, count)

    def _at(self, offset: int) -> str:
        return f"{self.info.name}+{offset:#x}"
