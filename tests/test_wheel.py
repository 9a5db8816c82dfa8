"""The wheel: built without a network from a copy of the checkout, looked into, installed, and used."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from workbench.engine.build import STABLE_ABI

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("workbench", "devices", "pyproject.toml", "README.md", "LICENSE")
LEFT = shutil.ignore_patterns("__pycache__", "*.so", "_engine.c")  # what a clone does not have
OWN = f"cp{sys.version_info.major}{sys.version_info.minor}"
TAG = "cp311-abi3" if STABLE_ABI else f"{OWN}-{OWN}t"
LIBRARIES = {
    f"workbench/engine/_engine{'.abi3.so' if STABLE_ABI else sysconfig.get_config_var('EXT_SUFFIX')}",
    "workbench/preload/_preload.so",
}
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
USE = """
import sys
sys.path.insert(0, sys.argv[1])
import workbench as wb
from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.views import hub
assert hub.__file__.startswith(sys.argv[1])
with PciIdio16() as card, card.connect() as guest:
    guest.bar2.write8(0, 5)
    print(card.bar2.OUT0_7.value, *(guest.bar2.read8(1) & 1 for _ in range(4)))
for module in (wb, sys.modules["workbench.devices.gpio_pci_idio_16"], wb.engine._engine):
    print(module.__file__)
"""


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once for all tests."""
    top = tmp_path_factory.mktemp("wheel")
    copy = top / "checkout"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=LEFT)
        else:
            shutil.copy(ROOT / name, copy)
    run([*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", top, "."], copy)
    (found,) = top.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Where the wheel is installed, alone."""
    target = wheel.parent / "installed"
    run([*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel], wheel.parent)
    return target


def test_one_wheel_serves_every_python_from_3_11_on_but_the_free_threaded(wheel: Path) -> None:
    assert wheel.name.startswith(f"pci_workbench-0.1.0-{TAG}-linux_")
    with zipfile.ZipFile(wheel) as archive:
        libraries = {name for name in archive.namelist() if name.endswith(".so")}
    assert libraries == LIBRARIES


def test_it_has_every_file_of_the_packages_and_none_besides(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    kinds = {".py", ".pyi", ".c", ".h", ".js", ".css", ".sh", ".typed"}
    here = [*(ROOT / "workbench").rglob("*"), *(ROOT / "devices").rglob("*")]
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in here
        if path.is_file() and (path.suffix in kinds or path.name == "py.typed") and path.name != "_engine.c"
    }
    ours = {f"workbench/{name}" if name.startswith("devices/") else name for name in ours}
    assert names == ours | LIBRARIES
    assert {
        "workbench/py.typed", "workbench/engine/_engine.pyi", "workbench/engine/wb.h",
        "workbench/views/static/panel.js", "workbench/devices/gpio_pci_idio_16.py",
    } <= names  # fmt: skip


def test_it_says_what_it_needs_what_it_offers_and_under_which_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(info["METADATA"]).decode()
        scripts = archive.read(info["entry_points.txt"]).decode()
    assert "LICENSE" in info
    lines = metadata.partition("\n\n")[0].splitlines()
    for extra in ("lab", "data", "vm", "native", "test"):
        assert f"Provides-Extra: {extra}" in lines
    assert {"Requires-Python: >=3.11", "License-Expression: BSD-3-Clause"} <= set(lines)
    core = [line for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert sorted(line.split()[1].partition(">")[0] for line in core) == [
        *("anywidget", "cffi", "ipykernel", "ipywidgets", "matplotlib", "numpy")
    ]
    assert "workbench = workbench.cli:main" in scripts


def test_a_device_is_served_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    said, *files = run([sys.executable, "-I", "-c", USE, installed], tmp_path).splitlines()
    assert said == "5 0 0 0 1"
    assert [name.startswith(str(installed)) for name in files] == [True] * 3
