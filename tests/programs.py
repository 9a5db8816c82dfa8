"""What tests run other programs under: strace, fetched where it is missing, and root where we are not.

``python tests/programs.py`` fetches what is missing (1 MB).
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from workbench.vm.debs import Debs, DebsError, cache_home

__all__ = ["as_root", "strace"]

#: A tree fetched by an incompatible version of this file is fetched anew.
TREE = "strace-1"
#: What strace needs beside the C library, which is the machine's.
LIBRARIES = ("libunwind", "liblzma")


CHROOT = (sys.executable, "-S", "-c", "import os; os.chroot('/')")


@cache
def as_root() -> list[str]:
    """Return what to put before a program that needs root: nothing, or a user namespace of its own.

    Skips the test where neither is to be had, as in a container that may not even chroot().
    """
    for before in ([], ["unshare", "--user", "--map-root-user"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*before, *CHROOT], capture_output=True, check=False).returncode == 0:
                return before
    pytest.skip("neither root nor a user namespace is to be had here: nothing runs in a chroot")


@cache
def strace() -> list[str]:
    """Return how to start strace, fetching it if there is none. Raises DebsError that says what to do.

    Skips the test where no process may trace another (ptrace(2)): by seccomp, or Yama.
    """
    if path := shutil.which("strace"):
        _works([path])
        return [path]
    tree = cache_home() / TREE
    if not _works(_fetched(tree)):
        with Debs(cache_home() / "own-release") as debs:
            debs.update()
            wanted = [name for name in debs.depends("strace") if name.startswith(LIBRARIES)]
            more = [name for one in wanted for name in debs.depends(one) if name.startswith(LIBRARIES)]
            debs.fetch(tree, ["strace", *wanted, *more], closure=False)
    if not _works(_fetched(tree)):
        raise DebsError("the fetched strace does not run here", "install strace")
    return _fetched(tree)


def _fetched(tree: Path) -> list[str]:
    folders = [*tree.glob("usr/lib/*-linux-gnu"), *tree.glob("lib/*-linux-gnu")]
    libraries = f"LD_LIBRARY_PATH={':'.join(map(str, folders))}"
    return ["env", libraries, f"{tree}/usr/bin/strace", "-E", "LD_LIBRARY_PATH"]  # the traced has it not


def _works(command: Sequence[str]) -> bool:
    done = subprocess.run([*command, "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if "ptrace(" in done.stderr or "PTRACE_" in done.stderr:
        pytest.skip(f"no process may trace another here: {done.stderr.strip()}")
    return done.returncode == 0


if __name__ == "__main__":
    try:
        print(*strace())
    except (DebsError, pytest.skip.Exception) as error:
        sys.exit(f"programs.py: {error}")
