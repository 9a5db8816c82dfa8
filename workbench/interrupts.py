"""Interrupts: what a device declares, and the lines it raises.

INTx is a level in the guest and an edge on the wire: asserting signals the client's eventfd once
and masks the line; when the client unmasks it and it is still asserted, it is signalled again.
STATUS bit 3 mirrors the line, COMMAND bit 10 (Interrupt Disable) gates it (PCI 3.0, 6.2.2, 6.2.3).
Every call may come from any thread and says what happened; a device without a driver is normal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .engine import check, ffi, lib
from .errors import DescriptionError
from .mistakes import shown

__all__ = ["InterruptLine", "Interrupts", "IrqOutcome", "IrqStatus"]

PINS = "ABCD"


class IrqOutcome(StrEnum):
    """What became of an interrupt."""

    DELIVERED = "delivered"  #: the client was signalled
    PENDING = "pending"  #: INTx is being handled; delivered once when the guest is done with it
    MASKED = "masked"  #: the client masked it; kept, delivered on unmask
    DISABLED = "disabled"  #: COMMAND bit 10 is set
    NOBODY = "nobody listens"  #: no client has armed the interrupt
    RELEASED = "released"  #: the line is down


#: In the order of enum wb_irq_outcome.
OUTCOMES = tuple(IrqOutcome)


@dataclass(frozen=True)
class IrqStatus:
    """An interrupt as it stands; ``count`` is how often the client was signalled."""

    armed: bool
    masked: bool
    asserted: bool
    pending: bool
    count: int


class Interrupts:
    """What interrupts a device has: ``irq = wb.Interrupts(intx=True)``.

    ``intx`` is True (pin A), a pin "A" to "D", or False. DescriptionError for anything else.
    """

    def __init__(self, *, intx: bool | str = False) -> None:
        pin = "A" if intx is True else intx
        if pin is not False and (not isinstance(pin, str) or pin not in tuple(PINS)):
            raise DescriptionError(
                "Interrupts", [f'intx is True, False or one of "A", "B", "C", "D", not {shown(intx)}']
            )
        self.pin = PINS.index(pin) + 1 if pin else 0  #: as in the Interrupt Pin register; 0: none

    if TYPE_CHECKING:  # in a device's methods self.irq is the InterruptLine made from this

        def __getattr__(self, name: str) -> Any: ...

    def counts(self) -> tuple[int, ...]:
        """Vectors an index has, in the order INTx, MSI, MSI-X, ERR, REQ."""
        return (1 if self.pin else 0, 0, 0, 0, 0)

    def __repr__(self) -> str:
        return f"Interrupts(intx={PINS[self.pin - 1]!r})" if self.pin else "Interrupts()"


class InterruptLine:
    """``dev.irq``: the INTx line of one device."""

    def __init__(self, handle: Any, description: Interrupts, origin: Callable[[], int]) -> None:
        self._handle = handle
        self._origin = origin  # who acts: a cell, or the device in one of its hooks
        self.description = description
        self.owner: Callable[[], Any] = lambda: None  #: the core it belongs to

    def view(self) -> Any:
        """Return a live view of every interrupt the device has."""
        from .views.doors import view_of

        return view_of(self.owner, "irq")

    def trigger(self) -> IrqOutcome:
        """Pulse the line: one interrupt. OSError (EINVAL) when the device has no INTx."""
        what = "trigger INTx, which the device does not have" if not self.description.pin else "trigger INTx"
        return OUTCOMES[check(lib.wb_irq_trigger(self._handle, lib.WB_INTX, 0, self._origin()), what)]

    def assert_(self) -> IrqOutcome:
        """Assert the line and keep it so until ``deassert()``."""
        return self._level(1)

    def deassert(self) -> IrqOutcome:
        """Let the line go; what was signalled already stays signalled."""
        return self._level(0)

    @property
    def asserted(self) -> bool:
        """The level of the line, as STATUS bit 3 shows it."""
        return self.status.asserted

    @property
    def status(self) -> IrqStatus:
        """The line as it stands; all False without INTx."""
        status = ffi.new("wb_irq_status *")
        if not self.description.pin:
            return IrqStatus(False, False, False, False, 0)
        check(lib.wb_irq_get(self._handle, lib.WB_INTX, 0, status), "INTx")
        armed, masked, asserted, pending = map(
            bool, (status.armed, status.masked, status.asserted, status.pending)
        )
        return IrqStatus(armed, masked, asserted, pending, status.count)

    def _level(self, level: int) -> IrqOutcome:
        what = "assert INTx, which the device does not have" if not self.description.pin else "INTx"
        return OUTCOMES[check(lib.wb_irq_level(self._handle, level, self._origin()), what)]

    def __repr__(self) -> str:
        if not self.description.pin:
            return "<no interrupts>"
        status = self.status
        words = [name for name in ("asserted", "armed", "masked", "pending") if getattr(status, name)]
        return f"<INT{PINS[self.description.pin - 1]} {' '.join(words) or 'idle'}, signalled {status.count}×>"
