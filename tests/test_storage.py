"""Storage: bytes behind a disk, in a file or in memory."""

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

import workbench as wb


@pytest.fixture(params=["file", "memory", "bytearray"])
def storage(request: pytest.FixtureRequest, tmp_path: Path):
    backing = {"file": tmp_path / "a.img", "memory": None, "bytearray": bytearray(3 << 20)}[request.param]
    storage = wb.Storage(backing, 3 << 20)
    yield storage
    storage.close()


def test_what_is_written_is_read_and_the_rest_is_zero(storage):
    storage.write(10, b"abc")
    assert storage.read(9, 5) == b"\0abc\0"
    storage.write(storage.size - 1, b"z")
    assert storage.read(storage.size - 2, 2) == b"\0z"
    storage.flush()
    assert storage.read(storage.size, 0) == b""


def test_zeros_are_stored_over_any_length(storage):
    storage.write(0, b"\xff" * storage.size)
    storage.zero(1, storage.size - 2)
    assert storage.read(0, storage.size) == b"\xff" + bytes(storage.size - 2) + b"\xff"


@pytest.mark.parametrize(
    ("offset", "size"), [(-1, 1), (3 << 20, 1), ((3 << 20) - 1, 2), (0, -1), (1 << 70, 1)]
)
def test_outside_is_refused(storage, offset, size):
    with pytest.raises(ValueError, match="outside of <Storage: 3145728 bytes in"):
        storage.read(offset, size)
    with pytest.raises(ValueError, match="outside of"):
        storage.zero(offset, size)
    if size > 0:
        with pytest.raises(ValueError, match="outside of"):
            storage.write(offset, bytes(size))


def test_a_file_is_made_with_its_size_and_keeps_it(tmp_path):
    path = tmp_path / "disk.img"
    wb.Storage(path, 8192).write(4096, b"kept")
    assert path.stat().st_size == 8192
    again = wb.Storage(str(path))
    assert (again.size, again.path, again.read(4096, 4)) == (8192, str(path), b"kept")
    again.close()
    with pytest.raises(ValueError, match="has 8192 bytes and 100 were asked for"):
        wb.Storage(path, 100)
    assert path.stat().st_size == 8192
    gc.collect()


def test_a_file_without_a_size_is_not_made_up(tmp_path):
    with pytest.raises(ValueError, match="has 0 bytes and no size was given"):
        wb.Storage(tmp_path / "new.img")


def test_a_closed_file_says_so_and_closing_again_is_nothing(tmp_path):
    storage = wb.Storage(tmp_path / "disk.img", 4096)
    storage.close()
    storage.close()
    for act in (lambda: storage.read(0, 1), lambda: storage.write(0, b"x"), storage.flush):
        with pytest.raises(wb.StateError, match="is closed"):
            act()


def test_a_file_that_somebody_truncates_is_an_error_and_not_short_data(tmp_path):
    storage = wb.Storage(tmp_path / "disk.img", 8192)
    os.truncate(storage.path, 4100)
    assert storage.read(0, 4096) == bytes(4096)
    with pytest.raises(OSError, match="was truncated") as told:
        storage.read(4096, 8)
    assert told.value.errno == errno.EIO
    storage.close()


def test_buffers_are_used_in_place_and_read_only_ones_are_copied():
    mine = np.zeros((2, 4), "<u4")
    wb.Storage(mine).write(4, b"\1\2\0\0")
    assert mine[0, 1] == 0x201
    fixed = b"0123"
    storage = wb.Storage(fixed)
    storage.write(0, b"x")
    assert storage.read(0, 4) == b"x123"
    assert fixed == b"0123"


def test_numbers_and_arrays_of_numpy_mean_what_they_say(storage):
    storage.write(np.uint8(250), np.arange(4, dtype="<u4"))
    assert storage.read(np.uint8(250), 16) == np.arange(4, dtype="<u4").tobytes()
    structured = np.array([(1, 2), (3, 4)], [("one", "u1"), ("two", ">u2")])
    for data in (structured, np.arange(16, dtype="u1").reshape(4, 4)[:, 1], memoryview(b"abc")[::-1]):
        storage.write(7, data)
        assert storage.read(7, data.nbytes) == data.tobytes()
    with pytest.raises(ValueError, match="outside"):
        storage.write(storage.size - 8, np.arange(4, dtype="<u4"))
    for act in (storage.read, storage.zero):
        with pytest.raises(ValueError, match="outside"):  # and not 0 to 4095: they are no numbers of 32 bits
            act(np.uint32(0xFFFFFFFF), 4096)
    assert storage.read(0, 4) == bytes(4)


@pytest.mark.parametrize(("size", "error"), [(-5, ValueError), ("4096", TypeError), (4096.0, TypeError)])
def test_a_size_that_is_none_makes_no_file(tmp_path, size, error):
    with pytest.raises(error):
        wb.Storage(tmp_path / "new.img", size)
    assert not (tmp_path / "new.img").exists() or not os.path.getsize(tmp_path / "new.img")


@pytest.mark.parametrize(("backing", "size"), [(None, None), (None, 0), (None, -5), (bytearray(), None)])
def test_nothing_is_no_storage(backing, size):
    with pytest.raises(ValueError, match="bytes"):
        wb.Storage(backing, size)


def test_a_buffer_of_another_size_is_refused():
    with pytest.raises(ValueError, match="has 4 bytes, and 5 were asked for"):
        wb.Storage(bytearray(4), 5)


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_what_is_no_file_is_no_storage(tmp_path, name):
    if name == "pipe":
        os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is neither a file nor a disk"):
        wb.Storage(tmp_path / name, 4096)  # an absolute name is itself
