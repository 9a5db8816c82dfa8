"""The feed ``dma``: what the guest mapped, what was copied, and the last copies one by one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...dma import DmaRegion
from ...records import Record
from ..table import kind_code
from .rate import Rate
from .source import Part, Source

__all__ = ["DmaFeed"]

REGIONS = 128  #: of one window
LAST = 100  #: copies shown, at most
DIRECTIONS = ("read", "write")
_COPY = np.zeros(256, bool)
_COPY[[kind_code(f"dma_{direction}") for direction in DIRECTIONS]] = True


class DmaFeed:
    """A window of the regions, counters, and the newest copies; each record is decoded once."""

    interval = 0.1

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._first = max(0, int(parameters.get("first", 0)))
        self._count = min(max(0, int(parameters.get("count", REGIONS))), REGIONS)
        self._most = min(max(0, int(parameters.get("last", LAST))), LAST)
        self._rates = {direction: (Rate(), Rate()) for direction in DIRECTIONS}
        self._seqs: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._next = 0
        self._rows: dict[int, list[Any]] = {}
        self._last: dict[str, Any] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return all of it, if anything changed."""
        device = source.device
        shown, total, size = device.dma.some_regions(self._first, self._count)
        json = {
            "first": self._first, "total": total, "bytes": hex(size),
            "master": bool(device.config.COMMAND.BUS_MASTER.value),
            "regions": [_region(one) for one in shown],
            **{direction: self._counts(source, direction) for direction in DIRECTIONS},
            "last": self._newest(source),
        }  # fmt: skip
        if json == self._last:
            return None
        self._last = json
        return Part(json)

    def _counts(self, source: Source, direction: str) -> dict[str, int]:
        counted = source.history.copies[f"dma_{direction}"]
        often, fast = self._rates[direction]
        return {
            "count": counted.count, "bytes": counted.size, "refused": counted.refused,
            "rate": often.of(source.now, counted.count), "speed": fast.of(source.now, counted.size),
        }  # fmt: skip

    def _newest(self, source: Source) -> list[list[Any]]:
        """Return the last copies since the log was cleared, newest last."""
        history, log = source.history, source.device.log
        fresh = history.records[history.behind(max(self._next, log.first)) :]
        if len(fresh):
            self._next = int(fresh["seq"][-1]) + 1
        found = fresh["seq"][_COPY[fresh["kind"]]]
        self._seqs = np.concatenate([self._seqs, found])
        oldest = max(log.first, int(history.records["seq"][0]) if len(history) else 0)
        self._seqs = self._seqs[max(0, len(self._seqs) - self._most) :]
        self._seqs = self._seqs[self._seqs >= oldest]
        before, self._rows = self._rows, {}
        for seq in self._seqs.tolist():
            self._rows[seq] = before.get(seq) or _copy(source, seq)
        # Rows that are all new each time cannot be read anyway: rest longer.
        self.interval = 0.1 if before.keys() & self._rows.keys() else 0.2
        return list(self._rows.values())


def _region(region: DmaRegion) -> list[Any]:
    return [hex(region.iova), hex(region.size), region.rights, region.reach, region.private]


def _copy(source: Source, seq: int) -> list[Any]:
    history, log = source.history, source.device.log
    record = Record.decode(history.records[history.behind(seq)].item(), log.names, log.epoch)
    return [
        seq, round(record.elapsed / 1e6, 6), record.kind, record.origin, hex(record.offset), record.size,
        record.digits, round(record.latency / 1e3, 2), record.marks,
    ]  # fmt: skip
