"""What an extra brings is asked for by its name when it is missing, and only then."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HIDE = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"
CARD = (
    "import workbench as wb\nfrom workbench.devices.gpio_pci_idio_16 import PciIdio16\ncard = PciIdio16()\n"
)
RAISES = "try: {call}\nexcept ImportError as error: print(error)\n"
LAB = "from workbench.cli import main\nprint(main(['lab']))\n"


def without(names: list[str], code: str) -> str:
    """Run ``code`` where importing ``names`` fails; return what it printed on either stream."""
    done = subprocess.run(
        [sys.executable, "-c", HIDE.format(names=names) + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=50,
    )
    return done.stdout


def test_the_log_as_a_table_needs_pandas_and_names_the_extra() -> None:
    said = without(["pandas"], CARD + RAISES.format(call="card.log.to_pandas()"))
    assert said == "to_pandas() needs pandas: pip install 'pci-workbench[data]'\n"


def test_everything_else_about_the_log_works_without_pandas() -> None:
    code = "with card.connect() as guest: guest.bar2.read8(1)\nlog = card.log.filter(register='bar2.IN0_7')\n"
    code += "print(log.records()['size'].tolist(), log.plot().get_title(), sep='')\n"
    assert without(["pandas", "pyarrow"], CARD + code).startswith("[1]")


def test_qmp_needs_its_package_and_names_the_extra() -> None:
    code = "import socket\nfrom workbench.vm.qmp import Qmp\none, two = socket.socketpair()\n"
    said = without(["qemu", "qemu.qmp"], code + RAISES.format(call="Qmp(one)"))
    assert said == "vm.qmp() needs qemu.qmp: pip install 'pci-workbench[vm]'\n"


def test_a_native_hook_from_a_function_needs_numba_and_names_the_extra() -> None:
    said = without(
        ["numba"], "import workbench as wb\n" + RAISES.format(call="wb.native.code(lambda wb, access: 0)")
    )
    assert said == "a native hook from a function needs numba: pip install 'pci-workbench[native]'\n"


def test_a_vm_is_made_without_qmp() -> None:
    said = without(["qemu", "qemu.qmp"], CARD + "print(wb.VM(card, modules='gpio-pci-idio-16'))\n")
    assert said == "<VM not running, 1 device>\n"


def test_lab_needs_jupyterlab_and_names_the_extra() -> None:
    said = without(["jupyterlab"], LAB)
    assert said == "workbench: `workbench lab` needs JupyterLab: pip install 'pci-workbench[lab]'\n1\n"


def test_the_doctor_names_each_missing_extra() -> None:
    code = "import workbench as wb\nprint(wb.doctor())\n"
    said = without(["pandas", "qemu.qmp", "jupyterlab"], code)
    for name, extra in (("pandas", "data"), ("qemu.qmp", "vm"), ("jupyterlab", "lab")):
        assert f"{name} (pip install 'pci-workbench[{extra}]')" in said
