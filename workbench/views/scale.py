"""Where a moment stands on the timeline's axis.

A person works in seconds, a driver in microseconds. On one straight axis every burst of accesses
would be a single dot, so long pauses are cut: the axis then has parts, each labelled with when it
began and how long it lasts, and each with its own scale (half of its width goes by time, half by
the number of records). Without such pauses the axis is straight.
"""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from ..records import duration

__all__ = ["TimeScale"]

_PAUSE = 5e6  # ns: shorter pauses are never cut
_SHARE = 0.03  # of the whole time: shorter pauses are never cut
_RATIO = 50  # a pause is that many times longer than the time that usually passes between two records
_MOST = 9  # cuts
_LEAST, _GAP = 0.07, 0.02  # of the width: a part, at least; a cut
_ROOM = 0.16  # of the width: a label, at most
_UNITS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))


class TimeScale:
    """Maps times (ns) to positions on the axis, 0 to ``end``; ``epoch`` is the time called 0."""

    def __init__(self, times: npt.NDArray[np.uint64], epoch: int, cut: bool) -> None:
        ordered = (np.sort(times) if (times[1:] < times[:-1]).any() else times).astype(np.int64)
        self._base = int(ordered[0]) if len(ordered) else epoch
        self._start = self._base - epoch
        moments = (ordered - self._base).astype(float) if len(ordered) else np.zeros(1)
        span = float(moments[-1]) or 1.0
        self.unit, self._unit_ns = next((unit for unit in _UNITS if span >= 2 * unit[1]), _UNITS[-1])
        cuts = _pauses(np.diff(moments)) if cut else np.empty(0, np.intp)
        self._first = moments[np.concatenate([[0], cuts + 1]).astype(np.intp)]
        self._last = moments[np.concatenate([cuts, [len(moments) - 1]]).astype(np.intp)]
        if len(cuts):
            counts = np.diff(np.concatenate([[0], cuts + 1, [len(moments)]]))
            self._place(counts)
        else:
            self._left, self._right = np.zeros(1), np.array([span / self._unit_ns])
            self._last = np.array([span])
        self.end = float(self._right[-1])

    @property
    def parts(self) -> int:
        """How many parts the axis has: 1 when no pause was cut."""
        return len(self._first)

    def _place(self, counts: npt.NDArray[np.intp]) -> None:
        lasting = np.maximum(self._last - self._first, 1.0)
        share = np.maximum(0.5 * lasting / lasting.sum() + 0.5 * counts / counts.sum(), _LEAST)
        share /= share.sum()
        self._left = np.concatenate([[0.0], np.cumsum(share + _GAP)[:-1]])
        self._right = self._left + share

    def position(self, times: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        """Return the positions of times in ns of CLOCK_MONOTONIC."""
        edges = np.column_stack([self._first, np.maximum(self._last, self._first + 1e-3)]).ravel()
        places = np.column_stack([self._left, self._right]).ravel()
        return np.asarray(np.interp(times.astype(np.int64) - self._base, edges, places), np.float64)

    def _labels(self) -> list[str]:
        """Return when each part began and how long it lasts; every second length lower if parts are short."""
        lower = "\n" if np.diff(self._left).min() < _ROOM * self.end else ""
        labels = []
        for n, (begin, end) in enumerate(zip(self._first, self._last, strict=True)):
            lasting = f"⟷ {duration(end - begin)}" if end > begin else ""
            labels.append(f"{duration(begin + self._start)}\n{lower * (n % 2)}{lasting}")
        return labels

    def apply(self, ax: Axes, note: str) -> None:
        """Set limits, ticks and label of the time axis, and draw the cuts; ``note`` follows the label."""
        margin = 0.015 * self.end
        ax.set_xlim(-margin, self.end + margin)
        since = "the first record" if self._start == 0 else f"{duration(self._start)} after the first record"
        if self.parts == 1:
            ax.set_xlabel(f"{self.unit} since {since}   ·   {note}", fontsize=9)
            ax.grid(axis="x", color="#E3E5E8", linewidth=0.6, zorder=0.5)
            return
        for left, right in zip(self._right[:-1], self._left[1:], strict=True):
            ax.axvspan(left + 0.003, right - 0.003, facecolor="white", edgecolor="#B8BCC2", hatch="////",
                       linewidth=0, zorder=2.5)  # fmt: skip
        ax.set_xticks(self._left, self._labels(), fontsize=8, ha="left")
        ax.set_xlabel(f"since the first record; pauses cut, ⟷ length of each part   ·   {note}", fontsize=9)


def _pauses(gaps: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the indexes of the gaps to cut, in order of time."""
    if len(gaps) < 3:
        return np.empty(0, np.intp)
    long = np.flatnonzero(gaps >= max(_PAUSE, _SHARE * gaps.sum()))
    if len(long):
        long = long[gaps[long] >= _RATIO * float(np.median(gaps))]
    return np.sort(long[np.argsort(-gaps[long], kind="stable")[:_MOST]])
