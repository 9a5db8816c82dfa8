"""Pictures in a BAR's memory: formats, strides, offsets; mapped pages or not."""

from collections.abc import Iterator

import numpy as np
import pytest

import workbench as wb
from workbench.picture import FORMATS

ORANGE = [255, 128, 0]
#: The bytes of one orange pixel in each format, as drm_fourcc.h has them.
PIXELS = {
    "XRGB8888": b"\x00\x80\xff\x55",
    "XBGR8888": b"\xff\x80\x00\x55",
    "RGBX8888": b"\x55\x00\x80\xff",
    "BGRX8888": b"\x55\xff\x80\x00",
    "RGB888": b"\x00\x80\xff",
    "BGR888": b"\xff\x80\x00",
    "RGB565": (0b11111_100000_00000).to_bytes(2, "little"),
    "XRGB1555": (0b1_11111_10000_00000).to_bytes(2, "little"),
    "R8": b"\x80",
}


class Screen(wb.Device):
    """Memory for pictures: mapped, and not."""

    id = wb.PciId(vendor=0x1234, device=0x0B20)

    class bar0(wb.Bar, size=0x8000, mmap=[(0x1000, 0x2000), (0x4000, 0x1000)]):
        CTRL = wb.Register(0)

    class bar1(wb.Bar, size=4096):
        CTRL = wb.Register(0)


@pytest.fixture
def screen() -> Iterator[Screen]:
    with Screen() as screen:
        yield screen


def test_every_format_is_tested() -> None:
    assert set(PIXELS) == set(FORMATS)


@pytest.mark.parametrize("pixel_format", PIXELS)
@pytest.mark.parametrize(("block", "offset"), [("bar0", 0x1008), ("bar0", 0x3F00), ("bar1", 8)])
def test_pixels_are_red_green_blue_whatever_the_format(
    screen: Screen, block: str, offset: int, pixel_format: str
) -> None:
    handle, pixel = getattr(screen, block), PIXELS[pixel_format]
    stride = 5 * len(pixel) + 3
    rows = (bytes(2 * len(pixel)) + pixel + bytes(2 * len(pixel))).ljust(stride, b"\xee") * 3
    handle.poke(offset, rows)
    found = handle.picture(5, 3, pixel_format, offset=offset, stride=stride)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((3, 5, 3), np.uint8, True)
    expected = np.zeros((3, 5, 3), np.uint8)
    expected[:, 2] = [128] * 3 if pixel_format == "R8" else ORANGE
    assert np.abs(found.astype(int) - expected).max() <= (4 if len(pixel) == 2 else 0)


def test_white_is_white_and_black_is_black_in_16_bits(screen: Screen) -> None:
    screen.bar0.array("<u2", 0x1000, 2)[:] = [0xFFFF, 0]
    for pixel_format in ("RGB565", "XRGB1555"):
        assert screen.bar0.picture(2, 1, pixel_format, offset=0x1000).tolist() == [[[255] * 3, [0] * 3]]


def test_a_picture_is_a_copy(screen: Screen) -> None:
    before = screen.bar0.picture(4, 4, offset=0x1000)
    screen.bar0.array(np.uint8, 0x1000)[:] = 0xFF
    assert not before.any()
    assert screen.bar0.picture(4, 4, offset=0x1000).all()


def test_the_last_row_need_not_be_padded(screen: Screen) -> None:
    assert screen.bar1.picture(4, 4, "R8", offset=4096 - 304, stride=100).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="end at 0x1001; bar1 ends at 0x1000"):
        screen.bar1.picture(4, 4, "R8", offset=4096 - 303, stride=100)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((1, 1, "RGB"), {}, "no pixels are called 'RGB'; there are XRGB8888"),
        ((-1, 1), {}, "a size is 0 or more"),
        ((4, 4), {"stride": 15}, "a row of 4 pixels of XRGB8888 has 16 bytes"),
        ((65535, 65535), {}, "bar0 ends at 0x8000"),
        ((1, 1), {"offset": -4}, "at -0x4"),
    ],
)
def test_what_cannot_be_a_picture_is_refused_in_words(screen, arguments, options, said) -> None:
    with pytest.raises(ValueError, match=said):
        screen.bar0.picture(*arguments, **options)


def test_a_picture_without_pixels_is_an_empty_array(screen: Screen) -> None:
    assert screen.bar0.picture(0, 7).shape == (7, 0, 3)
    assert screen.bar0.picture(7, 0, stride=1000, offset=0x1000).shape == (0, 7, 3)
