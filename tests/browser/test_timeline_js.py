"""The timeline in a browser: its scale, marks, zoom, cursors."""

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from views_kit import Shower, settled, show, wish

from workbench.records import KINDS
from workbench.views.timeline import STYLES


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


def stage(page: Page) -> Locator:
    return page.get_by_role("application")


def span(page: Page) -> float:
    result: float = page.evaluate("timeline.window.to - timeline.window.from")
    return result


def test_the_timeline_says_in_words_what_it_shows(opened: Shower) -> None:
    page = opened("timeline", records=1000)
    expect(stage(page)).to_have_attribute("aria-label", re.compile("9 lanes, .* 1000 marks, following"))
    table = page.locator(".wb-hidden table")
    expect(table.get_by_role("rowheader", name="bar0.CTRL")).to_have_count(1)
    counts = [int(text) for text in table.locator("td").all_text_contents()]
    assert sum(counts) == 1000


@pytest.mark.alone
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
    tip = page.locator(".wb-timeline-tip")
    expect(tip).to_contain_text(re.compile(r"bar0\.\w+: ■ write 0x"))
    page.evaluate("played.flush([])")
    settled(page)
    expect(tip).to_be_visible()  # what is there still, is told still
    page.evaluate("played.records = []; played.flush([])")
    expect(tip).to_be_hidden()


def test_the_canvas_is_as_sharp_as_the_screen(browser: Browser) -> None:
    page = browser.new_page(device_scale_factor=2)
    show(page, kind="timeline", records=100)
    page.wait_for_function("timeline.drawn > 0")
    width, shown = page.evaluate("[timeline.canvas.base.width, timeline.canvas.base.clientWidth]")
    page.close()
    assert width == 2 * shown


def test_room_that_lanes_need_no_more_goes_after_a_while(opened: Shower) -> None:
    page = opened("timeline")
    rooms = page.evaluate("""() => {
        const {canvas} = timeline;
        const lanes = (many) => Array.from({length: many}, () => "one");
        const late = canvas.constructor.ROOM_MS;
        const rooms = [20, 4, 6].map((many) => (canvas.fit(lanes(many)), canvas.most));
        canvas.constructor.ROOM_MS = -1;
        for (const many of [4, 1]) rooms.push((canvas.fit(lanes(many)), canvas.most));
        canvas.constructor.ROOM_MS = late;
        return rooms;
    }""")
    assert rooms == [20, 20, 20, 6, 3]
