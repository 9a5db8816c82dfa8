"""The wire trace's decoder: every command in words, and bytes that are no message at all."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import protocol
from workbench.protocol import Command, IrqSet, MessageFlag
from workbench.wire import describe


def line(command, payload=b"", reply=False, nfds=0, flags=0, error=0) -> str:
    message = protocol.pack_message(7, command, payload, flags | reply, error)
    return str(describe(message, reply, nfds))


def test_version_shows_its_capabilities():
    payload = protocol.pack_version(1, {"max_msg_fds": 8})
    message = describe(protocol.pack_message(7, Command.VERSION, payload), from_server=False)
    assert message.fields == {"version": "0.1", "capabilities": {"max_msg_fds": 8}}
    assert (message.name, message.id, message.size, message.odd) == ("VERSION", 7, len(payload) + 16, ())
    assert message.direction == "client→server"


@pytest.mark.parametrize(("text", "problem"), [(b"{", "does not end with a NUL"), (b"{\0", "cannot be read")])
def test_version_says_what_is_wrong_with_its_text(text, problem):
    assert problem in line(Command.VERSION, protocol.VERSION.pack(0, 0) + text)


def test_region_access_names_the_region():
    asked = line(Command.REGION_READ, protocol.REGION_ACCESS.pack(0x10, 2, 4))
    assert asked == "-> #7     REGION_READ at=bar2+0x10 count=4"
    payload = protocol.REGION_ACCESS.pack(0x3C, 7, 4) + b"\x01\x02\x03\x04"
    answered = line(Command.REGION_READ, payload, reply=True)
    assert answered == "<- #7     REGION_READ reply at=config+0x3c count=4 data=01020304"


def test_posted_write_is_marked():
    payload = protocol.REGION_ACCESS.pack(0, 0, 1) + b"\xff"
    text = line(Command.REGION_WRITE, payload, flags=MessageFlag.NO_REPLY)
    assert text == "-> #7     REGION_WRITE no-reply at=bar0+0x0 count=1 data=ff"


def test_long_data_is_cut_and_counted():
    text = line(Command.REGION_WRITE, protocol.REGION_ACCESS.pack(0, 0, 4096) + bytes(4096))
    assert "...4096 bytes" in text
    assert len(text) < 150


def test_write_says_when_data_and_count_differ():
    payload = protocol.REGION_ACCESS.pack(0, 0, 4) + bytes(3)
    assert "has 3 bytes of data, says 4" in line(Command.REGION_WRITE, payload)


def test_error_reply_names_the_errno():
    text = line(Command.DMA_MAP, reply=True, flags=MessageFlag.ERROR, error=17)
    assert text == "<- #7     DMA_MAP reply error refused with EEXIST (File exists)"


def test_set_irqs_in_words():
    payload = protocol.IRQ_SET.pack(20, IrqSet.DATA_EVENTFD | IrqSet.TRIGGER, 0, 0, 1)
    assert line(Command.DEVICE_SET_IRQS, payload, nfds=1) == (
        "-> #7     DEVICE_SET_IRQS irq=INTx set=eventfd|trigger start=0 count=1 +1 fd"
    )


def test_set_irqs_with_two_actions_is_odd():
    payload = protocol.IRQ_SET.pack(20, IrqSet.DATA_NONE | IrqSet.TRIGGER | IrqSet.MASK, 9, 0, 1)
    assert "wants one kind of data and one action" in line(Command.DEVICE_SET_IRQS, payload)
    assert "irq=IRQ index 9" in line(Command.DEVICE_SET_IRQS, payload)


def test_region_info_lists_the_areas_to_map():
    areas = protocol.SPARSE_AREA.pack(0, 4096) + protocol.SPARSE_AREA.pack(8192, 4096)
    data = protocol.SPARSE_HEADER.pack(2, 0) + areas
    sparse = protocol.RegionCapability(protocol.SPARSE_MMAP, 1, data)
    payload = protocol.pack_region_info(1, 7, 16384, [sparse], 4096)
    text = line(Command.DEVICE_GET_REGION_INFO, payload, reply=True)
    assert "region=bar1" in text
    assert "flags=read|write|mmap|caps" in text
    assert "mmap_areas=0x0+0x1000,0x2000+0x1000" in text


def test_dma_map_and_unmap():
    text = line(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0x1000, 0x100000, 0x2000), nfds=1)
    assert text.endswith("iova=0x100000 size=0x2000 access=read|write offset=0x1000 +1 fd")
    assert "flags=all" in line(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 2, 0, 0))


def test_infos():
    assert "flags=reset|pci regions=9 irqs=5" in line(4, protocol.DEVICE_INFO.pack(16, 3, 9, 5), reply=True)
    assert "irq=MSI-X count=4 flags=eventfd" in line(7, protocol.IRQ_INFO.pack(16, 1, 2, 4), reply=True)
    assert "argsz 8 is less than 16" in line(4, protocol.DEVICE_INFO.pack(8, 0, 0, 0))


def test_write_multi_shows_the_first_writes():
    entries = b"".join(protocol.MULTI_WRITE.pack(at, 0, 4, bytes([at] * 8)) for at in range(9))
    text = line(Command.REGION_WRITE_MULTI, protocol.MULTI_COUNT.pack(9) + entries)
    assert "writes=9 first=bar0+0x0:00000000,bar0+0x1:01010101" in text
    assert "has room for 9" in line(Command.REGION_WRITE_MULTI, protocol.MULTI_COUNT.pack(2**63) + entries)


def test_unknown_commands_and_flags_are_named_by_number():
    text = line(99, b"\x01", flags=0x80)
    assert text == "-> #7     command 99 data=01 [unknown flags 0x80]"


def test_truncated_messages_say_so():
    assert "truncated: has 7 of 16 bytes" in str(describe(b"1234567", True))
    message = protocol.pack_message(1, Command.REGION_READ, protocol.REGION_ACCESS.pack(0, 0, 4))
    assert "truncated: has 20 of 32 bytes" in str(describe(message[:20], False))
    assert "truncated: has 4 of 16 bytes of payload" in str(describe(message[:20], False))


def test_a_message_of_which_only_the_beginning_was_kept_is_not_odd():
    payload = protocol.REGION_ACCESS.pack(0, 0, 4096) + bytes(4096)
    message = protocol.pack_message(1, Command.REGION_WRITE, payload)
    assert describe(message[:100], False, 0, len(message)).odd == ()
    assert describe(message[:100], False, 0, 100).odd != ()


def test_fields_are_plain_values_that_a_table_can_show():
    payload = protocol.REGION_ACCESS.pack(0x10, 2, 4)
    fields = describe(protocol.pack_message(1, Command.REGION_READ, payload), False).fields
    assert json.loads(json.dumps(fields)) == {"at": "bar2+0x10", "count": 4}


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 20))
def test_any_bytes_are_described(data, from_server, nfds):
    assert str(describe(data, from_server, nfds))


@given(st.integers(0, 20), st.integers(0, 0x40), st.binary(max_size=200), st.booleans())
def test_any_payload_of_any_command_is_described(command, flags, payload, from_server):
    header = struct.pack("<HHIII", 1, command, 16 + len(payload), flags, 0)
    message = describe(header + payload, from_server, 0)
    assert message.command == command
    assert str(message)
