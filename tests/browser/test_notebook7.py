"""The panel in a real Notebook 7: it shows, an edit is a poke, a reload brings the state back."""

import pytest
from lab import Lab
from panel import Panel
from test_panel import DEVICE, SHOW


class Notebook7(Lab):
    """A Jupyter server whose page for a notebook is Notebook 7's."""

    app, page = "notebook", "notebooks/{name}"


@pytest.fixture(scope="module")
def book(browser, tmp_path_factory):
    server = Notebook7(tmp_path_factory.mktemp("notebook7"), browser)
    book = server.open("panel.ipynb", [DEVICE, SHOW])
    book.page.wait_for_load_state("networkidle")
    book.errors.clear()  # Notebook's own, while it looks for settings of JupyterLab
    yield book
    book.close()
    server.stop()


@pytest.fixture
def panel(book):
    book.run(0, 1)
    return Panel(book).wait()


def test_it_is_notebook_7(book):
    assert book.page.evaluate("window.jupyterapp.name") == "Jupyter Notebook"
    assert book.page.evaluate("window.jupyterapp.version").startswith("7.")


def test_the_panel_shows_and_follows_the_guest(panel):
    panel.book.ask("guest.bar0.write32(0, 0x1201)")
    panel.expect_value("CTRL", 0x1201)
    panel.expect_value("STATUS", 1)
    assert panel.book.foreign == []
    assert panel.book.errors == []
    panel.book.show(1)
    panel.book.picture("notebook7-panel")


def test_an_edit_is_a_poke(panel):
    panel.set_field("CTRL", "PERIOD", "0x64")
    panel.expect_value("CTRL", 0x6400)
    assert panel.book.ask("print(hex(guest.bar0.read32(0)), int(dev.bar0.COUNT))") == "0x6400 0\n"
    panel.write("CTRL", "1")
    panel.expect_value("COUNT", 1)


def test_a_reload_brings_the_state_back(panel):
    panel.book.ask("guest.bar0.write32(0, 0x3301)")
    panel.expect_value("CTRL", 0x3301)
    panel.book.save()
    panel.book.visit()
    panel.wait().expect_value("CTRL", 0x3301)
    panel.set_field("CTRL", "ENABLE", "OFF")
    panel.expect_value("CTRL", 0x3300)
