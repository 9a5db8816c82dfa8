"""Where the preloaded library is: the Python door, the command, and what they say without one."""

import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb
from workbench import cli, preload


def test_the_library_is_built_with_the_package() -> None:
    assert preload.path().read_bytes().startswith(b"\x7fELF")
    assert preload.path().parent == Path(preload.__file__).parent


def test_the_command_prints_the_path_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["preload-path"]) == 0
    assert capsys.readouterr().out == f"{preload.path()}\n"


def test_a_library_that_was_not_built_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preload, "LIBRARY", "_absent.so")
    with pytest.raises(wb.StateError, match=r"_absent\.so was not built; `pip install \.`"):
        preload.path()
    assert cli.main(["preload-path"]) == 1
    assert "was not built" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["two words", "a:b"])
def test_a_path_that_ld_preload_cannot_name_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    (tmp_path / place).mkdir()
    (tmp_path / place / preload.LIBRARY).touch()
    monkeypatch.setattr(preload, "__file__", str(tmp_path / place / "__init__.py"))
    with pytest.raises(wb.StateError, match="no space and no colon"):
        preload.path()


def test_another_system_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(wb.StateError, match="for 64-bit Linux, this is darwin"):
        preload.path()


def test_it_needs_libc_alone_and_exports_libc_s_names_alone() -> None:
    said = subprocess.run(
        ["readelf", "-d", preload.path()], capture_output=True, text=True, check=True
    ).stdout
    needed = [line.rpartition("[")[2].rstrip("]") for line in said.splitlines() if "(NEEDED)" in line]
    assert {name.partition(".so")[0] for name in needed} <= {"libc", "libdl", "libpthread", "ld-linux-x86-64"}
    names = subprocess.run(
        ["nm", "-D", "--defined-only", preload.path()], capture_output=True, text=True, check=True
    ).stdout.split()[2::3]
    assert "open64" in names
    assert [name for name in names if name.startswith("wbp_")] == []
