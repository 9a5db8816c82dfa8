"""Guest memory through memfds: what may be mapped, what may be copied, and what happens meanwhile."""

import fcntl
import os
import random
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from engine_kit import Engine, Wire
from leaks import open_fds

from workbench.engine import ffi, lib

READ, WRITE, BOTH = 1, 2, 3
PAGE = 4096


class Memory:
    """An engine and a memfd of 4 pages to map from; sealed against shrinking it is mapped by the engine."""

    def __init__(self, engine: Engine, sealed: bool = False) -> None:
        self.engine, self.sealed = engine, sealed
        self.file = os.memfd_create("guest", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.file, 4 * PAGE)
        if sealed:
            fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)

    def map(
        self, iova: int, size: int = PAGE, offset: int = 0, flags: int = BOTH, fd: int | None = -2
    ) -> int:
        wanted = ffi.new("wb_dma_range *", {"iova": iova, "size": size, "offset": offset, "flags": flags})
        given = -1 if fd is None else os.dup(self.file if fd == -2 else fd)
        return lib.wb_dma_map(self.engine.device, wanted, given)

    def unmap(self, iova: int, size: int = PAGE) -> int:
        return lib.wb_dma_unmap(self.engine.device, iova, size, 0)

    def read(self, iova: int, size: int) -> bytes | int:
        data = ffi.new("uint8_t[]", max(size, 1))
        result = lib.wb_dma_read(self.engine.device, iova, data, size, lib.WB_DEVICE)
        return result or bytes(ffi.buffer(data, size))

    def write(self, iova: int, data: bytes) -> int:
        return lib.wb_dma_write(self.engine.device, iova, data, len(data), lib.WB_DEVICE)

    def reach(self) -> list[int]:
        """How each range is reached: WB_DMA_MAPPED, WB_DMA_PRIVATE or 0."""
        room = ffi.new("wb_dma_range[]", 16)
        count = lib.wb_dma_list(self.engine.device, room, 16)
        return [room[i].flags & (lib.WB_DMA_MAPPED | lib.WB_DMA_PRIVATE) for i in range(count)]

    def spans(self, *pieces: tuple[int, int]) -> tuple[Any, int]:
        return ffi.new("wb_dma_span[]", list(pieces)), len(pieces)

    def list(self) -> list[tuple[int, int]]:
        room = ffi.new("wb_dma_range[]", 16)
        return [(room[i].iova, room[i].size) for i in range(lib.wb_dma_list(self.engine.device, room, 16))]


@pytest.fixture(params=[False, True], ids=["file", "mapped"])
def memory(request: pytest.FixtureRequest) -> Iterator[Memory]:
    with Engine() as engine:
        handle = Memory(engine, request.param)
        yield handle
        os.close(handle.file)


@pytest.fixture
def sealed() -> Iterator[Memory]:
    with Engine() as engine:
        handle = Memory(engine, sealed=True)
        yield handle
        os.close(handle.file)


@pytest.fixture
def unsealed() -> Iterator[Memory]:
    with Engine() as engine:
        handle = Memory(engine)
        yield handle
        os.close(handle.file)


def test_copies_go_to_the_guests_file_and_back(memory: Memory) -> None:
    assert memory.map(0x10000, offset=PAGE) == 0
    assert memory.write(0x10010, b"0123456789") == 0
    assert os.pread(memory.file, 10, PAGE + 0x10) == b"0123456789"
    assert memory.read(0x10012, 3) == b"234"
    mapped, written, read = memory.engine.records()
    assert (mapped.kind, mapped.offset, mapped.value) == (lib.WB_KIND_MAP, 0x10000, PAGE)
    assert (written.kind, written.offset, written.size) == (lib.WB_KIND_DMA_WRITE, 0x10010, 10)
    assert written.value.to_bytes(8, "little") == b"01234567"
    assert (read.kind, read.value.to_bytes(8, "little"), read.flags) == (
        lib.WB_KIND_DMA_READ,
        b"234".ljust(8, b"\0"),
        0,
    )


def test_a_copy_crosses_adjacent_ranges_and_stops_at_a_gap(memory: Memory) -> None:
    for page in (0, 1, 3):
        assert memory.map(page * PAGE, offset=(3 - page) * PAGE) == 0
    data = bytes(range(256)) * 32
    assert memory.write(0, data) == 0
    assert os.pread(memory.file, PAGE, 3 * PAGE) + os.pread(memory.file, PAGE, 2 * PAGE) == data
    os.pwrite(memory.file, bytes(4 * PAGE), 0)
    assert memory.write(PAGE, data) == -14
    assert memory.read(4 * PAGE - 1, 2) == -14
    assert not any(os.pread(memory.file, 4 * PAGE, 0))


def test_addresses_up_to_the_last_byte(memory: Memory) -> None:
    top = (1 << 64) - PAGE
    assert memory.map(top) == 0
    assert memory.write((1 << 64) - 2, b"ab") == 0
    assert memory.read((1 << 64) - 2, 2) == b"ab"
    assert memory.read((1 << 64) - 2, 3) == -14
    assert memory.unmap(top) == 0


@pytest.mark.parametrize(
    ("iova", "size", "offset", "flags"),
    [
        (0, 0, 0, BOTH),
        (1, PAGE, 0, BOTH),
        (0, PAGE + 1, 0, BOTH),
        (0, PAGE, 512, BOTH),
        (0, PAGE, 4 * PAGE, BOTH),
        (0, 5 * PAGE, 0, BOTH),
        (0, PAGE, (1 << 64) - PAGE, BOTH),
        (0, 1 << 63, 1 << 63, BOTH),
        ((1 << 64) - PAGE, 2 * PAGE, 0, BOTH),
        (0, PAGE, 0, 8),
    ],
)
def test_a_wrong_map_is_refused_and_its_file_closed(
    memory: Memory, iova: int, size: int, offset: int, flags: int
) -> None:
    before = open_fds()
    assert memory.map(iova, size, offset, flags) == -22
    assert (open_fds(), memory.list()) == (before, [])


def test_overlap_is_refused_and_an_identical_map_is_a_success(memory: Memory) -> None:
    assert memory.map(0x2000, 2 * PAGE) == 0
    before = open_fds()
    assert memory.map(0x2000, 2 * PAGE) == 0
    for iova, size, offset in (
        (0x1000, 2 * PAGE, 0),
        (0x3000, PAGE, 0),
        (0x2000, 2 * PAGE, PAGE),
        (0, 4 * PAGE, 0),
    ):
        assert memory.map(iova, size, offset) == -17
    assert memory.map(0x2000, 2 * PAGE, fd=None) == -17
    assert memory.map(0x2000, 2 * PAGE, flags=READ) == -17
    assert open_fds() == before
    assert memory.list() == [(0x2000, 2 * PAGE)]
    assert memory.map(0x1000) == memory.map(0x4000) == 0


def test_unmap_wants_an_exact_match(memory: Memory) -> None:
    assert memory.map(0x2000, 2 * PAGE) == 0
    assert [memory.unmap(0x2000), memory.unmap(0x3000), memory.unmap(0x1000, 3 * PAGE)] == [-2, -2, -2]
    assert memory.unmap(0x2000, 2 * PAGE) == 0
    assert memory.engine.last().kind == lib.WB_KIND_UNMAP
    assert memory.read(0x2000, 1) == -14


def test_permissions_and_ranges_without_a_file(memory: Memory) -> None:
    assert memory.map(0, flags=READ) == memory.map(PAGE, fd=None) == memory.map(2 * PAGE, flags=WRITE) == 0
    assert memory.write(0, b"x") == memory.read(2 * PAGE, 1) == -1
    assert memory.read(PAGE, 1) == memory.read(PAGE - 1, 2) == -107  # no client that could be asked
    assert lib.wb_dma_peek(memory.engine.device, PAGE, ffi.new("uint8_t[1]"), 1) == -6
    assert memory.read(0, 0) == b""


def test_bus_master_gates_every_copy(memory: Memory) -> None:
    memory.engine.memory(lib.WB_CONFIG, 256)
    assert memory.map(0) == 0
    assert memory.read(0, 1) == memory.write(0, b"x") == -13
    memory.engine.write(lib.WB_CONFIG, 4, b"\x04")
    assert memory.read(0, 1) == b"\0"


def test_the_workbench_pokes_whatever_the_guest_allows_the_device_and_leaves_a_record(memory: Memory) -> None:
    memory.engine.memory(lib.WB_CONFIG, 256)
    assert memory.map(0, flags=READ) == 0

    def poke(iova: int, data: bytes) -> int:
        return lib.wb_dma_poke(memory.engine.device, iova, data, len(data), lib.WB_NOTEBOOK)

    assert poke(8, b"0123456789") == 0
    assert os.pread(memory.file, 10, 8) == b"0123456789"
    last = memory.engine.last()
    assert (last.kind, last.origin, last.offset) == (lib.WB_KIND_DMA_WRITE, lib.WB_NOTEBOOK, 8)
    assert (last.size, last.flags, last.value.to_bytes(8, "little")) == (10, lib.WB_LONG, b"01234567")
    assert poke(PAGE - 1, b"xx") == -14
    assert (memory.engine.last().flags, memory.engine.last().value) == (lib.WB_REFUSED, 14)
    assert poke(PAGE, b"") == 0
    reader = os.open(f"/proc/self/fd/{memory.file}", os.O_RDONLY)
    assert memory.map(PAGE, flags=READ, fd=reader) == 0
    os.close(reader)
    assert poke(PAGE, b"x") == -95  # what takes no writes takes no pokes


def test_a_truncated_file_is_an_error_and_does_not_grow(unsealed: Memory) -> None:
    memory = unsealed
    assert memory.map(0, 4 * PAGE) == 0
    os.ftruncate(memory.file, PAGE + 5)
    assert memory.write(PAGE, b"12345") == 0
    assert memory.write(PAGE + 1, b"12345") == memory.read(2 * PAGE, 1) == -5
    assert os.fstat(memory.file).st_size == PAGE + 5


def test_ranges_of_one_file_share_a_descriptor(memory: Memory) -> None:
    before = open_fds()
    for page in range(4):
        assert memory.map(page * PAGE, offset=page * PAGE) == 0
    assert open_fds() == before + 1
    for page in range(4):
        assert memory.unmap(page * PAGE) == 0
    assert open_fds() == before


def test_a_read_only_descriptor_is_not_shared_with_a_writable_one(memory: Memory) -> None:
    readonly = os.open(f"/proc/self/fd/{memory.file}", os.O_RDONLY)
    before = open_fds()
    assert memory.map(0, fd=readonly, flags=BOTH) == -22
    assert memory.map(0, fd=readonly, flags=READ) == memory.map(PAGE) == 0
    assert open_fds() == before + 2
    assert memory.write(PAGE, b"x") == 0
    os.close(readonly)


def test_only_regular_files_are_memory(memory: Memory) -> None:
    reader, writer = os.pipe()
    null = os.open("/dev/zero", os.O_RDWR)
    with tempfile.TemporaryFile() as file:
        file.truncate(PAGE)
        assert memory.map(0, fd=file.fileno()) == 0
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
        for fd in (reader, null, file.fileno()):
            assert memory.map(PAGE, fd=fd) == -22
    for fd in (reader, writer, null):
        os.close(fd)


def test_a_file_that_cannot_shrink_is_mapped_and_no_other(sealed: Memory, unsealed: Memory) -> None:
    assert sealed.map(0) == unsealed.map(0) == 0
    assert (sealed.reach(), unsealed.reach()) == ([lib.WB_DMA_MAPPED], [0])
    with pytest.raises(PermissionError):
        os.ftruncate(sealed.file, PAGE)
    os.ftruncate(unsealed.file, 0)
    assert unsealed.read(0, 1) == -5


def test_ranges_of_a_mapped_file_share_one_mapping_and_give_it_back(sealed: Memory) -> None:
    def mappings() -> int:
        with open("/proc/self/maps") as maps:
            return sum("memfd:guest" in line for line in maps)

    for page in range(4):
        assert sealed.map(page * PAGE, offset=page * PAGE) == 0
    assert mappings() == 1
    for page in range(4):
        assert sealed.unmap(page * PAGE) == 0
    assert mappings() == 0


def test_a_mapped_file_that_grew_is_mapped_further(sealed: Memory) -> None:
    assert sealed.map(0, 4 * PAGE) == 0
    os.ftruncate(sealed.file, 8 * PAGE)
    os.pwrite(sealed.file, b"grown", 7 * PAGE)
    assert sealed.map(4 * PAGE, 4 * PAGE, offset=4 * PAGE) == 0
    assert (sealed.read(7 * PAGE, 5), sealed.read(4 * PAGE - 2, 4)) == (b"grown", bytes(4))
    assert sealed.reach() == [lib.WB_DMA_MAPPED] * 2


def test_a_file_opened_read_only_is_mapped_read_only(sealed: Memory) -> None:
    readonly = os.open(f"/proc/self/fd/{sealed.file}", os.O_RDONLY)
    assert sealed.map(0, fd=readonly, flags=READ) == 0
    os.close(readonly)
    os.pwrite(sealed.file, b"rom", 0)
    assert (sealed.reach(), sealed.read(0, 3), sealed.write(0, b"x")) == ([lib.WB_DMA_MAPPED], b"rom", -1)


@pytest.mark.usefixtures("huge_page")
def test_memory_on_huge_pages_can_be_written() -> None:
    size = 2 << 20
    with (
        Engine() as engine,
        open(os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_HUGE_2MB | os.MFD_ALLOW_SEALING), "r+b") as file,
    ):
        file.truncate(size)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        memory = Memory(engine, sealed=True)
        os.close(memory.file)
        assert memory.map(0, size, fd=file.fileno()) == 0
        assert memory.reach() == [lib.WB_DMA_MAPPED]
        assert memory.write(size - 4, b"huge") == 0
        assert (memory.read(size - 4, 4), memory.read(0, 2)) == (b"huge", b"\0\0")


def test_distrusted_memory_is_private_until_the_client_goes(memory: Memory) -> None:
    before = open_fds()
    assert memory.map(0) == memory.map(PAGE, offset=PAGE) == memory.map(2 * PAGE, fd=None) == 0
    assert lib.wb_dma_distrust(memory.engine.device, 5) == 0
    assert memory.reach() == [lib.WB_DMA_PRIVATE, lib.WB_DMA_PRIVATE, 0]
    assert memory.read(PAGE, 1) == memory.write(PAGE, b"x") == -107
    assert memory.unmap(0) == memory.unmap(PAGE) == memory.map(0) == 0
    assert memory.reach() == [lib.WB_DMA_PRIVATE, 0]
    assert lib.wb_dma_distrust(memory.engine.device, 2 * PAGE) == -6
    assert lib.wb_dma_distrust(memory.engine.device, 9 * PAGE) == -14
    with Wire(memory.engine):
        pass
    assert (open_fds(), memory.map(0), memory.reach()) == (before, 0, [lib.WB_DMA_MAPPED * memory.sealed])


def test_gather_and_scatter_are_one_copy_with_a_record_for_each_piece(memory: Memory) -> None:
    device = memory.engine.device
    assert memory.map(0, 2 * PAGE) == memory.map(8 * PAGE, offset=2 * PAGE) == 0
    pieces = memory.spans((PAGE - 2, 4), (5, 0), (8 * PAGE, 3))
    assert lib.wb_dma_scatter(device, *pieces, b"abcdefg", lib.WB_DEVICE) == 0
    assert os.pread(memory.file, 4, PAGE - 2) + os.pread(memory.file, 3, 2 * PAGE) == b"abcdefg"
    back = ffi.new("uint8_t[7]")
    assert lib.wb_dma_gather(device, *pieces, back, lib.WB_DEVICE) == 0
    assert bytes(back) == b"abcdefg"
    records = memory.engine.records()[-4:]
    assert [(r.kind, r.offset, r.size) for r in records] == [
        (kind, offset, size)
        for kind in (lib.WB_KIND_DMA_WRITE, lib.WB_KIND_DMA_READ)
        for offset, size in ((PAGE - 2, 4), (8 * PAGE, 3))
    ]
    assert [r.value.to_bytes(8, "little").rstrip(b"\0") for r in records] == [b"abcd", b"efg"] * 2


@pytest.mark.parametrize(
    ("bad", "error"), [((4 * PAGE, 1), -14), ((PAGE - 1, 2), -1), ((2, (1 << 64) - 1), -14)]
)
def test_pieces_are_copied_all_or_none(memory: Memory, bad: tuple[int, int], error: int) -> None:
    assert memory.map(0) == memory.map(PAGE, flags=READ) == 0
    pieces = memory.spans((0, 2), bad, (4, 2))
    data = ffi.new("uint8_t[16]", b"123456")
    assert lib.wb_dma_scatter(memory.engine.device, *pieces, data, lib.WB_DEVICE) == error
    assert not any(os.pread(memory.file, 4 * PAGE, 0))
    record = memory.engine.last()
    assert (record.offset, record.value, record.flags & lib.WB_REFUSED) == (bad[0], -error, lib.WB_REFUSED)


def test_no_pieces_and_too_many(memory: Memory) -> None:
    none = ffi.new("uint8_t[1]")
    assert lib.wb_dma_gather(memory.engine.device, ffi.NULL, 0, none, lib.WB_DEVICE) == 0
    many = ffi.new("wb_dma_span[]", lib.WB_MAX_SPANS + 1)
    assert lib.wb_dma_gather(memory.engine.device, many, len(many), none, lib.WB_DEVICE) == -22


@pytest.mark.parametrize("distance", [-PAGE, -1, 1, PAGE, 70_000])
def test_a_copy_inside_the_guest_may_overlap_itself(memory: Memory, distance: int) -> None:
    size, start = 300_000, 80_000
    os.ftruncate(memory.file, 128 * PAGE)
    assert memory.map(0, 128 * PAGE) == 0
    data = random.Random(1).randbytes(size)
    assert memory.write(start, data) == 0
    assert lib.wb_dma_copy(memory.engine.device, start + distance, start, size, lib.WB_DEVICE) == 0
    assert memory.read(start + distance, size) == data
    _, read, written, _ = memory.engine.records()[-4:]
    assert (read.kind, read.offset, read.size) == (lib.WB_KIND_DMA_READ, start, size)
    assert (written.kind, written.offset, written.size) == (lib.WB_KIND_DMA_WRITE, start + distance, size)
    assert read.value.to_bytes(8, "little") == written.value.to_bytes(8, "little") == data[:8]


def test_a_copy_inside_the_guest_needs_both_ends(memory: Memory) -> None:
    assert memory.map(0) == memory.map(PAGE, flags=READ, offset=PAGE) == 0
    device = memory.engine.device
    assert lib.wb_dma_copy(device, PAGE, 0, 4, lib.WB_DEVICE) == -1
    assert lib.wb_dma_copy(device, 0, 2 * PAGE, 4, lib.WB_DEVICE) == -14
    assert lib.wb_dma_copy(device, 0, PAGE, 0, lib.WB_DEVICE) == 0
    refused = [r for r in memory.engine.records() if r.flags & lib.WB_REFUSED]
    assert [(r.kind, r.offset) for r in refused] == [
        (lib.WB_KIND_DMA_WRITE, PAGE), (lib.WB_KIND_DMA_READ, 2 * PAGE),
    ]  # fmt: skip
    assert memory.unmap(0) == memory.unmap(PAGE) == 0  # nothing stayed pinned


@pytest.mark.parametrize("size", [1, PAGE, 2 * PAGE])
def test_a_copy_is_timed_unless_it_is_too_small(sealed: Memory, size: int) -> None:
    assert sealed.map(0, 4 * PAGE) == 0
    assert sealed.write(PAGE, bytes(size)) == 0
    assert (sealed.engine.last().latency > 0) == (size > PAGE)


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True])
def test_an_unmap_waits_for_copies_and_new_copies_do_not_see_the_range(sealed: bool) -> None:
    with Engine() as engine:
        memory = Memory(engine, sealed)
        size = 64 << 20
        os.ftruncate(memory.file, size)
        buffer = ffi.new("uint8_t[]", size)
        results: list[int] = []

        def copy() -> None:
            while not results or results[-1] == 0:
                results.append(lib.wb_dma_write(engine.device, 0, buffer, size, lib.WB_DEVICE))

        assert memory.map(0, size) == 0
        thread = threading.Thread(target=copy)
        thread.start()
        while not results:
            assert lib.wb_log_wait(engine.device, lib.wb_log_count(engine.device), 10_000)
        assert memory.unmap(0, size) == 0
        unmapped = lib.wb_clock()
        thread.join(10)
        assert results[-1] == -14
        copies = [r for r in engine.records() if r.kind == lib.WB_KIND_DMA_WRITE]
        assert all(r.time + r.latency <= unmapped for r in copies if not r.flags & lib.WB_REFUSED)
        os.close(memory.file)


@pytest.mark.slow
def test_65535_maps_of_one_memory_use_one_descriptor_and_no_more_fit(memory: Memory) -> None:
    before = open_fds()
    for page in range(lib.WB_MAX_MAPS):
        assert memory.map(page * 2 * PAGE) == 0
    assert memory.map(PAGE) == -28
    assert open_fds() == before + 1
    assert memory.write(65534 * 2 * PAGE, b"last") == 0
    assert lib.wb_dma_unmap(memory.engine.device, 0, 0, 1) == 0
    assert (open_fds(), memory.list()) == (before, [])
