"""Pictures in views: as PNG, in the feed, as a static card; who makes them, and what if that fails."""

import base64
import gc
import io
import re
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from view_kit import Page, page_on

import workbench as wb
from workbench.views.fallback import LARGEST, static_html, static_text
from workbench.views.feeds import FEEDS, Source
from workbench.views.history import History
from workbench.views.pictures import as_picture, picture_from
from workbench.views.png import png, small_png
from workbench.views.table import RegisterTable


def decoded(data: bytes) -> Any:
    return np.rint(imread(io.BytesIO(data)) * 255).astype(np.uint8)


def noise(*shape: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


class Panel(wb.Device):
    """A device with a picture."""

    id = wb.PciId(vendor=0x1234, device=0x0B21)

    class bar0(wb.Bar, size=4096, mmap=True):
        """32 × 32 pixels."""

    def image(self) -> Any:
        return self.bar0.picture(32, 32)


@pytest.fixture
def panel() -> Iterator[Panel]:
    with Panel() as panel:
        yield panel


@pytest.fixture
def page(panel: Panel) -> Iterator[Page]:
    with page_on(panel) as page:
        yield page


def seen(page: Page) -> tuple[Any, ...]:
    """Return the last piece: left, top, and its pixels."""
    feed = page.feeds["image"]
    return feed["left"], feed["top"], decoded(feed["bytes"])


# -- PNG --


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (5, 7, 4), (30, 40, 1)])
@pytest.mark.parametrize("level", [1, 9])
def test_a_png_has_every_pixel(shape, level):
    picture = noise(*shape)
    assert np.array_equal(decoded(png(picture, level)), picture.squeeze(2) if shape[2] == 1 else picture)


def test_a_png_that_is_too_large_gets_fewer_pixels():
    picture = noise(200, 300, 3)
    data, every = small_png(picture, 30_000)
    assert every == 4
    assert len(data) <= 30_000
    assert np.array_equal(decoded(data), picture[::4, ::4])
    assert small_png(picture[:1, :1], 10) == (png(picture[:1, :1], 9), 1)  # no picture is smaller than that


def test_grey_pictures_and_bits_are_pictures():
    grey = np.zeros((2, 3), np.uint8)
    assert as_picture(grey).shape == (2, 3, 1)
    assert as_picture(np.eye(2, dtype=bool))[..., 0].tolist() == [[255, 0], [0, 255]]
    assert as_picture([[True]]).tolist() == [[[255]]]


@pytest.mark.parametrize(
    "given", [None, 7, "text", np.zeros(3, np.uint8), np.zeros((2, 2, 3)), np.zeros((2, 2, 2), np.uint8)]
)
def test_what_is_no_picture_is_told_so(given):
    with pytest.raises(ValueError, match="no picture: expected"):
        as_picture(given)


def test_a_picture_of_absurd_size_is_refused():
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1 << 20, 1 << 20, 3))
    with pytest.raises(ValueError, match="too large"):
        as_picture(huge)


# -- the feed --


def test_the_picture_comes_whole_and_then_what_changed(panel, page):
    panel.bar0.memory[:] = noise(4096)
    page.look(image={"source": ""})
    page.wait(lambda: "image" in page.feeds)
    first = page.feeds["image"]
    assert (first["width"], first["height"], first["error"]) == (32, 32, "")
    left, top, piece = seen(page)
    assert (left, top) == (0, 0)
    assert np.array_equal(piece, panel.image())
    panel.bar0.array("<u4").reshape(32, 32)[10:12, 20:25] ^= 0xFF00FF
    page.wait(lambda: page.feeds["image"]["top"] == 10)
    left, top, piece = seen(page)
    assert (left, top) == (20, 10)
    assert np.array_equal(piece, panel.image()[10:12, 20:25])


def test_nothing_is_sent_while_nothing_changes_or_nobody_looks(panel, page):
    calls = []
    type(panel).image, image = lambda self: (calls.append(1), image(self))[1], type(panel).image
    try:
        page.look(image={"source": ""})
        page.wait(lambda: page.frames)
        count, looked = len(page.frames), len(calls)
        page.look(image={"source": ""}, visible=False)
        page.do("pause")  # what comes after the wish was heard
        looked = len(calls)
        panel.bar0.memory[:] = 7
        page.do("resume")
        page.do("resume")
        assert (len(page.frames), len(calls)) == (count, looked)
        page.look(image={"source": ""})
        page.wait(lambda: len(page.frames) > count)
        assert (seen(page)[2] == 7).all()
    finally:
        type(panel).image = image


def test_the_picture_is_not_sent_again_when_it_is_the_same(panel):
    table, feed = RegisterTable(panel), FEEDS["image"]({"source": ""})
    source = Source(panel, table, History(table), 1.0)
    assert feed.poll(source).buffers
    assert feed.poll(source) is None
    panel.bar0.memory[0] ^= 1
    assert feed.poll(source).json["left"] == 0
    assert feed.poll(source) is None


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (4, 4), (1, 1, 4)])
def test_pictures_of_any_shape_are_compared(panel, shape):
    picture = np.zeros(shape, np.uint8)
    panel.view_image(picture, title="it")
    table, feed = RegisterTable(panel), FEEDS["image"]({"source": "it"})
    source = Source(panel, table, History(table), 1.0)
    assert feed.poll(source).json["height"] == shape[0]
    assert feed.poll(source) is None
    if picture.size:
        picture[-1, -1, ...] = 9
        found = feed.poll(source)
        assert (found.json["left"], found.json["top"]) == (shape[1] - 1, shape[0] - 1)
        assert (decoded(found.buffers[0]) == 9).all()


def test_an_error_of_the_function_is_told_and_the_picture_stays(panel, page):
    page.look(image={"source": ""})
    page.wait(lambda: "image" in page.feeds)

    class Panel(wb.Device):
        """Another one."""

        id = wb.PciId(vendor=0x1234, device=0x0B21)

        class bar0(wb.Bar, size=4096, mmap=True):
            """32 × 32 pixels."""

        def image(self) -> Any:
            raise RuntimeError("no signal")

    panel.swap(Panel)
    page.wait(lambda: page.feeds["image"]["error"])
    last = page.feeds["image"]
    assert last["error"] == "RuntimeError: no signal"
    assert (last["width"], last["height"], "buffer" in last) == (32, 32, False)
    assert page.hub.problems == {}


def test_the_layout_says_whether_there_is_a_picture(panel, page, device):
    assert page.layout["image"] is True
    with page_on(device) as other:
        assert other.layout["image"] is False
        device.image = lambda: np.zeros((2, 2), np.uint8)
        other.look(state={})
        other.wait(lambda: other.layout["image"])


# -- what a person gives --


def source_of(panel: Panel) -> list[str]:
    return list(panel._core.pictures)


@pytest.mark.slow
def test_any_function_or_array_can_be_shown(panel, page):
    array = np.zeros((4, 6), np.uint8)
    panel.view_image(array, title="mine")
    panel.view_image(lambda: array[:2] + 1, title="half")
    assert source_of(panel) == ["mine", "half"]
    page.look(image={"source": "mine"})
    page.wait(lambda: page.feeds.get("image", {}).get("height") == 4)
    array[3, 5] = 200
    page.wait(lambda: page.feeds["image"].get("top") == 3)
    assert seen(page)[2].tolist() == [[200]]
    page.look(image={"source": "half"})
    page.wait(lambda: page.feeds["image"]["height"] == 2)
    assert (seen(page)[2] == 1).all()


def test_a_function_that_is_defined_again_is_used(panel):
    panel.view_image(lambda: [[True]], title="one")
    panel.view_image(lambda: [[False]], title="one")
    assert picture_from(panel, "one").tolist() == [[[0]]]


def test_what_cannot_be_shown_is_told_at_once(device, panel):
    with pytest.raises(wb.StateError, match=r"has no method image\(\): give view_image\(\) a function"):
        device.view_image()
    with pytest.raises(ValueError, match="no picture"):
        panel.view_image(7)
    with pytest.raises(wb.StateError, match="nothing makes the picture 'x' any more"):
        picture_from(panel, "x")
    assert "no method image()" in static_text(device, "image", {})


def test_a_view_of_a_picture_keeps_no_device_alive():
    def show() -> "weakref.ref[Panel]":
        with Panel() as panel:
            panel.view_image(panel.image)
            panel.view_image(lambda: panel.image(), title="its own")
            return weakref.ref(panel)

    gone = show()
    gc.collect()
    assert gone() is None


# -- without a browser --


def test_the_static_picture_is_an_img_with_words(panel):
    panel.bar0.memory[:] = noise(4096)
    bundle = panel.view_image(title="<screen>")._repr_mimebundle_()[0]
    assert bundle["text/plain"] == "<picture of 32 × 32 pixels>"
    html = bundle["text/html"]
    assert 'alt="&lt;screen&gt;: picture of 32 × 32 pixels"' in html
    data = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", html)[1])
    assert np.array_equal(decoded(data), panel.image())


def test_the_static_picture_stays_small(panel):
    panel.view_image(lambda: noise(300, 400, 3), title="noise")
    html = static_html(panel, "image", {"source": "noise"})
    assert len(html) <= LARGEST + 3000  # and the style
    assert "every 4th of them" in html


def test_what_is_no_picture_is_words_without_a_browser(panel):
    panel.view_image(lambda: 1 / 0, title="bad")
    assert static_text(panel, "image", {"source": "bad"}).startswith("<no picture: ZeroDivisionError")
    assert "<img" not in static_html(panel, "image", {"source": "bad"})
    panel.view_image(lambda: np.zeros((0, 4), np.uint8), title="none")
    assert static_text(panel, "image", {"source": "none"}) == "<a picture without pixels>"
