"""Framing: headers good and bad, messages in pieces and in bunches, file descriptors and their messages."""

import errno
import itertools
import os
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leaks import open_fds
from sample import (
    TRIGGER_EVENTFD,
    access,
    eventfds,
    irq_payload,
    link_to,
    map_payload,
    memory_file,
    open_link,
    refusal,
    shut_down,
)

from workbench import protocol
from workbench.errors import ProtocolError
from workbench.protocol import HEADER, Command, Header, MessageFlag


def read_ident(number: int) -> bytes:
    return protocol.pack_message(number, Command.REGION_READ, access(0, 0x10))


READ_IDENT = read_ident(5)
IDENT = (0xC0FFEE).to_bytes(4, "little")


def hears_ident(link, number: int = 5) -> None:
    reply = link.receive()
    assert reply.header == Header(number, Command.REGION_READ, 36, 1)
    assert reply.payload == access(0, 0x10) + IDENT


@pytest.mark.parametrize("size", [0, 1, 15, protocol.MAX_TRANSFER + 1000, 1 << 30, 0xFFFFFFFF])
def test_an_impossible_size_gets_an_error_and_ends_the_connection(device, size):
    with open_link(device) as link:
        link.send_raw(HEADER.pack(9, Command.REGION_READ, size, 0, 0))
        assert link.receive().header == Header(9, Command.REGION_READ, 16, 0x21, errno.EINVAL)
        with pytest.raises(ProtocolError, match="gone"):
            link.receive()
    with device.connect() as guest:
        assert guest.bar0.read32(0x10) == 0xC0FFEE


@pytest.mark.parametrize("flags", [1, 0x21])
def test_an_answer_to_nothing_is_dropped(device, flags):
    with open_link(device) as link:
        link.send_raw(protocol.pack_message(3, Command.DMA_READ, access(), flags))
        link.send_raw(READ_IDENT)
        hears_ident(link)


@pytest.mark.parametrize("flags", [2, 0xF, 0x22])
def test_a_message_that_is_no_command_is_refused(device, flags):
    with open_link(device) as link:
        link.send_raw(protocol.pack_message(3, Command.REGION_READ, access(), flags))
        assert link.receive().header == Header(3, Command.REGION_READ, 16, 0x21, errno.EINVAL)
        link.send_raw(READ_IDENT)
        hears_ident(link)


@pytest.mark.parametrize("command", [0, 14, 19, 99, 0xFFFF])
def test_an_unknown_command_is_refused_and_its_body_is_skipped(guest, command):
    assert refusal(guest, command, b"x" * 1000) in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
    assert guest.bar0.read32(0x10) == 0xC0FFEE


@pytest.mark.parametrize(
    "command",
    [
        Command.DMA_MAP, Command.DMA_UNMAP, Command.DEVICE_GET_INFO, Command.DEVICE_GET_REGION_INFO,
        Command.DEVICE_GET_REGION_IO_FDS, Command.DEVICE_GET_IRQ_INFO, Command.DEVICE_SET_IRQS,
        Command.REGION_READ, Command.REGION_WRITE, Command.REGION_WRITE_MULTI,
    ],
)  # fmt: skip
def test_a_missing_payload_is_refused(guest, command):
    assert refusal(guest, command) == errno.EINVAL


def test_an_error_reply_is_a_bare_header(guest):
    guest.send_raw(protocol.pack_message(1, Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, 0x1000, 4096)))
    assert guest.receive().header == Header(1, Command.DMA_UNMAP, 16, 0x21, errno.ENOENT)


def test_ids_may_repeat_and_are_echoed(device):
    with open_link(device) as link:
        for number in (0, 7, 7, 0xFFFF, 0):
            link.send_raw(protocol.pack_message(number, Command.REGION_READ, access(0, 0x10)))
            hears_ident(link, number)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param((Command.REGION_WRITE, access(0, 0, 4, b"abcd")), id="good"),
        pytest.param((Command.REGION_WRITE, access(0, 1 << 20, 4, b"abcd")), id="outside"),
        pytest.param((Command.REGION_WRITE, b""), id="short"),
        pytest.param((99, b""), id="unknown"),
        pytest.param((Command.DMA_UNMAP, bytes(24)), id="bad unmap"),
        pytest.param((Command.DEVICE_GET_INFO, bytes(3)), id="bad info"),
        pytest.param((Command.DEVICE_RESET, b""), id="reset"),
        pytest.param((Command.REGION_READ, access()), id="read"),
    ],
)
def test_what_wants_no_reply_gets_none_not_even_an_error(device, message):
    with open_link(device) as link:
        link.send_raw(protocol.pack_message(1, message[0], message[1], MessageFlag.NO_REPLY))
        link.send_raw(READ_IDENT)
        hears_ident(link)


def test_a_posted_write_is_done_before_the_next_reply(guest):
    for value in range(100):
        guest.bar0.write32(0, value, posted=True)
        assert guest.bar0.read32(0) == value


def test_messages_in_single_bytes_are_put_together(device):
    with link_to(device) as link:
        for byte in protocol.pack_message(1, Command.VERSION, protocol.pack_version(0, {})) + READ_IDENT:
            link.send_raw(bytes([byte]))
        assert link.receive().header.command == Command.VERSION
        hears_ident(link)


def test_many_messages_in_one_write_are_answered_in_order(device):
    numbers = range(1000)
    bunch = b"".join(map(read_ident, numbers))
    with open_link(device) as link:
        link.send_raw(bunch)
        for number in numbers:
            hears_ident(link, number)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 3 * len(READ_IDENT)), max_size=8))
def test_any_way_of_cutting_messages_gives_the_same_answers(guest, cuts):
    data = b"".join(map(read_ident, range(3)))
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        guest.send_raw(data[start:end])
    for number in range(3):
        hears_ident(guest, number)


@pytest.mark.parametrize(
    "command",
    [
        Command.REGION_READ,
        Command.REGION_WRITE,
        Command.DEVICE_GET_INFO,
        Command.DMA_UNMAP,
        Command.DEVICE_RESET,
        99,
    ],
)
def test_file_descriptors_where_none_belong_are_refused_and_closed(guest, command):
    with eventfds(2) as fds:
        before = open_fds()
        assert refusal(guest, command, access(count=0), fds) in (errno.EINVAL, errno.ENOTSUP)
        assert open_fds() == before


def test_file_descriptors_reach_their_message_among_others(device):
    """Messages with descriptors between messages without, all sent before any is answered."""
    with open_link(device) as link, memory_file(8192) as one, memory_file(8192) as two:
        before = open_fds()
        link.send_raw(READ_IDENT)
        link.send_raw(protocol.pack_message(1, Command.DMA_MAP, map_payload(0, 8192)), [one])
        link.send_raw(READ_IDENT)
        link.send_raw(protocol.pack_message(2, Command.DMA_MAP, map_payload(1 << 20, 8192)), [two])
        link.send_raw(protocol.pack_message(3, Command.DMA_MAP, map_payload(2 << 20, 8192)))
        link.send_raw(READ_IDENT)
        headers = [link.receive().header for _ in range(6)]
        assert [header.id for header in headers] == [5, 1, 5, 2, 3, 5]
        assert not any(header.error for header in headers)
        assert open_fds() == before + 2
    device.server.wait_listening()


def test_file_descriptors_with_the_first_piece_of_a_cut_message(device):
    message = protocol.pack_message(1, Command.DMA_MAP, map_payload(0, 4096))
    for cut in (1, 15, 16, 17, len(message) - 1):
        with open_link(device) as link, memory_file() as fd:
            link.send_raw(READ_IDENT + message[:cut], [fd])
            link.send_raw(message[cut:] + READ_IDENT)
            assert [link.receive().header.error for _ in range(3)] == [0, 0, 0]


def test_more_eventfds_than_advertised_are_still_taken(device, guest):
    """cloud-hypervisor sends all at once; here they are too many for INTx, and are closed."""
    with eventfds(200) as fds:
        before = open_fds()
        payload = irq_payload(TRIGGER_EVENTFD, count=200)
        assert refusal(guest, Command.DEVICE_SET_IRQS, payload, fds) == errno.EINVAL
        assert open_fds() == before


@pytest.mark.parametrize("cut", [0, 1, 16, 33])
def test_a_client_that_shuts_down_inside_a_message_is_let_go(device, cut):
    with open_link(device) as link, memory_file() as fd:
        before = open_fds()
        if cut:
            link.send_raw(protocol.pack_message(1, Command.DMA_MAP, map_payload())[:cut], [fd])
        shut_down(link, socket.SHUT_WR)
        with pytest.raises(ProtocolError, match="gone"):
            link.receive()
    device.server.wait_listening()
    assert open_fds() <= before
    assert os.path.exists(device.server.path)
