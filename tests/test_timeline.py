"""The timeline: what is drawn where, how much of it, and that a notebook shows it once."""

import gc
import weakref
from io import BytesIO
from typing import Any

import log_kit
import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pace import cost

from workbench.engine import ffi, lib
from workbench.log import AccessLog
from workbench.records import KINDS
from workbench.registers import Bar, Field, Register
from workbench.views.timeline import STYLES, plot

MS = 1_000_000


class bar0(Bar, size=4096):
    CTRL = Register(0x00, ON=Field(0))
    STATUS = Register(0x04)
    DATA = Register(0x100, count=40)


@pytest.fixture(scope="module", autouse=True)
def fonts() -> None:
    """Draw a text once: matplotlib keeps its font files open from then on."""
    Figure().text(0, 0, "⟷").figure.savefig(BytesIO(), format="png")


@pytest.fixture
def log() -> AccessLog:
    return log_kit.new_log({0: bar0.block}, 1 << 12)


def add(log: AccessLog, ms: float, kind: str = "read", **values: Any) -> None:
    log_kit.add(log, kind, time=int((1000 + ms) * MS), **values)


def lanes(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


@pytest.fixture
def story(log: AccessLog) -> AccessLog:
    add(log, 0, "attach", region=255)
    add(log, 1, "read", offset=4)
    add(log, 2, "write", offset=0, value=1)
    add(log, 3, "irq", region=255)
    add(log, 4, "dma_write", region=255, offset=0x1000)
    add(log, 5, "swap", offset=0, revision=2, origin=lib.WB_NOTEBOOK)
    add(log, 6, "poke", offset=4, origin=lib.WB_NOTEBOOK)
    add(log, 7, "read", offset=0x20, flags=lib.WB_UNMAPPED)
    add(log, 8, "reset", region=255)
    return log


def test_registers_come_first_in_order_of_use_then_the_rest(story: AccessLog) -> None:
    assert lanes(plot(story)) == [
        "bar0.STATUS", "bar0.CTRL", "bar0+0x20", "client", "INTx", "dma", "reset",
    ]  # fmt: skip


def test_lanes_may_be_in_order_of_address(story: AccessLog) -> None:
    assert lanes(plot(story, order="address"))[:3] == ["bar0.CTRL", "bar0.STATUS", "bar0+0x20"]
    with pytest.raises(ValueError, match="order"):
        plot(story, order="name")
    with pytest.raises(ValueError, match="how many registers have a lane of their own, not -1"):
        plot(story, max_lanes=-1)


def test_every_kind_has_its_own_shape_and_colour() -> None:
    assert set(STYLES) == set(KINDS.values())
    styles = [(style.marker, style.colour) for style in STYLES.values()]
    assert len(set(styles)) == len(styles)
    told_apart = [STYLES[kind] for kind in ("read", "write", "poke", "irq", "swap", "dma_read", "dma_write")]
    assert len({style.marker for style in told_apart}) == len({style.colour for style in told_apart}) == 7


def test_the_legend_names_what_is_there(story: AccessLog) -> None:
    assert legend(plot(story)) == [
        "read", "write", "poke", "interrupt", "DMA write", "hook swap", "reset", "attach", "flagged",
    ]  # fmt: skip


def test_marks_stand_in_their_lane_at_their_time(story: AccessLog) -> None:
    ax = plot(story, cut_idle=False)
    marks = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert marks["write"] == [[pytest.approx(2.0), pytest.approx(1, abs=0.3)]]
    assert marks["interrupt"][0][1] == lanes(ax).index("INTx")
    assert marks["flagged"] == [[pytest.approx(7.0), pytest.approx(2, abs=0.3)]]
    assert ax.get_xlabel().startswith("ms since the first record")


def test_registers_may_be_chosen_and_interrupts_stay(story: AccessLog) -> None:
    assert lanes(plot(story, registers="CTRL")) == ["bar0.CTRL", "client", "INTx", "dma", "reset"]


def test_only_the_last_seconds_may_be_drawn(story: AccessLog) -> None:
    assert lanes(plot(story, last=0.0025)) == ["bar0.STATUS", "bar0+0x20", "reset"]


def test_many_registers_share_a_lane(log: AccessLog) -> None:
    for n in range(40):
        for _ in range(1 + (n == 7)):
            add(log, n, offset=0x100 + 4 * n)
    names = lanes(plot(log, max_lanes=5))
    assert len(names) == 6
    assert "bar0.DATA[7]" in names
    assert names[-1] == "35 other registers"


def test_an_empty_log_is_an_empty_picture(log: AccessLog) -> None:
    ax = plot(log)
    assert lanes(ax) == []
    assert "0 records, 0 dropped" in ax.get_xlabel()
    assert ax._repr_png_()[0].startswith(b"\x89PNG")


def test_dropped_records_are_mentioned(log: AccessLog) -> None:
    for n in range((1 << 12) + 3):
        add(log, n)
    assert "4,096 records, 3 dropped" in plot(log).get_xlabel()


def test_long_pauses_are_cut_and_bursts_keep_their_width(log: AccessLog) -> None:
    for burst in (0, 9_000, 20_000):
        for n in range(20):
            add(log, burst + n * 0.01)
    ax = plot(log)
    texts = [label.get_text() for label in ax.get_xticklabels()]
    assert [text.split("\n")[0] for text in texts] == ["0 s", "9.0 s", "20 s"]
    assert all("⟷ 190 µs" in text for text in texts)
    assert "pauses cut" in ax.get_xlabel()
    places = sorted(next(line for line in ax.lines if line.get_label() == "read").get_xdata())
    widths = [places[n + 19] - places[n] for n in (0, 20, 40)]
    assert min(widths) > 0.25
    assert "s since the first record" in plot(log, cut_idle=False).get_xlabel()


def test_labels_of_short_parts_are_told_one_below_the_other(log: AccessLog) -> None:
    for burst in range(0, 9_000, 1_000):
        for n in range(20):
            add(log, burst + n * 0.01)
    rows = [label.get_text().split("\n") for label in plot(log).get_xticklabels()]
    assert [row.index("⟷ 190 µs") for row in rows] == [1, 2, 1, 2, 1, 2, 1, 2, 1]


def test_an_even_rhythm_is_not_cut(log: AccessLog) -> None:
    for n in range(10):
        add(log, n * 1000)
    assert plot(log).get_xlabel().startswith("s since the first record")


def test_given_axes_are_used(story: AccessLog) -> None:
    ax = Figure().add_subplot()
    assert plot(story, ax=ax) is ax
    assert "bar0.CTRL" in lanes(ax)


def test_the_log_plots_itself(story: AccessLog) -> None:
    assert isinstance(story.plot(registers="CTRL"), Axes)
    assert lanes(story.filter(kind="write").plot()) == ["bar0.CTRL"]


@pytest.mark.slow
def test_a_notebook_shows_the_picture_exactly_once(story: AccessLog) -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib_inline.backend_inline import configure_inline_support
    from traitlets.config import Config

    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    try:
        configure_inline_support(shell, "module://matplotlib_inline.backend_inline")
        data, metadata = shell.display_formatter.format(story.plot())
        assert set(data) == {"image/png", "text/plain"}
        assert metadata["image/png"]["width"] > 500
        figure_data, _ = shell.display_formatter.format(story.plot().figure)
        assert "image/png" in figure_data
    finally:
        InteractiveShell.clear_instance()
        mpl.rcdefaults()


@pytest.mark.slow
def test_drawing_again_and_again_keeps_no_figure(story: AccessLog) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    figures = [weakref.ref(story.plot().figure) for _ in range(25)]
    gc.collect()
    assert pyplot.get_fignums() == before
    assert not any(figure() for figure in figures)


def crowd(count: int) -> AccessLog:
    """Return a log of so many records, one a microsecond, every 100,000th of them flagged."""
    log = log_kit.new_log({0: bar0.block}, count)
    record = ffi.new("wb_record *", {"size": 4})
    for n in range(count):
        record.time, record.offset, record.kind = 1_000 * n + MS, 4 * (n % 3), n & 1
        record.flags = lib.WB_VIOLATION if n % 100_000 == 1 else 0
        lib.wb_log_add(log.handle, record)
    return log


@pytest.mark.slow
def test_a_million_records_are_thinned_visibly_and_cost_less_than_their_number() -> None:
    many, few = crowd(1 << 20), crowd(1 << 16)
    ax = plot(many)
    png, _ = ax._repr_png_()
    assert "1,048,576 records, 0 dropped, thinned to" in ax.get_xlabel()
    assert sum(len(line.get_xdata()) for line in ax.lines) < 20_000
    assert len(next(line for line in ax.lines if line.get_label() == "flagged").get_xdata()) == 11
    assert len(png) < 300_000
    sixteenth, whole = cost(lambda: plot(few)._repr_png_(), lambda: plot(many)._repr_png_())
    assert whole < 8 * sixteenth
