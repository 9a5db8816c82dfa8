"""Listener: the socket that clients connect to, from its file's birth to its removal."""

import contextlib
import errno
import hashlib
import os
import pwd
import select
import socket
import stat
import struct
from collections.abc import Callable, Sequence
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

    Clients are this process's user, or one of ``users`` (names), for whom the mode is 0666: whoever connects
    is asked for by SO_PEERCRED (unix(7)). Raises StateError when the path is taken, too long, or not private,
    ValueError for a user that does not exist, or who could not reach the private directory.
    """

    def __init__(self, name: str, path: str | None, users: Sequence[str] = ()) -> None:
        self._private = False
        self._allowed = {os.geteuid(), *map(_user_id, users)}
        if users and path is None:
            raise ValueError("other users cannot enter the private directory: say a path where they can")
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
            self._identity = self._inode()  # from now on close() removes it
            if users:
                _open_to_all(self.path)
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

    def accept(
        self,
        short: Callable[[OSError], object] = lambda error: None,
        refused: Callable[[str], object] = lambda who: None,
    ) -> socket.socket | None:
        """Return the next client's connection; None after ``wake()``.

        Passing shortages are waited out; ``short`` is told of the first. Other users' connections are closed;
        ``refused`` is told whose.
        """
        listening, wake = self._socket, self._wake
        if listening is None:  # closed before anybody came to accept
            return None
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(listening, select.POLLIN)
        waking = select.poll()  # select() takes no descriptor from 1024 on
        waking.register(wake, select.POLLIN)
        told = False
        while True:
            if any(fd == wake for fd, _ in poller.poll()):
                return None
            try:
                connection = listening.accept()[0]
                if peer_user(connection) in self._allowed:
                    return connection
                with connection:
                    refused(f"{peer_name(connection)} of user {_user_name(peer_user(connection))}")
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                if not told and error.errno not in (errno.ECONNABORTED, errno.EINTR):
                    short(error)
                    told = True
                waking.poll(RETRY_MS)

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


def _open_to_all(path: str) -> None:
    """Let every user connect to the socket at ``path``, and not to what somebody put in its place."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError(errno.EEXIST, "somebody put something else in its place")
        os.chmod(f"/proc/self/fd/{fd}", 0o666)
    finally:
        os.close(fd)


def _user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"users are names of this machine's users, and {name!r} is none") from None


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _credentials(connection: socket.socket) -> tuple[int, int]:
    """Return process and user that connected, as the kernel knows them."""
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid & 0xFFFFFFFF


def peer_user(connection: socket.socket) -> int:
    """Return the number of the user at the other end."""
    return _credentials(connection)[1]


def peer_name(connection: socket.socket) -> str:
    """Name the process at the other end: pid and program; what it says of itself is not trusted."""
    pid, _ = _credentials(connection)
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"pid {pid}"
    # A relocated QEMU is started by its own loader, whose options come first.
    names = [word.rpartition("/")[2] for word in words]
    program = next((name for name in names if name.startswith("qemu-system")), names[0])
    # It goes to terminals and log files, in which a stranger's control characters have no place.
    plain = "".join(letter if letter.isprintable() else "?" for letter in program[:NAME_BYTES])
    return f"pid {pid} ({plain})"
