"""A picture in a notebook: it follows the guest, alone and in the panel, and rests out of sight."""

import pytest
from lab import until
from panel import Panel
from playwright.sync_api import expect

DEVICE = (
    "import workbench as wb\n"
    "from workbench.devices.framebuffer import Framebuffer\n"
    "if 'dev' in globals(): guest.disconnect(); dev.close()\n"
    "dev = Framebuffer()\n"
    "looks = []\n"
    "guest = dev.connect()\n"
    "memory = guest.bar0.mmap()\n"
    "def mode(width, height):\n"
    "    guest.bar2.write8(0x400, 0x20)\n"
    "    for at, value in ((0x508, 0), (0x506, 32), (0x502, width), (0x504, height), (0x508, 0x41)):\n"
    "        guest.bar2.write16(at, value)\n"
    "def seen():\n"
    "    looks.append(1)\n"
    "    return dev.image()"
)
AT = """({ top, left }) => {
    const canvas = [...document.querySelectorAll(".wb-picture")].find((one) => one.checkVisibility());
    return canvas && [...canvas.getContext("2d").getImageData(left, top, 1, 1).data];
}"""


@pytest.fixture
def book(notebook):
    book = notebook(DEVICE, "dev.view_image(seen, title='seen')", "dev")
    book.run(0)
    return book


def expect_pixel(book, left: int, top: int, colour: list[int]) -> None:
    until(lambda: book.page.evaluate(AT, {"left": left, "top": top}) == [*colour, 255], f"{colour} there")


def test_a_picture_follows_the_guest(book):
    book.run(1)
    picture = Panel(book).root
    expect(picture).to_contain_text("There is no picture yet")
    book.ask("mode(640, 480)")
    expect(picture.get_by_role("img", name="seen, 640 × 480 pixels")).to_be_visible()
    book.ask("at = (100 * 640 + 7) * 4; memory[at : at + 4] = bytes([1, 2, 3, 0])")
    expect_pixel(book, 7, 100, [3, 2, 1])
    book.ask("mode(320, 200); memory[:4] = bytes([255, 0, 0, 0])")
    expect(picture.get_by_role("img", name="seen, 320 × 200 pixels")).to_be_visible()
    expect_pixel(book, 0, 0, [0, 0, 255])


def test_nobody_is_asked_for_a_picture_that_is_not_in_sight(book):
    book.run(1)
    until(lambda: looks(book) > 0, "a look")
    set_hidden(book, True)
    try:
        until(lambda: looks(book) == looks(book, after=0.4), "an end of the looks")
    finally:
        set_hidden(book, False)
    count = looks(book)
    until(lambda: looks(book) > count, "another look")


def looks(book, after: float = 0) -> int:
    return int(book.ask(f"import time; time.sleep({after}); print(len(looks))"))


def set_hidden(book, hidden: bool) -> None:
    """Say that the page is hidden, as a browser does when another tab covers it; or no longer."""
    book.page.evaluate(
        """(hidden) => {
            const told = { get: () => "hidden", configurable: true };
            if (hidden) Object.defineProperty(document, "visibilityState", told);
            else delete document.visibilityState;
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_the_panel_has_the_screen_in_a_tab(book):
    book.ask("mode(64, 48); memory[:4] = bytes([0, 255, 0, 0])")
    book.run(2)
    panel = Panel(book).wait()
    panel.tab("Screen")
    expect(panel.root.get_by_role("img", name="Framebuffer, 64 × 48 pixels")).to_be_visible()
    expect_pixel(book, 0, 0, [0, 255, 0])
