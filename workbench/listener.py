"""Listener: the socket that clients connect to, from its file's birth to its removal."""

import contextlib
import errno
import hashlib
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

from .errors import StateError
from .runtime import SocketDirectory, take_path

__all__ = ["Listener", "peer_name"]

BACKLOG = 4
#: What accept() may fail with for a while: no descriptors or memory left, or the client is gone already.
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EINTR}
RETRY_MS = 100
NAME_BYTES = 40


class Listener:
    """A listening UNIX socket of mode 0600 at ``path``, or in this process's own directory, named ``name``.

    Raises StateError when the path is taken, too long, or not private.
    """

    def __init__(self, name: str, path: str | None) -> None:
        self._private = False
        self.path = path or f"{file_name(name)}.sock"
        self._wake = -1
        self._socket: socket.socket | None = None
        try:
            if path is None:
                self.path = str(SocketDirectory.take() / self.path)
                self._private = True
            take_path(Path(self.path))
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            os.fchmod(self._socket.fileno(), 0o600)  # before bind: the file is born with this mode
            self._socket.bind(self.path)
            self._identity = self._inode()
            self._socket.listen(BACKLOG)
        except OSError as error:
            self.close()
            raise StateError(f"cannot listen at {self.path}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def _inode(self) -> tuple[int, int] | None:
        try:
            status = os.lstat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def accept(self, short: Callable[[OSError], object] = lambda error: None) -> socket.socket | None:
        """Return the next client's connection; None after ``wake()``.

        Passing shortages are waited out; ``short`` is told of the first.
        """
        listening, wake = self._socket, self._wake
        if listening is None:  # closed before anybody came to accept
            return None
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(listening, select.POLLIN)
        told = False
        while True:
            if any(fd == wake for fd, _ in poller.poll()):
                return None
            try:
                return listening.accept()[0]
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                if not told and error.errno not in (errno.ECONNABORTED, errno.EINTR):
                    short(error)
                    told = True
                select.select([wake], [], [], RETRY_MS / 1000)

    def wake(self) -> None:
        """End ``accept()``, from any thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    @property
    def reachable(self) -> bool:
        """Whether the socket's name is still this socket's."""
        return self._socket is not None and self._inode() == getattr(self, "_identity", ())

    def unlink(self) -> None:
        """Take the socket's name away, if it is still this socket's; nobody can connect any more."""
        if self.reachable:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def close(self) -> None:
        """Remove the socket, and the private directory with its last user. May be repeated."""
        self.unlink()
        # Forgotten before they are closed: a number closed twice may be somebody else's by then.
        socket_, wake, private = self._socket, self._wake, self._private
        self._socket, self._wake, self._private = None, -1, False
        if socket_ is not None:
            socket_.close()
        if wake >= 0:
            os.close(wake)
        if private:
            SocketDirectory.give()


def file_name(name: str) -> str:
    """Return a device's name as a file name of at most 49 bytes; names that differ stay different."""
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in name
    )
    if plain == name and len(name) <= NAME_BYTES:
        return name
    return f"{plain[:NAME_BYTES]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def peer_name(connection: socket.socket) -> str:
    """Name the process at the other end: pid and program; what it says of itself is not trusted."""
    pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"pid {pid}"
    # A relocated QEMU is started by its own loader, whose options come first.
    names = [word.rpartition("/")[2] for word in words]
    program = next((name for name in names if name.startswith("qemu-system")), names[0])
    return f"pid {pid} ({program[:NAME_BYTES]})"
