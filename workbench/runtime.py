"""Where sockets live, and how long threads may hold the interpreter while Python hooks are served.

Sockets live in ``workbench/<pid>-<start time>/`` under ``$XDG_RUNTIME_DIR``, mode 0700, so that the
next process can tell and remove what a killed one left behind.
"""

import contextlib
import os
import shutil
import socket
import stat
import sys
import tempfile
import threading
from pathlib import Path
from typing import ClassVar

from .errors import StateError

__all__ = ["SwitchInterval", "remove_stale", "socket_directory", "take_path"]

PATH_LIMIT = 107  # sun_path of unix(7), without its NUL


def _base() -> Path:
    root = os.environ.get("XDG_RUNTIME_DIR")
    if root and os.access(root, os.W_OK):
        return Path(root) / "workbench"
    return Path(tempfile.gettempdir()) / f"workbench-{os.getuid()}"


def _start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks after boot; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def socket_directory() -> Path:
    """Return this process's own directory for sockets, made if need be.

    Raises StateError when someone else owns the place where it should be.
    """
    base = _base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = base.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise StateError(f"{base} must be a directory that only you can enter (mode 0700)")
    own = base / f"{os.getpid()}-{_start_time(os.getpid())}"
    own.mkdir(mode=0o700, exist_ok=True)
    return own


def remove_stale() -> int:
    """Remove the directories of processes that are gone; return how many there were."""
    count = 0
    base = _base()
    for entry in base.iterdir() if base.is_dir() else ():
        pid, _, started = entry.name.partition("-")
        if pid.isdigit() and _start_time(int(pid)) != started:
            shutil.rmtree(entry, ignore_errors=True)
            count += 1
    return count


def take_path(path: Path) -> None:
    """Make sure a socket can be bound at ``path``: remove it when nobody listens there any more.

    Raises StateError when it is too long, is no socket, or somebody listens there.
    """
    if len(os.fsencode(path)) > PATH_LIMIT:
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
    """

    _lock = threading.Lock()
    _wishes: ClassVar[dict[int, float]] = {}
    _before = 0.0

    @classmethod
    def want(cls, who: object, seconds: float | None) -> None:
        """Register (or with None withdraw) the wish of ``who``."""
        with cls._lock:
            if not cls._wishes:
                cls._before = sys.getswitchinterval()
            idle = not cls._wishes
            if seconds is None:
                cls._wishes.pop(id(who), None)
            else:
                cls._wishes[id(who)] = seconds
            if cls._wishes:
                sys.setswitchinterval(min([cls._before, *cls._wishes.values()]))
            elif not idle:
                sys.setswitchinterval(cls._before)
