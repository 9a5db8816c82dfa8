"""The vfio-user messages as values: layouts, numbers, packing. No sockets, no state.

Source: ``docs/interop/vfio-user.rst`` of QEMU and ``linux/vfio.h``. Everything is little endian.
The engine has its own view of the hot messages in C; server and client share these definitions
and nothing else.
"""

import json
import struct
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

from .errors import ProtocolError

__all__ = [
    "CONFIG_REGION",
    "DEVICE_INFO",
    "DMA_MAP",
    "DMA_UNMAP",
    "HEADER",
    "IRQ_INFO",
    "IRQ_SET",
    "MAX_TRANSFER",
    "REGION_ACCESS",
    "REGION_INFO",
    "Command",
    "Header",
    "IrqSet",
    "MessageFlag",
    "pack_version",
    "unpack_version",
]

MAJOR, MINOR = 0, 2
MAX_TRANSFER = 1 << 20  #: bytes of data in one message, ours and the specification's default
MAX_FDS = 16
CONFIG_REGION = 7
REGIONS = 9
IRQS = 5

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


class MessageFlag(IntFlag):
    """Header flags: the type is in the low four bits."""

    REPLY = 1
    NO_REPLY = 0x10
    ERROR = 0x20


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
