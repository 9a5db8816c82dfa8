"""What killed processes left behind: directories of sockets, and (which should not be) virtual machines.

QEMU dies with the process that started it, by the kernel's parent-death signal (vm/launcher.py). Should one
have survived nevertheless, it is known by its name and by a parent that is none of ours.
"""

import contextlib
import os
import signal
from pathlib import Path

from .runtime import remove_stale, runtime_base

__all__ = ["clean", "orphans"]

MACHINE = b"\0-name\0pci-workbench\0"  # see vm/command.py
ENGINE = "/engine/_engine."  # every process of ours has it loaded, .abi3.so or of a free-threaded Python


def clean() -> list[str]:
    """Remove what is stale; return what was done, a line each."""
    base = runtime_base()
    count = remove_stale(base) if base.is_dir() else 0
    said = [f"{base}: {_plural(count, 'stale directory', 'stale directories')} of sockets removed"]
    for pid in orphans():
        said.append(f"QEMU, process {pid}, had lost its parent: {_end(pid)}")
    if len(said) == 1:
        said.append("no virtual machine is left over (QEMU dies with the process that started it)")
    return said


def orphans() -> list[int]:
    """Return the processes of this user that are QEMUs of ours whose parent is gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_machine(entry) and not _is_ours(_parent(entry)):
            found.append(int(entry.name))
    return found


def _is_machine(entry: Path) -> bool:
    with contextlib.suppress(OSError):
        line = (entry / "cmdline").read_bytes()
        return entry.stat().st_uid == os.getuid() and b"qemu-system" in line and MACHINE in line
    return False


def _parent(entry: Path) -> Path:
    with contextlib.suppress(OSError, ValueError):
        return entry.parent / (entry / "stat").read_text().rpartition(")")[2].split()[1]
    return entry  # gone meanwhile


def _is_ours(entry: Path) -> bool:
    try:
        return ENGINE in (entry / "maps").read_text()
    except OSError:  # not to be seen, or gone: then better leave its child alone
        return entry.name != "1"


def _end(pid: int) -> str:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return "it has ended"
    try:
        if pid not in orphans():  # the number may be another process's by now
            return "it has ended"
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return "ended"
    except OSError as error:
        return f"it cannot be ended: {error.strerror}"
    finally:
        os.close(handle)


def _plural(count: int, one: str, many: str) -> str:
    return f"{count or 'no'} {one if count == 1 else many}"
