"""The vfio-user messages as values: layouts, numbers, packing. No sockets, no state.

Source: ``docs/interop/vfio-user.rst`` of QEMU and ``linux/vfio.h``. Everything is little endian.
The engine has its own view of the hot messages in C; server and client share these definitions
and nothing else.
"""

import errno
import json
import os
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

from .errors import ProtocolError

__all__ = [
    "CAPABILITY",
    "DEVICE_INFO",
    "DMA_ACCESS",
    "DMA_MAP",
    "DMA_UNMAP",
    "FEATURE",
    "FEATURE_STATE",
    "HEADER",
    "IO_EVENTFD",
    "IO_FDS",
    "IRQS",
    "IRQ_INFO",
    "IRQ_NAMES",
    "IRQ_SET",
    "LOGGING_RANGE",
    "LOGGING_REPORT",
    "LOGGING_START",
    "MAJOR",
    "MAX_FDS",
    "MAX_TRANSFER",
    "MIGRATION_DATA",
    "MINOR",
    "MULTI_COUNT",
    "MULTI_WRITE",
    "REGIONS",
    "REGION_ACCESS",
    "REGION_INFO",
    "REGION_NAMES",
    "SPARSE_AREA",
    "SPARSE_HEADER",
    "SPARSE_MMAP",
    "VERSION",
    "Command",
    "DeviceFlag",
    "DmaFlag",
    "Feature",
    "FeatureFlag",
    "Header",
    "IoEventfd",
    "IoEventfdFlag",
    "IrqFlag",
    "IrqSet",
    "MessageFlag",
    "MigrationFlag",
    "MigrationState",
    "RegionCapability",
    "RegionFlag",
    "UnmapFlag",
    "command_name",
    "errno_name",
    "irq_name",
    "pack_io_eventfd",
    "pack_message",
    "pack_region_info",
    "pack_sparse_areas",
    "pack_version",
    "region_capabilities",
    "region_info_size",
    "region_name",
    "sparse_areas",
    "unpack_version",
    "vector_name",
]

MAJOR, MINOR = 0, 2
MAX_TRANSFER = 1 << 20  #: bytes of data in one message, ours and the specification's default
MAX_FDS = 16  #: file descriptors in one message, as we offer
REGION_NAMES = ("bar0", "bar1", "bar2", "bar3", "bar4", "bar5", "rom", "config", "vga")
IRQ_NAMES = ("INTx", "MSI", "MSI-X", "ERR", "REQ")
REGIONS, IRQS = len(REGION_NAMES), len(IRQ_NAMES)
SPARSE_MMAP = 1  #: id of the region capability that lists the areas to map

#: u16 id, u16 command, u32 size (header included), u32 flags, u32 errno
HEADER = struct.Struct("<HHIII")
VERSION = struct.Struct("<HH")  #: major, minor; a NUL-terminated JSON text follows
DMA_MAP = struct.Struct("<IIQQQ")  #: argsz, flags, file offset, IOVA, size
DMA_UNMAP = struct.Struct("<IIQQ")  #: argsz, flags, IOVA, size
DEVICE_INFO = struct.Struct("<IIII")  #: argsz, flags, number of regions, number of IRQ indexes
REGION_INFO = struct.Struct("<IIIIQQ")  #: argsz, flags, index, capability offset, size, mmap offset
IRQ_INFO = struct.Struct("<IIII")  #: argsz, flags, index, count
IRQ_SET = struct.Struct("<IIIII")  #: argsz, flags, index, start, count
REGION_ACCESS = struct.Struct("<QII")  #: offset, region, count; data follows
DMA_ACCESS = struct.Struct("<QQ")  #: IOVA, count; data follows
IO_FDS = struct.Struct("<IIII")  #: argsz, flags, index, count; IO_EVENTFD entries follow in the reply
#: offset, size, number of the fd, type (0: ioeventfd), flags, padding, datamatch
IO_EVENTFD = struct.Struct("<QQIIIIQ")
FEATURE = struct.Struct("<II")  #: argsz, flags with the feature in the low 16 bits
FEATURE_STATE = struct.Struct("<II")  #: MigrationState, data fd (not used)
LOGGING_START = struct.Struct("<QII")  #: page size, number of LOGGING_RANGE entries that follow, reserved
LOGGING_RANGE = struct.Struct("<QQ")  #: IOVA, length
LOGGING_REPORT = struct.Struct("<QQQ")  #: IOVA, length, page size; in the reply a bitmap of u64 follows
MIGRATION_DATA = struct.Struct("<II")  #: argsz, size; data follows
CAPABILITY = struct.Struct("<HHI")  #: id, version, offset of the next one from REGION_INFO
SPARSE_HEADER = struct.Struct("<II")  #: number of areas, reserved; behind a CAPABILITY
SPARSE_AREA = struct.Struct("<QQ")  #: offset, size
MULTI_COUNT = struct.Struct("<Q")  #: number of MULTI_WRITE entries that follow; also the reply
MULTI_WRITE = struct.Struct("<QII8s")  #: offset, region, count (at most 8), data


class Command(IntEnum):
    """The command numbers of the specification."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


_COMMANDS = frozenset(Command)


class MessageFlag(IntFlag):
    """Header flags: the type is in the low four bits."""

    REPLY = 1
    NO_REPLY = 0x10
    ERROR = 0x20


class DeviceFlag(IntFlag):
    """Flags of GET_INFO."""

    RESET = 1
    PCI = 2


class RegionFlag(IntFlag):
    """Flags of GET_REGION_INFO."""

    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


class IrqFlag(IntFlag):
    """Flags of GET_IRQ_INFO."""

    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4
    NORESIZE = 8


class IoEventfdFlag(IntFlag):
    """Flags of IO_EVENTFD, those of KVM_IOEVENTFD."""

    DATAMATCH = 1
    PIO = 2


class DmaFlag(IntFlag):
    """Flags of DMA_MAP: what the device may do there."""

    READ = 1
    WRITE = 2


class UnmapFlag(IntFlag):
    """Flags of DMA_UNMAP; ALL wants IOVA and size 0."""

    GET_DIRTY_BITMAP = 1
    ALL = 2


class Feature(IntEnum):
    """The features of DEVICE_FEATURE."""

    MIGRATION = 1
    MIG_DEVICE_STATE = 2
    DMA_LOGGING_START = 6
    DMA_LOGGING_STOP = 7
    DMA_LOGGING_REPORT = 8


class FeatureFlag(IntFlag):
    """What DEVICE_FEATURE asks; in the flags beside the number of the feature."""

    GET = 1 << 16
    SET = 1 << 17
    PROBE = 1 << 18


class MigrationFlag(IntFlag):
    """What a device can do beside RUNNING and STOP (feature MIGRATION)."""

    STOP_COPY = 1
    P2P = 2
    PRE_COPY = 4


class MigrationState(IntEnum):
    """The states of a migration (enum vfio_device_mig_state)."""

    ERROR = 0
    STOP = 1
    RUNNING = 2
    STOP_COPY = 3
    RESUMING = 4
    PRE_COPY = 6


class IrqSet(IntFlag):
    """Flags of SET_IRQS: one kind of data and one action."""

    DATA_NONE = 1
    DATA_BOOL = 2
    DATA_EVENTFD = 4
    MASK = 8
    UNMASK = 0x10
    TRIGGER = 0x20


class Header(NamedTuple):
    """The 16 bytes in front of every message."""

    id: int
    command: int
    size: int
    flags: int
    error: int = 0

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> "Header":
        """Read a header from the first 16 bytes of ``data``."""
        return cls(*HEADER.unpack_from(data))

    def pack(self) -> bytes:
        """Return the 16 bytes."""
        return HEADER.pack(*self)


def pack_version(minor: int, capabilities: Mapping[str, Any]) -> bytes:
    """Return the payload of VERSION: numbers, then the capabilities as NUL-terminated JSON."""
    text = json.dumps({"capabilities": dict(capabilities)}, separators=(",", ":"))
    return VERSION.pack(MAJOR, minor) + text.encode() + b"\0"


def unpack_version(payload: bytes) -> tuple[int, int, dict[str, Any]]:
    """Return major, minor and the capabilities of a VERSION payload.

    Raises ProtocolError when it is short, not NUL-terminated, or not a JSON object.
    """
    if len(payload) < VERSION.size:
        raise ProtocolError(f"VERSION has {len(payload)} bytes of payload, needs {VERSION.size}")
    major, minor = VERSION.unpack_from(payload)
    text = payload[VERSION.size :]
    if not text:
        return major, minor, {}
    if text[-1:] != b"\0":
        raise ProtocolError("the JSON text of VERSION does not end with a NUL byte")
    try:
        document = json.loads(text[:-1].decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the JSON text of VERSION cannot be read: {error}") from None
    capabilities = document.get("capabilities", {}) if isinstance(document, dict) else None
    if not isinstance(capabilities, dict):
        raise ProtocolError("the JSON text of VERSION is not an object with an object of capabilities")
    return major, minor, capabilities


def pack_message(number: int, command: int, payload: bytes = b"", flags: int = 0, error: int = 0) -> bytes:
    """Return a whole message, header and payload; ``number`` is its id, cut to 16 bits."""
    return HEADER.pack(number & 0xFFFF, command, HEADER.size + len(payload), flags, error) + payload


def region_name(index: int) -> str:
    """Return ``bar0`` ... ``config``, ``vga``, or ``region 9`` for what has no name."""
    return REGION_NAMES[index] if 0 <= index < REGIONS else f"region {index}"


def irq_name(index: int) -> str:
    """Return ``INTx``, ``MSI`` ..., or ``IRQ index 9`` for what has no name."""
    return IRQ_NAMES[index] if 0 <= index < IRQS else f"IRQ index {index}"


def vector_name(index: int, vector: int) -> str:
    """Return the name of a vector of an interrupt index: ``INTx``, ``MSI[2]`` ..."""
    name = irq_name(index)
    return name if name == "INTx" else f"{name}[{vector}]"


def command_name(command: int) -> str:
    """Return ``REGION_READ`` ..., or ``command 99`` for what has no name."""
    return Command(command).name if command in _COMMANDS else f"command {command}"


def errno_name(code: int) -> str:
    """Return an errno as people read it: ``EINVAL (Invalid argument)``; 0 is ``no errno given``."""
    if not code:
        return "no errno given"
    name = errno.errorcode.get(code)
    return f"{name} ({os.strerror(code)})" if name else f"errno {code}"


class RegionCapability(NamedTuple):
    """One entry of the capability chain behind REGION_INFO; ``data`` follows its 8-byte header."""

    id: int
    version: int
    data: bytes


def pack_region_info(
    index: int, flags: int, size: int, capabilities: Sequence[RegionCapability], argsz: int
) -> bytes:
    """Return a GET_REGION_INFO reply with its capability chain, each entry 8-byte aligned.

    When the chain does not fit the client's ``argsz`` (bytes), the reply is the bare structure
    with the size that is needed and no CAPS flag: the client asks again.
    """
    chain, needed = b"", region_info_size(capabilities)
    for at, (kind, version, data) in enumerate(capabilities):
        following = region_info_size(capabilities[: at + 1]) if at + 1 < len(capabilities) else 0
        chain += CAPABILITY.pack(kind, version, following) + data + bytes(-len(data) % 8)
    if not chain or needed > argsz:
        return REGION_INFO.pack(needed, flags, index, 0, size, 0)
    return REGION_INFO.pack(needed, flags | RegionFlag.CAPS, index, REGION_INFO.size, size, 0) + chain


def region_info_size(capabilities: Sequence[RegionCapability]) -> int:
    """Return the bytes of a GET_REGION_INFO reply with these capabilities."""
    return REGION_INFO.size + sum(
        CAPABILITY.size + len(one.data) + -len(one.data) % 8 for one in capabilities
    )


def pack_sparse_areas(areas: Sequence[tuple[int, int]]) -> RegionCapability:
    """Return the sparse-mmap capability: only these (offset, size) areas, bytes, may be mapped."""
    listed = b"".join(SPARSE_AREA.pack(*area) for area in areas)
    return RegionCapability(SPARSE_MMAP, 1, SPARSE_HEADER.pack(len(areas), 0) + listed)


class IoEventfd(NamedTuple):
    """A write that may be signalled: ``size`` bytes at ``offset``; ``match``: of that value alone."""

    offset: int
    size: int
    match: int | None


def pack_io_eventfd(write: IoEventfd, number: int, flags: int) -> bytes:
    """Return an entry of a GET_REGION_IO_FDS reply: a write that may be signalled on fd ``number``."""
    if write.match is not None:
        flags |= IoEventfdFlag.DATAMATCH
    return IO_EVENTFD.pack(write.offset, write.size, number, 0, flags, 0, write.match or 0)


def region_capabilities(reply: bytes) -> list[RegionCapability]:
    """Return the capability chain of a GET_REGION_INFO reply.

    Raises ProtocolError when an entry lies outside the reply or the chain does not go forward.
    """
    if len(reply) < REGION_INFO.size:
        raise ProtocolError(f"GET_REGION_INFO reply has {len(reply)} bytes, needs {REGION_INFO.size}")
    _, flags, _, offset, _, _ = REGION_INFO.unpack_from(reply)
    found: list[RegionCapability] = []
    last = REGION_INFO.size - 1
    while flags & RegionFlag.CAPS and offset:
        if not last < offset <= len(reply) - CAPABILITY.size:
            raise ProtocolError(f"region capability at {offset} is outside the reply or loops")
        kind, version, following = CAPABILITY.unpack_from(reply, offset)
        end = following if following > offset else len(reply)
        found.append(RegionCapability(kind, version, reply[offset + CAPABILITY.size : end]))
        last, offset = offset, following
    return found


def sparse_areas(capability: RegionCapability) -> list[tuple[int, int]]:
    """Return (offset, size) in bytes of every area of a sparse-mmap capability.

    Raises ProtocolError when the list is longer than the capability.
    """
    data = capability.data
    count = SPARSE_HEADER.unpack_from(data)[0] if len(data) >= SPARSE_HEADER.size else -1
    if not 0 <= count <= (len(data) - SPARSE_HEADER.size) // SPARSE_AREA.size:
        raise ProtocolError("the sparse-mmap capability is shorter than its list of areas")
    return [SPARSE_AREA.unpack_from(data, SPARSE_HEADER.size + at * SPARSE_AREA.size) for at in range(count)]
