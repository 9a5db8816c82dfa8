"""Option ROM: bytes of the description behind the expansion ROM BAR."""

import pytest

import workbench as wb
from workbench.protocol import RegionFlag
from workbench.rom import LARGEST_ROM
from workbench.succession import layout_changes

IMAGE = b"\x55\xaa" + bytes(range(200)) * 20


class Boot(wb.Device):
    """A device with a ROM and nothing else."""

    id = wb.PciId(vendor=0x1234, device=0x0B17)
    rom = IMAGE


@pytest.fixture
def boot():
    with Boot() as device:
        yield device


@pytest.fixture
def driver(boot):
    with boot.connect() as client:
        yield client


def test_the_guest_reads_the_rom_in_one_message_padded_to_a_power_of_two(driver):
    info = driver.regions[6]
    assert (info.size, info.flags) == (4096, RegionFlag.READ)
    assert driver.rom.read(0, info.size) == IMAGE.ljust(4096, b"\xff")


def test_the_guest_cannot_write_it(boot, driver):
    with pytest.raises(wb.ProtocolError):
        driver.rom.write32(0, 0)
    assert driver.rom.read(0, 2) == b"\x55\xaa"


@pytest.mark.parametrize(("length", "mask"), [(1, 0xFFFFF801), (2049, 0xFFFFF001), (LARGEST_ROM, 0xFFF00001)])
def test_the_rom_bar_sizes_as_a_guest_expects(length, mask):
    class Sized(wb.Device):
        id = Boot.id
        rom = bytes(length)

    with Sized() as device, device.connect() as guest:
        guest.config.write32(0x30, 0xFFFFFFFF)
        assert guest.config.read32(0x30) == mask
        assert device.config.COMMAND.MEMORY_SPACE == 0
        guest.config.write16(4, 2)
        assert device.config.COMMAND.MEMORY_SPACE == 1


def test_without_a_rom_there_is_none(guest):
    guest.config.write32(0x30, 0xFFFFFFFF)
    assert guest.config.read32(0x30) == 0
    assert guest.regions[6].size == 0


@pytest.mark.parametrize(
    ("rom", "line"),
    [
        (b"", "rom has 0x0 bytes, expected 1 to 0x100000"),
        (bytes(LARGEST_ROM + 1), "rom has 0x100001 bytes, expected 1 to 0x100000"),
        ("boot.rom", "rom is 'boot.rom', expected bytes"),
        (17, "rom is 17, expected bytes"),
    ],
)
def test_a_rom_that_is_none_is_a_mistake(rom, line):
    with pytest.raises(wb.DescriptionError) as caught:
        type("Wrong", (wb.Device,), {"id": Boot.id, "rom": rom})
    assert any(problem.startswith(line) for problem in caught.value.problems)


def test_the_workbench_sees_it_and_a_reset_brings_it_back(boot):
    assert boot.rom.peek(0, 4) == IMAGE[:4]
    boot.rom.poke(0, b"xx")
    boot.reset()
    assert boot.rom.peek(0, 4) == IMAGE[:4]
    assert boot.lint() == []


def test_a_new_image_is_taken_over_and_another_size_is_another_layout(boot, driver):
    class Newer(wb.Device):
        id = Boot.id
        rom = b"\x55\xaa" + b"new" * 1000

    class Larger(wb.Device):
        id = Boot.id
        rom = bytes(5000)

    boot.swap(Newer)
    assert driver.rom.read(0, 8) == b"\x55\xaanewnew"
    assert "rom: 0x1000 → 0x2000 bytes" in layout_changes(Boot, Larger)
