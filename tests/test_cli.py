import contextlib
import io
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb
from workbench import cli, leftovers
from workbench.devicefile import DeviceFile
from workbench.errors import VmError
from workbench.terminal import Terminal
from workbench.vm import kit


def test_doctor_prints_the_report_and_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["doctor"])
    out = capsys.readouterr().out
    assert "guest kernel" in out
    assert status == (0 if "A VM can be started" in out else 1)


def test_an_unknown_command_is_refused_and_none_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["dance"])
    assert ended.value.code == 2
    assert "usage: workbench" in capsys.readouterr().err
    assert cli.main([]) == 0
    assert capsys.readouterr().out == cli.parser().format_help()


def test_the_help_of_a_command_says_how_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    assert capsys.readouterr().out.startswith("usage: workbench serve [-h]")


@pytest.mark.parametrize("time", ["-1", "1000001", "fast"])
def test_a_time_to_poll_is_up_to_a_second(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.parser().parse_args(["serve", "lamp.py", "--poll-us", "50"]).poll_us == 50
    with pytest.raises(SystemExit):
        cli.main(["serve", "lamp.py", f"--poll-us={time}"])
    assert f"0 to 1000000 µs, not {time}" in capsys.readouterr().err


def test_help_names_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("lab", "demo", "serve", "doctor", "fetch", "gc"))


def test_a_failure_is_one_message_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(progress: object) -> None:
        raise VmError("no network")

    monkeypatch.setattr(kit, "fetch", fail)
    assert cli.main(["fetch"]) == 1
    assert capsys.readouterr().err == "workbench: no network\n"


@pytest.mark.slow
def test_the_command_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1)
    assert done.stdout.startswith("ok      Python")


LAMP = """
import workbench as wb

class Lamp(wb.Device):
    id = wb.PciId(vendor=0x1234, device=7)
    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0, ON=wb.Field(0))
    @bar0.CTRL.on_write
    def switch(self, access):
        self.answer = 1
"""


def test_a_full_disk_behind_the_output_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("workbench.preload.path", lambda: Path("/any"))
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert cli.main(["preload-path"]) == 1
    assert capsys.readouterr().err == "workbench: No space left on device\n"


def test_lab_opens_the_notebooks_and_passes_arguments_on() -> None:
    command = cli.lab_command(["--no-browser", "--port", "8899"])
    assert command[1:3] == ["-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/notebooks/00-tour.ipynb" in command
    assert command[-3:] == ["--no-browser", "--port", "8899"]
    assert "00-tour" not in " ".join(cli.lab_command(["own.ipynb"]))


def test_make_lab_passes_arguments_on_and_keeps_the_tour() -> None:
    command = ["make", "-n", "-C", str(cli.NOTEBOOKS.parent), "lab", "LAB_ARGS=--no-browser --port 8931"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "/workbench lab --no-browser --port 8931\n" in said


def test_lab_without_jupyterlab_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["lab"]) == 1
    assert "pip install 'pci-workbench[lab]'" in capsys.readouterr().err


def test_arguments_that_no_command_knows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--port", "1"])
    assert "unrecognized arguments: --port 1" in capsys.readouterr().err


def test_gc_removes_stale_sockets_and_ends_machines_without_a_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    stale = tmp_path / "workbench" / "1-dead"
    stale.mkdir(parents=True, mode=0o700)
    (stale / "lock").touch()
    wait = "import os, signal; print(os.getpid(), flush=True); os.close(1); signal.pause()"
    look_alike = [sys.executable, "-c", wait, "qemu-system", "-name", "pci-workbench", "-x"]
    with subprocess.Popen(look_alike, stdout=subprocess.PIPE) as own:
        assert own.stdout is not None
        assert int(own.stdout.readline()) not in leftovers.orphans()
        own.kill()
    done = subprocess.run(["sh", "-c", f"{shlex.join(look_alike)} &"], stdout=-1, text=True, check=True)
    orphan = os.pidfd_open(int(done.stdout))
    try:
        assert cli.main(["gc"]) == 0
        assert select.select([orphan], [], [], 10)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(orphan, signal.SIGKILL)
        os.close(orphan)
    out = capsys.readouterr().out
    assert "1 stale directory of sockets removed" in out
    assert f"process {int(done.stdout)}, had lost its parent: ended" in out
    assert not stale.exists()


def test_gc_says_when_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert cli.main(["gc"]) == 0
    assert "no stale directories" in capsys.readouterr().out


def test_a_file_is_taken_over_when_it_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "lamp.py"
    path.write_text(LAMP)
    file = DeviceFile(str(path))
    with file.make() as device:
        assert file.news(device) == ""
        path.write_text(LAMP.replace("answer = 1", "answer = 22"))
        assert "taken over in place" in file.news(device)
        device.bar0.CTRL.write(1)
        assert device.answer == 22


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("self.answer", "self..answer", 'lamp.py", line 10\n'),
        ("Field(0)", "Field(99)", "field ON (bit 99)"),
        ("import workbench as wb", "import workbench as wb\n1/0", "ZeroDivisionError"),
        ("4096", "8192", "0x1000 → 0x2000 bytes"),
        ("4096", "8192", "Close the VM, restart `workbench serve` and start the VM again"),
        ("Lamp", "Lump", "has no class Lamp any more"),
    ],
)
def test_a_mistake_in_the_file_is_told_and_changes_nothing(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "lamp.py"
    path.write_text(LAMP)
    file = DeviceFile(str(path))
    with file.make() as device:
        path.write_text(LAMP.replace(old, new))
        told = file.news(device)
        assert said in told
        assert told.endswith("Lamp goes on as it was")
        device.bar0.CTRL.write(1)
        assert device.answer == 1


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (LAMP, "lamp.py:Lump", "its devices: Lamp"),
        (LAMP + LAMP.replace("Lamp", "Lump"), "lamp.py", "its devices: Lamp, Lump"),
        ("", "lamp.py", "lamp.py describes no device: a class of wb.Device is one"),
        ("1/0", "lamp.py", 'lamp.py", line 1, in <module>'),
        (LAMP, "other.py", "there is no file"),
        (LAMP, "x" * 300 + ".py", "there is no file"),
    ],
)
def test_serve_says_what_is_wrong_with_the_file(
    tmp_path: Path, text: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lamp.py").write_text(text)
    assert cli.main(["serve", str(tmp_path / name)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert "workbench/cli.py" not in err


@contextlib.contextmanager
def served(path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], wb.Client]]:
    # Without -u: Python's unbuffered text output loses the rest of a write that a signal cuts short.
    command = [sys.executable, "-m", "workbench.cli", "serve", str(path)]
    command += ["--socket", str(path.parent / "s"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said = read_until(process, "Ctrl-C ends")
            assert "vfio-user-pci" in said
            older = ["-device", json.dumps({"driver": "vfio-pci", "sysfsdev": str(path.parent / "s")})]
            assert f"LD_PRELOAD=$(workbench preload-path), the same but for {shlex.join(older)}\n" in said
            with wb.Client(path.parent / "s") as guest:
                yield process, guest
        finally:
            process.kill()


def read_until(process: "subprocess.Popen[str]", word: str) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if word in line:
            break
    return text


def rest(process: "subprocess.Popen[str]") -> str:
    # Not communicate(), which does not know of what was read ahead for a line.
    assert process.stdout is not None
    text = process.stdout.read()
    process.wait(20)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_shows_the_log_takes_edits_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "lamp.py"
    path.write_text(LAMP)
    with served(path, "--trace") as (process, guest):
        guest.bar0.write32(0, 1)
        said = read_until(process, "ON 0→1")
        assert "-- Lamp: attached to pid" in said
        assert "wire      -> #1     VERSION" in said
        path.write_text(LAMP.replace("self.answer = 1", "self.answer / 0"))
        read_until(process, "taken over in place")
        guest.bar0.write32(0, 0)
        assert 'lamp.py", line 10, in switch' in read_until(process, "ZeroDivisionError")
        process.send_signal(number)
        assert rest(process).endswith("dropped\n")
        assert process.returncode == 0
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_pipe_gets_every_record(tmp_path: Path) -> None:
    path = tmp_path / "lamp.py"
    path.write_text(LAMP)
    with served(path) as (process, guest):
        for _ in range(5000):
            guest.bar0.read32(0)
        process.send_signal(signal.SIGINT)
        assert rest(process).count("read       bar0.CTRL") == 5000


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_that_cannot_keep_up_is_shown_the_newest(device: wb.Device, guest: wb.Client) -> None:
    screen = Screen()
    terminal = Terminal(device, screen)
    for _ in range(100):
        guest.bar0.read32(0)
    terminal.step(0)
    text = screen.getvalue()
    assert text.count("\n") == 41
    assert "records not shown" in text
    assert f"Sample: attached to pid {os.getpid()}" in text.rpartition("\r")[2]
    assert "0 dropped" in text.rpartition("\r")[2]
