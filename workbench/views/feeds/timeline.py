"""The feed ``timeline``: marks in lanes over time, at most one of a kind for each pixel of a lane."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...records import FLAGGED
from .source import Part, Source

__all__ = ["MARK", "TimelineFeed"]

MARK = np.dtype([("time", "<f8"), ("lane", "<u2"), ("kind", "u1"), ("flags", "u1"), ("value", "<u4")])
FOLLOW = 10_000_000_000  #: ns shown when no window is asked for
MOST = 8192  #: marks of one frame; beyond it the columns become wider
LATE = 1024  # records that may stand behind later ones: they were finished later
Numbers = npt.NDArray[np.int64]


class TimelineFeed:
    """A window of time, or the last ten seconds."""

    interval: ClassVar[float] = 0.2

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        begin, end = parameters.get("from"), parameters.get("to")
        self._window = None if begin is None or end is None else (int(begin), max(int(end), int(begin) + 1))
        self._pixels = min(max(16, int(parameters.get("pixels") or 900)), 4000)
        self._most_lanes = min(max(1, int(parameters.get("lanes") or 16)), 64)
        self._lanes: list[int] = []  # places, kept while they have a mark, so that lanes do not jump
        self._table: object = None
        self._sent: tuple[Any, ...] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return the marks, if there are new ones in the window."""
        if self._table is not source.table:
            self._table, self._lanes, self._sent = source.table, [], None
        history, epoch = source.history, source.device.log.epoch
        times = history.times
        first, last = (int(times[0]) - epoch, int(times[-1]) - epoch) if len(times) else (0, 0)
        begin, end = self._window or (last - FOLLOW, last)
        low = int(np.searchsorted(times, begin + epoch))
        low = max(low, history.behind(source.device.log.first))
        high = min(len(times), int(np.searchsorted(times, end + epoch, side="right")) + LATE)
        sent = (begin, end, high - low, int(history.records["seq"][low]) if low < high else 0, epoch)
        if sent == self._sent:
            return None
        self._sent = sent
        marks, labels, thinned = self._marks(source, low, high, begin + epoch, end + epoch)
        json = {
            "epoch": str(epoch), "from": begin, "to": end, "first": first, "last": last, "lanes": labels,
            "buffer": 0, "count": len(marks), "thinned": thinned,
        }  # fmt: skip
        return Part(json, (marks.tobytes(),))

    def _marks(
        self, source: Source, low: int, high: int, begin: int, end: int
    ) -> tuple[npt.NDArray[np.void], list[str], bool]:
        rows = source.history.records[low:high]
        lane_of, labels = self._lane_table(source, source.history.places[low:high])
        time = rows["time"].astype(np.int64)
        inside = np.flatnonzero((time >= begin) & (time <= end))
        lanes = lane_of[source.history.places[low:high][inside]]
        chosen = inside
        columns, kind = self._pixels, rows["kind"][inside].astype(np.int64)
        flagged = (rows["flags"][inside] & FLAGGED != 0).astype(np.int64)
        group = (lanes * 32 + kind * 2 + flagged).astype(np.int64)
        width = len(labels) * 32 or 1
        while len(chosen) > MOST or (columns == self._pixels and len(inside) > columns):
            column = (time[inside] - begin) // max(1, -(-(end - begin) // columns))
            chosen = inside[_first_of_each(column * width + group, (columns + 1) * width)]
            columns //= 2
            if not columns:
                break
        marks = np.empty(len(chosen), MARK)
        marks["time"] = time[chosen] - source.device.log.epoch
        marks["lane"] = lane_of[source.history.places[low:high][chosen]]
        marks["kind"] = rows["kind"][chosen]
        marks["flags"] = rows["flags"][chosen] & FLAGGED != 0
        marks["value"] = rows["value"][chosen] & np.uint64(0xFFFFFFFF)
        return marks[np.argsort(marks["time"], kind="stable")], labels, len(chosen) < len(inside)

    def _lane_table(self, source: Source, places: Numbers) -> tuple[Numbers, list[str]]:
        """Return the lane of each place, and the lanes' names; the last may stand for all others."""
        table = source.table
        uses = np.bincount(places, minlength=table.kinds_of_place)
        used = np.flatnonzero(uses)
        kept = [place for place in self._lanes if uses[place]]
        if len(used) > len(kept):
            rest = set(used.tolist()) - set(kept)
            busiest = sorted(rest, key=lambda place: (table.aside(place), -uses[place]))
            kept = sorted([*kept, *busiest[: self._most_lanes - len(kept)]])
        self._lanes = kept
        lane_of = np.full(table.kinds_of_place, len(kept), np.int64)
        lane_of[kept] = np.arange(len(kept))
        labels = [table.label(place).removeprefix("irq.") for place in kept]
        if len(used) > len(kept):
            labels.append(f"{len(used) - len(kept)} others")
        return lane_of, labels


def _first_of_each(key: Numbers, size: int) -> Numbers:
    """Return the index of the first element of each distinct key; keys are below ``size``."""
    first = np.full(size, -1, np.int64)
    first[key[::-1]] = np.arange(len(key) - 1, -1, -1)
    return first[first >= 0]
