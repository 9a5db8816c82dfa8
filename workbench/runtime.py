"""Where sockets live, and how long threads may hold the interpreter while Python hooks are served.

Sockets live in ``workbench/<pid>-<random>/`` under ``$XDG_RUNTIME_DIR``, mode 0700. A process holds a
lock on a file in its own directory for as long as it serves, so the next one can tell, in whatever
PID namespace, and remove what a killed one left behind.
"""

import contextlib
import fcntl
import os
import re
import socket
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar

from .errors import StateError

__all__ = ["SocketDirectory", "SwitchInterval", "remove_stale", "runtime_base", "take_path"]

PATH_LIMIT = 107  # sun_path of unix(7), without its NUL
UNLOCKED_SECONDS = 60  # a directory without a lock file is just being made, or was left behind
OWN_NAME = re.compile(r"[0-9]+-[a-z0-9_]+", re.ASCII)


def runtime_base() -> Path:
    """Return where all processes have their sockets: in ``$XDG_RUNTIME_DIR``, else the temp directory."""
    root = os.environ.get("XDG_RUNTIME_DIR")
    if root and os.path.isdir(root) and os.access(root, os.W_OK):
        return Path(root) / "workbench"
    return Path(tempfile.gettempdir()) / f"workbench-{os.getuid()}"


def _private(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


class SocketDirectory:
    """This process's own directory, which is there while somebody uses it."""

    _guard = threading.Lock()
    _path: ClassVar[Path | None] = None
    _name = ""
    _lock = -1
    _owner = 0
    _users = 0

    @classmethod
    def take(cls) -> Path:
        """Return the directory, made and locked if need be. StateError when its place is not private."""
        with cls._guard:
            # A forked child makes its own; the parent's lock is not its business.
            if cls._owner != os.getpid():
                cls._path, cls._users, cls._owner = None, 0, os.getpid()
                cls._name = f"{os.getpid()}-{os.urandom(4).hex()}"
            if cls._path is not None and not _is_file(cls._lock, cls._path / "lock"):
                # Somebody took it away, as a logout does with all of $XDG_RUNTIME_DIR: it is made again.
                cls._path = None
            if cls._path is None:
                cls._make(runtime_base())
            cls._users += 1
            assert cls._path is not None
            return cls._path

    @classmethod
    def give(cls) -> None:
        """Say that one user is done; the last one removes the directory."""
        with cls._guard:
            if cls._owner != os.getpid() or cls._path is None:
                return
            cls._users -= 1
            if not cls._users:
                path, cls._path = cls._path, None
                _remove(path)
                cls._unlock()

    @classmethod
    def _unlock(cls) -> None:
        """Close the lock, also one that Ctrl-C left: this process would wait for itself."""
        lock, cls._lock = cls._lock, -1
        if lock >= 0:
            os.close(lock)

    @classmethod
    def _make(cls, base: Path) -> None:
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            way_out = "set XDG_RUNTIME_DIR to a directory of yours, or say a path"
            raise StateError(f"cannot make {base} for sockets: {error.strerror}: {way_out}") from error
        if not _private(base):
            raise StateError(f"{base} must be a directory that only you can enter (mode 0700)")
        own = base / cls._name  # the same again, so that a device is found where it was before
        try:
            while cls._path is None:
                cls._unlock()
                own.mkdir(mode=0o700, exist_ok=True)
                cls._lock = os.open(own / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(cls._lock, fcntl.LOCK_EX)
                if _is_file(cls._lock, own / "lock"):  # else another process took it for stale, and away
                    cls._path = own
        except OSError:  # no space, no descriptors
            _remove(own)
            cls._unlock()
            raise
        with contextlib.suppress(OSError):  # what others left can wait for a better day
            remove_stale(base)  # now that it is locked: without its lock file it would look stale itself


def remove_stale(base: Path) -> int:
    """Remove the directories that no living process holds; return how many there were."""
    count = 0
    for entry in base.iterdir():
        if OWN_NAME.fullmatch(entry.name):
            with contextlib.suppress(FileNotFoundError):  # its own process, or another one, removes it now
                count += _private(entry) and _remove_if_stale(entry)
    return count


def _remove_if_stale(directory: Path) -> bool:
    """Remove a directory that nobody has locked, and hold its lock until it is gone; return whether."""
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        stale = time.time() - directory.stat().st_mtime > UNLOCKED_SECONDS
        if stale:
            _remove(directory)
        return stale
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stale = _is_file(lock, directory / "lock")
        if stale:
            _remove(directory)
        return stale
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _is_file(fd: int, path: Path) -> bool:
    """Whether the open file still lies at ``path``."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def _remove(directory: Path) -> None:
    """Remove what is ours in a directory, and it if nothing else is there; no error when it is gone."""
    with contextlib.suppress(OSError):
        for entry in directory.iterdir():
            if entry.name == "lock" or stat.S_ISSOCK(entry.lstat().st_mode):
                with contextlib.suppress(OSError):
                    entry.unlink()
        directory.rmdir()


def take_path(path: Path) -> None:
    """Make sure a socket can be bound at ``path``: remove it when nobody listens there any more.

    Raises StateError when it is too long, is no socket, or somebody listens there.
    """
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        raise StateError(f"no file can be called so: {str(path)!r}") from None
    if b"\0" in name:
        raise StateError(f"a socket path has no NUL byte: {str(path)!r}")
    if len(name) > PATH_LIMIT:
        raise StateError(f"a socket path has at most {PATH_LIMIT} bytes: {path}")
    if not path.parent.is_dir():
        raise StateError(f"the directory {path.parent} does not exist")
    if not path.exists() and not path.is_symlink():
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise StateError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError:  # a full backlog: somebody is there
            pass
    raise StateError(f"another server listens at {path}")


class SwitchInterval:
    """``sys.setswitchinterval``, lowered while at least one server with Python hooks wants it.

    A hook waits for the interpreter while a cell computes; the default of 5 ms makes that 5 ms for
    every access. The lowest wish wins; the last one to leave restores what was there before.

    Each thread that waits sets a timer of that length again and again. Those of many leave a core no time for
    the cell that is to let go: the interval grows with their number from ``FEW`` on, up to ``MOST`` seconds.
    """

    FEW, MOST = 3, 1e-4
    _lock = threading.Lock()
    _wishes: ClassVar[dict[int, tuple[float, int]]] = {}  # seconds, and whose thread waits
    _before = 0.0

    @classmethod
    def want(cls, who: object, seconds: float | None, thread: object = None) -> None:
        """Register (or with None withdraw) the wish of ``who``; several may have one ``thread``."""
        with cls._lock:
            wishes = {key: wish for key, wish in cls._wishes.items() if key != id(who)}
            if seconds is not None:
                wishes[id(who)] = seconds, id(who if thread is None else thread)
            if not cls._wishes:
                cls._before = sys.getswitchinterval()
            if wishes or cls._wishes:
                sys.setswitchinterval(min(cls._before, cls._best(wishes)) if wishes else cls._before)
            cls._wishes = wishes

    @classmethod
    def _best(cls, wishes: dict[int, tuple[float, int]]) -> float:
        lowest = min(seconds for seconds, _ in wishes.values())
        waiting = len({thread for _, thread in wishes.values()})
        return max(lowest, min(lowest * waiting / cls.FEW, cls.MOST))
