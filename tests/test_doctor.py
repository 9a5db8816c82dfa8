import os
from pathlib import Path

import pytest

from workbench import doctor
from workbench.vm.doctor import CHECKS, Check, Report


def test_each_thing_is_looked_at_and_shown_on_its_line() -> None:
    report = doctor()
    assert len(report.checks) == len(CHECKS)
    lines = repr(report).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [check.word for check in report.checks]
    assert repr(report).endswith("A VM can be started." if report.ok else "dev.connect().")


def test_html_escapes_what_it_shows() -> None:
    html = Report((Check("<b>", None, "a & b"),))._repr_html_()
    assert "&lt;b&gt;" in html
    assert "a &amp; b" in html


def test_only_what_is_missing_stops_a_vm() -> None:
    assert Report((Check("a", True, ""), Check("b", None, ""))).ok
    assert not Report((Check("a", True, ""), Check("b", False, ""))).ok


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with an empty cache and no program at all."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_machine_with_nothing_is_told_what_to_do(bare: Path) -> None:
    checks = {check.name: check for check in doctor().checks}
    assert checks["QEMU"].ok is False
    assert "not a Debian or Ubuntu system" in checks["QEMU"].text
    assert "install QEMU 10.1" in checks["QEMU"].text
    assert checks["XDG_CACHE_HOME"].ok
    assert not doctor().ok


def test_an_old_qemu_is_named_with_its_version(bare: Path) -> None:
    old = bare / "qemu-system-x86_64"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "QEMU emulator version 7.2.0"\n')
    old.chmod(0o755)
    qemu = next(check for check in doctor().checks if check.name == "QEMU")
    assert "7.2.0 has no vfio-user-pci" in qemu.text


def test_a_newer_qemu_on_the_path_is_taken(bare: Path) -> None:
    new = bare / "qemu-system-x86_64"
    new.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --version ] && echo "QEMU emulator version 12.0.0" || echo "  socket=<SocketAddress>"\n'
    )
    new.chmod(0o755)
    qemu = next(check for check in doctor().checks if check.name == "QEMU")
    assert qemu.ok
    assert qemu.text == f"12.0.0 with vfio-user-pci, {new}"


def test_a_check_that_fails_is_a_line_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", None)
    memory = next(check for check in doctor().checks if check.name == "shared memory")
    assert memory.ok is False
    assert "TypeError" in memory.text
