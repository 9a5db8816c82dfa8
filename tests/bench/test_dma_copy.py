"""A DMA copy costs its bytes: at 1 MiB at least nine tenths of the speed of memcpy on the same buffers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which("gcc") or shutil.which("cc")
PROGRAM = Path(__file__).with_name("dma_copy.c")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_a_copy_of_a_mebibyte_is_as_fast_as_memcpy(tmp_path):
    binary = tmp_path / "dma_copy"
    sources = [PROGRAM, *sorted((ROOT / "workbench/engine").glob("*.c"))]
    flags = ["-std=gnu11", "-O2", "-pthread", f"-I{ROOT / 'workbench/engine'}"]
    subprocess.run([COMPILER, *flags, *map(str, sources), "-o", str(binary)], check=True)
    core = max(os.sched_getaffinity(0))
    ran = subprocess.run(
        [binary],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    print("\nbytes, read and write relative to memcpy, ns of memcpy, read, write\n" + ran.stdout)
    lines = [line.split() for line in ran.stdout.splitlines()]
    speeds = {int(size): (float(read), float(write)) for size, read, write, *_ in lines}
    assert min(speeds[1 << 20]) >= 0.9
    assert min(speeds[4096]) >= 0.4  # what a record, the lock and the clock may cost beside a page
