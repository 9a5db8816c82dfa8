import subprocess
import sys

import pytest

from workbench import cli
from workbench.errors import VmError
from workbench.vm import kit


def test_doctor_prints_the_report_and_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["doctor"])
    out = capsys.readouterr().out
    assert "guest kernel" in out
    assert status == (0 if "A VM can be started" in out else 1)


def test_no_command_and_unknown_commands_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["dance"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(argv)
        assert ended.value.code == 2
    assert "usage: workbench" in capsys.readouterr().err


def test_help_names_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("doctor", "fetch", "demo"))


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
