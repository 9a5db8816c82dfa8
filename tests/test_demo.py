"""``workbench demo``: with a virtual machine, without one, and into a pipe that nobody reads to its end."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.demo import PICTURE, STORY

TWELVE = "0 0 0 1 1 1 0 0 0 1 1 1"
PNG = b"\x89PNG\r\n\x1a\n"
DEMO = [sys.executable, "-m", "workbench.cli", "demo"]
FALLBACK = (
    "this machine is not a Debian or Ubuntu system (no apt-get): the software guest plays the driver "
    "(`workbench doctor` says how to get a VM)"
)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to run in, on a machine with an empty cache and no program at all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.vm
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_linux_drives_the_card_and_the_demo_shows_it(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = subprocess.run(DEMO, cwd=tmp_path, capture_output=True, text=True, check=False)
    took = time.monotonic() - begun
    assert (done.returncode, done.stderr) == (0, "")
    transcript, log = done.stdout.split("The access log: ")
    assert "driver gpio-pci-idio-16:\n" in transcript
    assert [line[4:] for line in transcript.splitlines() if line.startswith("  # ")] == list(STORY)
    assert f"\n  {TWELVE} \n" in transcript
    assert "software guest" not in transcript
    assert re.search(r"guest +read +bar2\.IN0_7 +0xff +0→0xff", log)
    assert re.search(r"guest +write +bar2\.OUT8_15 +0x02 +0→2", log)
    assert "OUT0_7 @ bar2+0x0 rw 0x05" in log
    assert log.endswith(f"\nThe timeline: {PICTURE}\n")
    assert (tmp_path / PICTURE).read_bytes().startswith(PNG)
    print(f"the demo took {took:.1f} s")
    assert took < 15  # with a warm cache


@pytest.mark.slow
def test_without_a_vm_the_software_guest_plays_the_driver_and_one_line_says_so(bare: Path) -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == FALLBACK
    assert f"  bar2.read8(0x1) & 1, twelve times: {TWELVE}" in rest
    assert any("bar2.OUT0_7" in line and "0→5" in line for line in rest)
    assert rest[-1] == f"The timeline: {PICTURE}"
    assert (bare / PICTURE).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_a_picture_that_cannot_be_stored_is_told_and_the_demo_ends_well(bare: Path) -> None:
    PICTURE.parent.write_text("a file of the user's")
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("The timeline could not be stored here: ")


@pytest.mark.slow
def test_a_reader_that_leaves_after_the_first_line_ends_the_demo_without_a_word(bare: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{FALLBACK}\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.fixture
def deaf() -> Iterator[int]:
    """The write end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["", "unbuffered"])
@pytest.mark.parametrize("argument", ["--help", "doctor"])
def test_no_command_complains_that_nobody_reads_what_it_says(
    bare: Path, deaf: int, argument: str, unbuffered: str
) -> None:
    command, env = [*DEMO[:-1], argument], os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=deaf, stderr=subprocess.PIPE, check=False, timeout=50, env=env)
    assert done.stderr == b""
    minds = not (unbuffered and argument == "--help")  # argparse minds nothing that it writes itself
    assert done.returncode in ((141,) if minds else (0, 141))


@pytest.mark.slow
def test_an_error_that_nobody_reads_ends_the_command_as_any_other_output(bare: Path, deaf: int) -> None:
    command = [*DEMO[:-1], "serve", "none.py"]
    assert subprocess.run(command, stdout=deaf, stderr=deaf, check=False, timeout=50).returncode == 141
