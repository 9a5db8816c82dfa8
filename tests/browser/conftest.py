"""A browser, a JupyterLab and a notebook for the tests; all ends with the last test of this directory."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from lab import PATIENCE, Lab, Notebook
from playwright.sync_api import Browser, Page, expect, sync_playwright
from views_kit import Shower, show

Opener = Callable[..., Notebook]
expect.set_options(timeout=PATIENCE * 1000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are browser tests and may take their time; those with a JupyterLab come first."""
    here = Path(__file__).parent

    def quick(item: pytest.Item) -> bool:
        return here in item.path.parents and "lab" not in getattr(item, "fixturenames", ())

    items.sort(key=quick)
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(120))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium without a window, fetched into the cache if this machine has none."""
    if chromium.find() is None and shutil.which("apt-get") is None:
        pytest.skip("no chromium on PATH, and without apt none can be fetched")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.fetch(), args=list(chromium.FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab server on an empty directory."""
    server = Lab(tmp_path_factory.mktemp("lab"), browser)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def notebook(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """``notebook(*cells)`` opens a notebook, its kernel ready; for the same cells the same again, cleared.

    Opening takes four seconds, so the tests of a file share it: their first cell must make all anew.
    """
    opened: dict[tuple[str, ...], Notebook] = {}

    def open_one(*cells: str) -> Notebook:
        if cells not in opened:
            opened[cells] = lab.open(f"{request.module.__name__}-{len(opened)}.ipynb", cells)
        book = opened[cells]
        book.page.bring_to_front()
        book.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        book.page.evaluate("() => sessionStorage.clear()")  # where the panel keeps its open tab
        book.errors.clear()
        lab.current = book
        return book

    yield open_one
    for book in opened.values():
        book.close()


@pytest.fixture(scope="module")
def shared(browser: Browser) -> Iterator[Page]:
    """A page whose view objects are called directly."""
    page = browser.new_page()
    show(page, kind="irq")
    yield page
    page.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Shower]:
    """``opened(kind, ...)`` shows one view on a page of its own; an error on the page fails the test."""
    pages: list[Page] = []
    errors: list[str] = []

    def open_one(kind: str, theme: str = "light", **wish: Any) -> Page:
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        show(page, theme, kind=kind, **wish)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert errors == []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep a picture of the page of a failed test."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    server = getattr(item, "funcargs", {}).get("lab")
    if report.failed and server is not None and server.current is not None:
        server.current.picture(f"failed-{item.name}")
