"""The parts of a description: those missing, wrong, or under a name that nobody looks at, told at once."""

import pytest

import workbench as wb


class Base(wb.Device):
    id = wb.PciId(vendor=1, device=2)


def test_a_wrong_bar_irq_capabilities_and_rom_and_no_id_are_all_told_at_once() -> None:
    def make() -> None:
        class Wrong(wb.Device):
            irq = 5
            capabilities = 5  # type: ignore[assignment]
            rom = "x"

            class bar7(wb.Bar, size=16):
                pass

    with pytest.raises(wb.DescriptionError) as caught:
        make()
    told = caught.value.problems
    assert len(told) == 5
    for name in ("bar7", "irq is 5", "capabilities is 5", "rom is 'x'", "it has no id"):
        assert any(name in problem for problem in told), name


def test_a_part_under_a_name_that_nobody_looks_at_is_told() -> None:
    class Device(Base):
        power = wb.PowerManagement()
        capabilities = (power,)
        also = Base.id
        lines = irq = wb.Interrupts(intx=True)

    Device().close()

    def make() -> None:
        class Wrong(Base):
            irqs = wb.Interrupts(intx=True)
            ID = wb.PciId(vendor=3, device=4)
            capabilites = (wb.PowerManagement(),)

    with pytest.raises(wb.DescriptionError) as caught:
        make()
    assert caught.value.problems == (
        "irqs holds wb.Interrupts: only irq is looked at for that",
        "ID holds wb.PciId: only id is looked at for that",
        "capabilites holds wb.PowerManagement: only capabilities is looked at for that",
    )
