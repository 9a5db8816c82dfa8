"""History: the hub's own copy of the newest log records, and what was counted over all of them.

Drained once a flush, in bulk: the ring of the engine goes on while views look back. Beside the records
it keeps their places (see table.py) and their times, so that nothing is resolved twice.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..device import Device
from ..log import AccessLog
from ..records import FLAGGED, FLAGS, RECORD, Names, Records
from .table import RegisterTable, kind_code

__all__ = ["Copies", "History"]

LIMIT = 1 << 18  #: records kept: 23 MB with what is known of them, in twice the room
_WORDS = RECORD.itemsize // 8  # of 64 bits: as numbers records are copied faster, and without the GIL
_ARRAYS = ("_words", "_places", "_times", "_passed", "_shapes")
_READ, _WRITE = kind_code("read"), kind_code("write")
_IRQ, _ERROR = kind_code("irq"), kind_code("error")
_COPIES = ("dma_read", "dma_write")
_REFUSED = next(bit for bit, name in FLAGS.items() if name == "refused")


@dataclass
class Copies:
    """DMA in one direction: what was copied, and what was refused."""

    count: int = 0
    size: int = 0  #: bytes
    refused: int = 0


class History:
    """The newest records of a device and its counters; not thread-safe: the flusher's alone."""

    def __init__(self, table: RegisterTable, limit: int = LIMIT) -> None:
        self._limit = limit
        self._forget()
        self.next = 0  #: the sequence number expected next
        self.missed = 0  #: records the ring had overwritten before they were counted
        self.reads = self.writes = self.flagged = 0
        self.last_irq: dict[int, int] = {}  #: index << 16 | vector -> ns
        self.copies = {kind: Copies() for kind in _COPIES}
        self.table, self.counts = table, np.zeros((2, table.count), np.uint64)
        self._refill = False  # the records known already need places in another table

    def describe(self, table: RegisterTable) -> None:
        """Count by other registers from now on; those that kept their name keep their counts."""
        counts = np.zeros((2, table.count), np.uint64)
        for name, number in table.numbers.items():
            if name in self.table.numbers:
                counts[:, number] = self.counts[:, self.table.numbers[name]]
        self.table, self.counts = table, counts
        self._forget()
        self._refill = self.next > 0

    def _forget(self) -> None:
        # Made as large as they get: Linux gives memory when it is first written, and growing would copy.
        room = 2 * self._limit
        self._words: npt.NDArray[np.uint64] = np.empty((room, _WORDS), np.uint64)
        self._places: npt.NDArray[np.int64] = np.empty(room, np.int64)
        self._times: npt.NDArray[np.int64] = np.empty(room, np.int64)
        self._passed: npt.NDArray[np.int64] = np.empty(room, np.int64)
        self._shapes: npt.NDArray[np.uint8] = np.empty(room, np.uint8)
        self._begin = self._end = 0

    def drain(self, device: Device) -> Records:
        """Take over the records that are new and count them; return them."""
        log: AccessLog = device.log
        if self._refill:
            self._refill = False
            known = log.since(max(0, self.next - self._limit))
            known = known[known["seq"] < self.next]
            self._append(known, self.table.places(known, log.names)[0])
        fresh = log.since(self.next)
        if not len(fresh):
            return fresh
        self.missed += int(fresh["seq"][0]) - self.next
        self.next = int(fresh["seq"][-1]) + 1
        self._count(fresh, log.names)
        return fresh

    def _count(self, fresh: Records, names: Names) -> None:
        places, besides = self.table.places(fresh, names)
        kind = fresh["kind"]
        for row, code in enumerate((_READ, _WRITE)):
            mine = places[(kind == code) & (places < self.table.count)]
            if len(mine):
                self.counts[row] += np.bincount(mine, minlength=self.table.count).astype(np.uint64)
        for number, code, times in besides:
            if code in (_READ, _WRITE):
                self.counts[0 if code == _READ else 1, number] += np.uint64(times)
        self.reads += int(np.count_nonzero(kind == _READ))
        self.writes += int(np.count_nonzero(kind == _WRITE))
        self.flagged += int(np.count_nonzero((fresh["flags"] & FLAGGED != 0) | (kind == _ERROR)))
        irqs = fresh[kind == _IRQ][["offset", "time"]]
        self.last_irq |= dict(irqs.tolist())
        self._count_copies(fresh)
        self._append(fresh, places)

    def _count_copies(self, fresh: Records) -> None:
        for name, counted in self.copies.items():
            mine = fresh[fresh["kind"] == kind_code(name)]
            if len(mine):
                done = mine["flags"] & _REFUSED == 0
                counted.count += int(np.count_nonzero(done))
                counted.size += int(mine["size"][done].sum(dtype=np.uint64))
                counted.refused += int(np.count_nonzero(~done))

    def _append(self, fresh: Records, places: npt.NDArray[np.int64]) -> None:
        fresh, places = fresh[-self._limit :], places[-self._limit :]
        if self._end + len(fresh) > len(self._places):
            self._make_room(len(fresh))
        begin, end = self._end, self._end + len(fresh)
        self._words[begin:end] = fresh.view(np.uint64).reshape(-1, _WORDS)
        self._places[begin:end] = places
        self._times[begin:end] = fresh["time"]
        self._shapes[begin:end] = fresh["kind"] * 2 + (fresh["flags"] & FLAGGED != 0)
        # Records stand where they were finished; for searching, times that never go back.
        passed = self._times[begin:end].copy()
        if begin > self._begin and len(passed):
            passed[0] = max(int(passed[0]), int(self._passed[begin - 1]))
        self._passed[begin:end] = np.maximum.accumulate(passed)
        self._end = end
        self._begin = max(self._begin, end - self._limit)

    def _make_room(self, more: int) -> None:
        """Move what is kept to the front; the arrays have twice the limit, so it never overlaps itself."""
        start = max(self._begin, self._end + more - self._limit)
        have = self._end - start
        for name in _ARRAYS:
            array = getattr(self, name)
            array[:have] = array[start : self._end]
        self._begin, self._end = 0, have

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def records(self) -> Records:
        """What is kept, oldest first; do not hold on to it over a drain."""
        return self._words[self._begin : self._end].reshape(-1).view(RECORD)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """The place of each record kept."""
        return self._places[self._begin : self._end]

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """When each record kept began, ns."""
        return self._times[self._begin : self._end]

    @property
    def passed(self) -> npt.NDArray[np.int64]:
        """The latest time up to each record kept, ns: never falls, for searching."""
        return self._passed[self._begin : self._end]

    @property
    def shapes(self) -> npt.NDArray[np.uint8]:
        """Twice the kind of each record kept, and one more if it deserves a look."""
        return self._shapes[self._begin : self._end]

    def behind(self, seq: int) -> int:
        """Return the index of the first record kept with this sequence number or a later one."""
        records = self.records
        if not len(records):
            return 0
        # Numbers have no gaps but where the ring was overrun: guess, then correct.
        low, high = 0, len(records)
        guess = seq - int(records["seq"][0])
        if 0 <= guess < high and int(records["seq"][guess]) == seq:
            return guess
        while low < high:
            middle = (low + high) // 2
            if int(records["seq"][middle]) < seq:
                low = middle + 1
            else:
                high = middle
        return low
