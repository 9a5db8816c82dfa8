"""A live view in a page, seen as a person sees it: by names, roles and what stands there."""

import re
from typing import Any

from lab import PATIENCE, Notebook
from playwright.sync_api import Error, Locator, Page, expect

READY = "document.querySelector('.wb-live .wb-val')?.textContent.startsWith('0x')"


class Panel:
    """The ``n``-th live view of a notebook's page."""

    def __init__(self, book: Notebook, n: int = 0, page: Page | None = None) -> None:
        self.book, self.page = book, page or book.page
        self.root = self.page.locator(".wb-live").nth(n)

    def wait(self) -> "Panel":
        """Wait until the values are there; says what stands there instead."""
        try:
            self.page.wait_for_function(READY, timeout=PATIENCE * 1000)
        except Error as late:
            outputs = self.page.locator(".jp-OutputArea-output").all_inner_texts()
            state = self.page.evaluate("[document.visibilityState, wb.kernel()?.status]")
            raise AssertionError(f"no values in the panel: {outputs}, {state}, {self.book.errors}") from late
        return self

    def button(self, name: str | re.Pattern[str], exact: bool = False) -> Locator:
        """Return a button by what a screen reader calls it."""
        return self.root.get_by_role("button", name=name, exact=exact)

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.root.get_by_role("tab", name=name).click()

    def row(self, name: str) -> Locator:
        """Return the row of a register by its short name."""
        return self.root.locator(".wb-reg-register").filter(
            has=self.page.locator(".wb-regname", has_text=re.compile(f"^{re.escape(name)}$"))
        )

    def value(self, name: str) -> int:
        """Return the value shown for a register."""
        return int(self.row(name).locator(".wb-val").inner_text(), 0)

    def expect_value(self, name: str, value: int, seconds: float = PATIENCE) -> None:
        """Wait until a register shows ``value``."""
        cell = self.row(name).locator(".wb-val")
        expect(cell).to_have_text(re.compile(f"^0x0*{value:x}$"), timeout=seconds * 1000)

    def counts(self, name: str) -> list[str]:
        """Return the reads and writes shown for a register."""
        return self.row(name).locator(".wb-count").all_inner_texts()

    def poke(self, name: str, text: str) -> None:
        """Click a register's value and type another."""
        self.row(name).locator(".wb-val").click()
        self._type(f"Poke {name}", text)

    def write(self, name: str, text: str) -> None:
        """Write as the guest would, through the control that says so."""
        self.row(name).get_by_role("button", name=re.compile("as the guest would")).click()
        self._type(f"Write {name} as the guest would", text)

    def chip(self, name: str, field: str) -> Locator:
        """Return the chip of a field."""
        return self.row(name).locator(".wb-chip").filter(has_text=re.compile(f"^{field}="))

    def set_field(self, name: str, field: str, text: str) -> None:
        """Click a field's chip and choose or type a value."""
        self.chip(name, field).click()
        self._type(f"Poke {name}.{field}", text)

    def _type(self, label: str, text: str) -> None:
        editor = self.root.get_by_role("group", name=label, exact=True)
        control = editor.locator("input, select")
        if control.evaluate("el => el.tagName") == "SELECT":
            number = "(el, text) => [...el.options].find(o => o.text.startsWith(text + ' (')).value"
            control.select_option(value=control.evaluate(number, text))
        else:
            control.fill(text)
        control.press("Enter")

    def trips(self, selector: str, count: int) -> list[float]:
        """Click a button ``count`` times; return the milliseconds until the kernel's answers came."""
        self.page.wait_for_selector(selector)  # a tab that was just opened is still empty
        found: list[Any] = self.page.evaluate(
            "async ([selector, count]) => { const times = [];"
            " for (let n = 0; n < count; n++) times.push(await wb.trip(selector)); return times; }",
            [selector, count],
        )
        return [float(time) for time in found]
