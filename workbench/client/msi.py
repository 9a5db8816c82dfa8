"""MSI and MSI-X as a guest and its virtual machine monitor use them together.

The capability is found by walking the list; its enable bit, masks and the MSI-X table are written
through the regions as a driver does, eventfds are registered as the monitor does (PCI 3.0, 6.8).
"""

from typing import TYPE_CHECKING

from ..errors import StateError
from ..protocol import IrqSet

if TYPE_CHECKING:
    from .guest import Client
    from .region import RegionView

__all__ = ["Msi", "Msix"]

MSI, MSIX = 1, 2  # vfio IRQ indexes
CAPABILITY = {MSI: 0x05, MSIX: 0x11}
CONTROL, TABLE, PBA = 2, 4, 8
MSI_ENABLE, MSI_64, MSI_MASKS = 1, 0x80, 0x100
MSIX_ENABLE, MASK_ALL = 0x8000, 0x4000
ADDRESS, DATA = 0xFEE0_0000, 0x4041  # of the first vector: what an x86 guest writes


class _Kind:
    index: int
    name: str

    def __init__(self, guest: "Client") -> None:
        self._guest = guest

    @property
    def at(self) -> int:
        """Where the capability is in the config space. StateError when there is none."""
        for cap_id, offset in self._guest.capabilities():
            if cap_id == CAPABILITY[self.index]:
                return offset
        raise StateError(f"the device has no {self.name} capability")

    def _control(self, at: int, value: int | None = None) -> int:
        config = self._guest.config
        if value is not None:
            config.write16(at + CONTROL, value)
            return value
        return config.read16(at + CONTROL)

    def _leave(self) -> None:
        """Take the eventfds back and let INTx be used again."""
        self._guest.disarm(self.index)
        if self._guest.irqs[0].count:
            self._guest.arm(0)

    def _count(self, vectors: int | None, most: int) -> int:
        if vectors is None:
            return most
        if not 1 <= vectors <= most:
            raise ValueError(f"{vectors} {self.name} vectors, the device has {most}")
        return vectors


class Msix(_Kind):
    """MSI-X of the device that a guest is connected to."""

    index, name = MSIX, "MSI-X"

    def enable(self, vectors: int | None = None) -> int:
        """Enable the first ``vectors`` (default: all), each unmasked and armed; return how many.

        The order is Linux's: enabled with the function masked, table written, function unmasked.
        """
        guest, at = self._guest, self.at
        control = self._control(at)
        vectors = self._count(vectors, (control & 0x7FF) + 1)
        guest.disarm(0)
        self._control(at, control | MSIX_ENABLE | MASK_ALL)
        guest.set_irqs(IrqSet.DATA_EVENTFD | IrqSet.TRIGGER, self.index, 0, 1)  # as QEMU: none armed yet
        guest.arm_new(self.index, vectors)
        table, start = self._place(TABLE)
        for vector in range(vectors):
            entry = ADDRESS.to_bytes(8, "little") + (DATA + vector).to_bytes(4, "little") + bytes(4)
            table.write(start + 16 * vector, entry)
        self._control(at, (control | MSIX_ENABLE) & ~MASK_ALL)
        return vectors

    def disable(self) -> None:
        """Clear the enable bit, then take the eventfds back and arm INTx again, as QEMU does."""
        at = self.at
        self._control(at, self._control(at) & ~(MSIX_ENABLE | MASK_ALL))
        self._leave()

    def mask(self, vector: int, on: bool = True) -> None:
        """Set the mask bit of a vector in the table."""
        table, offset = self._entry(vector)
        table.write32(offset + 12, int(on))

    def unmask(self, vector: int) -> None:
        """Clear the mask bit of a vector in the table."""
        self.mask(vector, False)

    def mask_all(self, on: bool = True) -> None:
        """Set or clear the function mask, bit 14 of Message Control."""
        at = self.at
        control = self._control(at)
        self._control(at, control | MASK_ALL if on else control & ~MASK_ALL)

    def pending(self, vector: int) -> bool:
        """Read a vector's bit of the Pending Bit Array, as QEMU does."""
        view, offset = self._place(PBA)
        return bool(view.read32(offset + vector // 32 * 4) >> vector % 32 & 1)

    def _entry(self, vector: int) -> "tuple[RegionView, int]":
        view, offset = self._place(TABLE)
        return view, offset + 16 * vector

    def _place(self, register: int) -> "tuple[RegionView, int]":
        word = self._guest.config.read32(self.at + register)
        return getattr(self._guest, f"bar{word & 7}"), word & ~7


class Msi(_Kind):
    """MSI of the device that a guest is connected to."""

    index, name = MSI, "MSI"

    def enable(self, vectors: int | None = None) -> int:
        """Enable at least ``vectors`` (default: all), rounded up to a power of two; return how many."""
        guest, at = self._guest, self.at
        control = self._control(at)
        vectors = self._count(vectors, 1 << (control >> 1 & 7))
        power = (vectors - 1).bit_length()
        guest.disarm(0)
        guest.config.write32(at + 4, ADDRESS)
        guest.config.write16(at + (12 if control & MSI_64 else 8), DATA)
        self._control(at, control & ~0x70 | power << 4 | MSI_ENABLE)
        guest.arm_new(self.index, 1 << power)
        return 1 << power

    def disable(self) -> None:
        """Clear the enable bit, then take the eventfds back and arm INTx again, as QEMU does."""
        at = self.at
        self._control(at, self._control(at) & ~MSI_ENABLE)
        self._leave()

    def mask(self, vector: int, on: bool = True) -> None:
        """Set a vector's mask bit. StateError when the device has none."""
        at, config = self._masks(), self._guest.config
        bits = config.read32(at)
        config.write32(at, bits | 1 << vector if on else bits & ~(1 << vector))

    def unmask(self, vector: int) -> None:
        """Clear a vector's mask bit."""
        self.mask(vector, False)

    def pending(self, vector: int) -> bool:
        """Read a vector's pending bit."""
        return bool(self._guest.config.read32(self._masks() + 4) >> vector & 1)

    def _masks(self) -> int:
        at = self.at
        control = self._control(at)
        if not control & MSI_MASKS:
            raise StateError("the device cannot mask single MSI vectors")
        return at + (16 if control & MSI_64 else 12)
