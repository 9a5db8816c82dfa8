"""A browser, a JupyterLab and a notebook for the tests; all ends with the last test of this directory."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import chromium
import pytest
from lab import Lab, Notebook
from playwright.sync_api import Browser, sync_playwright

Opener = Callable[..., Notebook]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are browser tests and may take their time."""
    here = Path(__file__).parent
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


@pytest.fixture
def notebook(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """``notebook(cells)`` opens a fresh notebook with these cells, its kernel ready."""
    opened: list[Notebook] = []

    def open_one(cells: Iterable[str], name: str | None = None) -> Notebook:
        name = name or f"{request.node.name.replace('[', '-').replace(']', '')}-{len(opened)}.ipynb"
        opened.append(lab.open(name, cells))
        return opened[-1]

    yield open_one
    failed = getattr(request.node, "wb_failed", False)
    for number, book in enumerate(opened):
        if failed and not book.page.is_closed():
            book.picture(f"failed-{request.node.name}-{number}")
        book.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Tell the fixture of a failed test to keep a picture of the page."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        item.wb_failed = True  # type: ignore[attr-defined]
