"""Compiles the engine into plain C programs and runs them under the sanitizers."""

import subprocess
from pathlib import Path

import pytest
from native_kit import ROOT, Objects, build, skip_where_it_cannot_run

SANITIZERS = ("address,undefined", "thread")
PROGRAMS = ("basic", "clock", "copies", "hooks", "mapped", "memory", "polled", "rings", "signals", "state")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("program", [*PROGRAMS, "storm", "threads"])
def test_engine_is_clean_under_the_sanitizers(
    program: str, sanitizer: str, tmp_path: Path, engine: Objects
) -> None:
    binary = tmp_path / program
    build([ROOT / "tests/native" / f"{program}.c", *engine(sanitizer), "-o", binary], sanitizer, tmp_path)
    ran = subprocess.run([binary], capture_output=True, text=True, timeout=50)
    skip_where_it_cannot_run(ran.stderr)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
