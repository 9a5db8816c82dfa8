"""Who may connect: this process's user, and those that serve() was told of."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample import Sample

import workbench as wb
from workbench.listener import peer_name

CONNECT = """
import os, pwd, socket, sys
os.setuid(pwd.getpwnam("nobody").pw_uid)
one = socket.socket(socket.AF_UNIX)
one.settimeout(10)
one.connect(sys.argv[1])
print(len(one.recv(1)))
"""
BECOME = "import os, pwd, sys; os.setuid(pwd.getpwnam('nobody').pw_uid); os.stat(sys.argv[1] + '/.')"


def may_become_another(place: Path) -> bool:
    """Whether we are root, may be another user as well, and that one can reach the place."""
    command = [sys.executable, "-c", BECOME, str(place)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def serve_as_another(device: wb.Device, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve such that who connects from this process's user is a stranger."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: os.getuid() + 1)
        device.serve(path)


def test_another_user_is_sent_away_and_the_next_client_is_served(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Sample() as device:
        if may_become_another(place):  # the real thing: another user, who can reach the socket
            device.serve(place / "card.sock")
            os.chmod(place / "card.sock", 0o666)
            command = [sys.executable, "-c", CONNECT, str(place / "card.sock")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            assert done.stdout == "0\n", done.stderr
            assert "of user nobody) was sent away: serve(users=[...]) names those" in caplog.text
        else:
            serve_as_another(device, place / "card.sock", monkeypatch)
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(10)
                one.connect(str(place / "card.sock"))
                assert one.recv(1) == b""
            assert "was sent away: serve(users=[...]) names those" in caplog.text
            device.server.stop()
        with device.connect() as guest:
            assert guest.config.read16(0) == 0x1234


def test_the_socket_is_for_its_owner_unless_users_are_named(place: Path) -> None:
    with Sample() as device:
        device.serve(place / "own.sock")
        assert stat.S_IMODE(os.stat(place / "own.sock").st_mode) == 0o600
    with Sample() as device:
        device.serve(place / "shared.sock", users=["nobody"])
        assert stat.S_IMODE(os.stat(place / "shared.sock").st_mode) == 0o666
        assert device.server.users == ("nobody",)
        if may_become_another(place):
            with subprocess.Popen([sys.executable, "-c", CONNECT, str(place / "shared.sock")]) as other:
                device.server.wait_attached(20)
                assert f"pid {other.pid} " in device.server.client
                other.kill()


def test_a_socket_that_cannot_be_opened_to_others_is_removed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, mode: int) -> None:
        raise FileNotFoundError(2, "there is no /proc here", path)

    with Sample() as device:
        with monkeypatch.context() as patched, pytest.raises(wb.StateError, match="there is no /proc here"):
            patched.setattr(os, "chmod", refuse)
            device.serve(place / "card.sock", users=["nobody"])
        assert os.listdir(place) == []
        device.serve(place / "card.sock", users=["nobody"])
        assert stat.S_IMODE(os.stat(place / "card.sock").st_mode) == 0o666


def test_users_that_cannot_be_are_refused(place: Path) -> None:
    with Sample() as device:
        with pytest.raises(ValueError, match="'no one at all' is none"):
            device.serve(place / "card.sock", users=["no one at all"])
        with pytest.raises(TypeError, match=r"users are names, as \['nobody'\]"):
            device.serve(place / "card.sock", users="nobody")
        with pytest.raises(ValueError, match="say a path"):
            device.serve(users=["nobody"])
        device.serve(place / "card.sock")
        with pytest.raises(wb.StateError, match="served for other users"):
            device.serve(users=["nobody"])


LIAR = """
import os, socket, sys
one = socket.socket(socket.AF_UNIX)
one.connect(sys.argv[1])
os.set_inheritable(one.fileno(), True)
os.execv("/bin/sh", ["\\033[2J\\nroot: all is well\\u202e", "-c", "read line"])
"""


def test_what_a_client_calls_itself_is_told_without_its_control_characters(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "name.sock"))
        listening.listen()
        command = [sys.executable, "-c", LIAR, str(place / "name.sock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as liar:
            with listening.accept()[0] as connection:
                while "?" not in (name := peer_name(connection)):
                    assert liar.poll() is None
                assert name == f"pid {liar.pid} (?[2J?root: all is well?)"
            liar.kill()
