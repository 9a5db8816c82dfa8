"""VERSION: what opens a conversation, what is agreed, and what ends it."""

import errno
import json

import pytest
from leaks import open_fds
from sample import access, link_to, memory_file, open_link, refusal

from workbench import protocol
from workbench.errors import ProtocolError
from workbench.protocol import Command, Header

# Exactly what QEMU 11.1 sends, and the room it has for the answer.
QEMU = {
    "pgsizes": 4096,
    "max_msg_fds": 16,
    "max_dma_maps": 65535,
    "max_data_xfer_size": 1048576,
    "migration": {"max_bitmap_size": 268435456, "pgsize": 4096},
    "write_multiple": True,
}
QEMU_REPLY_ROOM = 214


def negotiate(link, payload: bytes) -> tuple[int, int, dict]:
    reply, fds = link.request(Command.VERSION, payload, (), False, "VERSION")
    assert fds == ()
    return protocol.unpack_version(reply)


def ends(link, message: bytes, code: int, fds=()) -> None:
    """The message gets this Error reply, header only, and then the connection ends."""
    link.send_raw(message, fds)
    header = Header.unpack(message)
    reply = link.receive()
    assert reply.header == Header(header.id, header.command, 16, 0x21, code)
    with pytest.raises(ProtocolError, match="gone"):
        link.receive()


def reads_ident(link) -> None:
    reply, _ = link.request(Command.REGION_READ, access(0, 0x10), (), False, "")
    assert reply == access(0, 0x10) + (0xC0FFEE).to_bytes(4, "little")


def still_serves(device) -> None:
    with device.connect() as guest:
        assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_qemus_offer_gets_an_answer_that_qemu_has_room_for(device):
    with link_to(device) as link:
        payload = protocol.VERSION.pack(0, 0) + json.dumps({"capabilities": QEMU}).encode() + b"\0"
        assert len(payload) == 4 + 194
        link.send_raw(protocol.pack_message(0, Command.VERSION, payload))
        reply = link.receive()
    assert reply.fds == ()
    assert reply.header.size <= QEMU_REPLY_ROOM
    assert len(reply.payload) - 4 <= 194
    assert reply.payload.endswith(b"\0")
    major, minor, ours = protocol.unpack_version(reply.payload)
    assert (major, minor) == (0, 0)
    assert 0 <= ours["max_msg_fds"] <= 16
    assert 4096 <= ours["max_data_xfer_size"] <= 64 << 20
    assert ours.keys() <= QEMU.keys()
    assert ours["write_multiple"] is True


@pytest.mark.parametrize("minor", [0, 1, 2, 3, 0xFFFF])
def test_the_minor_version_is_at_most_the_clients(device, minor):
    with link_to(device) as link:
        assert negotiate(link, protocol.pack_version(minor, {}))[1] <= minor


TEXTS = [b"", b"{}\0", b'{"capabilities":{}}\0', b'{"capabilities":{"unknown":[1]}}\0']


@pytest.mark.parametrize("text", TEXTS)
def test_absent_capabilities_are_the_defaults_and_unknown_ones_ignored(device, text):
    with link_to(device) as link:
        _, _, ours = negotiate(link, protocol.VERSION.pack(0, 0) + text)
        assert "write_multiple" not in ours
        assert link.request(Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0), (), False, "")


@pytest.mark.parametrize("fds", [0, 1, 8, 253, 1024])
def test_every_sane_number_of_fds_is_accepted(device, fds):
    with link_to(device) as link:
        assert negotiate(link, protocol.pack_version(0, {"max_msg_fds": fds}))[2]["max_msg_fds"] <= 16


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0\0\0", id="short"),
        pytest.param(protocol.VERSION.pack(1, 0), id="major"),
        pytest.param(protocol.VERSION.pack(0, 0) + b"{}", id="no NUL"),
        pytest.param(protocol.VERSION.pack(0, 0) + b"{\0", id="no JSON"),
        pytest.param(protocol.VERSION.pack(0, 0) + b"\xff\0", id="no text"),
        pytest.param(protocol.VERSION.pack(0, 0) + b"[]\0", id="list"),
        pytest.param(protocol.VERSION.pack(0, 0) + b'{"capabilities":7}\0', id="number"),
        pytest.param(protocol.VERSION.pack(0, 0) + b"[" * 100_000 + b"\0", id="deep"),
        pytest.param(protocol.VERSION.pack(0, 0) + b"9" * 10_000 + b"\0", id="long number"),
        pytest.param(protocol.pack_version(0, {"max_msg_fds": -1}), id="negative fds"),
        pytest.param(protocol.pack_version(0, {"max_msg_fds": 1025}), id="many fds"),
        pytest.param(protocol.pack_version(0, {"max_msg_fds": "8"}), id="fds as text"),
        pytest.param(protocol.pack_version(0, {"max_msg_fds": True}), id="fds as boolean"),
        pytest.param(protocol.pack_version(0, {"max_data_xfer_size": -1}), id="negative size"),
        pytest.param(protocol.pack_version(0, {"max_data_xfer_size": 1.5}), id="broken size"),
        pytest.param(protocol.pack_version(0, {"write_multiple": 1}), id="write_multiple"),
    ],
)
def test_a_bad_version_is_refused_and_ends_the_conversation(device, payload):
    with link_to(device) as link:
        ends(link, protocol.pack_message(7, Command.VERSION, payload), errno.EINVAL)
    still_serves(device)


def test_a_version_with_a_file_descriptor_is_refused(device):
    with memory_file() as fd, link_to(device) as link:
        before = open_fds()
        message = protocol.pack_message(7, Command.VERSION, protocol.pack_version(0, {}))
        ends(link, message, errno.EINVAL, [fd])
        assert open_fds() <= before
    still_serves(device)


@pytest.mark.parametrize("command", [command for command in Command if command != Command.VERSION] + [0, 99])
def test_the_first_message_has_to_be_version(device, command):
    with link_to(device) as link:
        ends(link, protocol.pack_message(1, command, access()), errno.EINVAL)
    still_serves(device)


def test_a_second_version_is_refused_and_the_conversation_goes_on(device):
    with open_link(device) as link:
        assert refusal(link, Command.VERSION, protocol.pack_version(0, {})) == errno.EINVAL
        reads_ident(link)


def test_a_posted_version_is_not_answered(device):
    with link_to(device) as link:
        link.request(Command.VERSION, protocol.pack_version(0, {}), (), True, "")
        reads_ident(link)


def test_the_clients_transfer_limit_is_kept(device):
    with link_to(device) as link:
        negotiate(link, protocol.pack_version(0, {"max_data_xfer_size": 64}))
        assert refusal(link, Command.REGION_READ, access(count=65)) == errno.EINVAL
        assert len(link.request(Command.REGION_READ, access(count=64), (), False, "")[0]) == 16 + 64
