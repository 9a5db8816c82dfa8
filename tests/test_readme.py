"""The README's own code runs, as it stands there."""

import re
from pathlib import Path

import pytest

import workbench as wb

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def run(blocks):
    names = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_first_device_can_be_typed_in():
    names = run(block for block in BLOCKS if "wb.VM" not in block)
    dev, guest = names["dev"], names["guest"]
    guest.disconnect()
    dev.close()
    assert dev.bar0.CTRL == 1
    assert not dev.hooks.failures
    assert [record.value for record in dev.log.filter(register="COUNT", kind="read")] == [1]
    assert [record.text for record in dev.log.filter(kind="irq")] == ["INTx delivered"]


@pytest.mark.vm
@pytest.mark.timeout(120)
def test_a_vm_is_attached_in_two_lines(capsys):
    (attach,) = [block for block in BLOCKS if "wb.VM" in block]
    names = run([BLOCKS[0], attach])
    names["dev"].close()
    assert "[1234:0b11]" in capsys.readouterr().out


def test_the_readme_names_every_command_there_is():
    text = README.read_text()
    assert all(f"make {target}" in text for target in ("lab", "test", "demo"))
    assert wb.doctor.__name__ in text
