"""A picture in a browser: every pixel at its place, pieces in order, sizes, words where there is none."""

import base64
from typing import Any

import numpy as np
from played import show as show_panel
from playwright.sync_api import Browser, Page, expect
from views_kit import Shower, wish

from workbench.views.png import png

RED, CLEAR = [255, 0, 0, 255], [0, 0, 0, 0]


def noise(height: int, width: int, samples: int = 3) -> Any:
    return np.random.default_rng(2).integers(0, 256, (height, width, samples), np.uint8)


def tell(
    page: Page, width: int, height: int, piece: Any = None, left: int = 0, top: int = 0, error: str = ""
) -> None:
    """Send what the kernel would."""
    data = base64.b64encode(png(piece)).decode() if piece is not None else None
    json = {"width": width, "height": height, "error": error, "left": left, "top": top}
    page.evaluate("(image) => { played.image = image; played.flush([]); }", {"json": json, "data": data})


def pixels(page: Page) -> Any:
    """Return what the canvas holds: (height, width, 4). A piece is drawn when its size is told."""
    drawn = page.evaluate("""() => {
        const canvas = document.querySelector(".wb-picture");
        const { width, height } = canvas;
        return { width, height, data: [...canvas.getContext("2d").getImageData(0, 0, width, height).data] };
    }""")
    return np.array(drawn["data"], np.uint8).reshape(drawn["height"], drawn["width"], 4)


def shown(page: Page, width: int, height: int) -> None:
    expect(page.get_by_role("img", name=f"Blinker, {width} × {height} pixels")).to_be_visible()


def test_every_pixel_is_where_it_was(opened: Shower) -> None:
    page = opened("image")
    picture = noise(30, 40)
    tell(page, 40, 30, picture)
    shown(page, 40, 30)
    found = pixels(page)
    assert np.array_equal(found[..., :3], picture)
    assert (found[..., 3] == 255).all()


def test_pieces_are_drawn_over_it_in_the_order_in_which_they_came(opened: Shower) -> None:
    page = opened("image")
    picture = noise(300, 400)
    tell(page, 400, 300, picture)
    for n in range(20):
        piece = np.full((300 - 10 * n, 300 - 10 * n, 3), n, np.uint8)
        tell(page, 400, 300, piece, 5, 7)
        picture[7 : 7 + len(piece), 5 : 5 + len(piece)] = piece[: 300 - 7]
    page.wait_for_function("""() => {
        const context = document.querySelector(".wb-picture").getContext("2d");
        return context.getImageData(5, 7, 1, 1).data[0] === 19;
    }""")
    assert np.array_equal(pixels(page)[..., :3], picture)


def test_grey_and_transparent_pictures(opened: Shower) -> None:
    page = opened("image")
    tell(page, 2, 1, np.array([[[10], [200]]], np.uint8))
    shown(page, 2, 1)
    assert pixels(page)[0, 1].tolist() == [200, 200, 200, 255]
    clear = np.array([[RED, CLEAR]], np.uint8)
    tell(page, 2, 1, clear)
    page.wait_for_function(
        "document.querySelector('.wb-picture').getContext('2d').getImageData(1, 0, 1, 1).data[3] === 0"
    )
    assert pixels(page)[0].tolist() == [RED, CLEAR]


def test_another_size_begins_anew(opened: Shower) -> None:
    page = opened("image")
    tell(page, 8, 8, np.full((8, 8, 3), 255, np.uint8))
    shown(page, 8, 8)
    tell(page, 4, 6, np.zeros((6, 4, 3), np.uint8))
    shown(page, 4, 6)
    assert pixels(page).shape == (6, 4, 4)
    expect(page.locator(".wb-picture-size")).to_have_text("4 × 6")


def test_without_a_picture_there_are_words(opened: Shower) -> None:
    page = opened("image")
    expect(page.get_by_role("status").last).to_have_text("There is no picture yet: it has no pixels.")
    expect(page.locator(".wb-picture")).to_be_hidden()
    expect(page.get_by_role("button", name="Save as PNG")).to_be_disabled()
    tell(page, 2, 2, np.zeros((2, 2, 3), np.uint8))
    shown(page, 2, 2)
    expect(page.locator(".wb-picture-said")).to_be_hidden()
    tell(page, 2, 2, error="RuntimeError: no signal")
    expect(page.locator(".wb-picture-said")).to_have_text("✕ RuntimeError: no signal")
    shown(page, 2, 2)  # the last one stays


def test_its_size_is_chosen_by_keyboard_and_large_ones_scroll(opened: Shower) -> None:
    page = opened("image")
    tell(page, 1600, 400, noise(400, 1600))
    shown(page, 1600, 400)
    canvas, frame = page.locator(".wb-picture"), page.get_by_role("group", name="Picture of Blinker")
    width = "(el) => Math.round(el.getBoundingClientRect().width)"
    assert canvas.evaluate(width) == frame.evaluate("(el) => el.clientWidth - 16")
    page.get_by_role("radio", name="fit").focus()
    page.keyboard.press("ArrowRight")
    assert canvas.evaluate(width) == 1600
    page.keyboard.press("ArrowRight")
    assert canvas.evaluate(width) == 3200
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Save as PNG")).to_be_focused()
    page.keyboard.press("Tab")
    expect(frame).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.wb-picture-frame').scrollLeft > 0")


def test_it_is_saved_as_a_file(opened: Shower) -> None:
    page = opened("image", options={"title": "My screen"})
    picture = noise(5, 6)
    tell(page, 6, 5, picture)
    expect(page.get_by_role("img", name="My screen, 6 × 5 pixels")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as PNG").click()
    assert download.value.suggested_filename == "My screen.png"
    with open(download.value.path(), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_the_wish_names_the_source(opened: Shower) -> None:
    assert wish(opened("image", options={"source": "half"}), "image") == {"source": "half"}
    assert wish(opened("image"), "image") == {"source": ""}


def test_the_panel_has_a_screen_for_a_device_with_a_picture_alone(browser: Browser) -> None:
    page = browser.new_page()
    try:
        show_panel(page)
        tab = page.get_by_role("tab", name="Screen")
        expect(tab).to_be_hidden()
        page.get_by_role("tab", name="Memory").click()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Interrupts")).to_have_attribute("aria-selected", "true")
        layout = "played.set('device_layout', {...played.layout, version: %d, image: %s})"
        page.evaluate(layout % (2, "true"))
        expect(tab).to_be_visible()
        page.keyboard.press("ArrowLeft")
        expect(tab).to_be_focused()
        page.wait_for_function("'image' in played.feeds")
        page.evaluate(layout % (3, "false"))
        expect(tab).to_be_hidden()
        expect(page.get_by_role("tab", name="Registers")).to_have_attribute("aria-selected", "true")
        page.wait_for_function("!('image' in played.feeds)")
    finally:
        page.close()
