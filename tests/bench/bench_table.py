"""Rows of the benchmark: what is measured, its bar, and how both are shown: a table, a picture."""

import datetime
import fnmatch
import importlib.util
import os
import platform
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench_kit import HERE, Absent, Bench, Client


@dataclass
class Figure:
    """What a row found: the value that its bar judges, in ``unit``, and what it comes from in words."""

    value: float
    said: str = ""
    unit: str = "×"


@dataclass
class Row:
    """A function that measures, and the bar: at most, or at least; neither: told and not judged."""

    name: str
    what: str
    measure: Callable[[Bench], Figure]
    at_most: float | None = None
    at_least: float | None = None

    def share(self, value: float) -> float:
        """Return how much of what the bar allows was used: more than 1 does not hold."""
        return value / self.at_most if self.at_most else self.at_least / value if self.at_least else 0.0

    @property
    def bar(self) -> str:
        """The bar in words."""
        return f"≤ {self.at_most:g}" if self.at_most else f"≥ {self.at_least:g}" if self.at_least else ""


@dataclass
class Result:
    """A row that was measured, or why it was not."""

    row: Row
    figure: Figure | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """The word of the last column."""
        if self.figure is None:
            return f"skipped: {self.why}"
        if not self.row.bar:
            return ""
        return "ok" if self.row.share(self.figure.value) <= 1 else "DOES NOT HOLD"

    def __str__(self) -> str:
        bar = f"{self.row.bar} {self.figure.unit if self.figure else ''}" if self.row.bar else ""
        value = f"{self.figure.value:.3g} {self.figure.unit}" if self.figure else ""
        said = f"  ({self.figure.said})" if self.figure and self.figure.said else ""
        return f"{self.row.what:62} {value:>10} {bar:>10}  {self.verdict}{said}"


#: Every row, in the order of definition.
ROWS: list[Row] = []


def row(
    what: str, *, at_most: float | None = None, at_least: float | None = None
) -> Callable[..., Callable[..., Figure]]:
    """Make a row of a function: ``what`` stands in the table, one of the bars judges its figure."""

    def add(measure: Callable[[Bench], Figure]) -> Callable[[Bench], Figure]:
        ROWS.append(Row(measure.__name__, what, measure, at_most, at_least))
        return measure

    return add


def beside(bench: Bench, one: Client, other: Client, order: str, others: str = "") -> Figure:
    """Compare the time of an order on two clients (``others``: what the second is told instead), in ns."""
    first, second = bench.compare(lambda: one.measure(order), lambda: other.measure(others or order))
    return Figure(first / second, f"{first:.0f} and {second:.0f} ns")


def load_rows() -> list[Row]:
    """Return the rows of all files in ``rows/``."""
    for path in sorted((HERE / "rows").glob("*.py")) if not ROWS else []:
        spec = importlib.util.spec_from_file_location(f"bench_rows_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return ROWS


def run(patterns: list[str], peer: str, effort: float, rounds: int) -> Iterator[Result]:
    """Measure the rows whose names match; yield each result. One that breaks says so, and the next runs."""
    for one in load_rows():
        if not any(fnmatch.fnmatch(one.name, pattern) for pattern in patterns or ["*"]):
            continue
        try:
            with Bench(peer, effort, rounds) as bench:
                yield Result(one, one.measure(bench))
        except Absent as reason:
            yield Result(one, None, str(reason))
        except Exception as error:
            traceback.print_exc()
            yield Result(one, None, f"{type(error).__name__}: {error}")


def machine() -> str:
    """Return the machine and the date in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    cores = len(os.sched_getaffinity(0))
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {cores} cores, {system}, {datetime.date.today()}"


def draw(results: list[Result], path: Path) -> None:
    """Draw the judged results as shares of their bars."""
    from matplotlib.figure import Figure as Canvas

    shown = [result for result in results if result.figure is not None and result.row.bar][::-1]
    shares = [result.row.share(result.figure.value) for result in shown if result.figure]
    canvas = Canvas(figsize=(10, 0.42 * len(shown) + 1.3), layout="constrained")
    axes = canvas.subplots()
    places = range(len(shown))
    bars = axes.barh(places, shares, color=["#2f6f4f" if share <= 1 else "#b3452c" for share in shares])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(places, [result.row.what for result in shown])
    axes.set_xlim(0, max([1.3, *(share * 1.3 for share in shares)]))
    axes.set_xlabel("share of the bar (a full bar is what the plan allows; shorter is faster)")
    labels = [
        f" {result.figure.value:.3g} {result.figure.unit} (bar {result.row.bar})"
        for result in shown
        if result.figure
    ]
    white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.bar_label(bars, labels, fontsize=8, padding=2, bbox=white)
    axes.set_title(machine(), fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=120)
