"""Interrupts: what a device declares, and what may become of one that it raises.

``irq = wb.Interrupts(intx=True, msi=4, msix=8)``; the guest enables one of the three. The registers
of MSI and MSI-X come with it (msi.py). Raising is in vectors.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .errors import DescriptionError
from .mistakes import integer, shown

__all__ = ["KINDS", "PINS", "Interrupts", "IrqOutcome", "IrqStatus"]

PINS = "ABCD"
KINDS = ("INTx", "MSI", "MSI-X")  #: by vfio IRQ index
MOST = {"msi": 32, "msix": 2048}  #: vectors (PCI 3.0, 6.8.1.3 and 6.8.2.3)


class IrqOutcome(StrEnum):
    """What became of an interrupt."""

    DELIVERED = "delivered"  #: the client was signalled
    PENDING = "pending"  #: kept: INTx is being handled, or the client has not armed the MSI-X vector yet
    MASKED = "masked"  #: client or guest masked it; kept, delivered once on unmask
    #: MSI, MSI-X: the guest has not enabled it; INTx: COMMAND bit 10, or messages are on; all: asleep.
    DISABLED = "disabled"
    NOBODY = "nobody listens"  #: no client, or one that has not armed the interrupt
    RELEASED = "released"  #: the line is down


@dataclass(frozen=True)
class IrqStatus:
    """An interrupt as it stands; ``count`` is how often the client was signalled.

    ``enabled`` is what the guest says in config space, ``armed`` that the client gave an eventfd,
    ``name`` which one it is: "INTx", "MSI-X[3]".
    """

    armed: bool
    masked: bool
    asserted: bool
    pending: bool
    count: int
    enabled: bool = False
    name: str = ""


class Interrupts:
    """What interrupts a device has: ``irq = wb.Interrupts(intx=True, msix=4)``.

    ``intx`` is True (pin A), a pin "A" to "D", or False; ``msi`` 1, 2, 4, 8, 16 or 32 vectors, ``msix``
    1 to 2048. ``msix_table`` and ``msix_pba`` say where the MSI-X table (16 bytes a vector) and its Pending
    Bit Array (8 bytes for 64 vectors) lie, as ("bar0", offset); left out, a place is found for them.
    DescriptionError for anything else. A device then has ``dev.irq``: ``trigger()`` raises one interrupt,
    ``assert_()`` and ``deassert()`` are the level of INTx.
    """

    def __init__(
        self,
        *,
        intx: bool | str = False,
        msi: int = 0,
        msix: int = 0,
        msix_table: tuple[str, int] | None = None,
        msix_pba: tuple[str, int] | None = None,
    ) -> None:
        wrong: list[str] = []
        pin = "A" if intx is True else intx
        if pin is not False and (not isinstance(pin, str) or pin not in tuple(PINS)):
            wrong.append(f'intx is True, False or one of "A", "B", "C", "D", not {shown(intx)}')
            pin = False
        self.pin = PINS.index(pin) + 1 if pin else 0  #: as in the Interrupt Pin register; 0: none
        self.msi = _vectors("msi", msi, wrong)
        if self.msi & (self.msi - 1):
            wrong.append(f"msi {self.msi}, expected 1, 2, 4, 8, 16 or 32 vectors")
        self.msix = _vectors("msix", msix, wrong)
        self.msix_table = _place("msix_table", msix_table, self.msix, wrong)
        self.msix_pba = _place("msix_pba", msix_pba, self.msix, wrong)
        if wrong:
            raise DescriptionError("Interrupts", wrong)

    if TYPE_CHECKING:  # in a device's methods self.irq is the InterruptLines made from this

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, number: int) -> Any: ...

    def counts(self) -> tuple[int, ...]:
        """Vectors an index has, in the order INTx, MSI, MSI-X, ERR, REQ."""
        return (1 if self.pin else 0, self.msi, self.msix, 0, 0)

    def __repr__(self) -> str:
        said = [f"intx={PINS[self.pin - 1]!r}"] if self.pin else []
        said += [f"{name}={value!r}" for name, value in vars(self).items() if value and name != "pin"]
        return f"Interrupts({', '.join(said)})"


def _vectors(name: str, value: object, wrong: list[str]) -> int:
    before = len(wrong)
    number = integer(value, name, wrong)
    if len(wrong) == before and not 0 <= number <= MOST[name]:
        wrong.append(f"{name} {number:#x}, expected 0 to {MOST[name]:#x} vectors")
        return 0
    return number


def _place(name: str, value: object, vectors: int, wrong: list[str]) -> tuple[str, int] | None:
    if value is None:
        return None
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)):
        wrong.append(f'{name} {shown(value)}, expected a BAR and an offset such as ("bar0", 0x800)')
        return None
    if not vectors:
        wrong.append(f"{name}, but no msix=: say how many vectors")
    return value[0], integer(value[1], f"{name}'s offset", wrong)
