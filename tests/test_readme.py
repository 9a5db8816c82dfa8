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


def test_the_first_device_can_be_typed_in(capsys):
    names = run(block for block in BLOCKS if "wb.VM" not in block)
    dev, guest = names["dev"], names["guest"]
    guest.disconnect()
    dev.close()
    assert dev.bar0.CTRL == 1
    assert capsys.readouterr().out == "now 1\n"
    assert not dev.hooks.failures
    assert [record.value for record in dev.log.filter(register="COUNT", kind="read")] == [1]
    assert [record.text for record in dev.log.filter(kind="irq")] == ["INTx delivered"]


@pytest.mark.vm
@pytest.mark.timeout(120)
def test_all_of_it_runs_in_its_own_order_with_a_vm_in_the_end(capsys):
    names = run(BLOCKS)
    names["dev"].close()
    assert "[1234:0b11]" in capsys.readouterr().out
    assert names["guest"].closed
    assert not names["dev"].hooks.failures


def test_the_readme_names_the_commands_to_begin_with():
    text = README.read_text()
    assert all(f"make {target}" in text for target in ("lab", "test", "demo"))
    assert wb.doctor.__name__ in text
    assert "workbench serve devices/gpio_pci_idio_16.py" in text


@pytest.mark.parametrize("path", [README, README.parent / "notebooks/README.md"], ids=["README", "notebooks"])
def test_what_it_links_to_is_there_and_small(path):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text()) if "://" not in link]
    files = [path.parent / link for link in links]
    assert [str(file) for file in files if not file.is_file()] == []
    assert [file.name for file in files if file.suffix == ".png" and file.stat().st_size > 120_000] == []
