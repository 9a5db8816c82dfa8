"""The hooks' table in a browser: revert, switch off, compare, errors."""

from playwright.sync_api import expect
from views_kit import Shower, actions


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


def test_with_the_keyboard_arrows_pass_over_revisions_and_enter_takes_one(opened: Shower) -> None:
    page = opened("hooks")
    choice = page.get_by_role("row", name="bar0.CTRL.on_write").get_by_role("combobox")
    choice.focus()
    for key in ("ArrowUp", "ArrowUp", "Escape"):
        page.keyboard.press(key)
    expect(choice).to_have_value("3")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    expect(choice).to_have_value("3")
    choice.focus()
    page.keyboard.press("ArrowUp")
    page.evaluate("played.hooks[0].calls = 99999; played.flush([])")
    expect(page.get_by_role("row", name="bar0.CTRL.on_write")).to_contain_text("99,999")
    expect(choice).to_have_value("2")  # still being chosen
    page.keyboard.press("Enter")
    page.wait_for_function("played.sent.some((m) => m.type === 'do')")
    assert [one["revision"] for one in actions(page, "revert")] == [2]


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
