"""The hooks' view with a real device: revert, switch off, compare, and whose error is shown."""

import pytest
from panel import Panel
from playwright.sync_api import expect
from test_look import violations
from test_panel import DEVICE, SHOW

KEY = "bar0.CTRL.on_write"


@pytest.fixture
def panel(notebook):
    """A panel whose hook has three revisions: switch of the class, one that raises, one that counts."""
    book = notebook(DEVICE, SHOW)
    book.run(0, 1)
    shown = Panel(book).wait()
    book.ask("@dev.bar0.CTRL.on_write\ndef broken(dev, access):\n    raise ValueError('no such lamp')")
    book.ask("guest.bar0.write32(0, 1); guest.bar0.read32(0)")
    shown.tab("Hooks")
    return shown


def row(panel):
    return panel.root.get_by_role("row").filter(has_text=KEY)


def revision(panel):
    return row(panel).get_by_role("combobox", name=f"Revision of {KEY}")


def count_up(panel):
    panel.book.ask("@dev.bar0.CTRL.on_write\ndef count(dev, access):\n    dev.bar0.COUNT += 2")
    expect(row(panel)).to_contain_text("count")


def test_an_error_is_shown_beside_its_own_revision_only(panel):
    expect(revision(panel)).to_have_value("2")
    expect(row(panel)).to_contain_text("ValueError: no such lamp (1x)")
    row(panel).get_by_role("button", name="! ValueError").click()
    expect(panel.root.get_by_label(f"Traceback of {KEY}")).to_contain_text("no such lamp")
    count_up(panel)
    panel.book.ask("guest.bar0.write32(0, 0); guest.bar0.read32(0)")
    expect(revision(panel)).to_have_value("3")
    expect(row(panel)).not_to_contain_text("ValueError")
    expect(panel.root.get_by_label(f"Traceback of {KEY}")).to_have_count(0)
    expect(panel.root.locator(".wb-banner")).to_contain_text(f"{KEY} rev 2 raised ValueError")
    panel.book.ask("@dev.bar0.CTRL.on_write\ndef other(dev, access):\n    raise KeyError('lamp 2')")
    panel.book.ask("guest.bar0.write32(0, 1); guest.bar0.read32(0)")
    expect(row(panel)).to_contain_text("KeyError: 'lamp 2' (1x)")


def test_the_log_shows_each_revisions_own_traceback(panel):
    panel.book.ask("@dev.bar0.CTRL.on_write\ndef other(dev, access):\n    raise KeyError('lamp 2')")
    panel.book.ask("guest.bar0.write32(0, 3); guest.bar0.read32(0)")
    panel.tab("Log")
    buttons = panel.root.get_by_role("button", name="Show the traceback")
    expect(buttons).to_have_count(2)
    buttons.first.click()
    expect(panel.root).to_contain_text("ValueError: no such lamp")
    expect(panel.root.locator(".wb-tabpanel:visible")).not_to_contain_text("KeyError: 'lamp 2'")


def test_revert_puts_an_earlier_function_in_force_as_a_new_revision(panel):
    count_up(panel)
    revision(panel).select_option("rev 1")
    expect(row(panel)).to_contain_text("switch")
    expect(revision(panel)).to_have_value("4")
    panel.book.ask("guest.bar0.write32(0, 1); guest.bar0.read32(0)")
    assert panel.book.ask("print(int(dev.bar0.STATUS.LIT), int(dev.bar0.COUNT))") == "1 1\n"
    expect(row(panel).get_by_role("cell").nth(4)).to_have_text("1")  # calls of this revision


def test_a_disabled_hook_lets_c_answer_until_it_is_enabled(panel):
    count_up(panel)
    row(panel).get_by_role("button", name=f"Disable {KEY}").click()
    expect(row(panel)).to_contain_text("count (disabled)")
    panel.book.ask("guest.bar0.write32(0, 1); guest.bar0.read32(0)")
    assert panel.book.ask("print(int(dev.bar0.COUNT))") == "0\n"
    row(panel).get_by_role("button", name=f"Enable {KEY}").click()
    expect(row(panel)).not_to_contain_text("disabled")
    panel.book.ask("guest.bar0.write32(0, 1); guest.bar0.read32(0)")
    assert panel.book.ask("print(int(dev.bar0.COUNT))") == "2\n"


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_two_revisions_are_compared(panel, theme):
    count_up(panel)
    panel.book.theme(theme)
    try:
        row(panel).get_by_role("button", name=f"Compare revisions of {KEY}").click()
        expect(panel.root.locator(".wb-diff-del").last).to_have_text("-    raise ValueError('no such lamp')")
        expect(panel.root.locator(".wb-diff-add").last).to_have_text("+    dev.bar0.COUNT += 2")
        panel.root.get_by_label("Old revision").select_option("rev 1")
        gone = panel.root.locator(".wb-diff-del").filter(has_text="switch(self, access)")
        expect(gone).to_have_count(1)
        panel.book.picture(f"hooks-diff-{theme.lower()}")
        assert violations(panel.page) == []
    finally:
        panel.book.theme("Light")
