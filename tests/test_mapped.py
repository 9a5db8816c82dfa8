"""Mapped BARs: pages that the guest maps, said in a description, shared by file, seen as NumPy arrays."""

import errno
import fcntl
import gc
import mmap
import os

import numpy as np
import pytest
from engine_kit import Engine
from sample import link_to, open_link

import workbench as wb
from workbench import protocol
from workbench.engine import lib
from workbench.layout import Layout
from workbench.protocol import REGION_INFO, Command, RegionFlag
from workbench.views.feeds import Source
from workbench.views.feeds.registers import ENTRY, RegistersFeed
from workbench.views.history import History
from workbench.views.layout import layout_of
from workbench.views.table import RegisterTable

PAGE = 4096


class Screen(wb.Device):
    """BAR0 mapped as a whole; in BAR1 pages 1 and 2, and 4."""

    id = wb.PciId(vendor=0x1234, device=0x0B12)

    class bar0(wb.Bar, size=0x10000, mmap=True):
        HEAD = wb.Register(0x00, reset=0x1234)
        FLAGS = wb.Register(0x08, A=wb.Field(0), B=wb.Field(4, 4))

    class bar1(wb.Bar, size=0x8000, mmap=[(0x4000, 0x1000), (0x1000, 0x1000), (0x2000, 0x1000)]):
        CTRL = wb.Register(0x0FFC, mode="rw")
        STATUS = wb.Register(0x3000, mode="ro", reset=0x77)
        COUNT = wb.Register(0x1000, count=4)


@pytest.fixture
def screen():
    with Screen() as device:
        yield device


@pytest.fixture
def driver(screen):
    with screen.connect() as client:
        yield client


# ---- description ----


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ([(0x1001, 0x1000)], "mmap: 0x1000 bytes at 0x1001: not whole pages of 0x1000 bytes"),
        ([(0x1000, 0x800)], "mmap: 0x800 bytes at 0x1000: not whole pages of 0x1000 bytes"),
        ([(0x3000, 0x2000)], "mmap: 0x2000 bytes at 0x3000: not inside the BAR's 0x4000 bytes"),
        ([(-0x1000, 0x1000)], "mmap: 0x1000 bytes at -0x1000: not inside the BAR's 0x4000 bytes"),
        ([(0, 0)], "mmap: 0x0 bytes at 0x0: not inside the BAR's 0x4000 bytes"),
        ([(0, 0x2000), (0x1000, 0x1000)], "mmap: 0x0-0x1fff and 0x1000-0x1fff overlap"),
        (0x1000, "mmap=4096, expected True or (start, size) pairs such as [(0x1000, 0x2000)]"),
        ("all", "mmap='all', expected True or (start, size) pairs such as [(0x1000, 0x2000)]"),
        ([0x1000], "mmap: 4096, expected True or (start, size) pairs such as [(0x1000, 0x2000)]"),
        ([("a", 0x1000)], "mmap: start 'a', expected a whole number"),
    ],
)
def test_pages_that_cannot_be_mapped_are_mistakes(said, line):
    with pytest.raises(wb.DescriptionError) as caught:

        class bar0(wb.Bar, size=0x4000, mmap=said):
            pass

    assert line in caught.value.problems


def test_an_io_bar_cannot_be_mapped():
    with pytest.raises(wb.DescriptionError, match="an I/O BAR cannot be mapped"):

        class bar0(wb.Bar, size=16, kind="io", mmap=True):
            pass


@pytest.mark.parametrize(
    ("register", "line"),
    [
        (wb.Register(0x1000, mode="ro"), "R (0x1000) has mode ro in a mapped page"),
        (wb.Register(0x1000, A=wb.Field(0, mode="w1c")), "R (0x1000) has mode w1c in a mapped page"),
        (wb.Register(0xFFC, count=2, mode="rc"), "R (0x1000) has mode rc in a mapped page"),
        (wb.Doorbell(0x1000), "R (0x1000) is a Doorbell: the guest maps the page at 0x1000"),
    ],
)
def test_a_register_with_rules_cannot_lie_in_a_mapped_page(register, line):
    with pytest.raises(wb.DescriptionError) as caught:
        type("bar0", (wb.Bar,), {"R": register}, size=0x4000, mmap=[(0x1000, 0x1000)])
    assert any(problem.startswith(line) for problem in caught.value.problems)


def test_a_method_cannot_hook_a_register_in_a_mapped_page():
    with pytest.raises(wb.DescriptionError, match="HEAD: the guest maps the page at 0x0, so no hook sees"):

        class Hooked(wb.Device):
            id = wb.PciId(vendor=1, device=2)

            class bar0(wb.Bar, size=PAGE, mmap=True):
                HEAD = wb.Register(0)

            @bar0.HEAD.on_write
            def head(self, access): ...


def test_a_cell_cannot_hook_a_register_in_a_mapped_page(screen):
    with pytest.raises(wb.DescriptionError, match=r"watch\(\) finds changes"):
        screen.bar1.COUNT[2].on_write(lambda device: None)
    screen.bar1.CTRL.on_write(lambda device: None)


def test_a_bar_inherits_what_is_mapped():
    class bar0(Screen.bar1):
        pass

    assert bar0.block.mapped == ((0x1000, 0x2000), (0x4000, 0x1000))


def test_other_mapped_pages_are_another_layout():
    class bar0(wb.Bar, size=0x10000, mmap=[(0, PAGE)]):
        pass

    one, other = (Layout.of({0: block}, [0] * 5) for block in (Screen.bar0.block, bar0.block))
    assert one.differences(other) == ["bar0 has other mapped pages"]


# ---- what the client is told ----


def region_info(link, index, argsz):
    payload = REGION_INFO.pack(argsz, 0, index, 0, 0, 0)
    reply, fds = link.request(Command.DEVICE_GET_REGION_INFO, payload, (), False, "info")
    for fd in fds:
        os.close(fd)
    return REGION_INFO.unpack_from(reply), len(reply), len(fds)


def test_a_bar_mapped_as_a_whole_needs_no_capability(driver):
    info = driver.bar0.info
    assert info.flags == RegionFlag.READ | RegionFlag.WRITE | RegionFlag.MMAP
    assert (info.areas, info.capabilities) == (((0, 0x10000),), ())


def test_mapped_ranges_are_sparse_mmap_areas(driver):
    info = driver.bar1.info
    assert info.flags & (RegionFlag.MMAP | RegionFlag.CAPS) == RegionFlag.MMAP | RegionFlag.CAPS
    assert info.areas == ((0x1000, 0x2000), (0x4000, 0x1000))
    assert driver.regions[7].areas == ()


def test_the_file_comes_with_each_full_answer_and_not_without_the_areas(screen):
    with open_link(screen) as link:
        for _ in range(2):
            (argsz, flags, *_), length, fds = region_info(link, 1, 32)
            assert (argsz, length, fds) == (80, 32, 0)
            assert not flags & (RegionFlag.MMAP | RegionFlag.CAPS)
            (argsz, flags, _, offset, size, start), length, fds = region_info(link, 1, 80)
            assert (argsz, offset, size, start, length, fds) == (80, 32, 0x8000, 0, 80, 1)
            assert region_info(link, 0, 32)[2] == 1


def test_a_client_that_takes_no_descriptors_is_told_of_nothing_to_map(screen):
    with link_to(screen) as link:
        version = protocol.pack_version(0, {"max_msg_fds": 0})
        link.request(Command.VERSION, version, (), False, "VERSION")
        (argsz, flags, *_), _, fds = region_info(link, 1, 4096)
        assert (argsz, flags, fds) == (32, RegionFlag.READ | RegionFlag.WRITE, 0)


# ---- the bytes, from every side ----


def test_guest_mapping_messages_array_and_peek_see_the_same_bytes(screen, driver):
    with driver.bar0.mmap() as mapped:
        mapped[0x8000:0x8004] = b"abcd"
        assert driver.bar0.read(0x8000, 4) == b"abcd"
        assert screen.bar0.peek(0x8000, 4) == b"abcd"
        driver.bar0.write(0x8002, b"XYZ")
        assert bytes(screen.bar0.memory[0x8000:0x8006]) == b"abXYZ\0"
        screen.bar0.poke(0x8001, b"1234567890")
        assert mapped[0x8000:0x800C] == b"a1234567890\0"
        screen.bar0.memory[:] = 7
        assert mapped[:] == bytes([7]) * 0x10000


def test_a_register_in_a_mapped_page_names_its_bytes(screen, driver):
    assert screen.bar0.HEAD == 0x1234
    with driver.bar0.mmap() as mapped:
        assert mapped[:2] == b"\x34\x12"
        mapped[8] = 0x31
        assert (screen.bar0.FLAGS.A, screen.bar0.FLAGS.B) == (1, 3)
    driver.bar0.write32(0, 5)
    assert screen.log[-1].register == "bar0.HEAD"
    assert not screen.log[-1].flags


def test_sparse_areas_lie_at_their_offsets(screen, driver):
    with driver.bar1.mmap() as first, driver.bar1.mmap(0x4000) as second:
        assert (len(first), len(second)) == (0x2000, 0x1000)
        first[0x1000], second[1] = 1, 2
        assert driver.bar1.read8(0x2000) == 1
        assert driver.bar1.read8(0x4001) == 2


@pytest.mark.parametrize("size", [2, 4, 8, 9, 16, 0x1000, 0x7000])
@pytest.mark.parametrize("border", [0x1000, 0x3000])
def test_an_access_across_the_border_of_mapped_pages(screen, driver, border, size):
    start = max(border - size // 2, 0)
    before = screen.bar1.peek(0, 0x8000)
    driver.bar1.write(start, bytes([0xEE]) * size)
    after = bytearray(before)
    for at in range(start, start + size):
        if 0xFFC <= at < 0x3000 or 0x4000 <= at < 0x5000:  # CTRL, and what is mapped
            after[at] = 0xEE
    assert screen.bar1.peek(0, 0x8000) == bytes(after)
    assert driver.bar1.read(start, size) == bytes(after[start : start + size])


def test_rules_hold_beside_mapped_pages(screen, driver):
    driver.bar1.write(0x2FFE, b"\1\2\3\4")
    assert screen.bar1.peek(0x2FFE, 4) == b"\1\2\x77\0"
    assert "violation" in screen.log[-1].flags


def test_a_reset_leaves_mapped_pages_as_they_are(screen, driver):
    driver.bar1.write32(0xFFC, 5)
    driver.bar0.write32(0, 99)
    driver.reset()
    assert screen.bar0.HEAD == 99
    assert screen.bar1.CTRL == 0


def test_nobody_can_take_pages_away(driver):
    payload = REGION_INFO.pack(32, 0, 0, 0, 0, 0)
    _, (fd,) = driver.request(Command.DEVICE_GET_REGION_INFO, payload)
    with open(fd, "r+b", buffering=0) as file:
        for size in (0, PAGE, 0x20000):
            with pytest.raises(PermissionError):
                file.truncate(size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_an_area_that_is_not_shared_cannot_be_mapped(driver):
    with pytest.raises(wb.StateError, match="no area at 0 is shared for mmap; shared: 0x1000, 0x4000"):
        driver.bar1.mmap(0)
    with pytest.raises(wb.StateError, match="shared: nothing"):
        driver.config.mmap()


# ---- arrays ----


def test_an_array_outlives_the_device():
    device = Screen()
    words = device.bar0.array("<u4", 0x100, 4)
    words[:] = [1, 2, 3, 4]
    device.close()
    del device
    gc.collect()
    assert words.sum() == 10
    words[0] = 5
    assert list(words) == [5, 2, 3, 4]


def test_a_newer_instance_takes_the_pages_over_and_the_older_one_maps_nothing(screen):
    screen.serve()
    screen.bar0.memory[0] = 7
    before = len(os.listdir("/proc/self/fd"))
    newer = Screen()
    newer.bar0.memory[0] = 9  # its own, until it is served
    newer.serve()
    assert newer.bar0.memory[0] == 7
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    newer.close()


def test_an_array_has_the_type_and_place_that_were_asked_for(screen):
    picture = screen.bar1.array(np.dtype("<u2"), 0x4000).reshape(32, 64)
    picture[1, 1] = 0xABCD
    assert screen.bar1.peek(0x4000 + 2 * 65, 2) == b"\xcd\xab"
    assert len(screen.bar1.array(offset=0x1800)) == 0x1800
    assert len(screen.bar1.array(offset=np.uint16(0x1800))) == 0x1800
    screen.bar1.watch(np.uint16(0x1800), np.uint8(8)).stop()


def test_arrays_outside_of_mapped_pages_are_refused(screen):
    with pytest.raises(wb.StateError, match="several mapped areas"):
        _ = screen.bar1.memory
    with pytest.raises(wb.StateError, match="config has no mapped pages"):
        screen.config.array()
    for arguments in [("u1", 0), ("u1", 0x3000), ("u1", -1), ("u1", 0x10000)]:
        with pytest.raises(ValueError, match="is in no mapped page of bar1"):
            screen.bar1.array(*arguments)
    for arguments in [("u4", 0x1000, 0x801), ("u1", 0x1000, 0), ("u1", 0x1000, -1), ("u8", 0x2FFC)]:
        with pytest.raises(ValueError, match="there is room for"):
            screen.bar1.array(*arguments)


def test_an_untouched_large_bar_costs_no_memory():
    class Large(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B13)

        class bar0(wb.Bar, size=1 << 28, mmap=True):
            pass

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE

    before = resident()
    with Large() as device, device.connect() as guest, guest.bar0.mmap() as mapped:
        with device.bar0.watch() as watch:
            assert device.bar0.memory.nbytes == 1 << 28
            mapped[0x8000000] = 1
            assert device.bar0.peek(0x7FFF000, 1 << 20)[0x1000] == 1
            device.reset()
        assert watch.changes == 1
        assert resident() - before < 30 << 20


# ---- engine ----


def test_the_engine_shares_only_whole_pages_before_anything_is_there():
    with Engine() as engine:
        engine.region(0, 0x4000)
        share = lib.wb_region_share
        for bad in [(9, 0, PAGE), (1, 0, PAGE), (0, 1, PAGE), (0, 0, 0), (0, 0, 100), (0, 0x4000, PAGE),
                    (0, 0, 1 << 63), (0, 0x3000, 0x2000)]:  # fmt: skip
            assert share(engine.device, *bad) == -errno.EINVAL, bad
        assert lib.wb_region_fd(engine.device, 0) == -errno.ENOENT
        assert lib.wb_region_fd(engine.device, 9) == -errno.EINVAL
        engine.set(0, "VALUE", 0x1000, b"x")
        assert share(engine.device, 0, 0, 0x2000) == -errno.EBUSY
        assert share(engine.device, 0, 0, 0x1000) == 0
        assert share(engine.device, 0, 0x2000, 0x1000) == 0
        assert lib.wb_region_fd(engine.device, 0) >= 0


def test_a_closed_device_keeps_its_bytes_but_gives_no_new_arrays():
    device = Screen()
    device.bar0.memory[3] = 9
    device.close()
    assert device.bar0.peek(0, 16)[3] == 9
    with pytest.raises(wb.StateError, match="the device is closed"):
        _ = device.bar0.memory
    with pytest.raises(wb.StateError, match="the device is closed"):
        device.bar0.watch()


def test_a_bar_smaller_than_a_page_can_be_mapped():
    class Small(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B14)

        class bar0(wb.Bar, size=16, mmap=True):
            pass

    with Small() as device, device.connect() as guest, guest.bar0.mmap() as mapped:
        mapped[8:16] = b"12345678"
        assert guest.bar0.read64(8) == int.from_bytes(b"12345678", "little")
        assert bytes(device.bar0.memory) == bytes(8) + b"12345678"


def test_the_panel_says_who_answers_mapped_registers(screen):
    table = RegisterTable(screen)
    part = RegistersFeed({"block": "bar1"}).poll(Source(screen, table, History(table), 1.0))
    entries = np.frombuffer(part.buffers[0], ENTRY)
    names = {number: name for name, number in table.numbers.items()}
    answers = {
        names[int(number)]: int(who)
        for number, who in zip(*(entries[key] for key in ("number", "answers")), strict=True)
    }
    assert answers == {"bar1.CTRL": 0, "bar1.STATUS": 0, **{f"bar1.COUNT[{n}]": 3 for n in range(4)}}
    assert layout_of(screen, table, 1)["blocks"][0]["kind"] == "32-bit memory, mapped"
