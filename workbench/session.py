"""The conversation: answers every message that is not hot. Values in, values out; no I/O.

VERSION and the questions a client asks once, when it connects, are answered here; region access,
DMA maps and interrupts are answered in C. ``answer`` returns the reply's payload or raises Refused
with the errno to send back.
"""

import errno
from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple, Protocol

from . import protocol
from .errors import ProtocolError
from .migration import Migration, Movable
from .protocol import Command, DeviceFlag, IoEventfdFlag, IrqFlag, RegionFlag
from .refused import Refused

__all__ = ["Accepted", "Refused", "Served", "Session"]

ROM = protocol.REGION_NAMES.index("rom")

#: How each index behaves: INTx, MSI, MSI-X, ERR, REQ. MSI-X without NORESIZE spares QEMU a window
#: in which it drops every vector to add one.
IRQ_FLAGS = (
    IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED,
    IrqFlag.EVENTFD | IrqFlag.NORESIZE,
    IrqFlag.EVENTFD,
    IrqFlag.EVENTFD,
    IrqFlag.EVENTFD,
)


class Accepted(NamedTuple):
    """What VERSION settled: bytes of data in one message, and whether WRITE_MULTI may be used."""

    max_transfer: int
    write_multiple: bool


class Served(Protocol):
    """What a session needs to know of its device."""

    @property
    def region_sizes(self) -> Mapping[int, int]:
        """Bytes of each region there is, by index."""

    @property
    def irq_counts(self) -> Sequence[int]:
        """Vectors of each IRQ index."""

    @property
    def port_regions(self) -> Container[int]:
        """Which regions are I/O space."""

    @property
    def region_areas(self) -> Mapping[int, Sequence[tuple[int, int]]]:
        """What the client may map of each region, as (start, size) in bytes."""

    def region_fd(self, index: int) -> int:
        """The file to map; it stays the device's."""

    def doorbells(self, index: int) -> Sequence[protocol.IoEventfd]:
        """The writes to a region that may be signalled by eventfd."""

    def open_doorbell(self, index: int, bell: protocol.IoEventfd) -> int:
        """The eventfd for one of them; it stays the device's. Raises OSError."""

    def client_reset(self) -> None:
        """The client asks for a device reset."""

    @property
    def state(self) -> Movable:
        """What can be stopped, saved and loaded."""


class Session:
    """One conversation with one client. ``accepted`` is None until VERSION was answered."""

    def __init__(self, device: Served) -> None:
        self._device = device
        self.accepted: Accepted | None = None
        self.fds: tuple[int, ...] = ()  #: go along with the answer that was returned last
        self._max_fds = 1  # of one message to the client: the specification's default
        self.migration = Migration(lambda: device.state)
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            Command.VERSION: self.version,
            Command.DEVICE_GET_INFO: self.device_info,
            Command.DEVICE_GET_REGION_INFO: self.region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self.region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self.irq_info,
            Command.DEVICE_RESET: self.reset,
            Command.DEVICE_FEATURE: self.migration.feature,
            Command.MIG_DATA_READ: self.migration.read,
            Command.MIG_DATA_WRITE: self.migration.write,
        }

    def answer(self, command: int, payload: bytes) -> bytes:
        """Return the payload of the reply, whose descriptors are ``fds`` then. Raises Refused."""
        self.fds = ()
        answer = self._answers.get(command)
        if answer is None:
            known = command in set(Command)
            raise Refused(errno.ENOTSUP if known else errno.EINVAL, f"command {command} is not served")
        self.migration.check(command)
        return answer(payload)

    def version(self, payload: bytes) -> bytes:
        """VERSION: agree on a minor version and on limits, or refuse and close."""
        try:
            major, minor, theirs = protocol.unpack_version(payload)
        except ProtocolError as error:
            raise Refused(errno.EINVAL, str(error), close=True) from None
        if major != protocol.MAJOR:
            raise Refused(
                errno.EINVAL, f"the client speaks version {major}.{minor}, we {protocol.MAJOR}", close=True
            )
        self._max_fds = min(_limit(theirs, "max_msg_fds", 1, 0, 1024), protocol.MAX_FDS)
        transfer = _limit(theirs, "max_data_xfer_size", protocol.MAX_TRANSFER, 1, 1 << 62)
        multiple = theirs.get("write_multiple", False)
        if not isinstance(multiple, bool):
            raise Refused(errno.EINVAL, f"write_multiple is {multiple!r}, not true or false", close=True)
        self.accepted = Accepted(min(transfer, protocol.MAX_TRANSFER), multiple)
        self.migration.max_transfer = self.accepted.max_transfer
        ours: dict[str, object] = {
            "max_msg_fds": protocol.MAX_FDS,
            "max_data_xfer_size": protocol.MAX_TRANSFER,
        }
        if multiple:
            ours["write_multiple"] = True
        if isinstance(theirs.get("migration"), dict):  # of earlier versions of the specification, and QEMU
            ours["migration"] = {"pgsize": 4096, "max_bitmap_size": protocol.MAX_TRANSFER}
        return protocol.pack_version(min(minor, protocol.MINOR), ours)

    def device_info(self, payload: bytes) -> bytes:
        """DEVICE_GET_INFO: a PCI device that can be reset."""
        _fits(payload, protocol.DEVICE_INFO.size)
        flags = DeviceFlag.PCI | DeviceFlag.RESET
        return protocol.DEVICE_INFO.pack(protocol.DEVICE_INFO.size, flags, protocol.REGIONS, protocol.IRQS)

    def region_info(self, payload: bytes) -> bytes:
        """DEVICE_GET_REGION_INFO: size and flags; an absent region has size 0."""
        argsz = _fits(payload, protocol.REGION_INFO.size)
        index = protocol.REGION_INFO.unpack_from(payload)[2]
        if index >= protocol.REGIONS:
            raise Refused(errno.EINVAL, f"region {index} of {protocol.REGIONS}")
        size = self._device.region_sizes.get(index, 0)
        flags = RegionFlag.READ if size else RegionFlag(0)
        if size and index != ROM:
            flags |= RegionFlag.WRITE
        capabilities = self.region_capabilities(index)
        # A client that has no room for the areas must not think that it may map everything.
        if self._areas(index) and protocol.region_info_size(capabilities) <= argsz:
            flags |= RegionFlag.MMAP
            self.fds = (self._device.region_fd(index),)
        return protocol.pack_region_info(index, flags, size, capabilities, argsz)

    def _areas(self, index: int) -> Sequence[tuple[int, int]]:
        return self._device.region_areas.get(index, ()) if self._max_fds else ()

    def region_capabilities(self, index: int) -> Sequence[protocol.RegionCapability]:
        """The capabilities of a region: its sparse-mmap areas, unless it may be mapped as a whole."""
        areas = self._areas(index)
        if not areas or areas == ((0, self._device.region_sizes[index]),):
            return ()
        return (protocol.pack_sparse_areas(areas),)

    def region_io_fds(self, payload: bytes) -> bytes:
        """DEVICE_GET_REGION_IO_FDS: an eventfd for each doorbell, as many as fit one message."""
        argsz = _fits(payload, protocol.IO_FDS.size)
        _, flags, index, count = protocol.IO_FDS.unpack_from(payload)
        if flags or count or not self._device.region_sizes.get(index):
            raise Refused(errno.EINVAL, f"flags {flags:#x}, count {count}, region {index}")
        bells = self._device.doorbells(index)[: self._max_fds]
        needed = protocol.IO_FDS.size + len(bells) * protocol.IO_EVENTFD.size
        answer = protocol.IO_FDS.pack(needed, 0, index, len(bells))
        if needed > argsz:
            return answer  # the client asks again
        try:
            self.fds = tuple(self._device.open_doorbell(index, bell) for bell in bells)
        except OSError as error:
            raise Refused(error.errno or errno.EIO, str(error)) from None
        kind = IoEventfdFlag.PIO if index in self._device.port_regions else IoEventfdFlag(0)
        entries = [protocol.pack_io_eventfd(bell, number, kind) for number, bell in enumerate(bells)]
        return answer + b"".join(entries)

    def irq_info(self, payload: bytes) -> bytes:
        """DEVICE_GET_IRQ_INFO: how many vectors an index has, and how they are masked."""
        _fits(payload, protocol.IRQ_INFO.size)
        index = protocol.IRQ_INFO.unpack_from(payload)[2]
        if index >= protocol.IRQS:
            raise Refused(errno.EINVAL, f"IRQ index {index} of {protocol.IRQS}")
        count = self._device.irq_counts[index]
        return protocol.IRQ_INFO.pack(protocol.IRQ_INFO.size, IRQ_FLAGS[index], index, count)

    def reset(self, payload: bytes) -> bytes:
        """DEVICE_RESET: registers to their reset values, a migration ends; DMA maps and eventfds stay."""
        if payload:
            raise Refused(errno.EINVAL, f"DEVICE_RESET with {len(payload)} bytes of payload")
        self._device.client_reset()
        self.migration.reset()
        return b""


def _limit(theirs: Mapping[str, object], key: str, default: int, low: int, high: int) -> int:
    value = theirs.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refused(errno.EINVAL, f"{key} is {value!r}, not a number from {low} to {high}", close=True)
    return value


def _fits(payload: bytes, size: int) -> int:
    """Return argsz, the first word; refuse a payload or argsz shorter than the structure."""
    argsz = int.from_bytes(payload[:4], "little")
    if len(payload) < size or argsz < size:
        raise Refused(errno.EINVAL, f"{len(payload)} bytes of payload, argsz {argsz}, needs {size}")
    return argsz
