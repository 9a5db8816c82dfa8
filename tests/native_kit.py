"""The engine as objects under a sanitizer, compiled once for all tests that link them."""

import fcntl
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from workbench.compiler import find_compiler

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "workbench/engine"
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
#: No _FORTIFY_SOURCE, which some compilers add by themselves: it calls functions that wrap.c does not know.
FLAGS = ["-std=gnu11", "-g", "-O1", "-pthread", "-U_FORTIFY_SOURCE", f"-I{ENGINE}"]


def build(words: Sequence[str | Path], sanitizer: str, where: Path, warnings: Sequence[str] = ()) -> None:
    """Run the compiler in a directory; fail with what it says. ``warnings``: instead of the usual ones."""
    sanitize = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    command = [*find_compiler(), *FLAGS, *(warnings or WARNINGS), *sanitize, *map(str, words)]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def skip_where_it_cannot_run(said: str) -> None:
    """Skip a thread sanitizer that does not run where addresses are as random as here (surroundings.py)."""
    if "ThreadSanitizer: unexpected memory mapping" in said:
        pytest.skip("this compiler's thread sanitizer does not run here (vm.mmap_rnd_bits), nor setarch -R")


class Objects:
    """What compiles into ``folder``, which the processes of one run share: one compiles, the others wait."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, sanitizer: str) -> list[Path]:
        """Return the engine's objects for a sanitizer."""
        where = self._folder / f"engine-{sanitizer}"
        where.mkdir(exist_ok=True)
        lock = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (where / "done").exists():
                build(["-c", *sorted(ENGINE.glob("*.c"))], sanitizer, where)
                (where / "done").touch()
        finally:
            os.close(lock)
        return sorted(where.glob("*.o"))
