"""A file that is replaced whole or not at all: who reads it later never finds a half."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["whole_file"]

OPEN = ("/dev/std", "/dev/fd/", "/proc/")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, which becomes ``path`` when the block is done; else it is removed.

    What is there and is no regular file (a pipe, a device) is written to directly, and so is what is open
    already, as ``/dev/stdout``. Raises OSError, which names the directory where that takes no new file.
    """
    path = os.fsdecode(path)  # no number: that would be somebody's open file
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode) or path.startswith(OPEN):
        yield Path(path)  # its real path need not exist: a pipe's is "/proc/1/fd/pipe:[2]"
        return
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name[:100]}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        number = _new(partial, target)
        try:
            if stat.S_IMODE(mode):
                os.fchmod(number, stat.S_IMODE(mode))  # as it was
        finally:
            os.close(number)
        yield partial
        partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _new(partial: Path, target: Path) -> int:
    """Return a new file beside the target; an error is told of the file that was asked for."""
    try:
        return os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        said = os.strerror(error.errno or 0)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            said += f": {target.name} is written beside itself first, and its directory takes no new file"
        raise OSError(error.errno, said, str(target)) from None
