"""A guest takes its memory away while copies run: an error at worst, never a signal, whatever the way to it.

The ways: a file read and written, a file that is mapped because it cannot shrink, huge pages, and messages.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import random
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from after import SEED, still_fine
from sample import Sample

import workbench as wb
from workbench import protocol
from workbench.protocol import Command

SIZE = 1 << 20
HUGE = 2 << 20
HUGETLB = 0x40000 | 21 << 26  # of mmap(2): of 2 MiB
ROUNDS = 150
F_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@pytest.fixture
def card() -> Iterator[wb.Device]:
    with Sample() as device:
        device.serve()
        yield device


@contextlib.contextmanager
def mapped(guest: wb.Client, flags: int, size: int, seals: int = 0) -> Iterator[int]:
    """Guest memory at 16 MiB in a memory file of ours, which is given."""
    fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    try:
        os.ftruncate(fd, size)
        if seals:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        payload = protocol.DMA_MAP.pack(32, 3, 0, 16 << 20, size)
        guest.request(Command.DMA_MAP, payload, (fd,), False, "DMA_MAP")
        yield fd
    finally:
        os.close(fd)


def copies(card: wb.Device, size: int) -> list[Callable[[], object]]:
    """Each way to copy, across all of the memory."""
    base, data = 16 << 20, bytes(size)
    pieces = [(base + at, 64) for at in range(0, size, size // 32)]
    return [
        lambda: card.dma.read(base, size),
        lambda: card.dma.write(base, data),
        lambda: card.dma.read(base + size - 8, 8),
        lambda: card.dma.write(base + size - 8, b"12345678"),
        lambda: card.dma.copy(base, base + size // 2, size // 2),
        lambda: card.dma.copy(base + 4096, base, size - 4096),
        lambda: card.dma.gather(pieces),
        lambda: card.dma.scatter(pieces, np.zeros(64 * len(pieces), np.uint8)),
        lambda: card.dma.array(base, "<u4", size // 4),
    ]


@contextlib.contextmanager
def meanwhile(spoil: Callable[[], object]) -> Iterator[list[int]]:
    """Do something again and again on another thread; the list counts how often."""
    stop, count = threading.Event(), [0]

    def again() -> None:
        while not stop.is_set():
            spoil()
            count[0] += 1

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


def run(all_of: list[Callable[[], object]], may: set[int]) -> dict[int, int]:
    """Run copies in a random order; return how they ended: errno or 0, and how often."""
    chance, ended = random.Random(SEED), {}
    for _ in range(ROUNDS):
        code: int | None = 0
        try:
            chance.choice(all_of)()
        except wb.DmaError as error:
            code = error.errno
        ended[code] = ended.get(code, 0) + 1
    assert set(ended) <= {0, *may}
    return ended


@pytest.mark.slow
def test_a_file_that_shrinks_and_grows_under_copies(card):
    with still_fine(card), card.connect() as guest:
        guest.enable()
        with mapped(guest, 0, SIZE) as fd, meanwhile(lambda: (os.ftruncate(fd, 0), os.ftruncate(fd, SIZE))):
            run(copies(card, SIZE), {errno.EIO})
        with mapped_again(guest) as fd:
            os.ftruncate(fd, 100)
            for copy in copies(card, SIZE):
                with pytest.raises(wb.DmaError, match="the file behind it was truncated by its owner"):
                    copy()
            assert os.fstat(fd).st_size == 100  # and none made it longer
        last = card.log.filter(register="dma", flagged=True)[-1]
        assert "its file was truncated (EIO)" in str(last)


@contextlib.contextmanager
def mapped_again(guest: wb.Client) -> Iterator[int]:
    payload = protocol.DMA_UNMAP.pack(24, 0, 16 << 20, SIZE)
    guest.request(Command.DMA_UNMAP, payload, (), False, "DMA_UNMAP")
    with mapped(guest, 0, SIZE) as fd:
        yield fd


@pytest.mark.slow
def test_a_file_that_cannot_shrink_keeps_its_size_and_its_holes_are_zeros(card):
    def punch() -> None:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        libc_punch(fd, SIZE)

    with still_fine(card), card.connect() as guest:
        guest.enable()
        with mapped(guest, 0, SIZE, F_SEALS) as fd:
            with meanwhile(punch) as punched:
                ended = run(copies(card, SIZE), set())
            assert ended == {0: ROUNDS}
            assert punched[0] > 0
            libc_punch(fd, SIZE)
            assert card.dma.read(16 << 20, SIZE) == bytes(SIZE)


def libc_punch(fd: int, size: int) -> None:
    """Punch a hole into all of a file (fallocate(2), which Python has without its modes)."""
    import ctypes

    keep, punch = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    if libc.fallocate(fd, keep | punch, 0, size):
        raise OSError(ctypes.get_errno(), "fallocate")


@pytest.mark.slow
def test_huge_pages_that_are_taken_away_under_copies(card, huge_page):
    """The page is given back, and somebody else has it: there is none to be read."""
    taken: list[mmap.mmap] = []

    def take() -> None:
        libc_punch(fd, HUGE)
        with contextlib.suppress(OSError):
            taken.append(mmap.mmap(-1, HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | HUGETLB))
            taken[-1][0] = 1
            taken.pop().close()

    with still_fine(card), card.connect() as guest:
        guest.enable()
        with mapped(guest, os.MFD_HUGETLB | os.MFD_HUGE_2MB, HUGE, F_SEALS) as fd, meanwhile(take):
            run(copies(card, HUGE), {errno.EIO})


@pytest.mark.slow
def test_a_client_whose_answers_are_cut_or_errors_while_copies_run(card):
    """Its memory came without a file, and it has none behind it any more."""
    chance = random.Random(SEED)

    def respond(command: int, payload: bytes) -> bytes:
        answer = real(command, payload)
        what = chance.randrange(4)
        if what == 0:
            raise wb.ProtocolError("it is gone", errno.EIO)
        return answer[: chance.randrange(len(answer))] if what == 1 else answer

    with still_fine(card), card.connect() as guest:
        guest.enable()
        guest.memory.map(16 << 20, 1 << 16, shared=False)
        real, guest._link._respond = guest._link._respond, respond
        ended = run(copies(card, 1 << 16), {errno.EREMOTEIO, errno.EPROTO})
        assert set(ended) == {0, errno.EREMOTEIO, errno.EPROTO}
        told = {str(record.marks) for record in card.log.filter(register="dma", flagged=True)}
        assert told == {
            "! refused: refused by the client (EREMOTEIO)",
            "! refused: malformed answer (EPROTO)",
        }
