"""Config space by masks alone: enumeration as a guest does it, on a small model of the rules."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.capabilities import Capability
from workbench.capability_kinds import PowerManagement, VendorSpecific
from workbench.errors import DescriptionError
from workbench.lint import lint
from workbench.modes import MODES
from workbench.pci import PciId, config_block
from workbench.registers import Bar, Block, Field, Register

KNOWN = f"Known are {', '.join(MODES)}"
ID = PciId(0x1234, 0x0B11, 0x020000, 7, 0x1AF4, 0x1100)


class Space:
    """The engine's write and read rules for the planes that a config space uses."""

    def __init__(self, block: Block) -> None:
        (segment,) = block.segments()
        assert segment.offset == 0
        planes = {name: int.from_bytes(data, "little") for name, data in segment.planes.items()}
        assert planes.keys() <= {"value", "reset", "readable", "writable", "w1c", "accept", "known", "sticky"}
        assert planes["known"] == (1 << 2048) - 1
        self.planes, self.value, self.flagged = planes, planes["value"], 0

    def read(self, offset: int, size: int) -> int:
        return (self.value & self.planes["readable"]) >> 8 * offset & ((1 << 8 * size) - 1)

    def write(self, offset: int, size: int, data: int) -> None:
        touched, data = ((1 << 8 * size) - 1) << 8 * offset, data << 8 * offset
        writable, w1c = self.planes["writable"] & touched, self.planes.get("w1c", 0) & touched
        self.flagged |= (data ^ self.value) & touched & ~self.planes["accept"]
        self.value = (self.value & ~writable | data & writable) & ~(data & w1c)

    def size_of(self, slot: int) -> int:
        """Size a BAR as Linux does: save, write ones, read, restore. Returns bytes, 0 for none."""
        offset = 0x10 + 4 * slot
        kept = self.read(offset, 4)
        self.write(offset, 4, 0xFFFFFFFF)
        mask, width = self.read(offset, 4), 32
        self.write(offset, 4, kept)
        if not mask:
            return 0
        if mask & 1:
            return (1 << 32) - (mask & ~3)
        if mask & 6 == 4:
            high = self.read(offset + 4, 4)
            self.write(offset + 4, 4, 0xFFFFFFFF)
            mask |= self.read(offset + 4, 4) << 32
            self.write(offset + 4, 4, high)
            width = 64
        return (1 << width) - (mask & ~0xF)

    def capabilities(self) -> list[tuple[int, int]]:
        """Walk the list as lspci does: (offset, id) of each."""
        found, at = [], self.read(0x34, 1) if self.read(6, 2) & 0x10 else 0
        while at:
            found.append((at, self.read(at, 1)))
            at = self.read(at + 1, 1)
            assert len(found) < 48
        return found


class small(Bar, size=16): ...


class page(Bar, size=4096, prefetchable=True): ...


class half(Bar, size=1 << 31): ...


class ports(Bar, size=32, kind="io"): ...


class wide(Bar, size=1 << 20, bits=64): ...


class four_gib(Bar, size=1 << 32, bits=64): ...


class huge(Bar, size=1 << 40, bits=64, prefetchable=True): ...


def space(
    bars: dict[int, type[Bar]] | None = None, pin: int = 0, capabilities: Sequence[Capability] = ()
) -> Space:
    return Space(config_block(ID, bars or {}, pin, capabilities))


# -- identity --


def test_identity_is_where_pci_wants_it() -> None:
    config = space(pin=2)
    assert config.read(0x00, 4) == 0x0B11_1234
    assert config.read(0x08, 4) == 0x020000_07
    assert config.read(0x2C, 4) == 0x1100_1AF4
    assert config.read(0x0E, 1) == 0
    assert config.read(0x3C, 4) == 0x0000_0200


def test_subsystem_defaults_to_the_device() -> None:
    plain = PciId(0x494F, 0x0DC8)
    assert (plain.subsystem_vendor, plain.subsystem, plain.class_code) == (0x494F, 0x0DC8, 0xFF0000)
    assert str(plain) == "494f:0dc8"


def test_every_number_out_of_range_is_told_at_once() -> None:
    with pytest.raises(DescriptionError) as caught:
        PciId(0x10000, -1, 0x1000000, 0x100, 0x10000, 0x10000)
    assert caught.value.problems == (
        "vendor 0x10000 is out of range (0 to 0xffff)",
        "device -0x1 is out of range (0 to 0xffff)",
        "class_code 0x1000000 is out of range (0 to 0xffffff)",
        "revision 0x100 is out of range (0 to 0xff)",
        "subsystem_vendor 0x10000 is out of range (0 to 0xffff)",
        "subsystem 0x10000 is out of range (0 to 0xffff)",
    )
    with pytest.raises(DescriptionError, match="vendor 0xffff means that no device is there"):
        PciId(0xFFFF, 1)


def test_the_block_is_named_and_its_registers_are_the_specifications() -> None:
    block = config_block(ID, {0: wide}, 1, [PowerManagement()])
    assert (block.name, block.size) == ("config", 256)
    wanted = "VENDOR_ID DEVICE_ID COMMAND STATUS REVISION_ID PROG_IF SUBCLASS BASE_CLASS CACHE_LINE_SIZE"
    wanted += " LATENCY_TIMER HEADER_TYPE BIST BAR0 BAR0_HIGH BAR2 BAR3 BAR4 BAR5 CARDBUS_CIS"
    wanted += " SUBSYSTEM_VENDOR_ID SUBSYSTEM_ID EXPANSION_ROM CAPABILITIES_POINTER INTERRUPT_LINE"
    wanted += " INTERRUPT_PIN MIN_GNT MAX_LAT PM_CAP_ID PM_NEXT PM_PMC PM_PMCSR"
    assert list(block.registers) == wanted.split()
    assert [one.name for one, _ in block.at(8, 4)] == ["REVISION_ID", "PROG_IF", "SUBCLASS", "BASE_CLASS"]


# -- BARs --


@pytest.mark.parametrize("slot", range(5))
@pytest.mark.parametrize("bar", [small, page, half, ports, wide, four_gib, huge])
def test_sizing_finds_every_bar(bar: type[Bar], slot: int) -> None:
    config = space({slot: bar})
    taken = {slot, slot + 1} if bar.bits == 64 else {slot}
    before = config.value
    assert config.size_of(slot) == bar.size
    assert [config.size_of(other) for other in range(6) if other not in taken] == [0] * (6 - len(taken))
    assert config.value == before
    assert not config.flagged


@pytest.mark.parametrize(
    ("bar", "bits"), [(small, 0b0000), (page, 0b1000), (ports, 0b0001), (wide, 0b0100), (huge, 0b1100)]
)
def test_type_bits_stand_fast(bar: type[Bar], bits: int) -> None:
    config = space({0: bar})
    for data in (0, 0xFFFFFFFF):
        config.write(0x10, 4, data)
        assert config.read(0x10, 4) & 0xF & (0b11 if bits & 1 else 0xF) == bits
    assert not config.flagged


def test_several_bars_side_by_side() -> None:
    config = space({0: small, 1: wide, 3: ports, 4: huge})
    assert [config.size_of(slot) for slot in (0, 1, 3, 4)] == [16, 1 << 20, 32, 1 << 40]


@settings(max_examples=30, derandomize=True, deadline=None)
@given(
    st.sampled_from([page, ports, wide, four_gib, huge]),
    st.permutations(range(8)),
    st.sampled_from([1, 2, 4]),
)
def test_sizing_works_in_any_width_and_order(bar: type[Bar], order: list[int], step: int) -> None:
    config = space({2: bar})
    for part in order:
        if part % step == 0:
            config.write(0x18 + part, step, (1 << 8 * step) - 1)
    mask = config.read(0x18, bar.bits // 8) & ~(3 if bar.kind == "io" else 15)
    assert (1 << bar.bits) - mask == bar.size


def test_an_address_is_kept_down_to_the_bars_size() -> None:
    config = space({0: page, 2: wide})
    config.write(0x10, 4, 0xFEBC_1234)
    config.write(0x18, 4, 0xABCD_EF01)
    config.write(0x1C, 4, 0x0000_0123)
    assert config.read(0x10, 4) == 0xFEBC_1008
    assert config.read(0x18, 8) == 0x0000_0123_ABC0_0004


def test_rom_bar_sizes_to_zero() -> None:
    config = space()
    config.write(0x30, 4, 0xFFFFF800)
    assert config.read(0x30, 4) == 0
    assert not config.flagged


def test_slots_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DescriptionError) as caught:
        config_block(ID, {0: wide, 1: small, 5: huge, 6: small}, 5)
    assert caught.value.subject == "the config space of 1234:0b11"
    assert caught.value.problems == (
        "BAR 6: slots are 0 to 5",
        "bar1 is the upper half of the 64-bit bar0: use another slot",
        "bar5 has 64 bits and no slot 6 for its upper half: use slot 0 to 4",
        "interrupt pin 5, expected 0 (none) to 4 (INTD)",
    )


# -- COMMAND and STATUS --


@pytest.mark.parametrize(
    ("bars", "bits"), [({}, 0x0554), ({0: page}, 0x0556), ({0: ports}, 0x0555), ({0: page, 1: ports}, 0x0557)]
)
def test_command_has_the_bits_that_the_device_can_use(bars: dict[int, type[Bar]], bits: int) -> None:
    config = space(bars)
    config.write(4, 2, 0xFFFF)
    assert config.read(4, 2) == bits
    config.write(4, 2, 0)
    assert config.read(4, 2) == 0
    assert not config.flagged


def test_status_errors_are_cleared_by_writing_ones() -> None:
    config = space()
    config.value |= 0xF900 << 48  # what a hook pokes
    config.write(6, 2, 0x1000)
    assert config.read(6, 2) == 0xE900
    config.write(7, 1, 0xFF)
    assert config.read(6, 2) == 0


def test_command_and_status_written_as_one_dword_are_not_flagged() -> None:
    config = space({0: page}, 1, [PowerManagement()])
    config.value |= 0x0008 << 48  # an interrupt is pending
    config.write(4, 4, 0x0000_0006)
    config.write(4, 4, config.read(4, 4) | 0x400)
    assert config.read(4, 4) == 0x0018_0406
    assert not config.flagged


def test_writing_the_identity_is_flagged() -> None:
    config = space()
    config.write(0, 4, 0)
    assert config.read(0, 4) == 0x0B11_1234
    assert config.flagged == 0x0B11_1234


def test_restoring_the_whole_header_is_not_flagged() -> None:
    config = space({0: page, 2: wide, 4: ports}, 1, [PowerManagement(), VendorSpecific(b"abc")])
    saved = [config.read(offset, 4) for offset in range(0, 256, 4)]
    for number, word in enumerate(saved):
        config.write(4 * number, 4, word)
    assert not config.flagged


def test_holes_read_zero_and_take_writes() -> None:
    config = space()
    for offset in (0x35, 0x38, 0x40, 0xFC):
        config.write(offset, 4 if offset % 4 == 0 else 1, 0xFF)
        assert config.read(offset, 1) == 0
    assert not config.flagged


# -- capabilities --


def test_without_capabilities_there_is_no_list() -> None:
    assert (space().read(6, 2), space().read(0x34, 1), space().capabilities()) == (0, 0, [])


def test_the_list_is_walked_in_the_order_given() -> None:
    given_ = [
        PowerManagement(),
        VendorSpecific(b"hello"),
        VendorSpecific(b"x" * 9, at=0x80),
        VendorSpecific(b""),
    ]
    config = space(capabilities=given_)
    assert config.capabilities() == [(0x40, 1), (0x48, 9), (0x80, 9), (0x50, 9)]
    assert config.read(0x4A, 6) == int.from_bytes(b"\x08hello", "little")
    assert config.read(0x52, 1) == 3
    assert not lint(config.value.to_bytes(256, "little"), {})


def test_a_second_capability_of_a_kind_gets_a_number() -> None:
    registers = config_block(
        ID, {}, 0, [VendorSpecific(b"a"), VendorSpecific(b"b"), VendorSpecific(b"c")]
    ).registers
    assert [name for name in registers if name.endswith("DATA0")] == [
        "VENDOR_DATA0",
        "VENDOR_2_DATA0",
        "VENDOR_3_DATA0",
    ]


def test_one_capability_object_serves_several_devices() -> None:
    shared = VendorSpecific(b"abc")
    one = config_block(ID, {}, 0, [shared])
    other = config_block(ID, {}, 0, [PowerManagement(), shared])
    assert one.registers["VENDOR_DATA0"].offset == 0x43
    assert other.registers["VENDOR_DATA0"].offset == 0x4B
    assert one.registers["VENDOR_DATA0"].block is one


def test_power_management_says_what_it_supports() -> None:
    config = space(capabilities=[PowerManagement(d1=True, pme=["D0", "D3cold"])])
    assert config.read(0x42, 2) == 0x8A03
    assert config.read(0x44, 2) == 0x0008
    config.write(0x44, 2, 0x0103)
    assert config.read(0x44, 2) == 0x010B
    config.value |= 0x8000 << 8 * 0x44
    config.write(0x44, 2, 0x8000)
    assert config.read(0x44, 2) == 0x0008
    assert not config.flagged


def test_power_state_has_names_and_pme_bits_only_exist_with_pme() -> None:
    block = config_block(ID, {}, 0, [PowerManagement()])
    assert block.registers["PM_PMCSR"].spell(0x000B).startswith("POWER_STATE=D3HOT NO_SOFT_RESET=1")
    config = Space(block)
    config.write(0x44, 2, 0xFFFF)
    assert config.read(0x44, 2) == 0x000B
    with pytest.raises(ValueError, match="pme: unknown D4; states: D0, D1"):
        PowerManagement(pme=["D4"])


def test_vendor_data_may_be_writable() -> None:
    config = space(capabilities=[VendorSpecific(b"\x01\x02", mode="rw")])
    config.write(0x43, 2, 0xBEEF)
    assert config.read(0x43, 2) == 0xBEEF
    readonly = space(capabilities=[VendorSpecific(b"\x01\x02")])
    readonly.write(0x43, 2, 0xBEEF)
    assert readonly.read(0x43, 2) == 0x0201
    assert readonly.flagged


def test_a_new_capability_is_its_registers() -> None:
    control = Register(2, 16, "ignore", ENABLE=Field(0, mode="rw"), MULTIPLE=Field(1, 3, reset=2))
    msi = Capability(
        5, {"CONTROL": control, "ADDRESS": Register(4), "DATA": Register(8, 16)}, 10, name="MSI", at=0x60
    )
    block = config_block(ID, {}, 0, [PowerManagement(), msi])
    assert block.registers["MSI_CONTROL"].fields["ENABLE"].mode == "rw"
    config = Space(block)
    config.write(0x62, 2, 0xFFFF)
    config.write(0x64, 4, 0xFEE00000)
    assert (config.read(0x60, 4), config.read(0x64, 4)) == (0x0005_0005, 0xFEE00000)
    assert config.capabilities() == [(0x40, 1), (0x60, 5)]


@pytest.mark.parametrize(
    ("capabilities", "problems"),
    [
        (
            [PowerManagement(at=0x40), VendorSpecific(b"", at=0x44)],
            ["capabilities PM (0x40-0x47) and VENDOR (0x44-0x46) overlap"],
        ),
        ([PowerManagement(at=0x3C)], ["PM: at=0x3c, expected a multiple of 4 from 0x40 to 0xfc"]),
        ([PowerManagement(at=0x42)], ["PM: at=0x42, expected a multiple of 4 from 0x40 to 0xfc"]),
        ([PowerManagement(at=0x100)], ["PM: at=0x100, expected a multiple of 4 from 0x40 to 0xfc"]),
        ([PowerManagement(at=0xFC)], ["PM (0xfc-0x103) is beyond the config space's 0x100 bytes"]),
        (
            [VendorSpecific(bytes(100)), VendorSpecific(bytes(100))],
            ["VENDOR: no 0x67 free bytes left in 0x40-0xff"],
        ),
        ([Capability(0x100, {}, 2)], ["CAP: capability id 0x100, expected 0x1 to 0xff"]),
        ([Capability(3, {}, 1)], ["CAP: length 0x1, expected 0x2 to 0xc0 bytes"]),
        (
            [Capability(3, {"A": Register(0, 8), "B": Register(4)}, 6)],
            [
                "CAP: A (0x0-0x0) is not inside the capability's 0x2-0x5",
                "CAP: B (0x4-0x7) is not inside the capability's 0x2-0x5",
            ],
        ),
        (
            [Capability(3, {"A": Register(4, mode="rx")}, 8)],
            [f"CAP: A: unknown mode 'rx'; did you mean rw, rs, ro, rc? {KNOWN}"],
        ),
    ],
)
def test_capability_mistakes_are_named(capabilities: list[Capability], problems: list[str]) -> None:
    with pytest.raises(DescriptionError) as caught:
        config_block(ID, {}, 0, capabilities)
    assert list(caught.value.problems) == problems


def test_capabilities_fill_the_gaps_between_fixed_ones() -> None:
    fixed = [VendorSpecific(b"", at=0x44), VendorSpecific(b"", at=0x50)]
    assert [at for at, _ in space(capabilities=[PowerManagement(), *fixed]).capabilities()] == [
        0x48,
        0x44,
        0x50,
    ]
