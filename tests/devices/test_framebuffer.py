"""The Bochs display as a driver meets it: EDID, DISPI registers, pixels in pages that both sides map."""

import mmap
from collections.abc import Iterator

import numpy as np
import pytest

import workbench as wb
from workbench.client.region import RegionView
from workbench.devices.framebuffer import MEMORY, Framebuffer, edid

DISPI = 0x500
ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, MEMORY_64K = (
    DISPI + 2 * number for number in range(11)
)
VIDEO, ENDIAN = 0x400, 0x604
ENABLED, LINEAR, NOCLEAR = 0x01, 0x40, 0x80
RED, GREEN, BLUE, BLACK = [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]


@pytest.fixture
def screen() -> Iterator[Framebuffer]:
    with Framebuffer(strict=True) as device:
        yield device


@pytest.fixture
def guest(screen: Framebuffer) -> Iterator[wb.Client]:
    with screen.connect() as guest:
        yield guest


@pytest.fixture
def port(guest: wb.Client) -> RegionView:
    return guest.bar2


@pytest.fixture
def pixels(guest: wb.Client) -> Iterator[mmap.mmap]:
    """The frame buffer as the guest maps it."""
    with guest.bar0.mmap() as memory:
        yield memory


def set_mode(port: RegionView, width: int, height: int, bpp: int = 32, flags: int = 0) -> None:
    """Set a mode in the order of Linux's driver."""
    port.write8(VIDEO, 0x20)
    port.write16(ENABLE, 0)
    for register, value in ((BPP, bpp), (XRES, width), (YRES, height)):
        port.write16(register, value)
    port.write16(ENABLE, ENABLED | LINEAR | flags)


def test_it_is_the_display_that_linux_binds_with_all_that_its_driver_asks(screen, guest, port):
    assert guest.config.read32(0) == 0x11111234
    assert guest.config.read32(8) == 0x03800002
    assert (guest.config.read16(0x2C), guest.config.read16(0x2E)) == (0x1AF4, 0x1100)
    assert [guest.regions[n].size for n in (0, 2)] == [16 << 20, 4096]
    assert guest.config.read32(0x10) & 0xF == 8  # 32 bits, prefetchable
    assert port.read16(ID) == 0xB0C5
    assert port.read16(MEMORY_64K) * 65536 == MEMORY
    assert (port.read32(0x600), port.read32(ENDIAN)) == (8, 0x1E1E1E1E)
    assert port.read8(0x41A) == 0
    assert len(screen.log.filter(flagged=True)) == 0


def test_the_edid_is_valid_and_prefers_1024_by_768(port):
    data = port.read(0, 128)
    assert data == edid()
    assert data[:8] == bytes.fromhex("00ffffffffffff00")
    assert (len(data), sum(data) % 256) == (128, 0)
    assert data[18:20] == b"\x01\x04"
    clock = int.from_bytes(data[54:56], "little") * 10_000
    width, height = data[56] | data[58] >> 4 << 8, data[59] | data[61] >> 4 << 8
    blank = data[57] | (data[58] & 0xF) << 8, data[60] | (data[61] & 0xF) << 8
    assert (width, height) == (1024, 768)
    assert clock / (width + blank[0]) / (height + blank[1]) == pytest.approx(60, abs=0.01)
    assert b"\xfc\x00Workbench\n" in data
    assert data[126] == 0


def test_the_edid_is_read_only_and_comes_back_with_a_reset(screen, guest, port):
    port.write8(8, 0xAA)
    assert port.read(0, 128) == edid()
    screen.bar2.EDID[8] = 0
    guest.reset()
    assert port.read(0, 128) == edid()


def test_before_a_mode_is_set_there_are_no_pixels(screen):
    assert screen.image().shape == (0, 0, 3)


def test_what_the_guest_stores_in_its_mapping_is_seen_at_its_place(screen, port, pixels):
    set_mode(port, 640, 480)
    for row, column, pixel in ((0, 0, b"\0\0\xff\0"), (479, 639, b"\0\xff\0\0"), (100, 7, b"\xff\0\0\0")):
        start = (row * 640 + column) * 4
        pixels[start : start + 4] = pixel
    image = screen.image()
    assert (image.shape, image.dtype) == ((480, 640, 3), np.uint8)
    assert [image[0, 0].tolist(), image[479, 639].tolist(), image[100, 7].tolist()] == [RED, GREEN, BLUE]
    assert np.count_nonzero(image) == 3


def test_what_is_painted_here_is_in_the_guests_mapping(screen, port, pixels):
    set_mode(port, 32, 16)
    screen.bar0.array("<u4", 0, 32 * 16).reshape(16, 32)[2:4, 5:9] = 0x123456
    assert pixels[(2 * 32 + 5) * 4 :][:4] == b"\x56\x34\x12\x00"
    assert screen.image()[3, 8].tolist() == [0x12, 0x34, 0x56]
    assert screen.image().sum() == 8 * (0x12 + 0x34 + 0x56)


@pytest.mark.parametrize(
    ("bpp", "pixel", "shown"),
    [
        (8, b"\x77", [0x77] * 3),
        (15, b"\x00\x7c", RED),
        (16, b"\xe0\x07", GREEN),
        (24, b"\xff\x00\x00", BLUE),
        (32, b"\x00\x00\xff\x00", RED),
        (7, b"\x77", [0x77] * 3),  # unknown: as 8
    ],
)
def test_every_depth_has_its_own_row_length(screen, port, pixels, bpp, pixel, shown):
    set_mode(port, 20, 10, bpp)
    at = (3 * 20 + 4) * len(pixel)
    pixels[at : at + len(pixel)] = pixel
    image = screen.image()
    assert image[3, 4].tolist() == shown
    assert np.count_nonzero(image.any(axis=2)) == 1


def test_byte_order_is_what_the_guest_chose(screen, port, pixels):
    set_mode(port, 4, 4)
    port.write32(ENDIAN, 0xBEBEBEBE)
    pixels[:4] = b"\x00\xff\x00\x00"
    assert screen.image()[0, 0].tolist() == RED
    port.write32(ENDIAN, 0x1E1E1E1E)
    assert screen.image()[0, 0].tolist() == GREEN


def test_a_wider_line_in_memory_and_an_offset_pan_the_picture(screen, port, pixels):
    set_mode(port, 8, 4)
    port.write16(VIRT_WIDTH, 100)
    port.write16(X_OFFSET, 10)
    port.write16(Y_OFFSET, 20)
    at = ((20 + 3) * 100 + 10 + 7) * 4
    pixels[at : at + 4] = b"\0\0\xff\0"
    image = screen.image()
    assert image.shape == (4, 8, 3)
    assert image[3, 7].tolist() == RED
    assert np.count_nonzero(image) == 1


def test_a_line_in_memory_is_never_shorter_than_the_one_shown(screen, port, pixels):
    set_mode(port, 8, 4)
    port.write16(VIRT_WIDTH, 2)
    pixels[8 * 4 : 8 * 4 + 4] = b"\0\0\xff\0"
    assert screen.image()[1, 0].tolist() == RED


def test_switching_on_clears_what_is_shown_and_begins_at_the_first_byte(screen, port, pixels):
    set_mode(port, 8, 4)
    pixels[: 8 * 4 * 4] = b"\xff" * 128
    port.write16(X_OFFSET, 3)
    set_mode(port, 8, 4)
    assert [port.read16(one) for one in (VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET)] == [8, 4, 0, 0]
    assert not screen.image().any()
    assert pixels[:128] == bytes(128)


def test_memory_is_kept_when_the_guest_says_so_and_while_it_stays_on(screen, port, pixels):
    set_mode(port, 8, 4)
    pixels[:128] = b"\xff" * 128
    port.write16(ENABLE, ENABLED | LINEAR)  # on it is already
    assert screen.image().all()
    set_mode(port, 8, 4, flags=NOCLEAR)
    assert screen.image().all()


def test_the_screen_is_black_while_it_is_off_or_blanked(screen, port, pixels):
    set_mode(port, 8, 4)
    pixels[:128] = b"\xff" * 128
    for register, off, on in ((VIDEO, 0, 0x20), (ENABLE, 0, ENABLED | NOCLEAR)):
        write = port.write8 if register == VIDEO else port.write16
        write(register, off)
        assert screen.image().shape == (4, 8, 3)
        assert not screen.image().any()
        write(register, on)
        assert screen.image().all()


def test_a_mode_beyond_the_memory_is_told_and_costs_the_guest_nothing(screen, port):
    set_mode(port, 0xFFFF, 0xFFFF)
    with pytest.raises(ValueError, match="65535 × 65535 pixels of XRGB8888"):
        screen.image()
    set_mode(port, 2560, 1600)
    assert screen.image().shape == (1600, 2560, 3)


def test_a_reset_switches_off_and_leaves_the_pixels(screen, guest, port, pixels):
    set_mode(port, 8, 4)
    pixels[:4] = b"\1\2\3\4"
    guest.reset()
    assert port.read16(ENABLE) == 0
    assert screen.image().shape == (0, 0, 3)
    assert pixels[:4] == b"\1\2\3\4"


def test_a_picture_is_kept_as_it_was(screen, port, pixels):
    set_mode(port, 8, 4)
    before = screen.image()
    pixels[:128] = b"\xff" * 128
    assert not before.any()
    assert screen.image().all()


def test_looking_touches_nothing(screen, port):
    set_mode(port, 8, 4)
    count = screen.log.total
    screen.image()
    assert screen.log.total == count
