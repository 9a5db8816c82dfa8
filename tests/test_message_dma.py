"""DMA_MAP and DMA_UNMAP: what a client may map, what is refused, and what becomes of the descriptors."""

import errno
import fcntl
import os
import threading
import time

import pytest
from leaks import open_fds
from sample import map_payload, memory_file, refusal, unmap_payload

import workbench as wb
from workbench import protocol
from workbench.protocol import DMA_MAP, Command

MAP, UNMAP = Command.DMA_MAP, Command.DMA_UNMAP
PAGE = 4096
TOP = 1 << 64


def unmaps(guest, iova=0, size=PAGE, flags=0) -> None:
    payload = unmap_payload(iova, size, flags=flags)
    assert guest.request(UNMAP, payload) == (payload, ())  # the echo is what the rust client waits for


def test_a_map_is_answered_with_a_bare_header(guest):
    with memory_file() as fd:
        guest.send_raw(protocol.pack_message(1, MAP, map_payload()), [fd])
        assert guest.receive().header == protocol.Header(1, MAP, 16, 1)
    unmaps(guest)


def test_the_device_reads_and_writes_what_was_mapped(device, guest):
    guest.enable()
    guest.memory.map(0x10000, 2 * PAGE)
    guest.memory[0x11000:0x11004] = b"RAM!"
    assert device.dma.read(0x11000, 4) == b"RAM!"
    device.dma.write(0x10FFE, b"across")
    assert guest.memory[0x10FFE:0x11004] == b"across"


def test_the_file_offset_counts(device, guest):
    guest.enable()
    with memory_file(4 * PAGE) as fd:
        os.pwrite(fd, b"here", 3 * PAGE)
        guest.request(MAP, map_payload(0x1000, PAGE, offset=3 * PAGE), [fd])
    assert device.dma.read(0x1000, 4) == b"here"


def test_maps_without_a_file_and_read_only_maps_are_taken(guest):
    guest.request(MAP, map_payload(0, PAGE))
    guest.request(MAP, map_payload(PAGE, PAGE, flags=1))
    guest.request(MAP, map_payload(2 * PAGE, PAGE, flags=0))
    with memory_file() as fd:
        guest.request(MAP, map_payload(3 * PAGE, PAGE, flags=1), [fd])
    for page in range(4):
        unmaps(guest, page * PAGE)


def test_a_read_only_file_may_be_mapped_read_only(device, guest, tmp_path):
    guest.enable()
    (tmp_path / "rom").write_bytes(b"ROM " * 1024)
    fd = os.open(tmp_path / "rom", os.O_RDONLY)
    try:
        assert refusal(guest, MAP, map_payload(flags=3), [fd]) == errno.EINVAL
        guest.request(MAP, map_payload(flags=1), [fd])
    finally:
        os.close(fd)
    assert device.dma.read(0, 4) == b"ROM "


def test_ranges_at_the_top_of_the_address_space(guest):
    guest.request(MAP, map_payload(TOP - PAGE, PAGE))
    assert refusal(guest, MAP, map_payload(TOP - PAGE, 2 * PAGE)) == errno.EINVAL
    unmaps(guest, TOP - PAGE)


def test_longer_argsz_and_payloads_are_taken(guest):
    guest.request(MAP, map_payload(argsz=64) + bytes(32))
    guest.request(UNMAP, unmap_payload(argsz=64) + bytes(40))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(map_payload()[:31], id="short"),
        pytest.param(map_payload(argsz=31), id="argsz"),
        pytest.param(map_payload(argsz=0), id="no argsz"),
        pytest.param(map_payload(flags=0x4), id="flag of libvfio-user: map"),
        pytest.param(map_payload(flags=0x8), id="flag of libvfio-user: file"),
        pytest.param(map_payload(flags=0x10), id="flags"),
        pytest.param(map_payload(flags=0x80000003), id="high flags"),
        pytest.param(map_payload(size=0), id="empty"),
        pytest.param(map_payload(size=PAGE + 1), id="size"),
        pytest.param(map_payload(iova=1), id="iova"),
        pytest.param(map_payload(offset=0x200), id="offset"),
        pytest.param(map_payload(iova=TOP - PAGE, size=TOP - PAGE), id="overflow"),
        pytest.param(map_payload(offset=TOP - PAGE), id="offset overflow"),
        pytest.param(map_payload(size=2 * PAGE), id="longer than the file"),
        pytest.param(map_payload(offset=PAGE), id="behind the file"),
        pytest.param(map_payload(size=TOP - PAGE), id="huge"),
    ],
)
def test_a_bad_map_is_refused_and_its_file_closed(guest, payload):
    with memory_file() as fd:
        before = open_fds()
        assert refusal(guest, MAP, payload, [fd]) == errno.EINVAL
        assert open_fds() == before


@pytest.mark.parametrize("kind", ["eventfd", "pipe", "socket", "directory", "write-only"])
def test_a_descriptor_that_is_no_memory_is_refused(guest, kind, tmp_path):
    fds = {
        "eventfd": lambda: [os.eventfd(0)],
        "pipe": lambda: list(os.pipe()),
        "socket": lambda: [os.dup(guest.fileno())],
        "directory": lambda: [os.open(tmp_path, os.O_RDONLY)],
        "write-only": lambda: [os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)],
    }[kind]()
    if kind == "write-only":
        os.ftruncate(fds[0], PAGE)
    before = open_fds()
    try:
        assert refusal(guest, MAP, map_payload(flags=1), fds[:1]) == errno.EINVAL
        assert open_fds() == before
    finally:
        for fd in fds:
            os.close(fd)


def test_two_files_are_one_too_many(guest):
    with memory_file() as one, memory_file() as two:
        before = open_fds()
        assert refusal(guest, MAP, map_payload(), [one, two]) == errno.EINVAL
        assert open_fds() == before


OVERLAPS = [(0x1000, 0x3000), (0x2000, 0x1000), (0, 0x2000), (0x3000, 0x9000), (0, 1 << 40)]


@pytest.mark.parametrize(("iova", "size"), OVERLAPS)
def test_an_overlap_is_refused_and_changes_nothing(device, guest, iova, size):
    guest.enable()
    guest.memory.map(0x1000, 0x3000)
    guest.memory[0x1000:0x1004] = b"kept"
    before = open_fds()
    assert refusal(guest, MAP, map_payload(iova, size)) == errno.EEXIST
    assert open_fds() == before
    assert device.dma.read(0x1000, 4) == b"kept"


def test_the_identical_map_again_is_a_success(device, guest):
    with memory_file() as fd:
        before = open_fds()
        for _ in range(3):
            guest.request(MAP, map_payload(), [fd])
        assert open_fds() == before + 1
        unmaps(guest)
        assert open_fds() == before
        assert refusal(guest, UNMAP, unmap_payload()) == errno.ENOENT


def test_many_maps_of_one_file_keep_one_descriptor(guest):
    with memory_file(64 * PAGE) as fd:
        before = open_fds()
        for page in range(64):
            guest.request(MAP, map_payload(page * PAGE, offset=page * PAGE), [fd])
        assert open_fds() == before + 1
        unmaps(guest, 0, 0, flags=2)
        assert open_fds() == before


def test_a_burst_of_maps_without_waiting_as_qemu_sends_them(guest):
    with memory_file(32 * PAGE) as fd:
        for page in range(32):
            payload = map_payload(page * PAGE, offset=page * PAGE)
            guest.send_raw(protocol.pack_message(page, MAP, payload), [fd])
        replies = [guest.receive().header for _ in range(32)]
        assert [(reply.id, reply.error) for reply in replies] == [(page, 0) for page in range(32)]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(unmap_payload()[:23], id="short"),
        pytest.param(unmap_payload(argsz=23), id="argsz"),
        pytest.param(unmap_payload(argsz=(1 << 20) + 1), id="long argsz"),
        pytest.param(unmap_payload(flags=1), id="dirty bitmap"),
        pytest.param(unmap_payload(flags=4), id="flags"),
        pytest.param(unmap_payload(flags=3), id="all with bitmap"),
        pytest.param(unmap_payload(flags=2), id="all with size"),
        pytest.param(unmap_payload(0x1000, 0, flags=2), id="all with iova"),
    ],
)
def test_a_bad_unmap_is_refused_and_changes_nothing(guest, payload):
    guest.request(MAP, map_payload())
    assert refusal(guest, UNMAP, payload) == errno.EINVAL
    unmaps(guest)


MISMATCHES = [(0, 1), (0, 3), (1, 1), (1, 0), (8, 1), (TOP // PAGE - 1, 1), (0, 0)]


@pytest.mark.parametrize(("iova", "size"), [(iova * PAGE, size * PAGE) for iova, size in MISMATCHES])
def test_an_unmap_has_to_match_exactly(guest, iova, size):
    guest.request(MAP, map_payload(0, 2 * PAGE))
    assert refusal(guest, UNMAP, unmap_payload(iova, size)) == errno.ENOENT
    unmaps(guest, 0, 2 * PAGE)


def test_unmap_all_takes_everything_and_again_is_no_error(guest):
    for page in range(0, 20, 2):
        guest.request(MAP, map_payload(page * PAGE))
    unmaps(guest, 0, 0, flags=2)
    unmaps(guest, 0, 0, flags=2)
    assert refusal(guest, UNMAP, unmap_payload()) == errno.ENOENT
    guest.request(MAP, map_payload(0, 64 * PAGE))


def test_memory_is_gone_for_the_device_after_the_unmap(device, guest):
    guest.enable()
    guest.memory.map(0, PAGE)
    assert device.dma.read(0, 1) == b"\0"
    guest.memory.unmap(0)
    with pytest.raises(OSError, match="0x0"):
        device.dma.read(0, 1)


def test_memory_of_a_client_that_left_is_closed(device):
    with device.connect() as guest:
        before = open_fds()
        for page in range(8):
            guest.memory.map(page * PAGE, PAGE)
    device.server.wait_listening()
    with device.connect() as guest:
        assert open_fds() == before
        assert refusal(guest, UNMAP, unmap_payload()) == errno.ENOENT


@pytest.mark.parametrize(
    ("flags", "seal"),
    [(os.MFD_ALLOW_SEALING, fcntl.F_SEAL_WRITE), (os.MFD_HUGETLB, 0)],
    ids=["sealed", "huge"],
)
def test_a_file_that_takes_no_writes_is_not_said_to_be_truncated(device, guest, flags, seal):
    guest.enable()
    fd = os.memfd_create("memory", flags)
    try:
        os.ftruncate(fd, 2 << 20)
        if seal:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
        guest.request(MAP, map_payload(0, 2 << 20), [fd])
    finally:
        os.close(fd)
    assert device.dma.read(0, 4) == bytes(4)
    with pytest.raises(wb.DmaError, match="the file behind it refuses that"):
        device.dma.write(0, b"abcd")
    assert "its file refuses" in str(device.log[-1])
    assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_an_address_or_a_size_that_cannot_be_is_told(device, guest):
    guest.enable()
    dma = device.dma
    for iova, size in ((TOP - 2, 4), (0, 1 << 50)):
        for copy in (dma.read, dma.peek):
            with pytest.raises(
                wb.DmaError, match=f"{size} bytes at IOVA {iova:#x}: .* mapped no memory there"
            ):
                copy(iova, size)
    with pytest.raises(wb.DmaError, match="mapped no memory there"):
        dma.write(TOP - 2, b"abcd")
    for iova in (-1, TOP, 1 << 80):
        for copy in (dma.read, dma.peek):
            with pytest.raises(ValueError, match="an IOVA has 64 bits"):
                copy(iova, 4)
    with pytest.raises(ValueError, match="from 0 on: -5"):
        dma.read(0, -5)


def test_a_file_truncated_behind_its_mapping_fails_the_copy_and_nothing_else(device, guest):
    guest.enable()
    with memory_file(16 * PAGE) as fd:
        guest.request(MAP, map_payload(0, 16 * PAGE), [fd])
        os.ftruncate(fd, PAGE)
        assert device.dma.read(0, 4) == b"\0\0\0\0"
        for call in (lambda: device.dma.read(8 * PAGE, 4), lambda: device.dma.write(0, bytes(16 * PAGE))):
            with pytest.raises(OSError, match=r"(?i)trunc|shorter|I/O"):
                call()
    assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_a_file_truncated_again_and_again_while_the_device_copies_never_ends_the_process(device, guest):
    """The guest's owner may shrink its memory at any moment: the copy fails, and works when it is back."""
    guest.enable()
    size, seen, enough = 1024 * PAGE, set(), threading.Event()

    def copy() -> None:
        while not enough.is_set():
            for call in (lambda: device.dma.read(0, size), lambda: device.dma.write(0, bytes(size))):
                try:
                    call()
                    seen.add("done")
                except OSError as error:
                    seen.add(error.errno)

    with memory_file(size) as fd:
        guest.request(MAP, map_payload(0, size), [fd])
        thread = threading.Thread(target=copy)
        thread.start()
        deadline = time.monotonic() + 10
        try:
            while seen < {"done", errno.EIO} and time.monotonic() < deadline:
                for length in (0, PAGE + 1, size):
                    os.ftruncate(fd, length)
        finally:
            enough.set()
            thread.join()
        os.ftruncate(fd, size)
        device.dma.write(size - 4, b"last")
        assert os.pread(fd, 4, size - 4) == b"last"
    assert seen == {"done", errno.EIO}
    assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_layout_of_the_map_message():
    assert len(map_payload()) == DMA_MAP.size == 32
