"""What holds for every view in a browser: nothing that axe calls serious, and an end."""

import importlib.resources

import pytest
from views_kit import Shower

AXE = """async () => (await axe.run('.wb-live')).violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map((v) => `${v.id}: ${v.nodes[0].html}`)"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["log", "timeline", "irq", "dma", "hooks", "console", "image"])
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
    for kind in ("log", "timeline", "irq", "dma", "hooks", "console", "image"):
        page = opened(kind)
        page.evaluate("unrender()")
        assert page.evaluate("played.sent.at(-1).visible") is False
        page.evaluate("played.visible = true; played.flush([])")
        assert page.locator(".wb-live").count() == 0


def test_a_view_that_is_taken_away_acknowledges_nothing_more(opened: Shower) -> None:
    page = opened("irq")
    page.evaluate("""async () => {
        const frame = new Promise((asked) => { window.requestAnimationFrame = asked; });
        played.frame({}, []);
        const draw = await frame; // it is about to acknowledge
        unrender();
        draw();
        await new Promise((done) => setTimeout(done, 10));
    }""")
    assert page.evaluate("played.sent.at(-1)") == {"type": "want", "visible": False, "feeds": {}}
