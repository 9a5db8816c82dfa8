"""For everybody: no serious finding of axe-core, everything by keyboard, both themes."""

import importlib.resources

import pytest
from panel import Panel
from playwright.sync_api import expect
from test_panel import DEVICE, SHOW

TABS = ("Registers", "Memory", "Interrupts", "DMA", "Log", "Timeline", "Hooks", "Console")


@pytest.fixture
def panel(notebook):
    book = notebook(DEVICE, SHOW)
    book.run(0)
    book.ask("for n in range(40): guest.bar0.write32(0, n); guest.bar0.read32(8); dev.irq.trigger()")
    book.ask("guest.bar0.read32(0x800)")
    book.run(1)
    return Panel(book).wait()


def violations(page):
    """Return what axe-core calls serious or critical inside live views."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate((importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text())
    result = page.evaluate("async () => await axe.run('.wb-live', { resultTypes: ['violations'] })")
    return [
        f"{rule['id']}: {node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}"
        for rule in result["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_every_tab_is_accessible_in_both_themes(panel, theme):
    panel.book.theme(theme)
    found = []
    try:
        for tab in TABS:
            panel.tab(tab)
            panel.page.wait_for_timeout(250)  # for the picture: two flushes and the fading of what changed
            panel.book.picture(f"panel-{tab.lower()}-{theme.lower()}")
            found += [f"{tab}: {text}" for text in violations(panel.page)]
    finally:
        panel.book.theme("Light")
    assert found == []


def test_everything_is_reached_by_keyboard(panel):
    keys = panel.page.keyboard
    panel.root.get_by_role("tab", name="Registers").focus()
    for tab in TABS[1:]:
        keys.press("ArrowRight")
        expect(panel.root.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
    keys.press("Home")
    expect(panel.root.get_by_role("tab", name="Registers")).to_be_focused()
    grid = panel.root.get_by_role("grid", name="Registers")
    for _ in range(12):
        keys.press("Tab")
        if grid.evaluate("grid => grid === document.activeElement"):
            break
    expect(grid).to_be_focused()
    keys.press("ArrowDown")
    keys.press("Enter")  # into the row's first control
    inside = "document.activeElement.closest('.wb-reg-register')?.querySelector('.wb-regname').textContent"
    assert panel.page.evaluate(inside) == "CTRL"
    for _ in range(6):
        if panel.page.evaluate("document.activeElement.classList.contains('wb-val')"):
            break
        keys.press("ArrowRight")
    keys.press("Enter")
    keys.type("0x55")
    keys.press("Enter")
    panel.expect_value("CTRL", 0x55)
    # The notebook took none of these keys as its own command.
    assert panel.page.evaluate("wb.panel().content.widgets.length") == 2
