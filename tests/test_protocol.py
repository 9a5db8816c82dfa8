"""Packing and unpacking: layouts of the specification, and what a bad peer may put into them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import protocol
from workbench.engine import lib
from workbench.errors import ProtocolError
from workbench.protocol import Header, RegionCapability, RegionFlag


def test_layouts_have_the_sizes_of_the_specification():
    sizes = {
        "HEADER": 16,
        "VERSION": 4,
        "DMA_MAP": 32,
        "DMA_UNMAP": 24,
        "DEVICE_INFO": 16,
        "REGION_INFO": 32,
        "IO_FDS": 16,
        "IRQ_INFO": 16,
        "IRQ_SET": 20,
        "REGION_ACCESS": 16,
        "DMA_ACCESS": 16,
        "MULTI_WRITE": 24,
    }
    assert {name: getattr(protocol, name).size for name in sizes} == sizes


def test_both_sides_count_alike():
    assert protocol.MAX_TRANSFER == lib.WB_MAX_TRANSFER
    assert protocol.MAX_FDS == lib.WB_MAX_FDS
    assert protocol.REGIONS == lib.WB_REGIONS
    assert protocol.IRQS == lib.WB_IRQS


def test_names_stand_where_the_engine_counts():
    regions = {"bar0": lib.WB_BAR0, "rom": lib.WB_ROM, "config": lib.WB_CONFIG, "vga": lib.WB_VGA}
    assert {name: protocol.REGION_NAMES.index(name) for name in regions} == regions
    irqs = {"INTx": lib.WB_INTX, "MSI": lib.WB_MSI, "MSI-X": lib.WB_MSIX, "ERR": lib.WB_ERR}
    assert {name: protocol.IRQ_NAMES.index(name) for name in irqs} == irqs
    assert protocol.IRQ_NAMES[lib.WB_REQ] == "REQ"


@pytest.mark.parametrize("number", [-1, 99, 255, 1 << 32])
def test_what_has_no_name_is_called_by_its_number(number):
    assert protocol.region_name(number) == f"region {number}"
    assert protocol.irq_name(number) == f"IRQ index {number}"
    assert protocol.command_name(number) == f"command {number}"


def test_what_has_a_name_is_called_by_it():
    assert protocol.region_name(7) == "config"
    assert protocol.irq_name(2) == "MSI-X"
    assert protocol.command_name(9) == "REGION_READ"


def test_every_name_that_others_use_is_public():
    assert all(hasattr(protocol, name) for name in protocol.__all__)
    shown = {name for name, value in vars(protocol).items() if name.isupper() and not name.startswith("_")}
    assert shown <= set(protocol.__all__)


def test_a_header_is_little_endian_and_comes_back():
    header = Header(id=0x1234, command=9, size=0x20, flags=0x11, error=22)
    assert header.pack() == bytes.fromhex("3412 0900 20000000 11000000 16000000")
    assert Header.unpack(header.pack() + b"more") == header


def test_a_message_counts_its_header_and_wraps_its_id():
    message = protocol.pack_message(0x1FFFF, 3, b"abcd")
    assert Header.unpack(message) == Header(0xFFFF, 3, 20, 0)
    assert message[16:] == b"abcd"


def test_version_comes_back():
    payload = protocol.pack_version(2, {"max_msg_fds": 16, "migration": {"pgsize": 4096}})
    assert protocol.unpack_version(payload) == (0, 2, {"max_msg_fds": 16, "migration": {"pgsize": 4096}})


@pytest.mark.parametrize("text", [b"", b"{}\0", b'{"capabilities":{}}\0', b'{"other":1}\0'])
def test_version_without_capabilities_means_the_defaults(text):
    assert protocol.unpack_version(protocol.VERSION.pack(0, 0) + text) == (0, 0, {})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0{}",
        b"\0\0\0\0{\0",
        b"\0\0\0\0[]\0",
        b"\0\0\0\0\xff\xfe\0",
        b"\0\0\0\0\0",
        b'\0\0\0\0{"capabilities":[]}\0',
        b'\0\0\0\0{"capabilities":null}\0',
        b"\0\0\0\0" + b"[" * 100_000 + b"\0",
    ],
)
def test_bad_version_payloads_raise_protocol_errors(payload):
    with pytest.raises(ProtocolError):
        protocol.unpack_version(payload)


@given(st.binary(max_size=64))
def test_any_version_payload_is_read_or_refused(payload):
    try:
        _, _, capabilities = protocol.unpack_version(payload)
    except ProtocolError:
        return
    assert isinstance(capabilities, dict)


@given(st.dictionaries(st.text(max_size=8), st.integers() | st.booleans(), max_size=4))
def test_any_capabilities_come_back(capabilities):
    capabilities = json.loads(json.dumps(capabilities))
    assert protocol.unpack_version(protocol.pack_version(0, capabilities))[2] == capabilities


def sparse(*areas: tuple[int, int]) -> RegionCapability:
    listed = b"".join(protocol.SPARSE_AREA.pack(*area) for area in areas)
    return RegionCapability(protocol.SPARSE_MMAP, 1, protocol.SPARSE_HEADER.pack(len(areas), 0) + listed)


def test_a_region_without_capabilities_is_the_bare_structure():
    reply = protocol.pack_region_info(2, 3, 256, [], 32)
    assert protocol.REGION_INFO.unpack(reply) == (32, 3, 2, 0, 256, 0)
    assert protocol.region_capabilities(reply) == []


def test_region_capabilities_come_back():
    areas = [(0, 4096), (8192, 4096)]
    other = RegionCapability(9, 1, b"12345678")
    reply = protocol.pack_region_info(1, 7, 1 << 16, [sparse(*areas), other], 4096)
    found = protocol.region_capabilities(reply)
    assert [one.id for one in found] == [1, 9]
    assert protocol.sparse_areas(found[0]) == areas
    assert found[1] == other


def test_capabilities_that_do_not_fit_are_left_out_and_their_room_is_named():
    reply = protocol.pack_region_info(1, 7, 1 << 16, [sparse((0, 4096))], 40)
    argsz, flags, *_ = protocol.REGION_INFO.unpack(reply)
    assert (argsz, flags & RegionFlag.CAPS, len(reply)) == (64, 0, 32)
    assert len(protocol.pack_region_info(1, 7, 1 << 16, [sparse((0, 4096))], argsz)) == argsz


@pytest.mark.parametrize("offset", [1, 31, 57, 1 << 31])
def test_a_capability_outside_the_reply_is_refused(offset):
    reply = protocol.REGION_INFO.pack(64, RegionFlag.CAPS, 0, offset, 4096, 0) + bytes(32)
    with pytest.raises(ProtocolError):
        protocol.region_capabilities(reply)


def test_a_capability_chain_that_loops_is_refused():
    reply = protocol.REGION_INFO.pack(40, RegionFlag.CAPS, 0, 32, 4096, 0)
    reply += protocol.CAPABILITY.pack(9, 1, 32)
    with pytest.raises(ProtocolError):
        protocol.region_capabilities(reply)


def test_a_short_region_reply_is_refused():
    with pytest.raises(ProtocolError):
        protocol.region_capabilities(bytes(31))


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0\0\0\0\0", b"\0\0\0\x80\0\0\0\0"])
def test_a_sparse_list_longer_than_its_capability_is_refused(data):
    with pytest.raises(ProtocolError):
        protocol.sparse_areas(RegionCapability(1, 1, data))


def test_errno_names_are_for_people():
    assert protocol.errno_name(22) == "EINVAL (Invalid argument)"
    assert protocol.errno_name(0) == "no errno given"
    assert protocol.errno_name(9999) == "errno 9999"
