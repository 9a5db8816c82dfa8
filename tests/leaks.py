"""What a test may leave behind: open file descriptors, socket files, memory."""

import glob
import os
import tempfile


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


def sockets(pid: int) -> list[str]:
    """The socket files in the private directory of a process's servers."""
    roots = [f"{tempfile.gettempdir()}/workbench-{os.getuid()}"]
    roots += [f"{root}/workbench" for root in [os.environ.get("XDG_RUNTIME_DIR")] if root]
    return [name for root in roots for name in glob.glob(f"{root}/{pid}-*/*.sock")]


def resident() -> int:
    """The memory that this process has, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
