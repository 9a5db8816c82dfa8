"""Names in a device class that the attributes of every device would hide."""

from typing import Any

import pytest

import workbench as wb


class Base(wb.Device):
    """A device without anything of its own."""

    id = wb.PciId(vendor=0x1234, device=0x0B11)


def problems_of(body: dict[str, Any], *bases: type) -> tuple[str, ...]:
    with pytest.raises(wb.DescriptionError) as caught:
        type("Named", (*bases, Base), body)
    return caught.value.problems


@pytest.mark.parametrize(
    "body",
    [
        *({name: lambda self: 5} for name in ("log", "hooks", "config", "server", "_core", "_served")),
        *({name: 5} for name in ("name", "strict", "dma", "bars", "blocks", "swap", "after", "serve")),
        {"name": property(lambda self: "mine")},
        {"__eq__": lambda self, other: True},
    ],
    ids=lambda body: next(iter(body)),
)  # fmt: skip
def test_what_the_attributes_of_every_device_would_hide_is_a_mistake(body: dict[str, Any]) -> None:
    (problem,) = problems_of(body)
    assert problem.startswith(f"{next(iter(body))}: ")
    mixin = type("Mixin", (), body)
    assert problem in problems_of({}, mixin)


def test_a_verb_may_be_overridden_and_a_hash_given() -> None:
    class Verbs(Base):
        ended = False

        def close(self) -> None:
            self.ended = True
            super().close()

        def __eq__(self, other: object) -> bool:
            return self is other

        __hash__ = Base.__hash__

    with Verbs() as device:
        assert device == device
    assert device.ended
