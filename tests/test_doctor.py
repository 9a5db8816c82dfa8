import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import VmError, doctor, preload
from workbench.vm import kit, kvm
from workbench.vm.doctor import CHECKS, Check, Report, _kvm, _runtime


def test_each_thing_is_looked_at_and_shown_on_its_line() -> None:
    report = doctor()
    assert len(report.checks) == len(CHECKS)
    lines = repr(report).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [check.word for check in report.checks]
    verdict = repr(report).splitlines()[-1]
    assert verdict.startswith("A VM can be started" if report.ok else "No VM can be started")


def test_html_escapes_what_it_shows() -> None:
    html = Report((Check("<b>", None, "a & b"),))._repr_html_()
    assert "&lt;b&gt;" in html
    assert "a &amp; b" in html


def test_only_what_is_missing_stops_a_vm() -> None:
    assert Report((Check("a", True, ""), Check("b", None, ""))).ok
    assert not Report((Check("a", True, ""), Check("b", False, ""))).ok


def test_what_must_be_fetched_first_is_in_the_verdict_with_the_last_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    there, fetchable = Check("QEMU", True, ""), Check("guest kernel", None, "none")
    assert repr(Report((there,))).endswith("A VM can be started.")
    once = "A VM can be started once QEMU and the kernel are fetched (needs a network): workbench fetch"
    assert Report((there, fetchable)).verdict == once
    (tmp_path / "pci-workbench").mkdir()
    (tmp_path / "pci-workbench/last-fetch-failure").write_text("2030-01-02 03:04 no network\n")
    assert Report((there, fetchable)).verdict == f"{once}. The last fetch failed: 2030-01-02 03:04 no network"


def test_a_fetch_that_fails_is_remembered_and_told_in_one_clean_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VmError) as caught:
        kit.fetch()
    first, *more = str(caught.value).splitlines()
    assert first == "this machine is not a Debian or Ubuntu system (no apt-get)"
    assert more[-1].endswith("use the software guest: dev.connect()")
    failure = kit.last_failure()
    assert failure is not None
    assert failure.endswith(first)


def test_a_kvm_that_failed_is_left_alone_until_the_next_boot_and_the_mark_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys.modules["workbench.vm.doctor"], "kvm_problem", lambda: None)
    assert _kvm().text.startswith("seems usable")
    kvm.remember_kvm_failure("KVM internal error")
    check = _kvm()
    assert check.ok is None
    assert "(KVM internal error), so it is left alone until the next boot" in check.text
    assert str(tmp_path / "pci-workbench/kvm-broken") in check.text
    kvm.forget_kvm_failure()
    assert _kvm().ok


def test_a_runtime_directory_that_is_not_there_is_done_without_as_by_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert _runtime() == Check("XDG_RUNTIME_DIR", True, str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert _runtime().name == "TMPDIR"


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
    assert "install QEMU" in checks["QEMU"].text
    assert checks["XDG_CACHE_HOME"].ok
    assert not doctor().ok


def installed(bare: Path, version: str, device: str, help_: str) -> Path:
    """Put a program on the path that says of itself what a QEMU would."""
    program = bare / "qemu-system-x86_64"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "QEMU emulator version {version}"\n'
        f'[ "$2" = {device},help ] && echo "  {help_}"\nexit 0\n'
    )
    program.chmod(0o755)
    return program


def test_a_qemu_without_vfio_is_named_with_its_version(bare: Path) -> None:
    installed(bare, "7.2.0", "none", "")
    qemu = next(check for check in doctor().checks if check.name == "QEMU")
    assert "7.2.0 has no vfio-pci" in qemu.text


def test_an_older_qemu_will_do_with_the_preloaded_library(bare: Path) -> None:
    old = installed(bare, "7.2.0", "vfio-pci", "sysfsdev=<str>")
    qemu = next(check for check in doctor().checks if check.name == "QEMU")
    assert qemu.ok
    assert qemu.text == f"7.2.0 with vfio-pci and `workbench preload-path`, {old}"
    found = kit.find_qemu()
    assert found is not None
    assert found.start[0] == "env"
    assert f"LD_PRELOAD={preload.path()}" in found.start


def test_a_fetched_qemu_is_named_by_a_script_that_starts_it_as_the_vms_do(bare: Path) -> None:
    tree = bare / "cache/pci-workbench/qemu-1"
    program = tree / "usr/bin/qemu-system-x86_64"
    loader = tree / "usr/lib64/ld-linux-fake.so.2"
    for path in (program, loader):
        path.parent.mkdir(parents=True)
        path.write_text(
            '#!/bin/sh\necho "$LD_PRELOAD $QEMU_MODULE_DIR" "$@"\n'
            'case "$*" in *vfio-user-pci,help) echo "socket=<SocketAddress>";; esac\n'
        )
        path.chmod(0o755)
    said = next(check for check in doctor().checks if check.name == "QEMU").text
    script = tree / "qemu-system-x86_64"
    assert said.endswith(f"vfio-user-pci, {script}")
    environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(preload.path())}
    done = subprocess.run([script, "-m", "two words"], env=environment, capture_output=True, text=True)
    modules = tree / "usr/lib/x86_64-linux-gnu/qemu"
    assert done.stdout.startswith(f"{preload.path()} {modules} --library-path ")
    assert done.stdout.endswith("seabios -m two words\n")
    script.write_text("of an older place")
    assert doctor() == doctor()
    assert script.read_text().startswith("#!/bin/sh\nexec env ")


def test_a_newer_qemu_on_the_path_is_taken(bare: Path) -> None:
    new = installed(bare, "12.0.0", "vfio-user-pci", "socket=<SocketAddress>")
    qemu = next(check for check in doctor().checks if check.name == "QEMU")
    assert qemu.ok
    assert qemu.text == f"12.0.0 with vfio-user-pci, {new}"


def test_a_check_that_fails_is_a_line_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", None)
    memory = next(check for check in doctor().checks if check.name == "shared memory")
    assert memory.ok is False
    assert "TypeError" in memory.text
