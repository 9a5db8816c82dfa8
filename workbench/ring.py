"""Ring: a queue of fixed-size entries in guest memory, which one side fills and the other empties.

Network cards, disks and USB controllers talk to their drivers through such rings: the driver fills one with
commands or buffers, the device fills another one with what became of them.
"""

import struct

from .dma import IOVA_SIZE, DmaMemory
from .errors import StateError

__all__ = ["Ring"]


class Ring:
    """``count`` entries at I/O address ``iova``, each laid out as ``entry`` says in the words of ``struct``.

    The device empties a ring with ``take()`` and hears from the guest how far it is ``filled()``, or fills it
    with ``put()`` and hears how far it is ``emptied()``. ``head`` is the entry taken next, ``tail`` the one
    filled next; one entry stays free, so that full and empty differ. ``laps``: how often the filling side
    went round, for rings whose entries say by a bit in which lap they were written. ``len(ring)`` is how
    many entries wait. A ring at the end of the 64 bits of addresses goes on at 0: no guest can make it fail.
    Raises ValueError for fewer than 2 entries or an address of more than 64 bits.
    """

    def __init__(self, dma: DmaMemory, iova: int, entry: str, count: int) -> None:
        self._dma, self._entry = dma, struct.Struct(entry)
        if count < 2:
            raise ValueError(f"a ring has at least 2 entries, not {count}")
        if not 0 <= iova < IOVA_SIZE:
            raise ValueError(f"an IOVA has 64 bits: {iova:#x}")
        self.iova, self.count = iova, count
        self.head = self.tail = self.laps = 0

    def __len__(self) -> int:
        return (self.tail - self.head) % self.count

    def __bool__(self) -> bool:
        return True  # an empty ring is a ring

    @property
    def room(self) -> int:
        """How many entries may still be put."""
        return self.count - 1 - len(self)

    # -- what the guest says --

    def filled(self, tail: int) -> None:
        """Take the guest's word that every entry before ``tail`` is filled. Raises ValueError outside."""
        if not 0 <= tail < self.count:
            raise ValueError(f"a ring of {self.count} entries has no number {tail}")
        self.laps += tail < self.tail
        self.tail = tail

    def emptied(self, head: int) -> None:
        """Take the guest's word that it has read every entry before ``head``.

        Raises ValueError outside of the ring, or when that is more than there was.
        """
        if not 0 <= head < self.count or (head - self.head) % self.count > len(self):
            raise ValueError(f"{self}: the guest cannot have read up to entry {head}")
        self.head = head

    # -- what the device does --

    def take(self) -> tuple[int, ...]:
        """Copy the oldest entry from the guest and move on; return its numbers.

        Raises IndexError when none waits; DmaError, and does not move, when it cannot be reached.
        """
        if not len(self):
            raise IndexError("the ring is empty")
        data = self._dma.read(self._at(self.head), self._entry.size)
        self.head = (self.head + 1) % self.count
        return self._entry.unpack(data)

    def put(self, *numbers: int) -> None:
        """Copy an entry of these numbers to the guest and move on.

        Raises StateError when the ring is full; DmaError, and does not move, when it cannot be reached.
        """
        if not self.room:
            raise StateError(f"{self} is full")
        self._dma.write(self._at(self.tail), self._entry.pack(*numbers))
        self.tail = (self.tail + 1) % self.count
        self.laps += not self.tail

    def _at(self, entry: int) -> int:
        return (self.iova + entry * self._entry.size) % IOVA_SIZE

    def __repr__(self) -> str:
        waiting = f"{len(self)} of {self.count} entries wait"
        return f"<Ring at {self.iova:#x}: {waiting}, head {self.head}, tail {self.tail}>"
