"""What tests run other programs under: strace, fetched where it is missing, and root where we are not.

``python tests/programs.py`` fetches what is missing (1 MB).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from workbench.vm.debs import Debs, DebsError, cache_home

__all__ = ["as_root", "strace"]

#: A tree fetched by an incompatible version of this file is fetched anew.
TREE = "strace-1"
#: What strace needs beside the C library, which is the machine's.
LIBRARIES = ("libunwind", "liblzma")


def as_root() -> list[str]:
    """Return what to put before a program that needs root: nothing, or a user namespace of its own."""
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]


@cache
def strace() -> list[str]:
    """Return how to start strace, fetching it if there is none. Raises DebsError that says what to do."""
    if path := shutil.which("strace"):
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
    done = subprocess.run([*command, "-o", os.devnull, "true"], capture_output=True, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    try:
        print(*strace())
    except DebsError as error:
        sys.exit(f"programs.py: {error}")
