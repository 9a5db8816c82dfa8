"""Compiles the engine into plain C programs and runs them under the sanitizers."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
COMPILER = shutil.which("gcc") or shutil.which("cc")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize(
    "program", ["basic", "clock", "hooks", "mapped", "memory", "polled", "state", "storm", "threads"]
)
def test_engine_is_clean_under_the_sanitizers(program: str, sanitizer: str, tmp_path: Path) -> None:
    binary = tmp_path / program
    sources = [ROOT / "tests/native" / f"{program}.c", *sorted((ROOT / "workbench/engine").glob("*.c"))]
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", f"-I{ROOT / 'workbench/engine'}"]
    compiled = subprocess.run(
        [
            COMPILER,
            "-std=gnu11",
            "-g",
            "-O1",
            "-pthread",
            *WARNINGS,
            *flags,
            *map(str, sources),
            "-o",
            str(binary),
        ],
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    ran = subprocess.run([binary], capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
