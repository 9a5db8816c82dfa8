"""The software guest's interrupts: eventfds registered with SET_IRQS, waited for and counted."""

import errno
import os
import select
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ..errors import ProtocolError, StateError
from ..protocol import IRQ_INFO, IRQ_SET, Command, IrqFlag, IrqSet, irq_name
from .link import Request, Sender, close_fds, milliseconds

__all__ = ["IrqInfo", "Irqs"]

INTX = 0


@dataclass(frozen=True)
class IrqInfo:
    """What GET_IRQ_INFO says of an index: how many vectors, and how they may be used."""

    index: int
    name: str
    flags: IrqFlag
    count: int

    @classmethod
    def ask(cls, index: int, request: Request) -> Self:
        """Ask the device; an index that it refuses has no vectors, as QEMU sees it."""
        try:
            reply, fds = request(Command.DEVICE_GET_IRQ_INFO, IRQ_INFO.pack(IRQ_INFO.size, 0, index, 0))
        except ProtocolError as error:
            if error.code in (errno.EINVAL, errno.ENOTSUP):
                return cls(index, irq_name(index), IrqFlag(0), 0)
            raise
        close_fds(fds)
        if len(reply) < IRQ_INFO.size:
            raise ProtocolError(f"GET_IRQ_INFO: the reply has {len(reply)} bytes, needs {IRQ_INFO.size}")
        _, flags, _, count = IRQ_INFO.unpack_from(reply)
        return cls(index, irq_name(index), IrqFlag(flags), count)


class Irqs:
    """Every eventfd that this guest registered; ``chunk`` is how many fit one message."""

    def __init__(self, send: Sender) -> None:
        self.chunk = 1
        self._send = send
        self._waiting: dict[tuple[int, int], int] = {}  # (index, vector): eventfd
        self._owned: dict[tuple[int, int], int] = {}
        self._unmask: int | None = None
        self._masked = False  # INTx: by us, or by the device since its last interrupt
        self._last = 0

    def arm(
        self,
        irq: IrqInfo,
        fds: Sequence[int] | None = None,
        start: int = 0,
        *,
        count: int | None = None,
        resample: bool = False,
    ) -> None:
        """See Client.arm; ``resample`` registers an unmask eventfd too, as KVM does for INTx."""
        if fds is None:
            fds = self._make(irq.index, range(start, irq.count if count is None else start + count))
        self._last = irq.index
        for at in range(0, len(fds), self.chunk):
            some = fds[at : at + self.chunk]
            self.set(IrqSet.DATA_EVENTFD | IrqSet.TRIGGER, irq.index, start + at, len(some), some)
        self._waiting.update({(irq.index, start + at): fd for at, fd in enumerate(fds)})
        if resample:
            self._arm_unmask(irq.index)
            self._masked = False

    def _make(self, index: int, vectors: range) -> list[int]:
        made = []
        for vector in vectors:
            fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            old = self._owned.get((index, vector))
            self._owned[index, vector] = fd
            if old is not None:
                os.close(old)
            made.append(fd)
        return made

    def _arm_unmask(self, index: int) -> None:
        self.set(IrqSet.DATA_NONE | IrqSet.MASK, index, 0, 1)
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        old, self._unmask = self._unmask, fd
        if old is not None:
            os.close(old)
        self.set(IrqSet.DATA_EVENTFD | IrqSet.UNMASK, index, 0, 1, [fd])
        self.set(IrqSet.DATA_NONE | IrqSet.UNMASK, index, 0, 1)

    def disarm(self, index: int) -> None:
        """See Client.disarm."""
        self.set(IrqSet.DATA_NONE | IrqSet.TRIGGER, index, 0, 0)
        for key in [key for key in self._waiting if key[0] == index]:
            del self._waiting[key]
        for key in [key for key in self._owned if key[0] == index]:
            os.close(self._owned.pop(key))
        if index == INTX:
            self._masked = False
            self._close_unmask()

    def mask(self, index: int, vector: int) -> None:
        """Mask a vector by message."""
        self.set(IrqSet.DATA_NONE | IrqSet.MASK, index, vector, 1)
        self._masked = self._masked or index == INTX

    def unmask(self, index: int, vector: int) -> None:
        """Unmask a vector by eventfd if there is one, else by message."""
        if index == INTX:
            self._masked = False
        if index == INTX and self._unmask is not None:
            os.eventfd_write(self._unmask, 1)
        else:
            self.set(IrqSet.DATA_NONE | IrqSet.UNMASK, index, vector, 1)

    def wait(self, vector: int, timeout: float, index: int | None) -> int:
        """See Client.wait_irq."""
        poll = select.poll()
        poll.register(self._fd(vector, index), select.POLLIN)
        if not poll.poll(milliseconds(timeout)):
            raise TimeoutError(self._silence(self._last if index is None else index, vector, timeout))
        return self.take(vector, index)

    def _silence(self, index: int, vector: int, timeout: float) -> str:
        text = f"no interrupt on {irq_name(index)} vector {vector} for {timeout} s"
        if index == INTX and self._masked:
            text += ": INTx is masked since the last one: guest.unmask_irq()"
        return text

    def take(self, vector: int, index: int | None) -> int:
        """See Client.irq_count."""
        try:
            count = os.eventfd_read(self._fd(vector, index))
        except BlockingIOError:
            return 0
        if (self._last if index is None else index) == INTX:
            self._masked = True  # AUTOMASKED: each one masks until the guest unmasks
        return count

    def set(self, flags: int, index: int, start: int, count: int, fds: Sequence[int] = ()) -> None:
        """Send SET_IRQS."""
        try:
            payload = IRQ_SET.pack(IRQ_SET.size, flags, index, start, count)
        except struct.error:
            numbers = f"flags {flags!r}, index {index!r}, vectors {start!r}+{count!r}"
            raise ValueError(f"SET_IRQS has numbers of 32 bits: {numbers}") from None
        about = f"SET_IRQS {irq_name(index)} {IrqSet(flags).name} {start}+{count}"
        self._send(Command.DEVICE_SET_IRQS, payload, fds, about)

    def close(self) -> None:
        """Close our eventfds, without a message."""
        close_fds(self._owned.values())
        self._close_unmask()
        self._masked = False
        self._owned.clear()
        self._waiting.clear()

    def _close_unmask(self) -> None:
        if self._unmask is not None:
            os.close(self._unmask)
        self._unmask = None

    def _fd(self, vector: int, index: int | None) -> int:
        key = (self._last if index is None else index, vector)
        if key not in self._waiting:
            raise StateError(f"{irq_name(key[0])} vector {vector} is not armed; see arm()")
        return self._waiting[key]
