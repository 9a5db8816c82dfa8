"""bootstrap.py: what it does on machines that lack this or that; nothing comes from a network."""

import ensurepip
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from workbench.vm import bootstrap

# A checkout as small as can be: it builds itself, needs nothing, and shows the compiler flags it was given.
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import os, zipfile
INFO = "tiny-1.dist-info/"
def build_editable(directory, settings=None, metadata=None):
    with zipfile.ZipFile(directory + "/tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "flags = " + repr(os.environ.get("CFLAGS")))
        wheel.writestr(INFO + "METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n"
                       + "".join(f"Provides-Extra: {extra}\\n" for extra in ("lab", "vm", "data", "test")))
        wheel.writestr(INFO + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(INFO + "RECORD", "")
    return "tiny-1-py3-none-any.whl"
"""
# What stands in for debs.py, which needs a mirror: it unpacks a package that has pip's wheel in it.
DEBS = """
import pathlib, shutil, sys
assert sys.argv[2] == "python3-pip-whl", sys.argv
into = pathlib.Path(sys.argv[1], "usr/share/python-wheels")
into.mkdir(parents=True)
for wheel in {wheels!r}: shutil.copy(wheel, into)
"""
MISSING = "raise ImportError"

pytestmark = pytest.mark.timeout(240)  # a venv with pip in it is thousands of files


def pip_wheels() -> list[str]:
    """Return pip's wheel as this Python brings it, on Debian as python3-pip-whl does."""
    places = (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels"))
    return [str(path) for place in places for path in place.glob("pip-*.whl")][:1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the real bootstrap.py and a directory of modules that the tests take away."""
    tools = tmp_path / "tools"
    tools.mkdir()
    shutil.copy(bootstrap.__file__, tools)
    (tools / "debs.py").write_text(DEBS.format(wheels=pip_wheels()))
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "missing").mkdir()
    return tmp_path


def make(checkout: Path, *missing: str) -> subprocess.CompletedProcess[str]:
    """Run bootstrap.py in ``checkout`` with a Python that lacks the modules ``missing``."""
    for name in missing:
        (checkout / "missing" / f"{name}.py").write_text(MISSING)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    env |= {
        "PYTHONPATH": str(checkout / "missing"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return subprocess.run(
        [sys.executable, "tools/bootstrap.py", "my venv"],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def installed(checkout: Path) -> bool:
    python = checkout / "my venv/bin/python"
    return subprocess.run([python, "-c", "import tiny"], check=False).returncode == 0


@pytest.mark.slow
def test_a_venv_is_made_once_and_each_run_installs_the_checkout_into_it(checkout: Path) -> None:
    first = make(checkout)
    assert first.returncode == 0, first.stderr
    assert "setup: creating my venv\nsetup: installing the checkout with [lab,vm,data,test]" in first.stdout
    assert installed(checkout)
    (checkout / "my venv/mine").touch()
    (checkout / "backend.py").write_text(MISSING)
    second = make(checkout)
    assert "creating" not in second.stdout
    assert (checkout / "my venv/mine").exists()
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].startswith("setup: `")
    assert second.stderr.endswith("` failed\n")


@pytest.mark.slow
def test_a_venv_that_was_left_half_made_is_made_anew(checkout: Path) -> None:
    (checkout / "my venv/bin").mkdir(parents=True)
    (checkout / "my venv/bin/python").symlink_to(sys.executable)
    (checkout / "my venv/stale").touch()
    done = make(checkout, "pip")
    assert "setup: creating my venv\n" in done.stdout
    assert not (checkout / "my venv/stale").exists()


@pytest.mark.slow
@pytest.mark.skipif(not pip_wheels(), reason="this Python has no wheel of pip")
def test_without_ensurepip_pip_comes_from_debians_wheel(checkout: Path) -> None:
    done = make(checkout, "ensurepip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "setup: fetching python3-pip-whl from this machine's package mirror\n" in done.stdout
    assert installed(checkout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "debs", "said"),
    [
        (("venv",), "", "setup: this Python has no venv module: install python3-venv\n"),
        (("ensurepip",), "", "setup: python3-pip-whl has no wheel of pip in it: install python3-venv\n"),
        (("ensurepip",), "raise SystemExit('no mirror')", "no mirror\nsetup: `"),
    ],
)
def test_what_cannot_be_helped_is_told_in_one_line(
    checkout: Path, missing: tuple[str, ...], debs: str, said: str
) -> None:
    (checkout / "tools/debs.py").write_text(debs)
    done = make(checkout, *missing)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


def test_an_old_python_is_refused_before_anything_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        bootstrap.main([str(tmp_path / "venv")])
    assert list(tmp_path.iterdir()) == []


def test_headers_that_are_there_need_no_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("CFLAGS", "-g")
    assert bootstrap.compile_flags(tmp_path / "venv")["CFLAGS"] == "-g"


def test_headers_that_were_fetched_are_named_to_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("CFLAGS", "-g")
    include = tmp_path / "my venv/debian/headers/usr/include"
    include.mkdir(parents=True)
    flags = shlex.split(bootstrap.compile_flags(tmp_path / "my venv")["CFLAGS"])
    assert flags == [f"-I{include}/python{bootstrap.VERSION}", f"-I{include}", "-g"]
    monkeypatch.delenv("CFLAGS")
    assert bootstrap.compile_flags(tmp_path / "my venv")["CFLAGS"].endswith(f"-I{include}'")


@pytest.mark.slow
def test_it_runs_on_a_bare_python() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(sorted(set(sys.modules) & {'workbench'}))"
    command = [sys.executable, "-I", "-S", "-c", code, bootstrap.__file__]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
