"""The n-th call that the engine makes of the system fails, for n = 1, 2 ... until none does: faults.c."""

import re
import subprocess
from pathlib import Path

import pytest
from native_kit import Objects, build

HERE = Path(__file__).resolve().parent


def wrapped() -> list[str]:
    """The functions that wrap.c stands in front of."""
    table = re.search(r"wrap_names\[WRAPPED\] = {(.*?)}", (HERE / "wrap.c").read_text(), re.DOTALL)
    assert table
    return re.findall(r'"(\w+)"', table[1])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_call_may_fail_be_interrupted_or_cut_short(tmp_path: Path, engine: Objects) -> None:
    """Under ASan and UBSan: no crash, no leak, an errno, state intact, the next client served."""
    binary = tmp_path / "faults"
    wraps = [f"-Wl,--wrap={name}" for name in wrapped()]
    sanitizer = "address,undefined"
    build([*wraps, HERE / "faults.c", HERE / "wrap.c", *engine(sanitizer), "-o", binary], sanitizer, tmp_path)
    ran = subprocess.run([binary], capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    print(ran.stdout)
    assert {line.split(":")[0] for line in ran.stdout.splitlines() if line[0] != "#"} == set(wrapped())
