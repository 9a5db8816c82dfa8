"""The live views' JavaScript on a page of its own, with a kernel played by play.js."""

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from workbench.views.widget import SCRIPTS, STYLES, joined

HERE = Path(__file__).parent

_START = """async ([source, wish, theme]) => {
    if (theme) document.body.dataset.jpThemeLight = String(theme === "light");
    const url = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
    const {default: widget} = await import(url);
    const el = document.createElement("div");
    document.querySelector("#views").append(el);
    window.played = new PlayedKernel(wish);
    window.widget = widget;
    window.unrender = widget.render({model: played, el});
}"""


def module() -> str:
    """The one ES module that the widget ships."""
    return joined(SCRIPTS)


def show(page: Page, theme: str | None = "light", **wish: Any) -> None:
    """Render one view: ``kind``, ``registers`` (how many), ``options``; ``theme`` as JupyterLab says it."""
    page.goto((HERE / "play.html").as_uri())
    page.add_style_tag(content=joined(STYLES))
    page.add_script_tag(content=(HERE / "play.js").read_text() + "\nwindow.PlayedKernel = PlayedKernel;")
    page.evaluate(_START, [module(), json.loads(json.dumps(wish)), theme])
    page.wait_for_selector(".wb-live")
