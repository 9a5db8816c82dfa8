"""What a test may leave behind, and how to be short of it: open file descriptors, socket files, memory."""

import contextlib
import glob
import os
import resource
import tempfile
from collections.abc import Iterator


def open_files() -> dict[int, str]:
    """Every file descriptor of this process (guest and server), and what it is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def open_fds() -> int:
    """How many file descriptors this process has."""
    return len(open_files())


@contextlib.contextmanager
def room_for(more: int) -> Iterator[None]:
    """So many file descriptors can be opened, and no more."""
    limits, full = resource.getrlimit(resource.RLIMIT_NOFILE), []
    top = max(open_files())
    while (fd := os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)) < top:
        full.append(fd)  # the holes below
    os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1 + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in full:
            os.close(fd)


def sockets(pid: int) -> list[str]:
    """The socket files in the private directory of a process's servers."""
    roots = [f"{tempfile.gettempdir()}/workbench-{os.getuid()}"]
    roots += [f"{root}/workbench" for root in [os.environ.get("XDG_RUNTIME_DIR")] if root]
    return [name for root in roots for name in glob.glob(f"{root}/{pid}-*/*.sock")]


def resident() -> int:
    """The memory that this process has, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
