"""The software guest against servers that break the protocol, stall or vanish."""

import contextlib
import errno
import gc
import os
import re
import select
import signal
import socket
import threading
import time
import weakref

import pytest
from fake_server import FakeServer
from interrupts import Interrupted, interrupted_when

from workbench import protocol
from workbench.client import Client
from workbench.errors import ProtocolError, StateError
from workbench.protocol import Command


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sock")


def fails_to_connect(path: str, on: dict, text: str, code: int | None = None) -> None:
    with FakeServer(path, on), pytest.raises(ProtocolError, match=text) as caught:
        Client(path, timeout=2)
    assert code is None or caught.value.code == code


def fails_to_read(path: str, behaviour, text: str, code: int | None = None, timeout: float = 2) -> None:
    """A bar0 read ends with this error, at once, and the connection is closed or usable as said."""

    def answer(server, header, payload, fds):
        if protocol.REGION_ACCESS.unpack(payload)[1] == 0:
            behaviour(server, header, payload, fds)
        else:
            server.reply(header, server.payload_for(Command.REGION_READ, payload))

    with FakeServer(path, {Command.REGION_READ: answer}), Client(path, timeout=timeout) as guest:
        with pytest.raises(ProtocolError, match=text) as caught:
            guest.bar0.read32(0x10)
        assert code is None or caught.value.code == code
        if not guest.closed:
            assert guest.config.read16(0) == 0x1234


def test_nobody_listens(path):
    with pytest.raises(ProtocolError, match=r"nobody serves .*sock: No such file") as caught:
        Client(path)
    assert caught.value.code == errno.ENOENT


def test_replies_in_single_bytes_are_put_together(path):
    def dribble(server, header, payload, fds):
        answer = server.payload_for(header.command, payload)
        for byte in protocol.pack_message(header.id, header.command, answer, flags=1):
            server.socket.send(bytes([byte]))

    with FakeServer(path, dict.fromkeys(Command, dribble)), Client(path) as guest:
        assert guest.id == "1234:110b"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "VERSION has 0 bytes"),
        (protocol.pack_version(0, {})[:-1], "NUL"),
        (b"\x01\0" + protocol.pack_version(0, {})[2:], "speaks 1.0"),
        (protocol.pack_version(9, {}), "speaks 0.9"),
    ],
)
def test_a_bad_version_reply_ends_the_connection(path, payload, text):
    fails_to_connect(path, {Command.VERSION: lambda server, header, *_: server.reply(header, payload)}, text)


def test_a_refused_version_names_the_errno(path):
    refuse = {Command.VERSION: lambda server, header, *_: server.reply(header, flags=0x21, error=22)}
    fails_to_connect(path, refuse, "VERSION was refused: EINVAL", errno.EINVAL)


def test_a_refused_read_names_region_offset_and_errno_and_the_guest_goes_on(path):
    def refuse(server, header, payload, fds):
        server.reply(header, flags=0x21, error=errno.EINVAL)

    text = re.escape("REGION_READ of 4 bytes at bar0+0x10 was refused: EINVAL")
    fails_to_read(path, refuse, text, errno.EINVAL)


def test_an_error_reply_without_errno_says_so(path):
    fails_to_read(path, lambda server, header, *_: server.reply(header, flags=0x21), "no errno given", 0)


@pytest.mark.parametrize("changed", [{"id": 0x7777}, {"command": Command.REGION_WRITE}])
def test_a_reply_to_something_else_closes_the_connection(path, changed):
    def wrong(server, header, payload, fds):
        server.reply(header, payload + bytes(4), **changed)

    fails_to_read(path, wrong, "the reply has id", errno.EPROTO)


def test_a_short_read_reply_is_refused(path):
    def short(server, header, payload, fds):
        server.reply(header, payload + b"ab")

    fails_to_read(path, short, "2 bytes of data")


@pytest.mark.parametrize("size", [0, 15, 1 << 21, 0xFFFFFFFF])
def test_an_impossible_size_closes_the_connection(path, size):
    def answer(server, header, payload, fds):
        server.socket.send(protocol.HEADER.pack(header.id, header.command, size, 1, 0))

    fails_to_read(path, answer, f"message of {size} bytes", errno.EPROTO)


def test_an_unsolicited_reply_is_noticed(path):
    def twice(server, header, payload, fds):
        server.reply(header, payload + bytes(4))
        server.reply(header, payload + bytes(4))

    with FakeServer(path) as server, Client(path) as guest:
        server.on[Command.REGION_READ] = twice
        guest.bar0.read32(0)
        with pytest.raises(ProtocolError, match="the reply has id"):
            guest.bar0.read32(0)
        assert guest.closed


def test_a_silent_server_times_out(path):
    fails_to_read(path, lambda *_: None, r"no answer for 0\.1 s", errno.ETIMEDOUT, timeout=0.1)


def test_a_server_that_stops_inside_a_reply_times_out(path):
    def half(server, header, payload, fds):
        server.socket.send(protocol.pack_message(header.id, header.command, payload + bytes(4), 1)[:20])

    fails_to_read(path, half, "no answer", errno.ETIMEDOUT, timeout=0.1)


@pytest.mark.parametrize("sent", [0, 1, 15, 16, 17, 35])
def test_a_server_that_vanishes_is_said_to_be_gone(path, sent):
    def vanish(server, header, payload, fds):
        server.socket.send(protocol.pack_message(header.id, header.command, payload + bytes(4), 1)[:sent])
        server.socket.shutdown(socket.SHUT_RDWR)

    fails_to_read(path, vanish, "the server is gone", errno.ECONNRESET)


def test_a_closed_guest_says_that_it_is_closed(path):
    with FakeServer(path), Client(path) as guest:
        guest.disconnect()
        guest.disconnect()
        assert guest.closed
        assert "disconnected" in repr(guest)
        with pytest.raises(ProtocolError, match="not connected"):
            guest.bar0.read8(0)


def test_unexpected_file_descriptors_are_closed(path):
    def with_fds(server, header, payload, fds):
        reader, writer = os.pipe()
        server.reply(header, payload + bytes(4), fds=[reader, writer])
        os.close(reader)
        os.close(writer)

    with FakeServer(path) as server, Client(path) as guest:
        server.on[Command.REGION_READ] = with_fds
        assert guest.bar0.read32(0) == 0  # the leak check of every test counts the rest


def test_commands_of_the_device_are_served_inside_a_request(path):
    """The device reads and writes guest memory while the guest waits for its register."""
    answers = []

    def ask_first(server, header, payload, fds):
        ask = [
            (Command.DMA_READ, protocol.DMA_ACCESS.pack(0x1000, 4)),
            (Command.DMA_WRITE, protocol.DMA_ACCESS.pack(0x2000, 2) + b"hi"),
            (Command.DMA_READ, protocol.DMA_ACCESS.pack(1 << 40, 4)),
            (Command.DMA_WRITE, protocol.DMA_ACCESS.pack(0x2000, 9) + b"short"),
            (Command.DMA_READ, protocol.DMA_ACCESS.pack(0, 1 << 21)),
            (Command.DMA_READ, b"short"),
            (Command.VERSION, b""),
        ]
        for number, (command, data) in enumerate(ask):
            server.socket.send(protocol.pack_message(number, command, data))
            answers.append(server.receive()[:2])
        server.reply(header, payload + bytes(4))

    with FakeServer(path) as server, Client(path) as guest:
        guest.memory[0x1000:0x1004] = b"RAM!"
        server.on[Command.REGION_READ] = ask_first
        assert guest.bar0.read32(0) == 0
        assert guest.memory[0x2000:0x2002] == b"hi"
    assert [header.error for header, _ in answers] == [
        0,
        0,
        errno.ENODEV,
        errno.E2BIG,
        errno.E2BIG,
        errno.EINVAL,
        errno.ENOSYS,
    ]
    assert answers[0][1] == protocol.DMA_ACCESS.pack(0x1000, 4) + b"RAM!"
    assert answers[1][1] == protocol.DMA_ACCESS.pack(0x2000, 2)


def test_memory_without_a_file_is_served_while_the_guest_does_nothing(path):
    asked, answered = threading.Event(), []

    def later(server, header, payload, fds):
        server.reply(header)
        server.socket.send(protocol.pack_message(1, Command.DMA_READ, protocol.DMA_ACCESS.pack(0x5000, 2)))
        answered.append(server.receive()[:2])
        asked.set()

    with FakeServer(path, {Command.DMA_MAP: later}), Client(path) as guest:
        guest.memory.map(0x5000, 0x1000, shared=False)
        assert asked.wait(5)
        assert answered[0][1].endswith(b"\0\0")
        assert guest.config.read16(0) == 0x1234


def test_a_read_only_range_refuses_the_devices_write(path):
    answers = []

    def write(server, header, payload, fds):
        server.socket.send(protocol.pack_message(1, Command.DMA_WRITE, protocol.DMA_ACCESS.pack(0, 1) + b"x"))
        answers.append(server.receive()[0].error)
        server.reply(header, payload + bytes(4))

    with FakeServer(path) as server, Client(path) as guest:
        guest.memory.map(0, 4096, readonly=True)
        server.on[Command.REGION_READ] = write
        guest.bar0.read32(0)
        assert guest.memory[0] == 0
    assert answers == [errno.ENODEV]


def test_write_multi_wants_negotiation(path):
    server = FakeServer(path, capabilities={})
    with server, Client(path) as guest, pytest.raises(StateError, match="write_multiple"):
        guest.write_multi([(0, 0, b"1234")])


def test_eventfds_are_sent_in_messages_of_the_agreed_size(path):
    counts = []

    def count(server, header, payload, fds):
        counts.append((protocol.IRQ_SET.unpack(payload)[3:], len(fds)))
        server.reply(header)

    with FakeServer(path, {Command.DEVICE_SET_IRQS: count}, {"max_msg_fds": 2}), Client(path) as guest:
        guest.arm(1)
    assert counts == [((0, 2), 2), ((2, 1), 1)]


def test_a_region_info_that_keeps_growing_is_given_up(path):
    def grow(server, header, payload, fds):
        argsz, _, index, *_ = protocol.REGION_INFO.unpack(payload[:32])
        server.reply(header, protocol.REGION_INFO.pack(argsz + 8, 3, index, 0, 0, 0))

    fails_to_connect(path, {Command.DEVICE_GET_REGION_INFO: grow}, "grows each time")


def test_requests_of_many_threads_get_their_own_replies(path):
    with FakeServer(path) as server, Client(path) as guest:
        server.config[:] = bytes(range(256))
        wrong = []

        def read(offset):
            wrong.extend(at for _ in range(50) for at in [guest.config.read8(offset)] if at != offset)

        threads = [threading.Thread(target=read, args=(offset,)) for offset in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


# ---- Ctrl-C: a signal whose handler raises, wherever it finds the main thread


def ready(guest: Client, way: str) -> bool:
    """Whether the guest's socket has something for it ("IN"), or room for more ("OUT")."""
    poll = select.poll()
    poll.register(guest.fileno(), getattr(select, f"POLL{way}"))
    return bool(poll.poll(0))


@contextlib.contextmanager
def interrupting(seconds: float):
    """Raise Interrupted in this thread after some seconds, unless the block is done before."""

    def interrupt(*_) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("sent", [0, 1, 16, 20, 35])
def test_ctrl_c_while_a_reply_is_coming_leaves_a_guest_that_goes_on(path, sent):
    """``sent`` bytes of the reply are there when the wait is interrupted; the rest comes late."""
    begun, go_on = threading.Event(), threading.Event()

    def late(server, header, payload, fds):
        del server.on[Command.REGION_READ]
        answer = protocol.pack_message(header.id, header.command, payload + b"late", 1)
        server.socket.send(answer[:sent])
        begun.set()
        assert go_on.wait(5)
        server.socket.send(answer[sent:])

    with FakeServer(path) as server, Client(path) as guest:
        server.on[Command.REGION_READ] = late
        with pytest.raises(Interrupted), interrupted_when(lambda: begun.is_set() and not ready(guest, "IN")):
            guest.bar0.read32(0)
        assert not guest.closed
        go_on.set()
        for _ in range(3):
            assert guest.config.read32(0) == int.from_bytes(server.config[:4], "little")


def test_a_late_reply_is_dropped_by_the_thread_that_serves_memory_too(path):
    begun, go_on, asked = threading.Event(), threading.Event(), threading.Event()

    def late(server, header, payload, fds):
        del server.on[Command.REGION_READ]
        begun.set()
        assert go_on.wait(5)
        server.reply(header, payload + b"late")
        server.socket.send(protocol.pack_message(1, Command.DMA_READ, protocol.DMA_ACCESS.pack(0, 2)))
        assert server.receive()[1].endswith(b"\0\0")
        asked.set()

    with FakeServer(path) as server, Client(path) as guest:
        guest.memory.map(0, 4096, shared=False)
        server.on[Command.REGION_READ] = late
        with pytest.raises(Interrupted), interrupted_when(begun.is_set):
            guest.bar0.read32(0)
        go_on.set()
        assert asked.wait(5)
        assert guest.config.read16(0) == 0x1234


def test_ctrl_c_wherever_it_comes_leaves_a_guest_that_goes_on(path):
    """The interrupts walk through the whole of a request, a few microseconds further each time."""
    count = 0
    with FakeServer(path) as server, Client(path) as guest:
        server.config[:] = bytes(range(256))
        for step in range(120):
            with contextlib.suppress(Interrupted), interrupting(20e-6 + step * 3e-6):
                for offset in range(200):
                    assert guest.config.read8(offset) == offset
            count += guest.config.read8(step) == step
            assert not guest.closed
    assert count == 120


def test_ctrl_c_inside_a_long_message_hangs_up(path):
    """Nobody can know how much of it the server has got."""
    with FakeServer(path) as server, Client(path) as guest:
        reading = threading.Event()
        server.on[Command.REGION_WRITE] = lambda *_: reading.wait(5)
        guest.bar0.write(0, b"1", posted=True)
        with pytest.raises(Interrupted), interrupted_when(lambda: not ready(guest, "OUT")):
            guest.bar0.write(0, bytes(1 << 20), posted=True)
        reading.set()
        assert guest.closed
        with pytest.raises(ProtocolError, match="closed"):
            guest.bar0.read8(0)


# ---- going


def test_a_guest_that_serves_memory_can_be_forgotten(path):
    with FakeServer(path):
        guest = Client(path)
        guest.memory.map(0, 4096, shared=False)
        gone = weakref.ref(guest)
        del guest
        deadline = time.monotonic() + 5
        while gone() is not None or f"guest of {path}" in {one.name for one in threading.enumerate()}:
            gc.collect()  # the thread may have been looking at the link just now
            assert time.monotonic() < deadline


def test_descriptors_that_come_with_irq_info_are_closed(path):
    def with_fd(server, header, payload, fds):
        fd = os.eventfd(0)
        server.reply(header, server.payload_for(header.command, payload), fds=[fd])
        os.close(fd)

    with FakeServer(path, {Command.DEVICE_GET_IRQ_INFO: with_fd}), Client(path) as guest:
        assert guest.irqs[0].count == 3  # the leak check of every test counts the rest
