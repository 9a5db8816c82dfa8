"""Interrupt lines in a browser: told in words, fired by hand, repeated."""

from playwright.sync_api import expect
from views_kit import Shower, actions, irq_row

from workbench.views.repeat import FASTEST


def test_lines_are_told_in_words_and_fired_by_hand(opened: Shower) -> None:
    page = opened("irq")
    row = irq_row(page, "MSI-X[1]")
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
    assert irq_row(page, "MSI-X[1]").get_by_role("button", name="Assert").count() == 0


def test_an_interrupt_repeats_at_a_rate(opened: Shower) -> None:
    page = opened("irq")
    row = irq_row(page, "MSI-X[0]")
    rate = row.get_by_role("textbox")
    rate.fill("many")
    expect(rate).to_have_attribute("aria-invalid", "true")
    row.get_by_role("button", name="Repeat").click()
    expect(page.locator(".wb-notice")).to_contain_text("0.1 to 1,000")
    rate.fill(f"{FASTEST + 1}")
    expect(rate).to_have_attribute("aria-invalid", "true")
    rate.fill(f"{FASTEST:g}")
    expect(rate).not_to_have_attribute("aria-invalid", "true")
    rate.fill("250")
    rate.press("Enter")
    row.get_by_role("button", name="Stop repeating").click()
    expect(row.get_by_role("button", name="Repeat")).to_be_visible()
    assert [one["hertz"] for one in actions(page, "repeat")] == [250, 0]


def test_two_thousand_vectors_scroll(opened: Shower) -> None:
    page = opened("irq")
    page.evaluate("""() => {
        const one = played.lines[1];
        played.lines = Array.from({length: 2048}, (_, n) => ({...one, vector: n, name: `MSI-X[${n}]`}));
        played.flush([]);
    }""")
    grid = page.get_by_role("grid", name="Interrupt lines")
    expect(grid).to_have_attribute("aria-rowcount", "2048")
    grid.focus()
    page.keyboard.press("End")
    expect(grid).to_contain_text("MSI-X[2047]")
    assert page.locator(".wb-irq .wb-scroll-row").count() < 60


def test_in_a_narrow_place_all_buttons_are_in_sight(opened: Shower) -> None:
    page = opened("irq")
    page.set_viewport_size({"width": 760, "height": 700})
    grid = page.get_by_role("grid", name="Interrupt lines")
    page.wait_for_function("document.querySelector('.wb-irq').clientWidth < 760")
    assert grid.evaluate("el => el.scrollWidth <= el.clientWidth")
    name = irq_row(page, "MSI-X[1]").get_by_role("gridcell").first
    assert name.evaluate("el => el.scrollWidth <= el.clientWidth")
