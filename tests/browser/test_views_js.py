"""Log, timeline, interrupts, hooks and console in a browser, with a kernel played by play2.js."""

import importlib.resources
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import played
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

PARTS = "logView, timelineView, irqView, hooksView, consoleView, terminal, timeScale, recordMarks"
#: What the module keeps to itself, for the tests; and the last timeline that was mounted.
EXPOSED = f"""
globalThis.parts = {{ {PARTS} }};
const mountTimeline = timelineView.mount;
timelineView.mount = (...args) => (globalThis.timeline = mountTimeline(...args));
"""
AXE = """async () => (await axe.run('.wb-live')).violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map((v) => `${v.id}: ${v.nodes[0].html}`)"""
TERMINAL = """([pieces, limit]) => {
    const screen = new parts.terminal.Screen(limit ?? 5000);
    pieces.forEach((piece) => screen.write(piece));
    return screen.lines.map((line) => parts.terminal.runs(line));
}"""
Shower = Callable[..., Page]


@pytest.fixture(scope="module")
def shared(browser: Browser) -> Iterator[Page]:
    """A page whose view objects are called directly."""
    page = browser.new_page()
    show(page, kind="irq")
    yield page
    page.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Shower]:
    """``opened(kind, ...)`` shows one view on a page of its own; an error on the page fails the test."""
    pages: list[Page] = []
    errors: list[str] = []

    def open_one(kind: str, theme: str = "light", **wish: Any) -> Page:
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        show(page, theme, kind=kind, **wish)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert errors == []


def show(page: Page, theme: str = "light", **wish: Any) -> None:
    page.goto((played.HERE / "play.html").as_uri())
    page.add_style_tag(content="\n".join(path.read_text() for path in sorted(played.STATIC.glob("*.css"))))
    page.add_script_tag(
        content="\n".join((played.HERE / name).read_text() for name in ("play.js", "play2.js"))
    )
    start = played._START.replace("new PlayedKernel(", "new PlayedTrace(")
    page.evaluate(start, [played.module() + EXPOSED, json.loads(json.dumps(wish)), theme])
    page.wait_for_selector(".wb-live")
    page.wait_for_function("played.acked > 0")


def actions(page: Page, name: str) -> list[dict[str, Any]]:
    """Return what the view asked the kernel to do under this name."""
    sent: list[dict[str, Any]] = page.evaluate("played.sent.filter((m) => m.type === 'do')")
    return [message for message in sent if message["action"] == name]


def wish(page: Page, feed: str) -> Any:
    return page.evaluate("(feed) => played.feeds[feed]", feed)


def lines(page: Page, *pieces: str, limit: int | None = None) -> list[list[list[str]]]:
    result: list[list[list[str]]] = page.evaluate(TERMINAL, [list(pieces), limit])
    return result


# -- the terminal ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\r\ntwo", [[["", "one"]], [["", "two"]]]),
        ("one\ntwo", [[["", "one"]], [["", "   two"]]]),
        ("abc\rX", [[["", "Xbc"]]]),
        ("abd\bc", [[["", "abc"]]]),
        ("a\tb", [[["", "a       b"]]]),
        ("\x1b[1;31mred\x1b[0m plain", [[["b f1", "red"], ["", " plain"]]]),
        ("\x1b[97;44mx\x1b[39my", [[["f15 g4", "x"], ["g4", "y"]]]),
        ("\x1b[38;5;99mz\x1b[38;2;1;2;3mq", [[["f#875fff", "z"], ["f#010203", "q"]]]),
        ("\x1b[38;5;9mz\x1b[48;5;232mq", [[["f9", "z"], ["f9 g#080808", "q"]]]),
        ("\x1b[7mx\x1b[31my", [[["fd gd", "x"], ["fd g1", "y"]]]),
        ("one\x1b[2Dxy\x1b[Kz", [[["", "oxyz"]]]),
        ("gone\r\x1b[2Kkept", [[["", "kept"]]]),
        ("abcd\r\x1b[2C\x1b[1K", [[["", "   d"]]]),
        ("abd\b\x1b[@c", [[["", "abcd"]]]),
        ("abxcd\b\b\b\x1b[P", [[["", "abcd"]]]),
        ("\x1b]0;a title\x07after\x1b]2;b\x1b\\.", [[["", "after."]]]),
        ("\x1bPqdropped\x1b\\kept\x1b(B\x1b=.", [[["", "kept."]]]),
        ("\x1b[?25l\x1b[?2004hx\x1b[6n\x1b[>cy", [[["", "xy"]]]),
        ("a\x07b\x00c", [[["", "abc"]]]),
        ("old\r\n\x1b[H\x1b[2Jnew", [[["", "old"]], [["", "new"]]]),
        ("1\r\n2\r\n3\x1b[H\x1b[J!", [[["", "!"]], [], []]),
        ("\x1b[2;3Hx", [[], [["", "  x"]]]),
        ("\x1b[31\nx", [[], [["", "x"]]]),
    ],
)
def test_the_terminal_obeys(shared: Page, text: str, shown: list[Any]) -> None:
    assert lines(shared, text) == shown


def test_a_sequence_may_be_cut_anywhere(shared: Page) -> None:
    text = "a\x1b[1;32mgreen\x1b[0m\x1b]0;t\x1b\\b\x1b[2D\x1b[K\x1b(Bend\r\n\x1b[38;2;9;8;7mx"
    whole = lines(shared, text)
    for cut in range(len(text)):
        assert lines(shared, text[:cut], text[cut:]) == whole


def test_an_escape_without_end_does_not_silence_the_console(shared: Page) -> None:
    assert lines(shared, "\x1b]0;" + "x" * 5000, "\r\nheard")[-1] == [["", "heard"]]


def test_the_scrollback_keeps_the_newest_lines(shared: Page) -> None:
    kept = lines(shared, "".join(f"{n}\r\n" for n in range(300)), limit=100)
    assert len(kept) == 100
    assert kept[0] == [["", "201"]]
    assert kept[-1] == []


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        ({"key": "a"}, "a"),
        ({"key": "Enter"}, "\r"),
        ({"key": "Tab"}, "\t"),
        ({"key": "Tab", "shiftKey": True}, None),
        ({"key": "c", "ctrlKey": True}, "\x03"),
        ({"key": "v", "ctrlKey": True}, None),
        ({"key": "c", "ctrlKey": True, "shiftKey": True}, None),
        ({"key": "ArrowUp"}, "\x1b[A"),
        ({"key": "b", "altKey": True}, "\x1bb"),
        ({"key": "Shift", "shiftKey": True}, None),
        ({"key": "F5"}, None),
        ({"key": "ü"}, "ü"),
    ],
)
def test_what_a_key_sends_to_the_guest(shared: Page, event: dict[str, Any], sent: str | None) -> None:
    assert shared.evaluate("(event) => parts.consoleView.keyText(event)", event) == sent


# -- arithmetic ----------------------------------------------------------------------------------


def test_zoom_keeps_the_time_under_the_pointer_and_has_ends(shared: Page) -> None:
    script = """([factor, x]) => {
        const [plot, window] = [{left: 100, width: 800}, {from: 1e9, to: 3e9}];
        const zoomed = parts.timeScale.zoom(window, factor, x, plot);
        const move = parts.timeScale.toX(parts.timeScale.toTime(x, window, plot), zoomed, plot) - x;
        return [zoomed.to - zoomed.from, Math.abs(move)];
    }"""
    for factor, span in ((0.5, 1e9), (2, 4e9), (1e-12, 200), (1e12, 86400e9)):
        length, move = shared.evaluate(script, [factor, 300])
        assert length == pytest.approx(span, rel=1e-6)
        assert move < 0.01


@pytest.mark.parametrize(
    ("window", "step", "first"),
    [((0, 10e9), 2e9, 0), ((1.5e6, 2.5e6), 2e5, 1.6e6), ((0, 900), 200, 0), ((-5e9, 5e9), 2e9, -4e9)],
)
def test_ticks_are_round(shared: Page, window: tuple[float, float], step: float, first: float) -> None:
    found = shared.evaluate("([from, to]) => parts.timeScale.ticks({from, to}, 8)", list(window))
    assert (found["step"], found["times"][0]) == (step, first)


def test_times_are_told_in_the_unit_that_suits(shared: Page) -> None:
    texts = shared.evaluate(
        "() => [[2e9, 1e9], [12.5e6, 1e5], [1500, 100], [7, 1], [0, 2e8]]"
        ".map((pair) => parts.timeScale.timeText(...pair))"
    )
    assert texts == ["2 s", "12.5 ms", "1.5 µs", "7 ns", "0 ms"]
    durations = "() => [950, 1234567, 2e9].map((ns) => parts.timeScale.duration(ns))"
    assert shared.evaluate(durations) == ["950 ns", "1.235 ms", "2.000 s"]


def test_quick_buttons_and_text_become_one_expression(shared: Page) -> None:
    script = "([text, pressed]) => parts.logView.expression(text, new Set(pressed))"
    assert shared.evaluate(script, ["", []]) == ""
    assert shared.evaluate(script, ["value & 1", []]) == "value & 1"
    both = shared.evaluate(script, ["reg == A", ["reads", "writes", "guest"]])
    assert both == "(kind == read || kind == write) && (origin == guest) && (reg == A)"


def test_every_quick_button_is_understood_by_the_kernel(shared: Page) -> None:
    from workbench.records import Names
    from workbench.views import query

    labels = shared.evaluate("() => parts.logView.quick.map(([label]) => label)")
    script = "(label) => parts.logView.expression('value > 1 || reg == X', new Set([label]))"
    for label in labels:
        query.compile(shared.evaluate(script, label), Names({}))


def test_rows_are_joined_only_where_none_is_missing(shared: Page) -> None:
    script = """([have, fresh, more]) => {
        const rows = (numbers) => numbers.map((n) => [n]);
        return parts.logView.merge(rows(have), rows(fresh), more).flat();
    }"""
    assert shared.evaluate(script, [[1, 2, 3], [2, 3, 4], 0]) == [1, 2, 3, 4]
    assert shared.evaluate(script, [[1, 2, 3], [4, 5], 0]) == [1, 2, 3, 4, 5]
    assert shared.evaluate(script, [[1, 2, 3], [9, 12], 2]) == [1, 2, 3, 9, 12]
    assert shared.evaluate(script, [[1, 2, 3], [9, 12], 7]) == [9, 12]
    assert shared.evaluate(script, [[1, 3, 2], [2, 3], 0]) == [1, 3, 2]
    assert shared.evaluate(script, [[1, 2], [], 0]) == []


# -- the log -------------------------------------------------------------------------------------


def last_row(page: Page) -> Locator:
    return page.locator(".wb-log .wb-scroll-row").last


def newest_ms(page: Page) -> str:
    ms: float = page.evaluate("played.records.at(-1)[1]")
    return f"{ms:.6f}"


def test_the_newest_rows_are_shown_live(opened: Shower) -> None:
    page = opened("log")
    grid = page.get_by_role("grid", name="Access log")
    expect(grid).to_contain_text(newest_ms(page))
    page.evaluate("played.records.push(...playedRecords(5, 3000)); played.flush([])")
    expect(grid).to_contain_text(newest_ms(page))
    expect(page.locator(".wb-log-foot")).to_contain_text("3,005 records")
    expect(page.locator(".wb-log-foot")).to_contain_text("0 dropped")


def test_dropped_records_are_counted_while_paused_too(opened: Shower) -> None:
    page = opened("log")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_function("played.feeds.log.paused")
    before = page.locator(".wb-log .wb-scroll-space").inner_text()
    page.evaluate("played.dropped = 7; played.records.push(...playedRecords(5, 3000)); played.flush([])")
    expect(page.locator(".wb-log-foot")).to_contain_text("! 7 dropped")
    assert page.locator(".wb-log .wb-scroll-space").inner_text() == before
    page.get_by_role("button", name="Live").click()
    expect(page.get_by_role("grid", name="Access log")).to_contain_text(newest_ms(page))


def test_scrolling_up_holds_the_log_and_reads_back_through_history(opened: Shower) -> None:
    page = opened("log", records=1000)
    grid = page.get_by_role("grid", name="Access log")
    expect(grid).to_contain_text(newest_ms(page))
    grid.hover()
    for _ in range(200):
        if "0.000000" in grid.inner_text():
            break
        page.mouse.wheel(0, -1500)
        settled(page)
    expect(grid).to_contain_text("0.000000")
    assert wish(page, "log")["paused"]
    expect(page.locator(".wb-log-foot")).to_contain_text("the oldest record that is kept")
    assert grid.get_attribute("aria-rowcount") == "1000"
    numbers = page.evaluate("played.sent.filter((m) => m.feeds?.log?.before != null).length")
    assert numbers >= 4
    grid.focus()
    page.keyboard.press("End")
    expect(grid).to_contain_text(newest_ms(page))
    page.wait_for_function("played.feeds.log.paused === false")


def test_an_older_page_does_not_move_what_one_reads(opened: Shower) -> None:
    page = opened("log", records=1000)
    grid = page.get_by_role("grid", name="Access log")
    expect(grid).to_contain_text(newest_ms(page))
    grid.hover()
    page.mouse.wheel(0, -3900)
    page.wait_for_function("played.sent.some((m) => m.feeds?.log?.before != null)")
    expect(grid).to_have_attribute("aria-rowcount", "400")
    expect(grid).to_contain_text("! ")
    first = page.evaluate("""() => {
        const top = document.querySelector('.wb-log').getBoundingClientRect().top + 60;
        return document.elementFromPoint(80, top).closest('.wb-log-row').firstChild.textContent;
    }""")
    # 200 rows of 22 pixels, a window of some 16: 3,900 pixels up is near the oldest of the first page.
    shown = page.evaluate("played.records.slice(-200, -180).map((row) => row[1].toFixed(6))")
    assert first in shown


def test_a_filter_is_the_kernels_and_its_error_stands_below_it(opened: Shower) -> None:
    page = opened("log")
    box = page.get_by_role("searchbox", name="Filter expression")
    box.fill("reg == CTRL")
    page.wait_for_function("played.feeds.log.filter === 'reg == CTRL'")
    expect(page.locator(".wb-log-foot")).to_contain_text("match")
    registers = page.locator(".wb-log .wb-scroll-row .wb-log-3").all_inner_texts()
    assert set(registers) == {"bar0.CTRL"}
    box.fill("syntax ==")
    box.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("'syntax' was not expected there")
    expect(box).to_have_attribute("aria-invalid", "true")
    box.fill("")
    expect(page.locator(".wb-error")).to_be_hidden()
    page.get_by_role("button", name="interrupts").click()
    expect(last_row(page)).to_contain_text("▼ irq")
    page.get_by_role("button", name="flagged").click()
    page.wait_for_function("played.feeds.log.filter === '(kind == irq) && (flagged)'")


def test_typed_letters_arrive_in_the_boxes(opened: Shower) -> None:
    page = opened("log")
    box = page.get_by_role("searchbox", name="Filter expression")
    box.press_sequentially("reg == MASK")
    box.press("Backspace")
    expect(box).to_have_value("reg == MAS")
    page = opened("irq")
    rate = irq_row(page, "MSI-X 0").get_by_role("textbox")
    rate.press("Control+a")
    rate.press_sequentially("25")
    expect(rate).to_have_value("25")


def test_a_frame_of_the_filter_before_is_not_shown(opened: Shower) -> None:
    page = opened("log")
    page.get_by_role("button", name="interrupts").click()
    expect(last_row(page)).to_contain_text("irq")
    late = (
        "played.frame({log: {filter: '', before: null, rows: playedRecords(200), total: 9,"
        " matching: 9, dropped: 0, error: ''}}, [])"
    )
    page.evaluate(late)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    kinds = page.locator(".wb-log .wb-scroll-row .wb-log-2").all_inner_texts()
    assert set(kinds) == {"▼ irq"}


def test_an_error_row_unfolds_its_traceback(opened: Shower) -> None:
    page = opened("log")
    row = page.locator(".wb-log .wb-flagged", has_text="hook raised").last
    expect(row).to_contain_text("! hook raised")
    row.get_by_role("button", name="Show the traceback").click()
    expect(page.locator(".wb-log")).to_contain_text("ZeroDivisionError: division by zero")
    expect(page.locator(".wb-log")).to_contain_text("raised 3 times")
    assert wish(page, "log")["paused"] or page.wait_for_function("played.feeds.log.paused")


def test_rows_unfold_by_keyboard(opened: Shower) -> None:
    page = opened("log", records=50)
    grid = page.get_by_role("grid", name="Access log")
    expect(grid).to_contain_text(newest_ms(page))
    grid.focus()
    page.keyboard.press("Home")
    expect(page.locator(".wb-active")).to_contain_text("0.000000")
    page.keyboard.press("Enter")
    expect(page.locator(".wb-log")).to_contain_text("record 0")
    page.keyboard.press("Enter")
    expect(page.locator(".wb-log")).not_to_contain_text("record 0")


def test_matching_records_are_copied_as_csv(opened: Shower) -> None:
    page = opened("log")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.get_by_role("button", name="guest").click()
    page.get_by_role("button", name="Copy the matching records").click()
    expect(page.locator(".wb-notice")).to_contain_text("2 records copied")
    assert page.evaluate("copied").startswith("seq,ms")
    assert actions(page, "csv")[0]["filter"] == "origin == guest"


def test_a_fast_log_costs_the_page_little(opened: Shower) -> None:
    page = opened("log")
    spent = page.evaluate("""async () => {
        const times = [];
        for (let turn = 0; turn < 20; turn++) {
            played.records.push(...playedRecords(800, played.records.length));
            const start = performance.now();
            played.flush([]);
            times.push(performance.now() - start);
            await new Promise(requestAnimationFrame);
        }
        return times.sort((a, b) => a - b)[10];
    }""")
    assert spent < 30  # of 50 ms between two frames, playing the kernel included


# -- the timeline --------------------------------------------------------------------------------


def stage(page: Page) -> Locator:
    return page.get_by_role("application")


def span(page: Page) -> float:
    result: float = page.evaluate("timeline.window.to - timeline.window.from")
    return result


def settled(page: Page) -> None:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_timeline_says_in_words_what_it_shows(opened: Shower) -> None:
    page = opened("timeline", records=1000)
    expect(stage(page)).to_have_attribute("aria-label", re.compile("9 lanes, .* 1000 marks, following"))
    table = page.locator(".wb-hidden table")
    expect(table.get_by_role("rowheader", name="bar0.CTRL")).to_have_count(1)
    counts = [int(text) for text in table.locator("td").all_text_contents()]
    assert sum(counts) == 1000


def test_five_thousand_marks_are_drawn_in_eight_milliseconds(opened: Shower) -> None:
    page = opened("timeline", records=3000)
    drawn = page.evaluate("""async () => {
        const [times, count] = [[], 5000];
        const view = new DataView(new ArrayBuffer(16 * count));
        for (let n = 0; n < count; n++) {
            view.setFloat64(n * 16, n * 2e6, true);
            view.setUint16(n * 16 + 8, n % 9, true);
            view.setUint8(n * 16 + 10, n % 14);
            view.setUint8(n * 16 + 11, n % 20 === 0);
        }
        const json = {epoch: '0', from: 0, to: 1e10, first: 0, last: 1e10, lanes: LANES, buffer: 0, count};
        for (let turn = 0; turn < 15; turn++) {
            played.frame({timeline: json}, [view.buffer]);
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            times.push(timeline.drawn);
        }
        return times.sort((a, b) => a - b)[7];
    }""")
    assert drawn < 8


def test_kinds_differ_by_shape_and_not_by_colour_alone(shared: Page) -> None:
    kinds = shared.evaluate("parts.recordMarks.kinds")
    looks = {(kind["shape"], kind["colour"]) for kind in kinds}
    assert len(looks) == len(kinds)
    often = [kind["shape"] for kind in kinds if kind["name"] in ("read", "write", "irq", "dma_read", "swap")]
    assert len(set(often)) == 5


def test_the_marks_are_those_of_the_printed_timeline(shared: Page) -> None:
    from workbench.records import KINDS
    from workbench.views.timeline import STYLES

    kinds = shared.evaluate("parts.recordMarks.kinds")
    assert [kind["name"] for kind in kinds] == list(KINDS.values())
    for kind in kinds:
        assert kind["label"] == STYLES[kind["name"]].label
        assert kind["colour"] in ("", STYLES[kind["name"]].colour)


def test_the_wheel_zooms_at_the_pointer_and_asks_for_the_window(opened: Shower) -> None:
    page = opened("timeline")
    box = stage(page).bounding_box()
    assert box
    x = box["x"] + 500
    page.mouse.move(x, box["y"] + 40)
    under = "timeline.timeAt(500 - 0)"
    before, length = page.evaluate(under), span(page)
    page.mouse.wheel(0, -300)
    page.wait_for_function("!timeline.follow")
    assert span(page) < 0.7 * length
    assert page.evaluate(under) == pytest.approx(before, abs=span(page) / 400)
    page.wait_for_function("played.feeds.timeline.from !== null")
    asked = wish(page, "timeline")
    window = page.evaluate("timeline.window")
    assert asked["from"] <= max(0, window["from"])
    assert asked["to"] >= window["to"]


def test_dragging_pans_and_follow_returns(opened: Shower) -> None:
    page = opened("timeline")
    box = stage(page).bounding_box()
    assert box
    newest = page.evaluate("timeline.window.to")
    page.mouse.move(box["x"] + 400, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 600, box["y"] + 60, steps=4)
    page.mouse.up()
    assert page.evaluate("timeline.window.to") < newest
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "false")
    follow.click()
    page.wait_for_function("played.feeds.timeline.from === null")
    assert page.evaluate("timeline.window.to") == newest


def test_following_goes_on_at_another_zoom(opened: Shower) -> None:
    page = opened("timeline")
    stage(page).focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.wait_for_function("played.feeds.timeline.from !== null")
    page.evaluate("played.records.push(...playedRecords(2000, 3000)); played.flush([])")
    page.wait_for_function("timeline.window.to === played.records.at(-1)[1] * 1e6")
    assert span(page) == pytest.approx(2.5e9)
    assert page.evaluate("timeline.follow")


def test_clicks_put_two_cursors_and_tell_the_time_between(opened: Shower) -> None:
    page = opened("timeline")
    box = stage(page).bounding_box()
    assert box
    empty = box["y"] + 4.5 * 24  # the lane of config.COMMAND has no marks
    page.mouse.click(box["x"] + 400, empty)
    page.keyboard.down("Shift")
    page.mouse.click(box["x"] + 600, empty)
    page.keyboard.up("Shift")
    expect(page.locator(".wb-timeline-readout")).to_contain_text("Δt")
    gap = page.evaluate("timeline.cursors[1] - timeline.cursors[0]")
    pixel = page.evaluate("(timeline.window.to - timeline.window.from) / timeline.canvas.plot.width")
    assert gap == pytest.approx(200 * pixel, rel=0.02)
    page.mouse.move(box["x"] + 600, empty)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, empty, steps=3)
    page.mouse.up()
    moved = page.evaluate("timeline.cursors[1] - timeline.cursors[0]")
    assert moved == pytest.approx(300 * pixel, rel=0.02)
    assert page.evaluate("timeline.follow")


def test_cursors_by_keyboard(opened: Shower) -> None:
    page = opened("timeline")
    stage(page).focus()
    for key in ("1", "n", "2", "n", "n", "n"):
        page.keyboard.press(key)
    readout = page.locator(".wb-timeline-readout")
    expect(readout).to_contain_text(re.compile(r"1 at .*bar0|1 at .*INTx|1 at .*dma"))
    expect(readout).to_contain_text("Δt")
    before = page.evaluate("timeline.cursors")
    page.keyboard.press("Shift+ArrowRight")
    after = page.evaluate("timeline.cursors")
    assert after[0] == before[0]
    assert after[1] > before[1]
    page.keyboard.press("ArrowLeft")
    assert not page.evaluate("timeline.follow")
    page.keyboard.press("f")
    assert page.evaluate("timeline.follow")
    page.keyboard.press("Escape")
    assert page.evaluate("timeline.cursors") == [None, None]


def test_hovering_tells_the_record(opened: Shower) -> None:
    page = opened("timeline", records=40)
    box = stage(page).bounding_box()
    assert box
    page.get_by_role("button", name="Show the whole log").click()
    page.wait_for_function("timeline.marks.count === 40")
    settled(page)
    x, y = page.evaluate("""() => {
        const n = timeline.marks.kind.indexOf(1);
        return [parts.timeScale.toX(timeline.marks.time[n], timeline.window, timeline.canvas.plot),
            timeline.canvas.middle(timeline.marks.lane[n], 1)];
    }""")
    page.mouse.move(box["x"] + x, box["y"] + y + 1)
    expect(page.locator(".wb-timeline-tip")).to_contain_text(re.compile(r"bar0\.\w+: ■ write 0x"))


def test_the_canvas_is_as_sharp_as_the_screen(browser: Browser) -> None:
    page = browser.new_page(device_scale_factor=2)
    show(page, kind="timeline", records=100)
    page.wait_for_function("timeline.drawn > 0")
    width, shown = page.evaluate("[timeline.canvas.base.width, timeline.canvas.base.clientWidth]")
    page.close()
    assert width == 2 * shown


# -- interrupts ----------------------------------------------------------------------------------


def irq_row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


def test_lines_are_told_in_words_and_fired_by_hand(opened: Shower) -> None:
    page = opened("irq")
    row = irq_row(page, "MSI-X 1")
    expect(row.get_by_role("gridcell").nth(3)).to_have_text("✓ yes")
    expect(irq_row(page, "INTx")).to_contain_text("1,234")
    irq_row(page, "INTx").get_by_role("button", name="Trigger").click()
    expect(irq_row(page, "INTx")).to_contain_text("1,235")
    row.get_by_role("button", name="Trigger").click()
    expect(row).to_contain_text("8")
    sent = [(one["index"], one["vector"]) for one in actions(page, "trigger")]
    assert sent == [(0, 0), (2, 1)]


def test_intx_is_held_and_let_go(opened: Shower) -> None:
    page = opened("irq")
    irq_row(page, "INTx").get_by_role("button", name="Assert INTx").click()
    irq_row(page, "INTx").get_by_role("button", name="Deassert INTx").click()
    expect(irq_row(page, "INTx").get_by_role("button", name="Assert INTx", exact=True)).to_be_visible()
    assert [one["on"] for one in actions(page, "level")] == [True, False]
    assert irq_row(page, "MSI-X 1").get_by_role("button", name="Assert").count() == 0


def test_an_interrupt_repeats_at_a_rate(opened: Shower) -> None:
    page = opened("irq")
    row = irq_row(page, "MSI-X 0")
    rate = row.get_by_role("textbox")
    rate.fill("many")
    expect(rate).to_have_attribute("aria-invalid", "true")
    row.get_by_role("button", name="Repeat").click()
    expect(page.locator(".wb-notice")).to_contain_text("0.1 to 10,000")
    rate.fill("250")
    rate.press("Enter")
    row.get_by_role("button", name="Stop repeating").click()
    expect(row.get_by_role("button", name="Repeat")).to_be_visible()
    assert [one["hertz"] for one in actions(page, "repeat")] == [250, 0]


def test_two_thousand_vectors_scroll(opened: Shower) -> None:
    page = opened("irq")
    page.evaluate("""() => {
        const one = played.lines[1];
        played.lines = Array.from({length: 2048}, (_, n) => ({...one, vector: n, name: `MSI-X ${n}`}));
        played.flush([]);
    }""")
    grid = page.get_by_role("grid", name="Interrupt lines")
    expect(grid).to_have_attribute("aria-rowcount", "2048")
    grid.focus()
    page.keyboard.press("End")
    expect(grid).to_contain_text("MSI-X 2047")
    assert page.locator(".wb-irq .wb-scroll-row").count() < 60


# -- hooks ---------------------------------------------------------------------------------------


def test_a_hook_is_reverted_and_switched_off(opened: Shower) -> None:
    page = opened("hooks")
    row = page.get_by_role("row", name="bar0.CTRL.on_write")
    expect(row).to_contain_text("In[4]")
    expect(row).to_contain_text("12,345")
    row.get_by_role("combobox").select_option("rev 1")
    row.get_by_role("button", name="Disable").click()
    page.get_by_role("button", name="Enable bar0.MASK.on_write").click()
    page.wait_for_function("played.sent.filter((m) => m.type === 'do').length === 3")
    assert actions(page, "revert")[0]["revision"] == 1
    assert [one["key"] for one in actions(page, "disable")] == ["bar0.CTRL.on_write", "bar0.MASK.on_write"]
    assert [one["on"] for one in actions(page, "disable")] == [True, False]


def test_a_refused_revert_says_so_and_shows_what_is_in_force(opened: Shower) -> None:
    page = opened("hooks")
    page.evaluate("played.fail = 'rev 1 is gone'")
    choice = page.get_by_role("row", name="bar0.CTRL.on_write").get_by_role("combobox")
    choice.select_option("rev 1")
    expect(page.locator(".wb-notice")).to_contain_text("rev 1 is gone")
    expect(choice).to_have_value("3")


def test_two_revisions_are_compared(opened: Shower) -> None:
    page = opened("hooks")
    page.get_by_role("button", name="Compare revisions of bar0.CTRL.on_write").click()
    expect(page.locator(".wb-diff-add")).to_have_text("+    self.bar0.COUNT += 2")
    expect(page.locator(".wb-diff-del")).to_have_text("-    self.bar0.COUNT += 1")
    page.get_by_label("Old revision").select_option("rev 1")
    page.wait_for_function("played.sent.filter((m) => m.action === 'diff').length === 2")
    assert [(one["old"], one["new"]) for one in actions(page, "diff")] == [(2, 3), (1, 3)]


def test_the_last_error_unfolds_and_the_table_lives_on(opened: Shower) -> None:
    page = opened("hooks")
    page.get_by_role("button", name="! ZeroDivisionError").click()
    expect(page.locator(".wb-trace")).to_contain_text("Traceback (most recent call last)")
    page.evaluate("played.hooks[0].calls = 99999; played.hooks.splice(1, 1); played.flush([])")
    expect(page.get_by_role("row", name="bar0.CTRL.on_write switch")).to_contain_text("99,999")
    expect(page.locator(".wb-trace")).to_be_visible()
    expect(page.get_by_text("bar0.COUNT.on_read")).to_have_count(0)


def test_without_hooks_it_says_how_to_add_one(opened: Shower) -> None:
    page = opened("hooks")
    page.evaluate("played.hooks = []; played.flush([])")
    expect(page.get_by_text("C answers everything")).to_be_visible()


# -- the console -----------------------------------------------------------------------------------


def screen(page: Page) -> Locator:
    return page.get_by_role("log", name="Serial console")


def test_the_console_shows_colours_and_what_comes(opened: Shower) -> None:
    page = opened("console")
    expect(screen(page)).to_contain_text("[FAILED] Failed to start the impossible.")
    expect(screen(page).locator(".wb-t-f1")).to_have_text("FAILED")
    expect(page.get_by_role("status").first).to_contain_text("running: tcg, pid 4712")
    page.evaluate("played.console.text += 'hällo 😀\\r\\nnext'; played.flush([])")
    expect(screen(page)).to_contain_text("~ # hällo 😀\nnext")


def test_frames_that_overlap_are_shown_once(opened: Shower) -> None:
    page = opened("console")
    page.evaluate("played.flush([]); played.flush([])")
    page.evaluate("""() => {
        const from = [...played.console.text].length - 10;
        const text = played.console.text.slice(-10) + 'more';
        played.console.text += 'more';
        played.frame({console: {from, text, alive: true, vm: 'x'}}, []);
    }""")
    expect(screen(page)).to_contain_text("~ # more")
    assert screen(page).inner_text().count("SeaBIOS") == 1


def test_another_boot_begins_a_new_screen(opened: Shower) -> None:
    page = opened("console")
    expect(screen(page)).to_contain_text("SeaBIOS")
    page.evaluate("played.frame({console: {from: 0, text: 'second boot', alive: true, vm: 'y'}}, [])")
    expect(screen(page)).to_have_text("second boot\n")


def test_keys_go_to_the_guest_while_the_screen_has_the_focus(opened: Shower) -> None:
    page = opened("console")
    screen(page).click()
    page.keyboard.type("ls")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+c")
    page.keyboard.press("Enter")
    page.wait_for_function("played.console.text.endsWith('\\r\\n')")
    assert "".join(one["text"] for one in actions(page, "console")) == "ls\t\x03\r"
    page.keyboard.press("Shift+Tab")
    expect(screen(page)).not_to_be_focused()


def test_a_line_is_sent_whole_and_recalled(opened: Shower) -> None:
    page = opened("console")
    line = page.get_by_role("textbox", name="Line for the guest")
    line.fill("lspci -nn")
    line.press("Enter")
    expect(line).to_have_value("")
    expect(screen(page)).to_contain_text("~ # lspci -nn")
    line.press("ArrowUp")
    expect(line).to_have_value("lspci -nn")
    assert actions(page, "console")[0]["text"] == "lspci -nn\r"


def test_the_machine_has_buttons_and_the_hard_ones_ask_twice(opened: Shower) -> None:
    page = opened("console")
    page.get_by_role("button", name="Ask the guest to let the device go").click()
    reset = page.get_by_role("button", name="Reset the machine")
    reset.click()
    expect(reset).to_have_text("Reset: sure?")
    reset.click()
    page.wait_for_function("played.sent.filter((m) => m.action === 'vm').length === 2")
    assert [one["verb"] for one in actions(page, "vm")] == ["unplug", "reset"]
    page.evaluate("played.console.alive = false; played.console.vm = 'not running'; played.flush([])")
    expect(reset).to_be_disabled()
    expect(screen(page)).to_contain_text("SeaBIOS")


def test_the_page_keeps_five_thousand_lines_of_it(opened: Shower) -> None:
    page = opened("console")
    page.evaluate("""() => {
        for (let n = 0; n < 7000; n++) played.console.text += `line ${n}\\r\\n`;
        played.flush([]);
    }""")
    expect(page.locator(".wb-console-line")).to_have_count(5000)
    expect(page.locator(".wb-console-line").first).to_contain_text("line 2001")
    bottom = (
        "() => { const el = document.querySelector('.wb-console-screen');"
        " return el.scrollTop + el.clientHeight >= el.scrollHeight - 4; }"
    )
    page.wait_for_function(bottom)


def test_the_console_is_copied_as_text(opened: Shower) -> None:
    page = opened("console")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.get_by_role("button", name="Copy the whole console").click()
    page.wait_for_function("window.copied")
    assert "[  OK  ] Started workbench guest.\n" in page.evaluate("copied")


# -- for everybody -----------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["log", "timeline", "irq", "hooks", "console"])
def test_axe_finds_nothing_serious(opened: Shower, kind: str, theme: str) -> None:
    page = opened(kind, theme)
    page.evaluate((importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text())
    if kind == "log":
        page.get_by_role("button", name="Show the traceback").last.click()
    if kind == "hooks":
        page.get_by_role("button", name="Compare revisions of bar0.CTRL.on_write").click()
        page.wait_for_selector(".wb-diff-add")
    page.wait_for_function("!document.querySelector('.wb-flash-a, .wb-flash-b')")
    assert page.evaluate(AXE) == []


def test_a_view_that_is_taken_away_asks_for_nothing_more(opened: Shower) -> None:
    for kind in ("log", "timeline", "irq", "hooks", "console"):
        page = opened(kind)
        page.evaluate("unrender()")
        assert page.evaluate("played.sent.at(-1).visible") is False
        page.evaluate("played.visible = true; played.flush([])")
        assert page.locator(".wb-live").count() == 0
