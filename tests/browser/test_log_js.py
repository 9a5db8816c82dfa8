"""The access log in a browser: live rows, history, filters, tracebacks, copies."""

import pytest
from playwright.sync_api import Locator, Page, expect
from views_kit import Shower, actions, irq_row, settled, wish

from workbench.records import Names
from workbench.views import query


def test_quick_buttons_and_text_become_one_expression(shared: Page) -> None:
    script = "([text, pressed]) => parts.logView.expression(text, new Set(pressed))"
    assert shared.evaluate(script, ["", []]) == ""
    assert shared.evaluate(script, ["value & 1", []]) == "value & 1"
    both = shared.evaluate(script, ["reg == A", ["reads", "writes", "guest"]])
    assert both == "(kind == read || kind == write) && (origin == guest) && (reg == A)"


def test_every_quick_button_is_understood_by_the_kernel(shared: Page) -> None:

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


def test_a_time_keeps_its_nanoseconds_as_long_as_its_column_holds_them(shared: Page) -> None:
    said = shared.evaluate(
        "([...all]) => all.map(parts.msText)", [0, 1.5, 110355.514134, 36e5 + 1 / 3, 864e5]
    )
    assert said == ["0.000000", "1.500000", "110355.514134", "3600000.33333", "86400000.0000"]
    assert {len(text) for text in said[2:]} == {13}


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
    expect(page.get_by_role("grid", name="Access log")).to_contain_text(newest_ms(page))
    page.get_by_role("button", name="Pause").click()
    page.wait_for_function("played.feeds.log.paused")
    before = page.locator(".wb-log .wb-scroll-space").inner_text()
    page.evaluate("played.dropped = 7; played.records.push(...playedRecords(5, 3000)); played.flush([])")
    expect(page.locator(".wb-log-foot")).to_contain_text("! 7 dropped")
    assert page.locator(".wb-log .wb-scroll-space").inner_text() == before
    page.get_by_role("button", name="Live").click()
    expect(page.get_by_role("grid", name="Access log")).to_contain_text(newest_ms(page))


def test_a_log_held_and_let_go_within_one_wish_goes_on(opened: Shower) -> None:
    page = opened("log")
    grid = page.get_by_role("grid", name="Access log")
    expect(grid).to_contain_text(newest_ms(page))
    page.evaluate("""() => {
        const hold = document.querySelector(".wb-bar .wb-btn[aria-pressed]");
        hold.click();
        played.records.push(...playedRecords(5, 3000));
        played.flush([]);
        hold.click();
    }""")
    expect(grid).to_contain_text(newest_ms(page))


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
    rate = irq_row(page, "MSI-X[0]").get_by_role("textbox")
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


@pytest.mark.alone
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
