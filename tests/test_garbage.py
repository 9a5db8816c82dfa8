"""A client that sends nonsense, or dies anywhere: an errno or a clean end, and the next client is served."""

import errno
import os
import random
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
    shut_down,
    unmap_payload,
)

from workbench import protocol
from workbench.client.link import Link
from workbench.errors import ProtocolError
from workbench.protocol import HEADER, Command, MessageFlag

GONE = (errno.ECONNRESET, errno.EPIPE)
FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def drain(link: Link) -> int:
    """End our side and hear the server out; every answer is a whole message. Returns how many."""
    shut_down(link, socket.SHUT_WR)
    count = 0
    while True:
        try:
            reply = link.receive()
        except ProtocolError as error:
            if error.code in GONE:
                return count
            raise
        assert reply.header.flags & 0xF == MessageFlag.REPLY
        assert not reply.header.flags & MessageFlag.ERROR or reply.header.error
        for fd in reply.fds:
            os.close(fd)
        count += 1


def send(link: Link, data: bytes, fds=()) -> None:
    """Send as much as the server takes; it may hang up in the middle."""
    try:
        link.send_raw(data, fds)
    except ProtocolError as error:
        if error.code not in GONE:
            raise


def still_works(device) -> None:
    with device.connect() as guest:
        assert guest.bar0.read32(0x10) == 0xC0FFEE
        assert guest.config.read16(0) == 0x1234
    device.server.wait_listening()
    assert device.server.error is None


def settled(device) -> int:
    """How many descriptors there are while a plain client is attached: all before it are gone then."""
    with open_link(device):
        return open_fds()


@pytest.mark.slow
@pytest.mark.parametrize("begin", [link_to, open_link], ids=["instead of a version", "inside a conversation"])
@FUZZ
@given(data=st.binary(max_size=400))
def test_random_bytes(device, begin, data):
    with begin(device) as link:
        send(link, data)
        if not link.closed:
            drain(link)
    still_works(device)


EDGES = [0, 1, 2, 4, 7, 8, 15, 16, 20, 24, 32, 255, 256, 4095, 4096, 1 << 20, 1 << 31, 0xFFFFFFFF]
numbers = st.sampled_from(EDGES)
words = st.lists(numbers | st.integers(0, 0xFFFFFFFF), max_size=14)
messages = st.tuples(
    st.sampled_from(list(Command)) | st.integers(0, 20),
    words,
    st.sampled_from([0, 0, 0, 0x10, 1, 0x20, 0x21]),
    st.integers(0, 3),
)


@pytest.mark.slow
@FUZZ
@given(st.lists(messages, max_size=12))
def test_well_framed_messages_with_any_payload(device, conversation):
    """Every command that wants a reply gets one, in order, whatever is in it."""
    before = settled(device)
    with open_link(device) as link, eventfds(3) as fds:
        for number, (command, payload, flags, nfds) in enumerate(conversation):
            data = b"".join(word.to_bytes(4, "little") for word in payload)
            send(link, protocol.pack_message(number, command, data, flags), fds[:nfds])
        wanted = sum(
            not flags & MessageFlag.NO_REPLY and flags & 0xF != MessageFlag.REPLY
            for _, _, flags, _ in conversation
        )
        assert drain(link) == wanted
    assert settled(device) == before


def test_random_sizes_in_the_header(device):
    chance = random.Random(1)
    for _ in range(50):
        with open_link(device) as link:
            size = chance.choice([0, 3, 15, 17, 31, 33, 64, 1 << 20, (1 << 20) + 32, 1 << 31, 0xFFFFFFFF])
            send(link, HEADER.pack(1, chance.choice(list(Command)), size, 0, 0) + chance.randbytes(64))
            if not link.closed:
                drain(link)
        still_works(device)


# ---- a client that dies


def conversation() -> list[tuple[bytes, int]]:
    """What a client says, message by message, and how many descriptors go with each: a file, eventfds."""
    said = [
        (Command.VERSION, protocol.pack_version(0, {"max_msg_fds": 16, "write_multiple": True}), 0),
        (Command.DMA_MAP, map_payload(), 1),
        (Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0), 0),
        (Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 0, 0, 0, 0, 0), 0),
        (Command.DEVICE_SET_IRQS, irq_payload(TRIGGER_EVENTFD), 1),
        (Command.REGION_WRITE, access(0, 0x100, 4, b"abcd"), 0),
        (Command.REGION_READ, access(0, 0x100, 4), 0),
        (Command.DMA_UNMAP, unmap_payload(), 0),
        (Command.DEVICE_RESET, b"", 0),
    ]
    return [
        (protocol.pack_message(number, command, payload), nfds)
        for number, (command, payload, nfds) in enumerate(said)
    ]


def play(link: Link, upto: int, file: int, event: int) -> None:
    """Send the first ``upto`` bytes of the conversation, descriptors with the first byte of their message."""
    for data, nfds in conversation():
        piece = data[:upto]
        if not piece:
            return
        send(link, piece, [event if data[2] == Command.DEVICE_SET_IRQS else file][:nfds])
        upto -= len(piece)


LENGTH = sum(len(data) for data, _ in conversation())


def test_a_client_that_dies_at_any_byte_leaves_a_server_that_listens(device):
    """State is kept, no descriptor is lost, the next client works."""
    device.bar0.SCRATCH.value = 0xABCD
    with memory_file() as file, eventfds(1) as (event,):
        before = settled(device)
        for upto in range(LENGTH - 16):  # the last message resets the registers
            with link_to(device) as link:
                play(link, upto, file, event)
            assert settled(device) == before, f"after {upto} bytes"
            assert device.bar0.SCRATCH.value == 0xABCD
    still_works(device)
    assert device.bar0.SCRATCH.value == 0xABCD


def test_a_client_that_dies_unread_answers_leave_a_server_that_listens(device):
    """As above, but the socket is closed with answers still in it: a reset connection, not an end."""
    with memory_file() as file, eventfds(1) as (event,):
        before = settled(device)
        for upto in range(0, LENGTH, 7):
            with link_to(device) as link:
                play(link, upto, file, event)
                shut_down(link, socket.SHUT_RD)
            assert settled(device) == before, f"after {upto} bytes"
    still_works(device)


def test_a_client_that_comes_and_goes_without_a_word(device):
    for _ in range(20):
        with link_to(device):
            pass
    still_works(device)


def test_a_second_client_waits_until_the_first_is_gone(device):
    with device.connect() as first, socket.socket(socket.AF_UNIX) as second:
        second.connect(device.server.path)
        second.send(protocol.pack_message(1, Command.VERSION, protocol.pack_version(0, {})))
        assert first.bar0.read32(0x10) == 0xC0FFEE
        first.disconnect()
        second.settimeout(5)
        assert protocol.Header.unpack(second.recv(16)).command == Command.VERSION
    still_works(device)
