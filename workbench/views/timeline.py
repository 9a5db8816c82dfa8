"""The timeline: a log drawn as lanes over time, a mark for every access.

``plot(log)`` returns an ordinary matplotlib ``Axes`` to restyle and save. What happened is told by
shape and by colour; the colours are Okabe and Ito's, which colour-blind readers can tell apart.
Each kind is one line of markers, and a dense log is thinned to one mark per pixel, so that a million
records are drawn in about a second. Nothing goes through pyplot: figures are garbage like any object.
"""

import operator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..columns import Columns, first_of
from ..log import LogView
from ..records import FLAGGED, KINDS
from ..selection import fitting, newest_seconds
from .scale import TimeScale

__all__ = ["Picture", "TimelineAxes", "plot"]


class Style(NamedTuple):
    """How a kind of record is drawn; ``shift``: how far below the middle of its lane."""

    label: str
    marker: str
    colour: str
    shift: float = 0.0
    size: float = 6.0


STYLES = {
    "read": Style("read", "o", "#0072B2", 0.14),
    "write": Style("write", "s", "#D55E00", -0.14),
    "poke": Style("poke", "D", "#CC79A7", 0.0, 5.5),
    "irq": Style("interrupt", "v", "#000000", 0.0, 8.0),
    "unmask": Style("unmask", "^", "#7F7F7F"),
    "dma_read": Style("DMA read", "<", "#56B4E9", 0.14, 7.0),
    "dma_write": Style("DMA write", ">", "#E69F00", -0.14, 7.0),
    "map": Style("DMA map", "+", "#7F7F7F"),
    "unmap": Style("DMA unmap", "x", "#7F7F7F"),
    "swap": Style("hook swap", "*", "#009E73", 0.0, 11.0),
    "reset": Style("reset", "X", "#333333", 0.0, 8.0),
    "attach": Style("attach", "P", "#009E73", 0.0, 8.0),
    "detach": Style("detach", "P", "#7F7F7F", 0.0, 8.0),
    "error": Style("malformed message", "X", "#D62728", 0.0, 8.0),
    "mmap": Style("mapped memory", "D", "#F0E442", 0.0, 5.5),
    "state": Style("state put back, or migration", "*", "#0072B2", 0.0, 11.0),
}
RING = "#D62728"
OTHERS = "other registers"
_SPECIAL = ("client", "dma", "reset")  # lanes that are no register, below all others
_KINDS = 16  # of records, and room for more
_DENSE = 20_000  # records from which on they are thinned
_CROWDED = 400  # marks from which on they get no white edge, and rings are shared
_DPI = 144  # of pictures in a notebook: twice the usual, so that they are sharp
_EVENTS = 60  # interrupts and swaps up to which a line is drawn through all lanes


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook, without pyplot."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        data = BytesIO()
        self.savefig(data, format="png", dpi=_DPI)
        width, height = self.get_size_inches()
        return data.getvalue(), {"width": round(width * 84), "height": round(height * 84)}


class TimelineAxes(Axes):
    """Axes whose display in a notebook is its whole figure, once."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        figure = self.get_figure(root=True)
        assert isinstance(figure, Picture)
        return figure._repr_png_()


def plot(
    log: LogView,
    ax: Axes | None = None,
    *,
    registers: Any = None,
    last: float | None = None,
    order: str = "use",
    max_lanes: int = 20,
    cut_idle: bool = True,
    size: tuple[float, float] | None = None,
) -> Axes:
    """Draw the log and return the Axes.

    ``registers``: draw these only (names or registers; interrupts, DMA and the like stay);
    ``last``: seconds before the newest record; ``order``: lanes by first "use" or by "address";
    ``max_lanes``: registers beyond that share one lane, config space and the least used first;
    ``cut_idle``: shorten long pauses, marked where they are, so that bursts stay readable; ``size``:
    inches. Raises ValueError for another ``order`` and fewer than 0 lanes.
    """
    if order not in ("use", "address"):
        raise ValueError(f'order is "use" or "address", not {order!r}')
    if operator.index(max_lanes) < 0:
        raise ValueError(f"max_lanes is how many registers have a lane of their own, not {max_lanes}")
    marks = log.columns("time", "kind", "flags", "region", "offset", places=True)
    if last is not None:
        marks.keep(newest_seconds(marks["time"], last))
    lanes, labels = _lanes(log, marks, registers, order, max_lanes)
    if len(lanes) and lanes.min() < 0:
        marks.keep(lanes >= 0)
        lanes = lanes[lanes >= 0]
    ax = _axes(len(labels), size) if ax is None else ax
    scale = TimeScale(marks["time"], log.epoch, cut_idle)
    place = scale.position(marks["time"])
    drawn = _thin(place, lanes, marks["kind"], scale, ax)
    note = f"{len(marks):,} records, {log.dropped:,} dropped"
    if len(drawn) < len(marks):
        note += f", thinned to {len(drawn):,} marks"
    _stripes(ax, labels)
    scale.apply(ax, note)
    _events(ax, marks, place)
    _marks(ax, marks["kind"][drawn], lanes[drawn], place[drawn])
    _rings(ax, marks, lanes, place, scale)
    _legend(ax)
    return ax


def _axes(lanes: int, size: tuple[float, float] | None) -> Axes:
    size = size or (10, max(2.2, 1.3 + 0.27 * lanes))
    figure = Picture(figsize=size, layout="constrained", facecolor="white")
    return figure.add_subplot(axes_class=TimelineAxes)


def _lanes(
    log: LogView, marks: Columns, registers: Any, order: str, most: int
) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Return the lane of each record (-1: not drawn) and the lanes' labels, the top one first."""
    labels, merged = np.unique([touch.label for touch in marks.touches], return_inverse=True)
    counts = np.bincount(marks.codes, minlength=len(marks.touches))
    uses = np.bincount(merged, weights=counts, minlength=len(labels))
    place_first = first_of(marks.codes, len(marks.touches))
    first = np.full(len(labels), len(marks))
    there = place_first >= 0  # a place may have gone with the records that `last` left out
    np.minimum.at(first, merged[there], place_first[there])
    special = np.array([text in _SPECIAL or text.startswith("irq.") for text in labels], bool)
    keep = uses > 0
    if registers is not None:
        wanted = np.unique(merged[fitting(marks.touches, log.names, registers)])
        keep &= special | np.isin(np.arange(len(labels)), wanted)
    rank = first if order == "use" else _addresses(marks, np.where(keep, first, 0))
    ordinary = [code for code in np.argsort(rank, kind="stable") if keep[code] and not special[code]]
    aside = [str(label).startswith("config.") for label in labels]
    busiest = set(sorted(ordinary, key=lambda code: (aside[code], -uses[code]))[:most])
    top = [code for code in ordinary if code in busiest]
    bottom = [code for code in np.argsort(first, kind="stable") if keep[code] and special[code]]
    names = [str(labels[code]) for code in top]
    lane_of = np.full(len(labels), -1, np.int32)
    lane_of[top] = np.arange(len(top))
    if len(top) < len(ordinary):
        lane_of[[code for code in ordinary if code not in busiest]] = len(names)
        names.append(f"{len(ordinary) - len(top)} {OTHERS}")
    lane_of[bottom] = len(names) + np.arange(len(bottom))
    names += [str(labels[code]).removeprefix("irq.") for code in bottom]
    return lane_of[merged][marks.codes] if len(labels) else marks.codes, names


def _addresses(marks: Columns, first: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a rank by region and offset for the lanes, given each lane's first record."""
    rank = np.empty(len(first), np.intp)
    rank[np.lexsort((marks["offset"][first], marks["region"][first]))] = np.arange(len(first))
    return rank


def _thin(
    place: npt.NDArray[np.float64],
    lanes: npt.NDArray[np.int32],
    kinds: npt.NDArray[Any],
    scale: TimeScale,
    ax: Axes,
) -> npt.NDArray[np.intp]:
    """Return which records to draw: all, or the first of each kind in each pixel of each lane."""
    if len(place) <= _DENSE:
        return np.arange(len(place))
    return _first_in(place / _pixel(ax, scale), lanes * np.int32(_KINDS) + kinds)


def _first_in(column: npt.NDArray[np.float64], group: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return the index of the first record of each group in each column."""
    groups = (int(group.max()) if len(group) else 0) + 1
    key = column.astype(np.int32) * np.int32(groups) + group
    first = first_of(key, (int(key.max()) if len(key) else 0) + 1)
    return np.sort(first[first >= 0])


def _pixel(ax: Axes, scale: TimeScale) -> float:
    """Return how much of the axis one pixel is, at the resolution of notebooks."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return max(scale.end, 1e-9) / (float(figure.get_size_inches()[0]) * _DPI)


def _stripes(ax: Axes, labels: list[str]) -> None:
    """Prepare the lanes: labels, thin middle lines, every second one shaded."""
    for lane in range(0, len(labels), 2):
        ax.axhspan(lane - 0.5, lane + 0.5, color="#F4F5F7", zorder=0, linewidth=0)
    ax.hlines(np.arange(len(labels)), 0, 1, color="#D5D8DC", linewidth=0.7, zorder=1,
              transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set_yticks(np.arange(len(labels)), labels, fontsize=9)
    ax.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _events(ax: Axes, marks: Columns, place: npt.NDArray[np.float64]) -> None:
    """Draw a fine line through all lanes for each interrupt, hook swap and reset, while they are few."""
    for kind, style in (("irq", ":"), ("swap", "--"), ("reset", "-")):
        chosen = marks["kind"] == _code(kind)
        if 0 < np.count_nonzero(chosen) <= _EVENTS:
            ax.vlines(place[chosen], 0, 1, color=STYLES[kind].colour, linewidth=0.8, linestyle=style,
                      alpha=0.45, zorder=1.5, transform=ax.get_xaxis_transform())  # fmt: skip


def _marks(
    ax: Axes, kinds: npt.NDArray[Any], lanes: npt.NDArray[np.int32], place: npt.NDArray[np.float64]
) -> None:
    """Draw one line of markers a kind."""
    edge = 0.5 if len(kinds) < _CROWDED else 0.0
    for kind, style in STYLES.items():
        chosen = kinds == _code(kind)
        stroke = style.marker in "+x"
        if chosen.any():
            ax.plot(place[chosen], lanes[chosen] + style.shift, linestyle="none", marker=style.marker,
                    markersize=style.size, color=style.colour, label=style.label, alpha=0.9,
                    markeredgecolor=style.colour if stroke else "white",
                    markeredgewidth=1.5 if stroke else edge, zorder=3)  # fmt: skip


def _rings(
    ax: Axes,
    marks: Columns,
    lanes: npt.NDArray[np.int32],
    place: npt.NDArray[np.float64],
    scale: TimeScale,
) -> None:
    """Ring flagged records in red; where they crowd, one ring for many."""
    flagged = np.flatnonzero(marks["flags"] & FLAGGED)
    if not len(flagged):
        return
    if len(flagged) > _CROWDED:
        group = lanes[flagged] * np.int32(_KINDS) + marks["kind"][flagged]
        flagged = flagged[_first_in(place[flagged] / (24 * _pixel(ax, scale)), group)]
    shifts = np.array([STYLES[name].shift for name in KINDS.values()])
    height = lanes[flagged] + shifts[marks["kind"][flagged]]
    ax.plot(place[flagged], height, linestyle="none", marker="o", markersize=11,
            markerfacecolor="none", markeredgecolor=RING, markeredgewidth=1.6, zorder=4,
            label="flagged")  # fmt: skip


def _legend(ax: Axes) -> None:
    entries = len(ax.get_legend_handles_labels()[1])
    if entries:
        columns = entries if entries <= 8 else -(-entries // 2)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, fontsize=8.5, frameon=False,
                  handletextpad=0.2, columnspacing=1.2, borderaxespad=0.1)  # fmt: skip


def _code(kind: str) -> int:
    return next(number for number, name in KINDS.items() if name == kind)
