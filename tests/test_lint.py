"""Each layout that crashes or hangs QEMU is refused, with the fix in the message."""

from collections.abc import Callable

import pytest

from workbench.capability_kinds import PowerManagement, VendorSpecific
from workbench.lint import lint
from workbench.pci import PciId, config_block
from workbench.registers import Bar


class memory(Bar, size=4096): ...


class wide(Bar, size=4096, bits=64): ...


class ports(Bar, size=64, kind="io"): ...


def good() -> bytearray:
    """Config space: bar0 memory, bar1 I/O, bar2 (and 3) 64-bit; PM at 0x40, vendor-specific at 0x48."""
    bars = {0: memory, 1: ports, 2: wide}
    block = config_block(PciId(1, 2), bars, 1, [PowerManagement(), VendorSpecific(b"12345")])
    return bytearray(block.segments()[0].planes["value"])


REGIONS = {0: 4096, 1: 64, 2: 4096, 7: 256}


def patch(offset: int, *data: int) -> Callable[[bytearray], None]:
    def change(config: bytearray) -> None:
        config[offset : offset + len(data)] = bytes(data)

    return change


def msix(table: int, pba: int, vectors: int = 4) -> Callable[[bytearray], None]:
    """Put an MSI-X capability at 0x60, behind the vendor-specific one."""

    def change(config: bytearray) -> None:
        config[0x49] = 0x60
        words = bytes([0x11, 0]) + (vectors - 1).to_bytes(2, "little")
        config[0x60:0x6C] = words + table.to_bytes(4, "little") + pba.to_bytes(4, "little")

    return change


def test_a_good_layout_passes() -> None:
    assert lint(bytes(good()), REGIONS) == []
    assert lint(bytes(good()), {}) == []


@pytest.mark.parametrize(
    ("regions", "problem"),
    [
        ({0: 0x1800}, "bar0 has 0x1800 bytes, no power of two: QEMU aborts; make it 0x2000"),
        ({0: 8}, "bar0 has 0x8 bytes: the least is 16 for memory"),
        ({1: 2}, "bar1 has 0x2 bytes: the least is 4 for I/O"),
        ({1: 1 << 17}, "bar1 has 0x20000 bytes of I/O: there are 64 KiB in all; use a memory BAR"),
        ({0: 1 << 32}, "bar0 has 0x100000000 bytes and 32 bits: above 2 GiB say bits=64"),
        ({3: 4096}, "bar3 is the upper half of the 64-bit bar2: use another slot"),
        ({9: 4096}, "region 9: a PCI device has regions 0 to 8; remove it"),
        ({7: 4096}, "the config region has 4096 bytes and the config space 256: make them equal"),
        ({6: 0x1800}, "the ROM has 0x1800 bytes: make it a power of two from 0x800 to 0x100000"),
        ({6: 0x200000}, "the ROM has 0x200000 bytes: make it a power of two from 0x800 to 0x100000"),
    ],
)
def test_bad_regions(regions: dict[int, int], problem: str) -> None:
    assert lint(bytes(good()), {**REGIONS, **regions}) == [problem]


@pytest.mark.parametrize("regions", [{3: 0}, {1: 1 << 16}, {2: 1 << 40}, {6: 2048}, {0: 16}, {8: 0}])
def test_regions_at_the_limits_pass(regions: dict[int, int]) -> None:
    assert lint(bytes(good()), {**REGIONS, **regions}) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (patch(0x0E, 1), "header type 1 (config byte 0x0e): QEMU aborts; write 0, the type of an endpoint"),
        (patch(0x3D, 5), "interrupt pin 5 (config byte 0x3d): write 0 for none, or 1 (INTA) to 4 (INTD)"),
        (
            patch(0x49, 0x40),
            "the capability list loops: the pointer at 0x49 leads back to 0x40 and QEMU never ends;"
            " let the last one be 0",
        ),
        (
            patch(0x41, 0x40),
            "the capability list loops: the pointer at 0x41 leads back to 0x40 and QEMU never ends;"
            " let the last one be 0",
        ),
        (
            patch(0x34, 0x10),
            "the capability pointer at 0x34 says 0x10: capabilities start at multiples of 4"
            " from 0x40 to 0xfc",
        ),
        (
            patch(0x49, 0x52),
            "the capability pointer at 0x49 says 0x52: capabilities start at multiples of 4"
            " from 0x40 to 0xfc",
        ),
        (
            patch(0x4A, 0xFF),
            "the vendor-specific capability at 0x48 ends at 0x146, behind 0xff: move it down",
        ),
        (
            patch(0x41, 0x44, 0, 0, 9, 0, 3),
            "the power management (0x40-0x47) and vendor-specific (0x44-0x46) capabilities overlap: move one",
        ),
        (patch(0x48, 1), "the power management capability at 0x48 is the second of its kind: remove one"),
        (
            patch(0x48, 0x10, 0, 0x42),
            "PCI Express port type 4 at 0x4a: QEMU refuses it; make it 0 (endpoint), 1 (legacy) or 9 (root"
            " complex integrated)",
        ),
    ],
)
def test_bad_config_bytes(change: Callable[[bytearray], None], problem: str) -> None:
    config = good()
    change(config)
    assert lint(bytes(config), REGIONS) == [problem]


@pytest.mark.parametrize(
    "change",
    [
        patch(0x0E, 0x80),  # multifunction
        patch(0x3D, 0),
        patch(0x3D, 4),
        patch(0x06, 0, 0),  # no list: nobody follows the pointer
        patch(0x48, 0x10, 0, 0x92),
        patch(0x48, 0x05, 0, 0x80, 0x01),  # MSI, 64 bits, maskable: 24 bytes
        msix(0x000, 0x800),
        msix(0x002, 0x803 - 1),
        msix(0xFC0, 0x000),
    ],
)
def test_good_config_bytes(change: Callable[[bytearray], None]) -> None:
    config = good()
    change(config)
    assert lint(bytes(config), REGIONS) == []


@pytest.mark.parametrize("size", [0, 64, 128, 512, 8192])
def test_config_space_has_a_size_that_pci_knows(size: int) -> None:
    config = bytes(good()) + bytes(8192)
    problem = f"the config space has {size} bytes: give it 256, or 4096 for PCI Express"
    assert lint(config[:size], {7: size}) == [problem]


@pytest.mark.parametrize(
    ("pointer", "problem"),
    [
        (
            0x100,
            "the extended capability list loops back to 0x100 and QEMU never ends; let the last pointer be 0",
        ),
        (0x0FC, "an extended capability pointer says 0xfc: say a multiple of 4 from 0x100 to 0xffc"),
        (0x102, "an extended capability pointer says 0x102: say a multiple of 4 from 0x100 to 0xffc"),
    ],
)
def test_extended_capability_list(pointer: int, problem: str) -> None:
    config = bytes(good()) + bytes(4096 - 256)
    assert lint(config, {7: 4096}) == []
    header = (pointer << 20 | 0x10003).to_bytes(4, "little")
    assert lint(config[:256] + header + config[260:], {7: 4096}) == [problem]


def test_64_bits_in_the_last_slot() -> None:
    config = good()
    config[0x24] = 0x04
    problem = "bar5 has 64 bits and no slot 6 for its upper half: use slot 0 to 4"
    assert lint(bytes(config), {**REGIONS, 5: 4096}) == [problem]


@pytest.mark.parametrize(
    ("table", "pba", "problems"),
    [
        (0x004, 0x800, ["the MSI-X table is in bar4, which is not there: QEMU crashes; name a memory BAR"]),
        (0x006, 0x800, ["the MSI-X table is in bar6, which is not there: QEMU crashes; name a memory BAR"]),
        (0x000, 0x807, ["the MSI-X PBA is in bar7, which is not there: QEMU crashes; name a memory BAR"]),
        (0x001, 0x800, ["the MSI-X table is in bar1, an I/O BAR: name a memory BAR"]),
        (0xFE0, 0x800, ["the MSI-X table (0xfe0-0x101f) is beyond bar0's 0x1000 bytes: move it"]),
        (0x000, 0x1000, ["the MSI-X PBA (0x1000-0x1007) is beyond bar0's 0x1000 bytes: move it"]),
        (0x000, 0x038, ["the MSI-X table (0x0-0x3f) and PBA (0x38-0x3f) overlap in bar0: move one"]),
    ],
)
def test_msix_table_and_pba(table: int, pba: int, problems: list[str]) -> None:
    config = good()
    msix(table, pba)(config)
    assert lint(bytes(config), REGIONS) == problems


@pytest.mark.parametrize("irqs", [(1, 0, 2, 0, 0), {0: 1, 2: 2}])
def test_msix_vectors_are_there(irqs: dict[int, int]) -> None:
    config = good()
    msix(0, 0x800)(config)
    problem = "the MSI-X capability has 4 vectors and the device 2: make them equal"
    assert lint(bytes(config), REGIONS, irqs) == [problem]
    assert lint(bytes(config), REGIONS, {2: 4}) == []


def test_everything_is_told_at_once() -> None:
    config = good()
    for change in (patch(0x0E, 1), patch(0x3D, 9), patch(0x34, 4)):
        change(config)
    assert len(lint(bytes(config), {0: 3000, 7: 256})) == 4
