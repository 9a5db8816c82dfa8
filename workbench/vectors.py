"""``dev.irq``: the interrupts of one device, to raise and to look at.

INTx is a level in the guest and an edge on the wire: asserting signals the client's eventfd once
and masks the line; when the client unmasks it and it is still asserted, it is signalled again.
STATUS bit 3 mirrors the line, COMMAND bit 10 (Interrupt Disable) gates it (PCI 3.0, 6.2.2, 6.2.3).
MSI and MSI-X are messages, one vector each; while one of them is enabled INTx is silent (6.8.1).
Every call may come from any thread and says what happened; a device without a driver is normal.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from .engine import check, ffi, lib
from .interrupts import KINDS, PINS, Interrupts, IrqOutcome, IrqStatus
from .protocol import vector_name

__all__ = ["InterruptLines", "Vector", "Vectors"]

#: In the order of enum wb_irq_outcome.
OUTCOMES = tuple(IrqOutcome)


class Vector:
    """One interrupt: ``dev.irq[3]``, of the kind the guest enabled; ``dev.irq.msix[3]``, of that kind."""

    def __init__(self, lines: "InterruptLines", index: int, number: int) -> None:
        self._lines = lines
        self.index = index  #: vfio IRQ index: 0 INTx, 1 MSI, 2 MSI-X; 255: whichever is enabled
        self.number = number

    def trigger(self) -> IrqOutcome:
        """Send the message, or pulse INTx: one interrupt. OSError (EINVAL) when the device has none such."""
        lines = self._lines
        self._check()
        result = lib.wb_irq_trigger(lines.handle, self.index, self.number, lines.origin())
        return OUTCOMES[check(result, f"trigger {self.name}")]

    @property
    def status(self) -> IrqStatus:
        """How it stands now; all False when the device has none such."""
        status = ffi.new("wb_irq_status *")
        if lib.wb_irq_get(self._lines.handle, self.index, self.number, status) < 0:
            return IrqStatus(False, False, False, False, 0, name=self.name)
        armed, masked, asserted, pending, enabled = map(
            bool, (status.armed, status.masked, status.asserted, status.pending, status.enabled)
        )
        name = vector_name(status.index, status.vector)
        return IrqStatus(armed, masked, asserted, pending, status.count, enabled, name)

    @property
    def pending(self) -> bool:
        """It happened, and is delivered once when it is unmasked or armed."""
        return self.status.pending

    @property
    def masked(self) -> bool:
        """Held back by the guest (vector or function mask) or by the client."""
        return self.status.masked

    @property
    def count(self) -> int:
        """How often the client was signalled."""
        return self.status.count

    @property
    def name(self) -> str:
        """Return "INTx", "MSI-X[3]"; "vector 3" while its kind is left open."""
        if self.index == lib.WB_IRQ_ANY:
            return f"vector {self.number}"
        return vector_name(self.index, self.number)

    def _check(self) -> None:
        counts = self._lines.description.counts()
        if self.index != lib.WB_IRQ_ANY and self.number >= counts[self.index]:
            missing = f"trigger {self.name}, which the device does not have: {self._lines.what_there_is()}"
            raise OSError(errno.EINVAL, missing)

    def __repr__(self) -> str:
        status = self.status
        return f"<{status.name} {spell_status(status)}>"


def spell_status(status: IrqStatus) -> str:
    """Return "asserted armed, signalled 3×"."""
    # INTx is masked with each signal, so every interrupt leaves this behind until its handler has run.
    masked = "masked until the guest is done" if status.name == "INTx" else "masked"
    told = {"asserted": "asserted", "armed": "armed", "masked": masked, "pending": "pending"}
    words = [word for name, word in told.items() if getattr(status, name)]
    return f"{' '.join(words) or 'idle'}, signalled {status.count}×"


class Vectors(Sequence[Vector]):
    """``dev.irq.msix``: every vector of one kind, whatever the guest enabled."""

    def __init__(self, lines: "InterruptLines", index: int) -> None:
        self._lines, self._index = lines, index

    def __len__(self) -> int:
        return self._lines.description.counts()[self._index]

    @overload
    def __getitem__(self, number: int) -> Vector: ...
    @overload
    def __getitem__(self, number: slice) -> list[Vector]: ...
    def __getitem__(self, number: int | slice) -> Vector | list[Vector]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        return Vector(self._lines, self._index, self._lines.number(number, len(self), KINDS[self._index]))

    @property
    def armed(self) -> int:
        """How many have an eventfd of the client."""
        return sum(one.status.armed for one in self)

    def __repr__(self) -> str:
        status = [one.status for one in self]
        armed, pending = sum(one.armed for one in status), sum(one.pending for one in status)
        waiting = f", {pending} pending" if pending else ""
        count = sum(one.count for one in status)
        return f"<{KINDS[self._index]}: {armed} of {len(self)} vectors armed{waiting}, signalled {count}×>"


class InterruptLines:
    """``dev.irq``: ``dev.irq[n]`` is vector n of the kind that the guest enabled, INTx until it enables one.

    Vectors that a kind does not have share those it has (n modulo their number): all of them share INTx.
    ``dev.irq.intx``, ``dev.irq.msi[n]`` and ``dev.irq.msix[n]`` are of that kind, enabled or not.
    """

    def __init__(self, handle: Any, description: Interrupts, origin: Callable[[], int]) -> None:
        self.handle = handle
        self.origin = origin  #: who acts: a cell, or the device in one of its hooks
        self.description = description
        self.owner: Callable[[], Any] = lambda: None  #: the core it belongs to
        self.intx = Vector(self, lib.WB_INTX, 0)
        self.msi = Vectors(self, lib.WB_MSI)
        self.msix = Vectors(self, lib.WB_MSIX)

    def view(self) -> Any:
        """Return a live view of every interrupt the device has."""
        from .views.doors import view_of

        return view_of(self.owner, "irq")

    @property
    def mode(self) -> str:
        """What the guest enabled: "MSI-X", "MSI", or else "INTx"."""
        return KINDS[lib.wb_irq_mode(self.handle)]

    def __len__(self) -> int:
        return max(self.description.counts())

    def __getitem__(self, number: int) -> Vector:
        return Vector(self, lib.WB_IRQ_ANY, self.number(number, len(self), "interrupt"))

    def __iter__(self) -> Iterator[Vector]:
        return (self[number] for number in range(len(self)))

    def of(self, index: int) -> Sequence[Vector]:
        """Return the vectors of a vfio IRQ index: 0 INTx, 1 MSI, 2 MSI-X; others have none."""
        kinds = ([self.intx][: self.description.counts()[0]], self.msi, self.msix)
        return kinds[index] if 0 <= index < len(kinds) else ()

    def trigger(self, number: int = 0) -> IrqOutcome:
        """Raise one interrupt: a message, or a pulse of INTx.

        A pulse is not in STATUS bit 3, and a driver that asks there (uio_pci_generic, vfio-pci) takes it for
        another device's and the line, which stays up, for a storm: hold it with ``assert_()`` for those.
        OSError (EINVAL) when the device has no interrupts, IndexError when it has fewer.
        """
        return self._one(number, "trigger").trigger()

    def assert_(self, number: int = 0) -> IrqOutcome:
        """Assert a source of interrupts and keep it so until ``deassert()``: when the driver acknowledges.

        INTx is up while one of the sources is. With MSI or MSI-X the rising edge sends one message; a
        source that is up already sends none: "pending".
        """
        return self._level(number, 1)

    def deassert(self, number: int = 0) -> IrqOutcome:
        """Let a source go; what was signalled already stays signalled."""
        return self._level(number, 0)

    @property
    def asserted(self) -> bool:
        """The level of INTx, as STATUS bit 3 shows it; without INTx that of source 0."""
        return self.intx.status.asserted if self.description.pin else self.status.asserted

    @property
    def status(self) -> IrqStatus:
        """The first interrupt as it stands, of the kind that is enabled; all False when there is none."""
        return Vector(self, lib.WB_IRQ_ANY, 0).status

    def what_there_is(self) -> str:
        """Return "it has INTA and MSI-X 0 to 3"."""
        counts = self.description.counts()
        there = [f"INT{PINS[self.description.pin - 1]}"] if counts[0] else []
        there += [
            f"{KINDS[n]} 0 to {counts[n] - 1}" if counts[n] > 1 else f"{KINDS[n]} 0"
            for n in (1, 2)
            if counts[n]
        ]
        return f"it has {' and '.join(there)}" if there else "it has no interrupts, see wb.Interrupts"

    def number(self, number: int, count: int, what: str) -> int:
        """Return a number that is in a range, counted from its end when negative. IndexError, TypeError."""
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise TypeError(f"the number of an interrupt is a whole number, not {number!r}")
        index = number.__index__()
        if not -count <= index < count:
            raise IndexError(f"the device has no {what} {index}: {self.what_there_is()}")
        return index % count

    def _one(self, number: int, verb: str) -> Vector:
        if not len(self):
            raise OSError(errno.EINVAL, f"{verb} INTx, which the device does not have")
        return self[number]

    def _level(self, number: int, level: int) -> IrqOutcome:
        which = self._one(number, "assert")
        result = lib.wb_irq_level(self.handle, which.number, level, self.origin())
        return OUTCOMES[check(result, f"assert {which.name}")]

    def __repr__(self) -> str:
        counts, mode = self.description.counts(), lib.wb_irq_mode(self.handle)
        if not any(counts):
            return "<no interrupts>"
        if mode:
            return repr(self.of(mode))
        off = [f"{KINDS[n]} not enabled ({counts[n]} vectors)" for n in (1, 2) if counts[n]]
        pin = f"INT{PINS[self.description.pin - 1]} {spell_status(self.intx.status)}"
        return f"<{'; '.join([pin, *off] if counts[0] else off)}>"
