"""The option ROM of a device: bytes as the description gives them, padded to what a BAR can size.

Source: PCI Local Bus 3.0, 6.2.5.2 (expansion ROM base address) and 6.3 (contents).
"""

from .mistakes import shown
from .planes import Segment
from .registers import Block, Field, Register

__all__ = ["LARGEST_ROM", "RomBlock", "rom_block", "rom_register"]

SMALLEST_ROM = 2048  #: bytes: bits 10 to 1 of its base address are reserved
LARGEST_ROM = 1 << 20  #: bytes: QEMU fetches all of it in one message


class RomBlock(Block):
    """A region of ``data``, read-only, padded with 0xff to a power of two."""

    def __init__(self, data: bytes) -> None:
        size = max(SMALLEST_ROM, 1 << (len(data) - 1).bit_length())
        super().__init__("rom", size, {}, holes="ignore", doc="Option ROM")
        self.data = data.ljust(size, b"\xff")

    def segments(self) -> list[Segment]:
        """Return all of it: what the description says, readable."""
        ones = b"\xff" * self.size
        return [Segment(0, {"value": self.data, "reset": self.data, "readable": ones, "known": ones})]


def rom_block(said: object, problems: list[str]) -> RomBlock | None:
    """Return the block of a device class's ``rom``; None when there is none, or it is wrong."""
    if said is None:
        return None
    if not isinstance(said, (bytes, bytearray, memoryview)):
        problems.append(f'rom is {shown(said)}, expected bytes: open("option.rom", "rb").read()')
        return None
    data = bytes(said)
    if not 1 <= len(data) <= LARGEST_ROM:
        problems.append(f"rom has {len(data):#x} bytes, expected 1 to {LARGEST_ROM:#x}")
        return None
    return RomBlock(data)


def rom_register(size: int) -> Register:
    """Return the expansion ROM base address register (config 0x30) for a ROM of ``size`` bytes; 0: none."""
    if not size:
        return Register(0x30, 32, "ignore", doc="Not there: sizes to 0")
    low = size.bit_length() - 1
    address = Field(low, 32 - low, "rw")
    return Register(0x30, 32, "ignore", doc="Option ROM", ENABLE=Field(0, mode="rw"), ADDRESS=address)
