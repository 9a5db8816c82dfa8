"""The feed ``timeline``: marks in lanes over time, at most one of a kind for each pixel of a lane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...records import FLAGGED
from .source import Part, Source

__all__ = ["MARK", "TimelineFeed"]

MARK = np.dtype([("time", "<f8"), ("lane", "<u2"), ("kind", "u1"), ("flags", "u1"), ("value", "<u4")])
FOLLOW = 10_000_000_000  #: ns shown when no window is asked for
MOST = 8192  #: marks of one frame; beyond it the columns become wider
_SHAPES = 64  # numbers that a record's kind and flag take
LATE = 1024  # records that may stand behind later ones: they were finished later
Numbers = npt.NDArray[np.int64]


class TimelineFeed:
    """A window of time, or the last ten seconds."""

    interval = 0.2

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
        times = history.passed
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
        history = source.history
        time, places = history.times[low:high], history.places[low:high]
        shapes = history.shapes[low:high]
        inside = (time >= begin) & (time <= end)
        if not inside.all():
            time, places, shapes = time[inside], places[inside], shapes[inside]
        lane_of, labels = self._lane_table(source, places)
        group = lane_of[places] * _SHAPES + shapes
        chosen = self._thinned(time - begin, end - begin, group.astype(np.int64))
        rows = history.records[low:high][np.flatnonzero(inside)[chosen]]
        marks = np.empty(len(chosen), MARK)
        marks["time"] = time[chosen] - source.device.log.epoch
        marks["lane"] = lane_of[places[chosen]]
        marks["kind"] = rows["kind"]
        marks["flags"] = rows["flags"] & FLAGGED != 0
        marks["value"] = rows["value"] & np.uint64(0xFFFFFFFF)
        return marks[np.argsort(marks["time"], kind="stable")], labels, len(chosen) < len(time)

    def _thinned(self, elapsed: Numbers, span: int, group: Numbers) -> Numbers:
        """Return which marks to send: all, or the first of each group in each column."""
        chosen, columns, width = np.arange(len(elapsed)), self._pixels, span // self._pixels + 1
        present = np.bincount(group) > 0  # numbered without gaps: the keys then fit a processor's cache
        group, groups = (np.cumsum(present) - 1)[group], int(np.count_nonzero(present))
        while len(chosen) > min(MOST, columns):
            # The first of a wider column is among the first of narrower ones: each round has less to do.
            key = elapsed // width * groups + group  # whole numbers: three times as fast as fractions
            found = _first_of_each(key, (columns + 1) * groups)
            chosen, elapsed, group = chosen[found], elapsed[found], group[found]
            if len(chosen) <= MOST or columns == 1:
                break
            columns, width = max(1, columns // 2), 2 * width
        return chosen

    def _lane_table(self, source: Source, places: Numbers) -> tuple[Numbers, list[str]]:
        """Return the lane of each place, and the lanes' names; the last may stand for all others."""
        table = source.table
        uses = np.bincount(places, minlength=table.kinds_of_place)
        used = np.flatnonzero(uses)
        kept = [place for place in self._lanes if uses[place]]
        if len(used) > len(kept) < self._most_lanes:
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
