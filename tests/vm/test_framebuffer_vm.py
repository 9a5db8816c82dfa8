"""Linux's own bochs driver on a display written in Python: the guest's console is read from its picture.

A cell of the console's font has 8 × 16 pixels. The guest shows every letter once; what it shows afterwards is
read by comparing cells with those. One byte of stride, offset or pixel size amiss, and no cell would match.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

import workbench as wb
from workbench.devices.framebuffer import Framebuffer, edid
from workbench.vm.kit import Qemu

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

Picture = npt.NDArray[np.uint8]
WIDTH, HEIGHT, COLUMNS, ROWS = 1024, 768, 128, 48
LETTERS = "".join(map(chr, range(33, 127)))
CLEAR = r"printf '\033[2J\033[H\033[?25l\033[0m' > /dev/tty1"
GREY = 170  # of the console's own white


@pytest.fixture(scope="module")
def screen(qemu: Qemu | None) -> Iterator[Framebuffer]:
    with Framebuffer(strict=True) as device:
        yield device


@pytest.fixture(scope="module")
def vm(screen: Framebuffer, qemu: Qemu | None) -> Iterator[wb.VM]:
    with wb.VM(screen, modules="bochs", accel="tcg", qemu=qemu) as vm:
        awk = "awk 'BEGIN { for (n = 33; n < 127; n++) printf \"%c\", n }' > /tmp/letters"
        vm.run(awk, check=True)
        yield vm


def until(screen: Framebuffer, what: Callable[[Picture], object], timeout: float = 20) -> Picture:
    """Return the picture once it is so; look again whenever a pixel changed."""
    deadline = time.monotonic() + timeout
    with screen.bar0.watch(0, WIDTH * HEIGHT * 4):
        while True:
            since, image = screen.log.first + screen.log.total, screen.image()
            if what(image):
                return image
            screen.log.wait(since=since, kind="mmap", timeout=max(deadline - time.monotonic(), 0.001))


def cells(image: Picture) -> list[list[bytes]]:
    """Return the picture cell by cell, row by row."""
    split = image.reshape(ROWS, 16, COLUMNS, 8, 3).swapaxes(1, 2)
    return [[cell.tobytes() for cell in row] for row in split]


def read(image: Picture, font: dict[bytes, str]) -> list[str]:
    return [
        "".join(font.get(cell, "\N{REPLACEMENT CHARACTER}") for cell in row).rstrip() for row in cells(image)
    ]


@pytest.fixture(scope="module")
def font(screen: Framebuffer, vm: wb.VM) -> dict[bytes, str]:
    """Every letter's cell, learned from a picture that shows them all, twice."""
    vm.run(f"{CLEAR}; (cat /tmp/letters; echo; cat /tmp/letters) > /dev/tty1", check=True)
    count = len(LETTERS)

    def whole(image: Picture) -> bool:
        first, second = cells(image)[:2]
        return len({*first[:count], bytes(384)}) == count + 1 and first == second

    first = cells(until(screen, whole))[0]
    return {**dict(zip(first, LETTERS, strict=False)), bytes(384): " "}


def test_linux_binds_its_driver_and_finds_the_monitor(screen, vm):
    assert "Device [1234:1111]" in vm.run("lspci -nnk").stdout
    assert "Kernel driver in use: bochs-drm" in vm.run("lspci -nnk").stdout
    connector = "/sys/class/drm/card0-Virtual-1"
    assert vm.run(f"cat {connector}/edid", text=False).stdout == edid()
    assert vm.run(f"cat {connector}/modes").stdout.split() == ["1024x768", "800x600", "640x480"]
    told = vm.run("dmesg").stdout
    assert "Found bochs VGA, ID 0xb0c5." in told
    assert "Framebuffer size 16384 kB" in told
    assert "EDID block 0" not in told  # how the kernel begins what it has against one
    assert vm.run("stty -F /dev/tty1 size").stdout.split() == [str(ROWS), str(COLUMNS)]
    assert screen.image().shape == (HEIGHT, WIDTH, 3)
    assert len(screen.log.filter(flagged=True)) == 0


def test_the_guests_console_is_read_from_the_picture(screen, vm, font):
    assert len(font) == len(LETTERS) + 1
    command = "uname -a; cat /proc/cmdline; md5sum /init /sbin/agent; grep -c . /proc/kallsyms"
    said = vm.run(f"{CLEAR}; ({command}) | tee /dev/tty1", check=True).stdout.splitlines()
    assert len(said) == 5
    image = until(screen, lambda image: read(image, font)[:5] == said)
    assert read(image, font)[5:] == [""] * (ROWS - 5)
    assert set(np.unique(image)) == {0, GREY}


def test_the_picture_scrolls_as_the_console_does(screen, vm, font):
    vm.run(f"{CLEAR}; awk 'BEGIN {{ for (n = 0; n < 200; n++) print \"line\", n }}' > /dev/tty1", check=True)
    expected = [f"line {n}" for n in range(153, 200)] + [""]
    until(screen, lambda image: read(image, font) == expected)


def test_colours_fill_whole_rows_and_nothing_else(screen, vm):
    bars = [(41, 2, (GREY, 0, 0)), (42, 20, (0, GREY, 0)), (44, 48, (0, 0, GREY))]
    drawn = "".join(rf"\033[{row};1H\033[{colour}m\033[K" for colour, row, _ in bars)
    vm.run(rf"{CLEAR}; printf '{drawn}\033[0m' > /dev/tty1", check=True)
    expected = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for _, row, colour in bars:
        expected[(row - 1) * 16 : row * 16] = colour
    until(screen, lambda image: np.array_equal(image, expected))


def test_a_pixel_that_a_program_sets_is_at_its_place(screen, vm):
    vm.run(CLEAR, check=True)
    until(screen, lambda image: not image.any())
    x, y = 1003, 701
    vm.run(rf"printf '\001\002\003\000' | dd of=/dev/fb0 bs=4 seek={y * WIDTH + x}", check=True)
    image = until(screen, lambda image: image.any())
    assert image[y, x].tolist() == [3, 2, 1]
    assert np.count_nonzero(image.any(axis=2)) == 1


def test_a_blanked_screen_is_black_and_comes_back(screen, vm, font):
    vm.run(f"{CLEAR}; echo still here > /dev/tty1", check=True)
    before = until(screen, lambda image: read(image, font)[0] == "still here")
    vm.run("echo 4 > /sys/class/graphics/fb0/blank", check=True)
    assert screen.image().shape == before.shape
    assert not screen.image().any()
    vm.run("echo 0 > /sys/class/graphics/fb0/blank", check=True)
    assert np.array_equal(until(screen, lambda image: image.any()), before)
