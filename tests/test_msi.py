"""MSI and MSI-X as a description has them: where table and pending bits go, and every mistake."""

from typing import Any

import pytest

import workbench as wb
from workbench.interrupts import Interrupts
from workbench.msi import Layout, place_msix


class small(wb.Bar, size=4096):
    CTRL = wb.Register(0x00)


class large(wb.Bar, size=0x8000):
    CTRL = wb.Register(0x00)
    LAST = wb.Register(0x1FC)


class full(wb.Bar, size=16):
    WORD = wb.Register(0x00, count=4)


class ports(wb.Bar, size=64, kind="io"): ...


class screen(wb.Bar, size=1 << 20, mmap=True): ...


class ring(wb.Bar, size=0x4000, mmap=[(0x1000, 0x2000)]):
    HEAD = wb.Register(0x00)


class wide(wb.Bar, size=16, bits=64):
    WORD = wb.Register(0x00, count=4)


def placed(bars: dict[int, type[wb.Bar]], vectors: int, table: Any = None, pba: Any = None) -> Layout:
    problems: list[str] = []
    layout = place_msix(bars, vectors, table, pba, problems)
    assert not problems
    assert layout is not None
    return layout


def where(layout: Layout) -> tuple[tuple[int, int], tuple[int, int], int | None]:
    table, pba = layout.table, layout.pba
    return (table.slot, table.offset), (pba.slot, pba.offset), layout.own


def mistakes(irq: Interrupts, *bars: type[wb.Bar]) -> tuple[str, ...]:
    with pytest.raises(wb.DescriptionError) as caught:
        described(irq, *bars)
    return caught.value.problems


def described(irq: Interrupts, *bars: type[wb.Bar], **more: Any) -> type[wb.Device]:
    body: dict[str, Any] = {"id": wb.PciId(vendor=1, device=2), "irq": irq, **more}
    for slot, bar in enumerate(bars):
        body[f"bar{slot}"] = type(bar)(f"bar{slot}", (bar,), {}, size=bar.size)
    return type(wb.Device)("Card", (wb.Device,), body)


# -- places --


@pytest.mark.parametrize(
    ("bars", "vectors", "expected"),
    [
        ({0: large}, 8, ((0, 0x1000), (0, 0x2000), None)),  # a page from the registers, a page apart
        ({0: large}, 2048, ((1, 0x0), (1, 0x8000), 1)),  # no room: a BAR of its own
        ({0: small}, 4, ((0, 0x10), (0, 0x50), None)),  # no page is left, but room is
        ({0: full, 2: small}, 4, ((2, 0x10), (2, 0x50), None)),
        ({0: ports}, 65, ((1, 0x0), (1, 0x1000), 1)),
        ({0: wide}, 1, ((2, 0x0), (2, 0x1000), 2)),  # slot 1 is the upper half
        ({}, 1, ((0, 0x0), (0, 0x1000), 0)),
        ({0: screen}, 4, ((1, 0x0), (1, 0x1000), 1)),  # the guest maps all of it
        ({0: ring}, 4, ((0, 0x10), (0, 0x50), None)),  # in front of the pages that it maps
        ({0: ring}, 254, ((0, 0x3000), (0, 0x3FE0), None)),  # or behind them
        ({0: ring}, 0x200, ((1, 0x0), (1, 0x2000), 1)),
    ],
)
def test_a_place_is_found(bars: dict[int, type[wb.Bar]], vectors: int, expected: Any) -> None:
    assert where(placed(bars, vectors)) == expected


def test_a_place_that_is_said_is_kept_and_the_other_found() -> None:
    assert where(placed({0: small}, 4, ("bar0", 0x800), ("bar0", 0x840))) == (
        (0, 0x800), (0, 0x840), None,
    )  # fmt: skip
    assert where(placed({0: small}, 4, ("bar0", 0x800), None)) == ((0, 0x800), (0, 0x840), None)
    assert where(placed({0: small}, 4, None, ("bar0", 0x100))) == ((0, 0x110), (0, 0x100), None)
    assert where(placed({0: small}, 64, ("bar0", 0xC00), None)) == ((0, 0xC00), (1, 0x0), 1)


@pytest.mark.parametrize("vectors", [1, 2, 63, 64, 65, 2047, 2048])
def test_every_count_of_vectors_passes_the_linter(vectors: int) -> None:
    with described(Interrupts(msix=vectors), large)() as device:
        assert device.lint() == []
        assert len(device.irq) == vectors
        assert int(device.config.MSIX_CONTROL.TABLE_SIZE) + 1 == vectors
        if vectors == 65:
            assert device.bar0.MSIX_PENDING[1].value == 0


def test_a_bar_of_its_own_is_a_bar_like_any_other() -> None:
    with described(Interrupts(msix=3), full)() as device, device.connect() as guest:
        assert [bar.__name__ for bar in device.bars.values()] == ["bar0", "bar1"]
        assert guest.bar1.size == 0x2000
        assert guest.bar1.read32(12) == 1
        assert guest.enable_msix() == 3
        assert device.bar1.MSIX_DATA[2].value
        assert device.irq[2].trigger() == "delivered"
        assert device.log[-1].text == "MSI-X[2] delivered"
        assert device.log.filter(register="MSIX_VECTOR_CONTROL[2]", kind="write")


@pytest.mark.parametrize("vectors", [1, 2, 4, 8, 16, 32])
def test_msi_has_as_many_vectors_as_it_says(vectors: int) -> None:
    with described(Interrupts(msi=vectors))() as device, device.connect() as guest:
        assert device.lint() == []
        assert guest.enable_msi() == vectors
        assert device.irq[vectors - 1].trigger() == "delivered"
        device.config.MSI_MASK.write(0xFFFFFFFF)
        assert device.config.MSI_MASK.value == (1 << vectors) - 1


def test_a_class_run_again_keeps_guest_and_vectors() -> None:
    with described(Interrupts(msix=4), small)() as device, device.connect() as guest:
        guest.enable_msix()
        guest.msix.mask(1)
        device.irq[1].trigger()
        again = described(Interrupts(msix=4), small)
        assert type(device) is again
        assert device.irq[1].pending
        guest.msix.unmask(1)
        assert guest.wait_irq(1) == 1
        with pytest.warns(UserWarning, match="MSIX_CONTROL: 0x3 → 0x4"):
            described(Interrupts(msix=5), small)
        assert type(device) is again


# -- mistakes --


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"msi": 3}, "msi 3, expected 1, 2, 4, 8, 16 or 32 vectors"),
        ({"msi": 64}, "msi 0x40, expected 0 to 0x20 vectors"),
        ({"msi": -1}, "msi -0x1, expected 0 to 0x20 vectors"),
        ({"msi": True}, "msi True, expected a whole number"),
        ({"msix": 2049}, "msix 0x801, expected 0 to 0x800 vectors"),
        ({"msix": "4"}, "msix '4', expected a whole number"),
        ({"msix_table": ("bar0", 0)}, "msix_table, but no msix=: say how many vectors"),
        ({"msix": 1, "msix_pba": 0}, 'msix_pba 0, expected a BAR and an offset such as ("bar0", 0x800)'),
        ({"msix": 1, "msix_table": ("bar0", 1.5)}, "msix_table's offset 1.5, expected a whole number"),
    ],
)
def test_numbers_that_cannot_be(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(wb.DescriptionError) as caught:
        Interrupts(**said)
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize(
    ("table", "pba", "problem"),
    [
        (("bar3", 0), None, "the MSI-X table is in bar3, which is not there; there is bar0, bar1"),
        (("bar1", 0), None, "the MSI-X table is in bar1, an I/O BAR: name a memory BAR"),
        (("bar0", 0x804), None, "the MSI-X table is at 0x804 of bar0: choose a multiple of 8"),
        (("bar0", -8), None, "the MSI-X table is at -0x8 of bar0: choose a multiple of 8"),
        (("bar0", 0xFD0), None, "the MSI-X table (0xfd0-0x100f) is beyond bar0's 0x1000 bytes"),
        (("bar0", 0), None, "the MSI-X table (0x0-0x3f) and CTRL (0x0-0x3) overlap in bar0"),
        (None, ("bar0", 0), "the MSI-X PBA (0x0-0x7) and CTRL (0x0-0x3) overlap in bar0"),
        (None, ("bar0", 0x1000), "the MSI-X PBA (0x1000-0x1007) is beyond bar0's 0x1000 bytes"),
        (
            ("bar0", 0x800),
            ("bar0", 0x838),
            "the MSI-X table (0x800-0x83f) and PBA (0x838-0x83f) overlap in bar0",
        ),
    ],
)
def test_places_that_cannot_be(table: Any, pba: Any, problem: str) -> None:
    irq = Interrupts(msix=4, msix_table=table, msix_pba=pba)
    problems: list[str] = []
    place_msix({0: small, 1: ports}, 4, irq.msix_table, irq.msix_pba, problems)
    assert problems == [problem]


def test_a_place_that_the_guest_maps_is_refused() -> None:
    problems: list[str] = []
    place_msix({0: ring}, 4, ("bar0", 0xFE0), ("bar0", 0x3000), problems)
    assert problems == [
        "the MSI-X table (0xfe0-0x101f) is in pages of bar0 that the guest maps (0x1000-0x2fff)"
    ]


def test_an_array_in_the_way_is_named_by_its_element() -> None:
    class bar0(wb.Bar, size=4096):
        RING = wb.Register(0x00, count=1000)

    problems: list[str] = []
    place_msix({0: bar0}, 4, ("bar0", 0x808), None, problems)
    assert problems == ["the MSI-X table (0x808-0x847) and RING[514] (0x808-0x80b) overlap in bar0"]


def test_a_full_device_says_how_much_room_it_has() -> None:
    class bar0(wb.Bar, size=16, bits=64):
        WORD = wb.Register(0x00)

    problems: list[str] = []
    assert place_msix({0: bar0, 2: wide, 4: wide}, 4, None, None, problems) is None
    assert problems == [
        "MSI-X needs 0x48 bytes, no slot is free and behind the last registers are only:"
        " bar0 0xc, bar2 0x0, bar4 0x0"
    ]


def test_mistakes_are_told_with_the_others_of_the_class() -> None:
    class bar0(wb.Bar, size=4096):
        MSIX_DATA = wb.Register(0x00)

    with pytest.raises(wb.DescriptionError) as caught:

        class Card(wb.Device):
            id = wb.PciId(vendor=1, device=2)
            irq = Interrupts(msi=2, msix=4)
            capabilities = (wb.Capability(0x05, {}, 24, name="MINE"), wb.Capability(0x11, {}, 12))

            class bar0(wb.Bar, size=4096):
                MSIX_DATA = wb.Register(0x00)

    assert caught.value.problems == (
        "bar0.MSIX_DATA: MSI-X brings a register of that name; choose another",
        "capabilities[0] is MSI (id 0x05), which irq brings: remove it",
        "capabilities[1] is MSIX (id 0x11), which irq brings: remove it",
    )


def test_a_device_says_what_it_has() -> None:
    with described(Interrupts(msi=1, msix=4), small)() as device:
        for number in (4, -5):
            with pytest.raises(
                IndexError, match=r"the device has no interrupt -?\d: it has MSI 0 and MSI-X 0 to 3"
            ):
                device.irq[number]
        with pytest.raises(IndexError, match="the device has no MSI 1: it has MSI 0 and MSI-X 0 to 3"):
            device.irq.msi[1]
        with pytest.raises(TypeError, match="not 'x'"):
            device.irq["x"]
        with pytest.raises(OSError, match="trigger INTx, which the device does not have: it has MSI 0 and"):
            device.irq.intx.trigger()
        assert repr(device.irq) == "<MSI not enabled (1 vectors); MSI-X not enabled (4 vectors)>"
        assert repr(device.irq[-1]) == "<MSI-X[3] idle, signalled 0×>"
        assert not device.irq.asserted
    assert repr(Interrupts(intx="B", msi=2)) == "Interrupts(intx='B', msi=2)"
