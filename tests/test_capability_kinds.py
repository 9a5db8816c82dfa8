"""Each capability, byte by byte as the specifications lay it out, and its place in the two lists."""

import struct

import pytest

import workbench as wb
from workbench.capabilities import Capability
from workbench.lint import lint
from workbench.pci import PciId, config_block, function_controls
from workbench.registers import Block, Register

ID = PciId(0x1234, 0x0B11)


def config(*capabilities: Capability) -> Block:
    return config_block(ID, {}, 0, capabilities)


def reset_bytes(block: Block) -> bytes:
    (segment,) = block.segments()
    return segment.planes["value"]


def plane(block: Block, name: str, at: int, size: int) -> int:
    (segment,) = block.segments()
    return int.from_bytes(segment.planes[name][at : at + size], "little")


def walk_extended(data: bytes) -> list[tuple[int, int, int]]:
    """Follow the extended list as Linux does: (id, version, offset) of each."""
    found, at = [], 0x100
    while at:
        word = int.from_bytes(data[at : at + 4], "little")
        if not word:
            break
        found.append((word & 0xFFFF, word >> 16 & 0xF, at))
        assert len(found) < 1000
        at = word >> 20
    return found


# -- PCI Express --


def test_a_pci_express_capability_is_laid_out_as_the_specification_says() -> None:
    block = config(wb.PciExpress(max_payload=256))
    data = reset_bytes(block)
    assert len(data) == 4096
    words = struct.unpack_from("<BBHIHHIHH", data, 0x40)
    assert words == (0x10, 0, 0x0002, 0x1000_8001, 0x2810, 0, 0x0000_0011, 0, 0x1011)
    assert data[0x54:0x7C] == bytes(0x28)
    assert lint(data, {7: 4096}) == []


@pytest.mark.parametrize(("port", "number"), [("endpoint", 0), ("legacy", 1), ("integrated", 9)])
def test_the_port_type_is_the_one_asked_for(port: str, number: int) -> None:
    data = reset_bytes(config(wb.PciExpress(port)))
    assert data[0x42] == number << 4 | 2
    assert (int.from_bytes(data[0x4C:0x50], "little") == 0) == (port == "integrated")


def test_without_flr_the_bit_is_neither_promised_nor_there() -> None:
    block = config(wb.PciExpress(flr=False))
    assert reset_bytes(block)[0x47] & 0x10 == 0
    assert plane(config(wb.PciExpress()), "pulse", 0x48, 2) == 0x8000
    (segment,) = block.segments()
    assert "pulse" not in segment.planes
    assert function_controls(block) == (0, 0)


def test_what_a_function_level_reset_keeps_is_sticky() -> None:
    """PCI Express Base 3.0, 6.6.2: Max_Payload_Size and Link Control among others."""
    block = config(wb.PciExpress())
    assert plane(block, "sticky", 0x48, 2) == 0x00E0
    assert plane(block, "sticky", 0x50, 2) == 0x00CB
    assert plane(block, "writable", 0x48, 2) == 0x78FF


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"port": "root"}, "port 'root', expected one of 'endpoint', 'legacy', 'integrated'"),
        ({"port": 3}, "port 3, expected one of 'endpoint', 'legacy', 'integrated'"),
        ({"flr": 1}, "flr 1, expected True or False"),
        ({"max_payload": 100}, "max_payload 100, expected 128, 256, 512, 1024, 2048 or 4096 bytes"),
        ({"max_payload": "x"}, "max_payload 'x', expected a whole number"),
    ],
)
def test_mistakes_of_pci_express_are_named(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(wb.DescriptionError) as caught:
        wb.PciExpress(**arguments)  # type: ignore[arg-type]
    assert caught.value.problems == (problem,)


# -- extended ones --


def test_extended_capabilities_make_a_list_of_their_own_from_0x100() -> None:
    given = [
        wb.SerialNumber(0x0123456789ABCDEF, at=0x200),
        wb.PowerManagement(),
        wb.AdvancedErrorReporting(),
        wb.PciExpress(),
        wb.RawCapability(0x000B, b"\x01\x00\x00\x01", extended=True, version=3, name="VSEC"),
    ]
    block = config(*given)
    data = reset_bytes(block)
    assert walk_extended(data) == [(1, 2, 0x100), (0xB, 3, 0x12C), (3, 1, 0x200)]
    assert data[0x204:0x20C] == bytes.fromhex("efcdab8967452301")
    assert (data[0x34], data[0x40], data[0x41], data[0x48], data[0x49]) == (0x40, 0x01, 0x48, 0x10, 0)
    assert block.registers["VSEC_DATA3"].offset == 0x133
    assert lint(data, {7: 4096}) == []


def test_without_extended_ones_the_list_is_empty() -> None:
    assert walk_extended(reset_bytes(config(wb.PciExpress()))) == []


def test_error_reporting_has_the_resets_of_the_specification() -> None:
    block = config(wb.PciExpress(), wb.AdvancedErrorReporting())
    words = struct.unpack_from("<6I", reset_bytes(block), 0x104)
    assert words == (0, 0, 0x0006_2010, 0, 0x0000_2000, 0)
    assert plane(block, "w1c", 0x104, 4) == plane(block, "writable", 0x108, 4) == 0x0017_F010
    assert plane(block, "w1c", 0x110, 4) == plane(block, "writable", 0x114, 4) == 0x0000_31C1
    assert plane(block, "sticky", 0x104, 4) == 0x0017_F010
    assert plane(block, "sticky", 0x11C, 16) == (1 << 128) - 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([wb.SerialNumber(1)], "extended capabilities need a PCI Express one: add wb.PciExpress()"),
        (
            [wb.PciExpress(), wb.SerialNumber(1, at=0x140)],
            "the first extended capability is at 0x140: put one at 0x100",
        ),
        (
            [wb.PciExpress(), wb.SerialNumber(1, at=0xFC)],
            "DSN: at=0xfc, expected a multiple of 4 from 0x100 to 0xffc",
        ),
        (
            [wb.PciExpress(), wb.SerialNumber(1, at=0xFFC)],
            "DSN (0xffc-0x1007) is beyond the config space's 0x1000 bytes",
        ),
        (
            [wb.PciExpress(), wb.SerialNumber(1, at=0x100), wb.AdvancedErrorReporting(at=0x104)],
            "capabilities DSN (0x100-0x10b) and AER (0x104-0x12f) overlap",
        ),
        (
            [wb.PciExpress(), wb.RawCapability(0x10000, b"", extended=True)],
            "RAW: extended capability id 0x10000, expected 0x1 to 0xffff",
        ),
        (
            [wb.PciExpress(), wb.RawCapability(2, b"", extended=True, version=16)],
            "RAW: version 16, expected 1 to 15",
        ),
        (
            [wb.PciExpress(), Capability(2, {"A": Register(2, 16)}, 8, extended=True)],
            "CAP: A (0x2-0x3) is not inside the capability's 0x4-0x7",
        ),
        (
            [wb.PciExpress(), wb.RawCapability(2, bytes(4000), extended=True)],
            "RAW: length 0xfa4, expected 0x4 to 0xf00 bytes",
        ),
    ],
)
def test_mistakes_of_extended_capabilities_are_named(given: list[Capability], problem: str) -> None:
    with pytest.raises(wb.DescriptionError) as caught:
        config(*given)
    assert problem in caught.value.problems


def test_a_serial_number_is_a_number() -> None:
    for wrong in (-1, 1 << 64, "x", True):
        with pytest.raises(wb.DescriptionError, match="SerialNumber"):
            wb.SerialNumber(wrong)  # type: ignore[arg-type]


# -- raw ones --


def test_a_raw_capability_has_the_bytes_and_masks_that_were_given() -> None:
    raw = wb.RawCapability(
        0x12, b"\x11\x22\x33", writable=b"\x0f", w1c=b"\xf0\xff", sticky=b"\0\0\x80", at=0x60
    )
    block = config(raw)
    assert reset_bytes(block)[0x60:0x65] == b"\x12\x00\x11\x22\x33"
    assert plane(block, "writable", 0x60, 5) == 0x0F << 16
    assert plane(block, "w1c", 0x60, 5) == 0xFFF0 << 16
    assert plane(block, "sticky", 0x60, 5) == 0x80 << 32
    assert plane(block, "accept", 0x60, 5) == (1 << 40) - 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"data": "text"}, "data 'text', expected bytes"),
        ({"writable": b"\1\2"}, "writable has 2 bytes and the data 1"),
        ({"writable": b"\x03", "w1c": b"\x02"}, "byte 0: bits 0x02 are both writable and w1c"),
        ({"sticky": 1}, "sticky 1, expected bytes"),
    ],
)
def test_mistakes_of_a_raw_capability_are_named(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(wb.DescriptionError) as caught:
        wb.RawCapability(0x12, **{"data": b"\0", **arguments})  # type: ignore[arg-type]
    assert caught.value.problems == (problem,)


def test_power_and_reset_controls_are_found_in_capabilities_made_by_hand_too() -> None:
    assert function_controls(config()) == (0, 0)
    assert function_controls(config(wb.PciExpress(), wb.PowerManagement())) == (0x80, 0x48)
    by_hand = [
        wb.RawCapability(0x01, bytes(6), at=0x80),
        wb.RawCapability(0x10, b"\x02\x00\x00\x00\x00\x10" + bytes(52), at=0x90),
    ]
    assert function_controls(config(*by_hand)) == (0x84, 0x98)
    short = wb.RawCapability(0x01, b"", at=0xFC)
    assert function_controls(config(short)) == (0, 0)
