"""One view of the widget on a page of its own, with a kernel played by play2.js."""

import json
from collections.abc import Callable
from typing import Any

import played
from playwright.sync_api import Locator, Page

Shower = Callable[..., Page]
PARTS = (
    "logView, timelineView, irqView, dmaView, hooksView, consoleView, terminal, timeScale, recordMarks, "
    "msText"
)
#: What the module keeps to itself, for the tests; and the last timeline that was mounted.
EXPOSED = f"""
globalThis.parts = {{ {PARTS} }};
const mountTimeline = timelineView.mount;
timelineView.mount = (...args) => (globalThis.timeline = mountTimeline(...args));
"""


def show(page: Page, theme: str = "light", **wish: Any) -> None:
    page.goto((played.HERE / "play.html").as_uri())
    page.add_style_tag(content=played.joined(played.STYLES))
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


def settled(page: Page) -> None:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def irq_row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
