"""IPython's completer on a device: offers registers and fields, with jedi and without, and reads nothing."""

from collections.abc import Iterator
from typing import Any

import pytest

import workbench as wb
from workbench.unseen import unseen

pytestmark = pytest.mark.slow  # importing IPython and jedi's first completion


class Lamp(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0B11)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0x00, ON=wb.Field(0), GAIN=wb.Field(8, 8))
        COUNT = wb.Register(0x04, mode="rc", reset=7)
        CH = wb.Register(0x100, count=4, LEVEL=wb.Field(0, 8, mode="rc"))


@pytest.fixture
def lamp() -> Iterator[Lamp]:
    with Lamp() as device:
        yield device


@pytest.fixture(scope="module")
def complete() -> Any:
    from IPython.core import completer, interactiveshell

    shell = interactiveshell.InteractiveShell()

    def offered(device: wb.Device, text: str, jedi: bool) -> set[str]:
        shell.user_ns["dev"] = device
        shell.Completer.use_jedi = jedi
        with completer.provisionalcompleter():
            found = list(shell.Completer.completions(text, len(text)))
        return {one.text.rpartition(".")[2] for one in found}

    return offered


@pytest.mark.parametrize("jedi", [False, True], ids=["plain", "jedi"])
def test_registers_fields_and_array_elements_are_offered_and_nothing_is_read(
    lamp: Lamp, complete: Any, jedi: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []
    for register in (lamp.bar0.CTRL, lamp.bar0.COUNT, *lamp.bar0.CH):
        register.on_read(lambda device: touched.append("read"))
    region = type(lamp.bar0.CTRL._region)
    for verb in ("peek", "read", "poke", "write"):
        monkeypatch.setattr(region, verb, lambda *_, verb=verb: touched.append(verb) or 0)
    before = lamp.log.total
    for text, names in (
        ("dev.ba", {"bar0"}),
        ("dev.bar0.", {"CTRL", "COUNT", "CH", "read", "peek"}),
        ("dev.bar0.CTRL.", {"ON", "GAIN", "value", "on_write"}),
        ("dev.bar0.CTRL.GAIN.", {"value", "description"}),
        ("dev.bar0.CH.", {"on_write", "name"}),
        ("dev.bar0.CH[1].", {"LEVEL", "value", "read"}),
        ("dev.bar0.CH[-1].LEVEL.", {"value"}),
        ("dev.config.", {"VENDOR_ID", "COMMAND"}),
    ):
        assert names <= complete(lamp, text, jedi), text
    assert touched == []
    assert lamp.log.total == before


def test_an_unseen_method_works_on_instances_and_is_its_bases_from_the_class() -> None:
    class Row(tuple[int, ...]):
        @unseen
        def __getitem__(self, place: Any) -> Any:
            return tuple.__getitem__(self, place) + 100

        @unseen
        def __getattr__(self, name: str) -> str:
            return name

    row = Row((1, 2))
    assert (row[1], row.other, len(row)) == (102, "other", 2)
    assert Row.__getitem__ is tuple.__getitem__
    assert not hasattr(Row, "__getattr__")
