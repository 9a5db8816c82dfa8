"""Storage: the bytes behind a disk or a flash chip, in a file or in memory."""

import errno
import os
import stat
import weakref
from operator import index
from typing import Any

import numpy as np

from .errors import StateError

__all__ = ["Storage"]

PIECE = 1 << 20  # bytes zeroed at once


class Storage:
    """``size`` bytes in the file ``backing``, in a buffer of yours (a bytearray, an array), or in memory.

    A file that is not there, or is empty, is made with ``size`` bytes of 0; one that is there keeps its size.
    A read-only buffer is copied. ``flush()`` returns when what was written survives a crash of this machine;
    a crash of this process, or of a guest, loses nothing that ``write()`` has taken. Two devices on one file
    ruin what is on it, as two machines on one disk do. Raises ValueError when there is no size or another
    one, OSError when the file cannot be opened.
    """

    def __init__(self, backing: Any = None, size: int | None = None) -> None:
        self.path: str | None = None
        self._fd = -1
        size = None if size is None else index(size)
        if isinstance(backing, (str, os.PathLike)):
            self.path = os.fspath(backing)
            self.size = self._open(self.path, size)
        else:
            self._bytes = _buffer(backing, size)
            self.size = len(self._bytes)

    def _open(self, path: str, size: int | None) -> int:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._close = weakref.finalize(self, os.close, self._fd)
        mode = os.fstat(self._fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            self.close()
            raise ValueError(f"{path} is neither a file nor a disk")
        there = os.lseek(self._fd, 0, os.SEEK_END)
        if not there and size and size > 0 and stat.S_ISREG(mode):
            os.ftruncate(self._fd, size)
            there = size
        if not there or (size is not None and size != there):
            self.close()
            wanted = "no size was given" if size is None else f"{size} were asked for"
            raise ValueError(f"{path} has {there} bytes and {wanted}")
        return there

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on.

        Raises ValueError outside, OSError (EIO when somebody truncated the file), StateError when closed.
        """
        offset, size = self._check(offset, size)
        if self._fd < 0:
            return bytes(self._bytes[offset : offset + size])
        pieces = bytearray()
        while len(pieces) < size:
            piece = os.pread(self._fd, size - len(pieces), offset + len(pieces))
            if not piece:
                raise OSError(errno.EIO, f"{self.path} was truncated while it was in use")
            pieces += piece
        return bytes(pieces)

    def write(self, offset: int, data: Any) -> None:
        """Store bytes, or any other buffer such as a NumPy array, at ``offset``. Raises as ``read()``."""
        view = memoryview(data)
        if (view.format, view.ndim) != ("B", 1) or not view.contiguous:
            view = memoryview(view.tobytes())
        offset, size = self._check(offset, len(view))
        if self._fd < 0:
            self._bytes[offset : offset + size] = view
            return
        done = 0
        while done < size:
            done += os.pwrite(self._fd, view[done:], offset + done)

    def zero(self, offset: int, size: int) -> None:
        """Store zeros. Raises as ``read()``."""
        offset, size = self._check(offset, size)
        for start in range(offset, offset + size, PIECE):
            self.write(start, bytes(min(PIECE, offset + size - start)))

    def flush(self) -> None:
        """Wait until everything written is on the disk; memory has none. Raises OSError, StateError."""
        self._check(0, 0)
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file; memory stays as it is. May be repeated."""
        if self._fd >= 0:
            self._close()

    def _check(self, offset: int, size: int) -> tuple[int, int]:
        """Return both as plain numbers: those of NumPy wrap around."""
        offset, size = index(offset), index(size)
        if self._fd >= 0 and not self._close.alive:
            raise StateError(f"{self.path} is closed")
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes at {offset:#x} are outside of {self}")
        return offset, size

    def __repr__(self) -> str:
        return f"<Storage: {self.size} bytes in {self.path or 'memory'}>"


def _buffer(backing: Any, size: int | None) -> memoryview:
    """Return a writable view of bytes on a buffer, or on new memory (untouched, so it costs nothing)."""
    if backing is None:
        if not size or size < 0:
            raise ValueError(f"a size in bytes is needed, not {size!r}")
        backing = np.zeros(size, np.uint8)
    view = memoryview(backing)
    if view.readonly:
        view = memoryview(bytearray(view))
    if not len(view) or size not in (None, view.nbytes):
        raise ValueError(f"the buffer has {view.nbytes} bytes, and {size} were asked for")
    return view.cast("B")
