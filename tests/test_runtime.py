"""Where sockets live, and the interpreter's switch interval while hooks are served."""

import os
import socket
import sys

import pytest

from workbench import runtime
from workbench.errors import StateError
from workbench.runtime import SwitchInterval, remove_stale, socket_directory, take_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_the_directory_is_private(home):
    assert socket_directory().stat().st_mode & 0o777 == 0o700
    assert socket_directory().parent.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_enter_is_refused(home):
    (home / "workbench").mkdir(mode=0o755)
    with pytest.raises(StateError, match="mode 0700"):
        socket_directory()


def test_what_a_killed_process_left_is_removed_and_what_lives_stays(home):
    mine = socket_directory()
    gone = mine.parent / f"{os.getpid()}-1"  # my pid, another start time
    gone.mkdir()
    (gone / "x.sock").touch()
    (mine.parent / "4194305-7").mkdir()  # above the largest pid
    assert remove_stale() == 2
    assert [entry.name for entry in mine.parent.iterdir()] == [mine.name]


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


def test_the_runtime_directory_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(tmp_path))
    assert socket_directory().is_relative_to(tmp_path)
