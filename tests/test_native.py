"""Compiles the engine into plain C programs and runs them under the sanitizers."""

import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from workbench.compiler import find_compiler

ROOT = Path(__file__).resolve().parent.parent
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]


SANITIZERS = ("address,undefined", "thread")


def build(words: Sequence[str | Path], sanitizer: str, where: Path) -> None:
    """Run the compiler in a directory; fail with what it says."""
    flags = ["-std=gnu11", "-g", "-O1", "-pthread", *WARNINGS, f"-I{ROOT / 'workbench/engine'}"]
    sanitize = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    command = [*find_compiler(), *flags, *sanitize, *map(str, words)]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """What gives the engine's objects for a sanitizer, compiled once for all programs."""

    @cache
    def objects(sanitizer: str) -> list[Path]:
        where = tmp_path_factory.mktemp("engine")
        build(["-c", *sorted((ROOT / "workbench/engine").glob("*.c"))], sanitizer, where)
        return sorted(where.glob("*.o"))

    return objects


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize(
    "program",
    ["basic", "clock", "hooks", "mapped", "memory", "polled", "signals", "state", "storm", "threads"],
)
def test_engine_is_clean_under_the_sanitizers(
    program: str, sanitizer: str, tmp_path: Path, engine: Callable[[str], list[Path]]
) -> None:
    binary = tmp_path / program
    build([ROOT / "tests/native" / f"{program}.c", *engine(sanitizer), "-o", binary], sanitizer, tmp_path)
    ran = subprocess.run([binary], capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
