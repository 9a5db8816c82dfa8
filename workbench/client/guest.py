"""A software guest: be the driver of a device over its vfio-user socket, without a virtual machine.

``guest = device.connect()`` or ``Client(path)`` does what a VM's client does at its start: agree on
a version, ask for regions and interrupts, arm INTx. It knows nothing of the server but the protocol.
"""

import contextlib
import mmap
import os
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from .. import protocol
from ..errors import ProtocolError, StateError
from ..protocol import DEVICE_INFO, MULTI_COUNT, MULTI_WRITE, Command, DeviceFlag, RegionFlag, command_name
from .irq import IrqInfo, Irqs
from .link import Link, Message, close_fds
from .memory import GuestMemory
from .migration import Migration
from .msi import Msi, Msix
from .region import RegionInfo, RegionView

__all__ = ["Client"]

COMMAND, STATUS, CAPABILITIES, INTERRUPT_PIN = 0x04, 0x06, 0x34, 0x3D  # PCI 3.0, 6.1
INTX_DISABLE = 1 << 10

#: What a QEMU 11.1 client offers; max_msg_fds bounds the eventfds of one SET_IRQS.
OFFER: dict[str, Any] = {
    "pgsizes": 4096,
    "max_msg_fds": protocol.MAX_FDS,
    "max_dma_maps": 65535,
    "max_data_xfer_size": protocol.MAX_TRANSFER,
    "migration": {"pgsize": 4096, "max_bitmap_size": 1 << 28},
    "write_multiple": True,
}


class Client:
    """A guest on the vfio-user socket at ``path``.

    ``timeout``: seconds before a wait gives up. ``resample``: unmask INTx through an eventfd as KVM does,
    instead of a message. ``memory``: bytes of RAM at I/O address 0. ``arm``: register eventfds for INTx.
    Every method raises ProtocolError when the device refuses (``code`` is the errno), breaks the
    protocol, does not answer in time, or is gone.
    """

    bar0: RegionView
    bar1: RegionView
    bar2: RegionView
    bar3: RegionView
    bar4: RegionView
    bar5: RegionView
    rom: RegionView
    config: RegionView

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 5.0,
        resample: bool = False,
        memory: int = 1 << 20,
        arm: bool = True,
    ) -> None:
        self.path = os.fspath(path)
        self.timeout = timeout
        self._resample, self._arm_at_start = resample, arm
        self._link: Link | None = None
        self.memory = GuestMemory(memory, self._tell, self._serve_device)
        self._irqs = Irqs(self._tell)
        self.msi, self.msix = Msi(self), Msix(self)  #: masks and pending bits, as a guest reaches them
        self.migration = Migration(self._ask)  #: states, data, dirty pages, one by one
        self._connect()

    # ---- the connection

    @property
    def closed(self) -> bool:
        """Whether the connection is closed, by us or because it failed."""
        return self._link is None or self._link.closed

    def fileno(self) -> int:
        """Return the socket's file descriptor, -1 when closed; it stays the guest's."""
        return -1 if self._link is None else self._link.fileno()

    def disconnect(self) -> None:
        """Leave as a VM does: close the socket, forget memory and eventfds. Again is no error."""
        self._drop()
        self.memory.close()

    close = disconnect

    def reconnect(self) -> None:
        """Connect again, as a new client: the memory is kept and mapped again, INTx armed again."""
        self._drop()
        self._connect()
        self.memory.announce()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.disconnect()

    def __repr__(self) -> str:
        if self.closed:
            return f"<Client of {self.path}: disconnected>"
        sizes = [f"{name} {view.size} B" for name, view in self._views() if view.size]
        irqs = [f"{irq.count} {irq.name}" for irq in self.irqs if irq.count]
        return f"<Client of {self.path}: {self.id}, {', '.join(sizes + irqs)}>"

    def _connect(self) -> None:
        self._link = Link(self.path, self.timeout, self.memory.respond)
        try:
            self._negotiate()
            self._discover()
            if self._arm_at_start and self._pin:
                self._irqs.arm(self.irqs[0], resample=self._resample)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None
        self._irqs.close()

    def _negotiate(self) -> None:
        offer = protocol.pack_version(protocol.MINOR, OFFER)
        reply = self._ask(Command.VERSION, offer, "VERSION")
        major, minor, self.capabilities_of_server = protocol.unpack_version(reply)
        if major != protocol.MAJOR or minor > protocol.MINOR:
            raise ProtocolError(f"VERSION: the server speaks {major}.{minor}, this client {protocol.MAJOR}.0")
        limit = self.capabilities_of_server.get("max_msg_fds", 1)
        self._irqs.chunk = max(1, min(limit, protocol.MAX_FDS)) if isinstance(limit, int) else 1

    def _discover(self) -> None:
        _, flags, regions, irqs = DEVICE_INFO.unpack(
            self._ask(Command.DEVICE_GET_INFO, DEVICE_INFO.pack(DEVICE_INFO.size, 0, 0, 0), "GET_INFO")
        )
        self.info = DeviceFlag(flags)
        self.regions = tuple(RegionInfo.ask(index, self.request) for index in range(regions))
        self.irqs = tuple(IrqInfo.ask(index, self.request) for index in range(irqs))
        for info, name in zip(self.regions, protocol.REGION_NAMES, strict=False):
            setattr(self, name, RegionView(info, self.request))
        self.id = f"{self.config.read16(0):04x}:{self.config.read16(2):04x}"
        self._pin = self.config.read8(INTERRUPT_PIN)

    # ---- interrupts

    def arm(self, index: int = 0, fds: Sequence[int] | None = None, start: int = 0) -> None:
        """Register eventfds for the vectors of an IRQ index from ``start`` on: ours, or ``fds``.

        0 is INTx, 1 MSI, 2 MSI-X. Without ``fds`` all vectors get one. The caller's fds stay the caller's.
        """
        self._irqs.arm(self.irqs[index], fds, start, resample=self._resample and index == 0)

    def disarm(self, index: int = 0) -> None:
        """Take every eventfd of an IRQ index back (SET_IRQS NONE|TRIGGER, count 0)."""
        self._irqs.disarm(index)

    def arm_new(self, index: int, count: int) -> None:
        """Register eventfds of ours for the first ``count`` vectors of an IRQ index."""
        self._irqs.arm(self.irqs[index], count=count)

    def set_irqs(self, flags: int, index: int, start: int, count: int, fds: Sequence[int] = ()) -> None:
        """Send one SET_IRQS as it is; the caller's fds stay the caller's."""
        self._irqs.set(flags, index, start, count, fds)

    def enable_msix(self, vectors: int | None = None) -> int:
        """Enable MSI-X with the first ``vectors`` (default: all), unmasked and armed; return how many.

        INTx is given up; ``guest.msix.disable()`` goes back. Raises StateError when there is no MSI-X.
        """
        return self.msix.enable(vectors)

    def enable_msi(self, vectors: int | None = None) -> int:
        """Enable MSI with ``vectors`` (default: all), rounded up to a power of two; return how many.

        INTx is given up; ``guest.msi.disable()`` goes back. Raises StateError when there is no MSI.
        """
        return self.msi.enable(vectors)

    def wait_irq(self, vector: int = 0, timeout: float | None = None, index: int | None = None) -> int:
        """Wait for an interrupt; return how many came since the last look. Raises TimeoutError.

        ``index``: as in arm(); by default the last one armed. ``timeout``: seconds.
        """
        return self._irqs.wait(vector, self.timeout if timeout is None else timeout, index)

    def irq_count(self, vector: int = 0, index: int | None = None) -> int:
        """Return how many interrupts came since the last look, without waiting."""
        return self._irqs.take(vector, index)

    def mask_irq(self, index: int = 0, vector: int = 0) -> None:
        """Mask a vector (SET_IRQS NONE|MASK)."""
        self._irqs.mask(index, vector)

    def unmask_irq(self, index: int = 0, vector: int = 0) -> None:
        """Unmask a vector: SET_IRQS NONE|UNMASK or, for INTx with ``resample``, the unmask eventfd."""
        self._irqs.unmask(index, vector)

    # ---- the device

    def reset(self) -> None:
        """Reset the device (DEVICE_RESET); memory and eventfds stay."""
        self._ask(Command.DEVICE_RESET, b"", "DEVICE_RESET")

    def migrate_out(self, precopy: bool = True) -> bytes:
        """Stop the device and return its state; with ``precopy`` most of it was read while it ran."""
        return self.migration.save(precopy)

    def migrate_in(self, data: bytes) -> None:
        """Give this device the state that ``migrate_out()`` of another returned, and let it run."""
        self.migration.load(data)

    def enable(
        self, bus_master: bool = True, memory: bool = True, io: bool = True, intx: bool = True
    ) -> None:
        """Set the COMMAND register as a driver's probe does; what is False is switched off."""
        kept = self.config.read16(COMMAND) & ~(7 | INTX_DISABLE)
        bits = io * 1 | memory * 2 | bus_master * 4 | (not intx) * INTX_DISABLE
        self.config.write16(COMMAND, kept | bits)

    def capabilities(self) -> list[tuple[int, int]]:
        """Return (id, offset) of every PCI capability. Raises ProtocolError when the list has a loop."""
        found: list[tuple[int, int]] = []
        at = self.config.read8(CAPABILITIES) & ~3 if self.config.read16(STATUS) & 0x10 else 0
        while at:
            if any(at == offset for _, offset in found):
                raise ProtocolError(f"the capability list comes back to {at:#x}")
            found.append((self.config.read8(at), at))
            at = self.config.read8(at + 1) & ~3
        return found

    def extended_capabilities(self) -> list[tuple[int, int]]:
        """Return (id, offset) of every PCI Express extended capability. ProtocolError when the list loops."""
        found: list[tuple[int, int]] = []
        at = 0x100 if self.config.size > 0x100 else 0
        while at and (header := self.config.read32(at)):
            if any(at == offset for _, offset in found):
                raise ProtocolError(f"the extended capability list comes back to {at:#x}")
            found.append((header & 0xFFFF, at))
            at = header >> 20 & ~3
        return found

    def write_multi(self, writes: Iterable[tuple[int, int, bytes]], posted: bool = True) -> int | None:
        """Write many (region index, offset, at most 8 bytes) in one message (REGION_WRITE_MULTI).

        Returns how many the device did, None when posted. Raises StateError when it was not negotiated.
        """
        if not self.capabilities_of_server.get("write_multiple"):
            raise StateError("the server did not agree to write_multiple")
        entries = [MULTI_WRITE.pack(at, region, len(data), data) for region, at, data in writes]
        payload = MULTI_COUNT.pack(len(entries)) + b"".join(entries)
        reply = self._ask(Command.REGION_WRITE_MULTI, payload, "REGION_WRITE_MULTI", no_reply=posted)
        return None if posted else int(MULTI_COUNT.unpack(reply)[0])

    def map_region(self, index: int) -> mmap.mmap:
        """Map a region that the device shares (flag MMAP); the caller closes it.

        Raises StateError when it is not shared.
        """
        if not self.regions[index].flags & RegionFlag.MMAP:
            raise StateError(f"{self.regions[index].name} is not shared for mmap")
        return self.regions[index].map(self.request)

    # ---- by hand

    def request(
        self,
        command: int,
        payload: bytes = b"",
        fds: Sequence[int] = (),
        no_reply: bool = False,
        about: str = "",
    ) -> tuple[bytes, tuple[int, ...]]:
        """Send any command; return payload and fds of the reply. The caller closes these fds.

        With ``no_reply`` the device must not answer, and nothing is returned.
        """
        return self._open().request(command, payload, fds, no_reply, about or command_name(command))

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are, for tests and experiments."""
        self._open().send_raw(data, fds)

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message of the device, whatever it is. The caller closes its fds."""
        return self._open().receive(timeout)

    def _open(self) -> Link:
        if self._link is None:
            raise ProtocolError(f"the guest is not connected to {self.path}; see reconnect()")
        return self._link

    def _ask(self, command: Command, payload: bytes, about: str, no_reply: bool = False) -> bytes:
        reply, fds = self.request(command, payload, (), no_reply, about)
        close_fds(fds)
        return reply

    def _tell(self, command: Command, payload: bytes, fds: Sequence[int], about: str) -> None:
        _, received = self.request(command, payload, fds, about=about)
        close_fds(received)

    def _serve_device(self) -> None:
        self._open().serve_in_background()

    def _views(self) -> list[tuple[str, RegionView]]:
        return [(info.name, getattr(self, info.name)) for info in self.regions if hasattr(self, info.name)]
