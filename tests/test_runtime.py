"""Where sockets live, and the interpreter's switch interval while hooks are served."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from workbench import runtime
from workbench.errors import StateError
from workbench.runtime import SocketDirectory, SwitchInterval, remove_stale, runtime_base, take_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def directory(home):
    yield SocketDirectory.take()
    SocketDirectory.give()


def test_the_directory_is_private_and_goes_with_its_last_user(home):
    first, second = SocketDirectory.take(), SocketDirectory.take()
    assert first == second
    assert {path.stat().st_mode & 0o777 for path in (first, first.parent)} == {0o700}
    SocketDirectory.give()
    assert first.exists()
    SocketDirectory.give()
    assert not first.exists()


def test_a_directory_that_others_may_enter_is_refused_untouched(home):
    (home / "workbench" / "1-x").mkdir(parents=True)
    (home / "workbench").chmod(0o755)
    with pytest.raises(StateError, match="mode 0700"):
        SocketDirectory.take()
    assert (home / "workbench" / "1-x").exists()


def test_what_a_killed_process_left_is_removed_and_all_else_stays(directory):
    base = directory.parent
    gone, strange, fresh = base / "17-abc", base / "20240101", base / "18-new"
    for path in (gone, strange, fresh):
        path.mkdir(mode=0o700)
    (gone / "lock").touch()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(gone / "x.sock"))
    (base / "\u00b2-1").mkdir(mode=0o700)
    assert remove_stale(base) == 1
    assert {entry.name for entry in base.iterdir()} == {directory.name, "20240101", "18-new", "\u00b2-1"}


@pytest.mark.slow
def test_processes_that_come_and_go_keep_their_directories(home):
    code = (
        "from workbench.runtime import SocketDirectory\n"
        "for _ in range(300):\n"
        "    assert (SocketDirectory.take() / 'lock').exists()\n"
        "    SocketDirectory.give()\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate()[1] for process in processes] == ["", "", ""]


def test_files_of_others_in_a_stale_directory_stay(directory):
    gone = directory.parent / "17-abc"
    gone.mkdir(mode=0o700)
    (gone / "lock").touch()
    (gone / "precious").touch()
    remove_stale(directory.parent)
    assert (gone / "precious").exists()


def test_a_dead_socket_is_removed_and_a_live_one_refused(tmp_path):
    path = tmp_path / "device.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        with pytest.raises(StateError, match="another server listens"):
            take_path(path)
    take_path(path)
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "long", "nowhere"])
def test_a_path_that_cannot_be_a_socket_is_refused_in_words(tmp_path, kind):
    path = {"file": tmp_path / "f", "long": tmp_path / ("x" * 120), "nowhere": tmp_path / "no" / "d"}[kind]
    if kind == "file":
        path.touch()
    with pytest.raises(
        StateError, match={"file": "not a socket", "long": "107", "nowhere": "not exist"}[kind]
    ):
        take_path(path)


def test_the_lowest_wish_wins_and_the_last_to_leave_restores():
    before, one, two = sys.getswitchinterval(), object(), object()
    SwitchInterval.want(one, 1e-3)
    SwitchInterval.want(two, 1e-4)
    assert sys.getswitchinterval() == pytest.approx(1e-4)
    SwitchInterval.want(two, None)
    assert sys.getswitchinterval() == pytest.approx(1e-3)
    SwitchInterval.want(one, None)
    SwitchInterval.want(one, None)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_the_interval_grows_with_the_threads_that_wait_and_not_with_devices_of_one_thread():
    before, those, poller = sys.getswitchinterval(), [object() for _ in range(30)], object()
    try:
        for number, interval in ((0, 2e-5), (2, 2e-5), (5, 4e-5), (8, 6e-5), (29, 1e-4)):
            for who in those[: number + 1]:
                SwitchInterval.want(who, 2e-5)
            assert sys.getswitchinterval() == pytest.approx(interval)
        for who in those:
            SwitchInterval.want(who, 2e-5, poller)
        assert sys.getswitchinterval() == pytest.approx(2e-5)
        for who in those:
            SwitchInterval.want(who, 1e-3)
        assert sys.getswitchinterval() == pytest.approx(1e-3)
    finally:
        for who in those:
            SwitchInterval.want(who, None)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_the_runtime_directory_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(tmp_path))
    assert runtime_base().is_relative_to(tmp_path)


def test_a_wish_that_python_refuses_leaves_nothing_behind():
    before, who = sys.getswitchinterval(), object()
    with pytest.raises(ValueError, match="interval"):
        SwitchInterval.want(who, -1.0)
    SwitchInterval.want(who, None)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_a_directory_that_somebody_removed_is_made_again(home):
    before = len(os.listdir("/proc/self/fd"))
    first = SocketDirectory.take()
    shutil.rmtree(home / "workbench")  # as the end of a login session does
    assert SocketDirectory.take() == first
    assert first.is_dir()
    for _ in range(2):
        SocketDirectory.give()
    assert not first.exists()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_somebody_removed_is_let_go(home):
    before = len(os.listdir("/proc/self/fd"))
    SocketDirectory.take()
    shutil.rmtree(home / "workbench")
    SocketDirectory.give()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_lost_its_lock_keeps_its_sockets(home):
    first = SocketDirectory.take()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(first / "x.sock"))
        (first / "lock").unlink()  # old and empty: what clears temporary files takes it
        os.utime(first, (0, 0))
        SocketDirectory.take()
        assert {entry.name for entry in first.iterdir()} == {"lock", "x.sock"}
    for _ in range(2):
        SocketDirectory.give()
    assert not first.exists()


def test_a_place_where_no_directory_can_be_made_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "workbench").touch()
    with pytest.raises(StateError, match="workbench for sockets: File exists: set XDG_RUNTIME_DIR"):
        SocketDirectory.take()


@pytest.mark.parametrize("moment", ["taken", "given"])
def test_ctrl_c_leaves_no_lock_that_the_process_waits_for_itself(home, monkeypatch, moment):
    before = len(os.listdir("/proc/self/fd"))
    if moment == "given":
        SocketDirectory.take()

    def interrupted(*arguments):
        really(*arguments)
        raise KeyboardInterrupt

    where, name = (runtime.fcntl, "flock") if moment == "taken" else (runtime.os, "rmdir")
    really = getattr(where, name)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            SocketDirectory.take() if moment == "taken" else SocketDirectory.give()
    assert SocketDirectory.take().is_dir()
    SocketDirectory.give()
    assert len(os.listdir("/proc/self/fd")) == before
