"""The disk is full: it is said, what was there stays, no half file is taken for a whole one, later it works.

A small file system is mounted where that may be (as root); the tests of files work without, by a limit.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from after import still_fine
from archive import make_deb
from nvme_kit import DATA, FLUSH, READ, WRITE, Driver
from sample import Sample

import workbench as wb
from workbench.devices.nvme import Nvme
from workbench.vm.debs import Debs, DebsError

WRITE_FAULT = 0x280


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Disk:
    """A file system of its own in a directory; ``resize`` takes bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: int) -> None:
        options = ["-o", f"remount,size={size}"] if os.path.ismount(self.path) else ["-o", f"size={size}"]
        done = subprocess.run(["mount", "-t", "tmpfs", *options, "none", self.path], capture_output=True)
        if done.returncode:
            pytest.skip("no file system can be mounted here")


@pytest.fixture
def disk() -> Iterator[Disk]:
    path = Path(tempfile.mkdtemp(prefix="wb"))  # short: a socket's path is
    yield Disk(path)
    if os.path.ismount(path):
        subprocess.run(["umount", "-l", path], check=True)
    path.rmdir()


@pytest.fixture
def card() -> Iterator[wb.Device]:
    with Sample() as device:
        for number in range(200):
            device.bar0.SCRATCH.write(number)
        yield device


def save(card: wb.Device, what: str, path: Path) -> None:
    if what == "log":
        card.log.to_csv(path)
    else:
        card.bar0.BUFFER[3].value = 7
        card.snapshot().save(path)


@pytest.mark.parametrize("what", ["log", "snapshot"])
def test_a_file_that_finds_no_room_is_the_old_one_or_none(card, tmp_path, what):
    path = tmp_path / "file"
    with still_fine(card):
        with small_files(100), pytest.raises(OSError, match="too large"):
            save(card, what, path)
        assert list(tmp_path.iterdir()) == []
        path.write_text("old")
        path.chmod(0o640)
        with small_files(100), pytest.raises(OSError, match="too large"):
            save(card, what, path)
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_text() == "old"
        save(card, what, path)
        assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
    if what == "log":
        lines = path.read_text().splitlines()
        assert len(lines) > 200
        assert len({line.count(",") for line in lines}) == 1
    else:
        assert wb.Snapshot.load(path).size > 0


@pytest.mark.parametrize("what", ["log", "snapshot"])
def test_a_full_disk_is_named_and_nothing_is_left_on_it(card, disk, what):
    disk.resize(8192)
    filler = disk.path / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(1 << 20))
    with still_fine(card), pytest.raises(OSError, match="No space left on device"):
        save(card, what, disk.path / "file")
    assert list(disk.path.iterdir()) == [filler]
    disk.resize(1 << 20)
    save(card, what, disk.path / "file")


def test_a_pipe_or_a_device_is_written_to_as_it_is(card):
    with pytest.raises(OSError, match="No space left on device"):
        card.log.to_csv("/dev/full")
    card.log.to_csv("/dev/null")
    assert os.path.exists("/dev/null")


def test_what_is_open_already_is_written_to_as_it_is(card, tmp_path):
    card.log.clear()
    card.bar0.SCRATCH.write(7)
    ends = os.pipe()
    with open(ends[0], "rb") as pipe, open(ends[1], "wb"), open(tmp_path / "file", "wb") as file:
        card.log.to_csv(f"/dev/fd/{ends[1]}")
        assert pipe.read1().startswith(b"time,kind,")
        card.log.to_csv(f"/dev/fd/{file.fileno()}")
        assert os.fstat(file.fileno()).st_nlink == 1
    assert (tmp_path / "file").read_text().startswith("time,kind,")


def test_a_link_stays_a_link(card, tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    card.log.to_csv(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text().startswith("time,kind,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.slow
def test_a_guest_that_writes_to_a_disk_without_room_is_told_and_what_was_there_stays(disk, caplog):
    """The image is sparse: there was room for its size, and then there is none for its bytes."""
    disk.resize(64 << 10)
    with Nvme(backing=disk.path / "image", size=1 << 20) as dev:
        with still_fine(dev), dev.connect() as guest:
            driver = Driver(guest).enable(1)
            io = driver.io[0]
            blocks = range(0, 2048, 64)
            statuses = [io.do(WRITE, 1, (DATA, 0), at, 0, 7).status for at in blocks]
            assert 0 < statuses.count(0) < len(statuses)
            assert set(statuses) == {0, WRITE_FAULT}
            assert io.do(READ, 1, (DATA, 0), 0, 0, 7).status == 0
            assert "No space left on device" in caplog.text
            disk.resize(4 << 20)
            assert io.do(WRITE, 1, (DATA, 0), blocks[statuses.index(WRITE_FAULT)], 0, 7).status == 0
            assert io.do(FLUSH).status == 0
        assert not dev.hooks.failures


@pytest.mark.slow
def test_a_socket_that_finds_no_room_is_told(disk, monkeypatch):
    disk.resize(4096)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(disk.path))
    subprocess.run(["mount", "-o", "remount,nr_inodes=2", "none", disk.path], check=True)
    with Sample() as device:
        with pytest.raises(wb.StateError, match=r"cannot (make|listen at) .*: No space left on device"):
            device.serve()
        subprocess.run(["mount", "-o", "remount,nr_inodes=1000", "none", disk.path], check=True)
        with still_fine(device):
            assert str(disk.path) in device.serve().path
    assert [path.name for path in disk.path.rglob("*")] == ["workbench"]


# ---- the guest kit


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")
def test_a_kit_that_finds_no_room_is_not_there_and_comes_when_there_is(tmp_path, disk):
    """At every size of the disk, wherever in the work it ends: a clear error, and the old tree as it was."""
    archive = tmp_path / "archive"
    archive.mkdir()
    make_deb(archive, "wb-big", size=600_000)
    (tmp_path / "etc/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/sources.list").write_text(f"deb [trusted=yes] copy:{archive} ./\n")
    disk.resize(16 << 10)
    target, old = disk.path / "tree", disk.path / "tree/old"
    target.mkdir()
    old.write_text("old")
    said = []
    for size in (16 << 10, 40 << 10, 300 << 10, 1 << 20, 8 << 20, 64 << 20):
        disk.resize(size)
        try:
            with Debs(disk.path / "work", etc=tmp_path / "etc") as debs:
                debs.update()
                debs.fetch(target, ["wb-big"])
            break
        except DebsError as error:
            said.append(str(error).splitlines()[0])
            assert old.read_text() == "old", size
            assert [path.name for path in disk.path.iterdir()] in (
                ["tree"],
                ["tree", "work"],
                ["work", "tree"],
            )
    assert said
    assert all(text.startswith(("the disk is full", "the disk is too full")) for text in said), said
    assert (target / "usr/share/wb-big").stat().st_size == 600_000
    assert not old.exists()
