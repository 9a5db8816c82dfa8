"""RegisterTable: the registers of a device by number, their values in bulk, and who a record touched.

A number is a register's place in ``layout.registers``. Values are peeked block by block and gathered
with NumPy; a thousand registers cost about 50 µs. ``places`` gives each log record one number: that of
its register, or one above them for interrupts, DMA, and bytes that no register covers.
"""

import numpy as np
import numpy.typing as npt

from ..blockhandle import BlockHandle
from ..device import Device
from ..handles import RegisterHandle
from ..records import KINDS, Names, Records, kind_of_touch, vector_name
from ..registers import Located

__all__ = ["BlockTable", "RegisterTable"]

Numbers = npt.NDArray[np.int64]

_CODES = {name: number for number, name in KINDS.items()}
_TOUCH, _DMA, _IRQ, _RESET = (np.zeros(256, bool) for _ in range(4))  # by kind: faster than np.isin
_TOUCH[[_CODES[name] for name in ("read", "write", "poke", "swap", "mmap")]] = True
_DMA[[_CODES[name] for name in ("dma_read", "dma_write", "map", "unmap")]] = True
_IRQ[[_CODES["irq"], _CODES["unmask"]]] = True
_RESET[[_CODES["reset"], _CODES["state"]]] = True
_REGIONS = 16  # place numbers kept for bytes without a register: one a region
_VECTORS = 4096  # place numbers kept for the vectors of an interrupt index
_GAP = 4096  # registers further apart than this are peeked apart


class BlockTable:
    """The registers of one block: numbers ``first`` to ``first + count - 1``, in order of offset."""

    def __init__(self, handle: BlockHandle, index: int, first: int) -> None:
        self.name = handle.description.name
        self.index = index
        self.size = handle.description.size
        self.first = first
        found = sorted(handle.registers(), key=lambda register: register.offset)
        # No handle is kept: handles keep their device alive.
        self.elements = [Located(one.description, one.index) for one in found]
        self.count = len(found)
        self.starts: Numbers = np.array([one.offset for one in found], np.int64)
        self.sizes: Numbers = np.array([one.description.size for one in found], np.int64)
        self.latched = [
            place for place, one in enumerate(found) if one.description.plane_mask("wo")
        ]  # write-only bits live in another plane: peeked one by one
        ends = np.maximum.accumulate(self.starts + self.sizes) if found else self.starts
        apart = np.ones(self.count, bool)  # whether no byte of it belongs to another register too
        apart[1:] &= self.starts[1:] >= ends[:-1]
        apart[:-1] &= self.starts[1:] >= ends[:-1]
        self.apart = apart
        self._spans, self._take = self._plan(ends)

    def _plan(self, ends: Numbers) -> tuple[list[tuple[int, int]], Numbers]:
        """Return the spans to peek and, for each register, where its eight bytes lie in them, joined."""
        spans: list[tuple[int, int]] = []
        base, at = np.zeros(self.count, np.int64), 0
        for place in range(self.count):
            start, end = int(self.starts[place]), int(ends[place])
            if not spans or start > spans[-1][1] + _GAP:
                at += spans[-1][1] - spans[-1][0] if spans else 0
                spans.append((start, end))
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            base[place] = at + start - spans[-1][0]
        total = sum(end - start for start, end in spans)
        byte = np.arange(8)
        take = np.where(byte < self.sizes[:, None], base[:, None] + byte, total)  # behind the last: a zero
        return spans, take.astype(np.int64)

    def values(self, block: BlockHandle) -> npt.NDArray[np.uint64]:
        """Peek every register."""
        data = b"".join(block.peek(start, end - start) for start, end in self._spans) + b"\0"
        values = np.frombuffer(data, np.uint8)[self._take].view("<u8").ravel()
        for place in self.latched:
            values[place] = self.handle(block, place).peek()
        return values

    def handle(self, block: BlockHandle, place: int) -> RegisterHandle:
        """Return the register at a place of this table, seen through its device."""
        register, index = self.elements[place]
        found = getattr(block, register.name)
        handle: RegisterHandle = found[index] if register.is_array else found
        return handle


class RegisterTable:
    """Every register of a device as it is described now; ``blocks`` is what it was made from."""

    def __init__(self, device: Device) -> None:
        self.blocks = device.blocks
        self.tables: list[BlockTable] = []
        self.names: list[str] = []
        for index, block in sorted(device.blocks.items()):
            table = BlockTable(getattr(device, block.name), index, len(self.names))
            self.tables.append(table)
            self.names += [f"{block.name}.{one.register.element_name(one.index)}" for one in table.elements]
        self.count = len(self.names)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self._slow: dict[tuple[int, int, int, int], tuple[int, ...]] = {}

    @property
    def kinds_of_place(self) -> int:
        """How many place numbers there are."""
        return self.count + 2 * _REGIONS + 5 * _VECTORS

    def handle(self, device: Device, number: int) -> RegisterHandle:
        """Return a register by its number; IndexError when there is none."""
        for table in self.tables:
            if 0 <= number - table.first < table.count:
                return table.handle(getattr(device, table.name), number - table.first)
        raise IndexError(f"the device has no register number {number}")

    def places(self, records: Records, names: Names) -> tuple[Numbers, list[tuple[int, int, int]]]:
        """Return the place of each record, and (number, kind, count) of registers touched besides.

        A record that touches several registers has the place of the first; the others are the second result.
        """
        kind, region = records["kind"], records["region"].astype(np.int64)
        places = np.full(len(records), self.count + _REGIONS + 2, np.int64)  # attach, detach, error
        touch = _TOUCH[kind]
        places[touch] = self.count + np.minimum(region[touch], _REGIONS - 1)
        places[_DMA[kind]] = self.count + _REGIONS
        places[_RESET[kind]] = self.count + _REGIONS + 1
        irq = _IRQ[kind]
        if irq.any():
            offset = records["offset"][irq].astype(np.int64)
            vector = np.minimum(offset & 0xFFFF, _VECTORS - 1)
            places[irq] = self.count + 2 * _REGIONS + (np.minimum(offset >> 16, 4) * _VECTORS) + vector
        besides: list[tuple[int, int, int]] = []
        for table in self.tables:
            if table.count:
                mine = np.flatnonzero(touch & (region == table.index))
                if len(mine):
                    besides += self._touched(table, records, mine, places, names)
        return places, besides

    def _touched(
        self, table: BlockTable, records: Records, mine: Numbers, places: Numbers, names: Names
    ) -> list[tuple[int, int, int]]:
        offset = np.minimum(records["offset"][mine], 1 << 62).astype(np.int64)
        end = offset + records["size"][mine]
        at = np.searchsorted(table.starts, offset, side="right") - 1
        sure = np.maximum(at, 0)
        plain = (at >= 0) & table.apart[sure] & (end <= table.starts[sure] + table.sizes[sure])
        places[mine[plain]] = table.first + at[plain]
        return self._rest(records, mine[~plain], places, names) if not plain.all() else []

    def _rest(
        self, records: Records, mine: Numbers, places: Numbers, names: Names
    ) -> list[tuple[int, int, int]]:
        """Resolve accesses to several registers, to shared bytes and to none, each distinct one once."""
        besides = []
        fields = [
            records[name][mine].astype(np.uint64) for name in ("plane", "kind", "region", "offset", "size")
        ]
        distinct, back, counts = np.unique(np.stack(fields), axis=1, return_inverse=True, return_counts=True)
        first = np.full(len(counts), -1, np.int64)
        for place, (plane, kind, *where) in enumerate(distinct.T.tolist()):
            found = self._located(names, (kind_of_touch(plane, kind), *where))
            if found:
                first[place] = found[0]
                besides += [(number, kind, int(counts[place])) for number in found[1:]]
        chosen = first[back.ravel()]
        places[mine] = np.where(chosen >= 0, chosen, places[mine])
        return besides

    def _located(self, names: Names, where: tuple[int, int, int, int]) -> tuple[int, ...]:
        if where not in self._slow:
            if len(self._slow) > 4096:
                self._slow.clear()
            kind, region, offset, size = where
            block = self.blocks[region].name
            located = names.touch(kind, region, offset, min(size, 64)).located
            texts = [f"{block}.{one.register.element_name(one.index)}" for one in located]
            self._slow[where] = tuple(self.numbers[text] for text in texts if text in self.numbers)
        return self._slow[where]

    def label(self, place: int) -> str:
        """Return a place's name: "bar0.CTRL", "irq.MSI[2]", "dma", "bar0 elsewhere" ..."""
        if place < self.count:
            return self.names[place]
        place -= self.count
        if place < _REGIONS:
            block = self.blocks.get(place)
            return f"{block.name if block else f'region {place}'} elsewhere"
        place -= _REGIONS
        if place < _REGIONS:
            return ("dma", "reset", "client")[place] if place < 3 else "other"
        index, vector = divmod(place - _REGIONS, _VECTORS)
        return f"irq.{vector_name(index, vector)}"

    def aside(self, place: int) -> bool:
        """Whether a timeline would rather show others: config space."""
        return place < self.count and self.names[place].startswith("config.")


def kind_code(name: str) -> int:
    """Return the number of a kind of record: "read", "irq" ..."""
    return _CODES[name]
