"""The serving loop over a socketpair: framing, descriptors, posted writes, malformed messages.

All of it on a thread of its own that sleeps, on one that polls, and on a poller's.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from engine_kit import HEADER, Engine, Wire, access, irqs, message, running_poller
from leaks import open_fds

from workbench.engine import ffi, lib

VERSION, MAP, UNMAP, SET_IRQS, READ, WRITE, RESET, MULTI = 1, 2, 3, 8, 9, 10, 13, 15
NO_REPLY = 0x10
HELLO = message(VERSION, struct.pack("<HH", 0, 0), ident=1)
MAX_MESSAGE = 16 + 16 + (1 << 20)


def dma_map(iova: int, size: int = 4096, offset: int = 0, flags: int = 3, argsz: int = 32) -> bytes:
    return struct.pack("<IIQQQ", argsz, flags, offset, iova, size)


def dma_unmap(iova: int, size: int = 4096, flags: int = 0, argsz: int = 24) -> bytes:
    return struct.pack("<IIQQ", argsz, flags, iova, size)


def entries(*writes: tuple[int, bytes]) -> bytes:
    rows = (struct.pack("<QII8s", offset, 0, len(data), data) for offset, data in writes)
    return struct.pack("<Q", len(writes)) + b"".join(rows)


@pytest.fixture(autouse=True, params=["sleeping", "polling", "poller"])
def thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "poller":
        with running_poller(50) as poller:
            monkeypatch.setattr(Wire, "poller", poller)
            yield
    else:
        monkeypatch.setattr(Wire, "poll_us", 50 if request.param == "polling" else 0)
        yield


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        made.memory(0, 4096)
        assert lib.wb_irq_add(made.device, lib.WB_INTX, 1) == 0
        assert lib.wb_irq_add(made.device, lib.WB_MSIX, 4) == 0
        yield made


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    before = open_fds()
    with Wire(engine) as made:
        yield made
    assert open_fds() == before


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 1 << 16)
    yield fd
    os.close(fd)


# ---- the conversation ----


def test_regions_are_read_and_written(wire: Wire) -> None:
    assert wire.ask(WRITE, access(0, 8, 4, b"abcd")) == (0, access(0, 8, 4))
    assert wire.ask(READ, access(0, 6, 8)) == (0, access(0, 6, 8, b"\0\0abcd\0\0"))
    assert wire.ask(READ, access(0, 4096, 0)) == (0, access(0, 4096, 0))
    assert wire.ask(WRITE, access(0, 0, 0)) == (0, access(0, 0, 0))


def test_the_log_has_attach_accesses_and_detach(engine: Engine) -> None:
    wire = Wire(engine)
    wire.ask(READ, access(0, 0, 4))
    assert wire.close() == 0
    kinds = [lib.WB_KIND_ATTACH, lib.WB_KIND_READ, lib.WB_KIND_DETACH]
    assert engine.kinds() == kinds
    with Wire(engine) as again:
        assert again.ask(READ, access(0, 0, 1))[0] == 0
    assert engine.kinds() == kinds * 2


def test_the_largest_transfer_passes_both_ways() -> None:
    size = 1 << 20
    with Engine() as engine:
        engine.memory(0, size)
        with Wire(engine) as wire:
            data = os.urandom(size)
            assert wire.ask(WRITE, access(0, 0, size, data)) == (0, access(0, 0, size))
            assert wire.ask(READ, access(0, 0, size)) == (0, access(0, 0, size, data))


def conversation() -> tuple[bytes, bytes]:
    """Return bytes to send and the bytes that must come back."""
    asked = [
        HELLO,
        message(WRITE, access(0, 0, 3, b"xyz"), ident=2),
        message(WRITE, access(0, 3, 1, b"!"), NO_REPLY, ident=3),
        message(MULTI, entries((4, b"12345678"), (12, b"9")), ident=4),
        message(READ, access(0, 0, 13), ident=5),
        message(99, b"what", ident=6),
        message(READ, access(0, 4095, 2), ident=7),
    ]
    answers = [
        HEADER.pack(1, VERSION, 20, 1, 0) + struct.pack("<HH", 0, 2),
        HEADER.pack(2, WRITE, 32, 1, 0) + access(0, 0, 3),
        HEADER.pack(4, MULTI, 24, 1, 0) + struct.pack("<Q", 2),
        HEADER.pack(5, READ, 45, 1, 0) + access(0, 0, 13, b"xyz!123456789"),
        HEADER.pack(6, 99, 16, 0x21, 95),
        HEADER.pack(7, READ, 16, 0x21, 22),
    ]
    return b"".join(asked), b"".join(answers)


def test_messages_may_come_all_at_once(engine: Engine) -> None:
    asked, answers = conversation()
    with Wire(engine, hello=False) as wire:
        wire.send(asked)
        assert wire.take(len(answers)) == answers


@pytest.mark.slow
def test_messages_may_be_split_at_any_byte(engine: Engine) -> None:
    asked, answers = conversation()
    for cut in range(1, len(asked)):
        with Wire(engine, hello=False) as wire:
            wire.send(asked[:cut])
            # An answer to all that is complete before the rest is sent: the loop has seen the cut.
            first = wire.take(20) if cut >= 20 else b""
            wire.send(asked[cut:])
            assert first + wire.take(len(answers) - len(first)) == answers, cut


def test_messages_may_come_byte_by_byte(engine: Engine) -> None:
    asked, answers = conversation()
    with Wire(engine, hello=False) as wire:
        for i in range(len(asked)):
            wire.send(asked[i : i + 1])
        assert wire.take(len(answers)) == answers


def test_a_client_may_go_at_any_byte(engine: Engine) -> None:
    asked, _ = conversation()
    before = open_fds()
    for cut in range(0, len(asked), 7):
        wire = Wire(engine, hello=False)
        wire.send(asked[:cut])
        assert wire.close() == 0
    assert open_fds() == before


def test_a_nonblocking_socket_is_served_too(engine: Engine) -> None:
    with Wire(engine) as wire:
        os.set_blocking(wire._far.fileno(), False)
        assert wire.ask(READ, access(0, 0, 4096))[0] == 0
        assert wire.ask(READ, access(0, 0, 1))[0] == 0


def test_posted_writes_are_never_answered_not_even_wrong_ones(wire: Wire) -> None:
    wire.send(
        message(WRITE, access(0, 0, 1, b"A"), NO_REPLY) + message(WRITE, access(3, 0, 1, b"A"), NO_REPLY)
    )
    wire.send(message(MULTI, entries((1, b"BC")), NO_REPLY) + message(99, b"", NO_REPLY))
    assert wire.ask(READ, access(0, 0, 3)) == (0, access(0, 0, 3, b"ABC"))


def test_the_loop_serves_one_client_at_a_time(wire: Wire) -> None:
    left, right = socket.socketpair()
    assert lib.wb_serve(wire.engine.device, left.fileno()) == -16
    left.close()
    right.close()


def test_shutting_the_socket_down_ends_the_loop(engine: Engine) -> None:
    wire = Wire(engine)
    wire._far.shutdown(socket.SHUT_RDWR)
    assert wire.wait() == 0
    wire.close()


# ---- descriptors ----


def test_maps_and_eventfds_are_gone_when_the_client_is_and_bytes_stay(engine: Engine, memory: int) -> None:
    before = open_fds()
    event = os.eventfd(0)
    wire = Wire(engine)
    wire.ask(WRITE, access(0, 0, 4, b"kept"))
    assert wire.ask(MAP, dma_map(0), [memory]) == (0, b"")
    assert wire.ask(SET_IRQS, irqs(0x24, lib.WB_MSIX), [event]) == (0, b"")
    assert lib.wb_irq_trigger(engine.device, lib.WB_MSIX, 0, lib.WB_DEVICE) == lib.WB_IRQ_DELIVERED
    assert os.eventfd_read(event) == 1
    assert wire.close() == 0
    assert lib.wb_dma_list(engine.device, ffi.NULL, 0) == 0
    assert lib.wb_irq_trigger(engine.device, lib.WB_MSIX, 0, lib.WB_DEVICE) == lib.WB_IRQ_NOBODY
    assert engine.get(0, "VALUE", 0, 4) == b"kept"
    os.close(event)
    assert open_fds() == before


def test_unmap_echoes_its_struct_and_all_takes_everything(wire: Wire, memory: int) -> None:
    for page in range(3):
        assert wire.ask(MAP, dma_map(page << 12, offset=page << 12), [memory]) == (0, b"")
    assert wire.ask(MAP, dma_map(1 << 20)) == (0, b"")
    assert wire.ask(UNMAP, dma_unmap(4096)) == (0, dma_unmap(4096))
    assert wire.ask(UNMAP, dma_unmap(4096)) == (2, b"")
    assert wire.ask(UNMAP, dma_unmap(0, 0, flags=2)) == (0, dma_unmap(0, 0, flags=2))
    assert lib.wb_dma_list(wire.engine.device, ffi.NULL, 0) == 0


def test_descriptors_go_to_the_message_that_they_came_with(wire: Wire) -> None:
    events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]
    wire.send(message(READ, access(0, 0, 1), ident=1))
    for i, event in enumerate(events):
        before = message(WRITE, access(0, 0, 1, b"x"), NO_REPLY) if i % 2 else b""
        wire.send(before + message(SET_IRQS, irqs(0x24, lib.WB_MSIX, i), ident=2 + i), [event])
    wire.send(message(READ, access(0, 0, 1), ident=9))
    assert wire.reply(READ, 1)[0] == 0
    assert [wire.reply(SET_IRQS, 2 + i) for i in range(4)] == [(0, b"")] * 4
    assert wire.reply(READ, 9)[0] == 0
    for i, event in enumerate(events):
        lib.wb_irq_trigger(wire.engine.device, lib.WB_MSIX, i, lib.WB_DEVICE)
        assert os.eventfd_read(event) == 1
        os.close(event)


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 47])
def test_descriptors_of_a_split_message_wait_for_its_rest(wire: Wire, memory: int, cut: int) -> None:
    whole = message(MAP, dma_map(0))
    wire.send(whole[:cut], [memory])
    wire.send(whole[cut:] + message(READ, access(0, 0, 1), ident=6))
    assert wire.reply(MAP) == (0, b"")
    assert wire.reply(READ, 6)[0] == 0
    wire.send(whole[:cut] + b"")
    wire.send(whole[cut:], [memory])
    assert wire.reply(MAP) == (0, b"")


def test_a_split_message_and_the_next_one_each_keep_their_own(wire: Wire, memory: int) -> None:
    event = os.eventfd(0, os.EFD_NONBLOCK)
    first, second = message(MAP, dma_map(0)), message(SET_IRQS, irqs(0x24, lib.WB_MSIX), ident=6)
    wire.send(first[:20], [memory])
    wire.send(first[20:] + second, [event])
    assert (wire.reply(MAP), wire.reply(SET_IRQS, 6)) == ((0, b""), (0, b""))
    os.close(event)


def test_descriptors_behind_more_messages_than_are_served_at_once_stay_with_theirs(
    wire: Wire, memory: int
) -> None:
    device, end = wire.engine.device, time.monotonic() + 10
    lib.wb_gate_pause(device, 1)
    many = message(WRITE, access(0, 0, 1, b"x"), NO_REPLY) * 100
    wire.send(many + message(MAP, dma_map(0), ident=6), [memory])
    while not lib.wb_gate_waiting(device):
        assert time.monotonic() < end
    wire.send(message(READ, access(0, 0, 1), ident=7))
    lib.wb_gate_pause(device, 0)
    assert wire.reply(MAP, 6) == (0, b"")
    assert wire.reply(READ, 7)[0] == 0
    found = ffi.new("wb_dma_range *")
    assert lib.wb_dma_list(device, found, 1) == 1
    assert found.flags & lib.WB_DMA_HAS_FD


def test_descriptors_on_a_command_that_takes_none_are_refused_and_closed(wire: Wire, memory: int) -> None:
    before = open_fds()
    for command, payload in ((READ, access(0, 0, 1)), (UNMAP, dma_unmap(0)), (RESET, b""), (99, b"")):
        assert wire.ask(command, payload, [memory, memory]) == (22, b"")
    assert wire.ask(MAP, dma_map(0), [memory, memory]) == (22, b"")
    assert wire.ask(SET_IRQS, irqs(0x24, lib.WB_MSIX), [memory]) == (22, b"")
    assert open_fds() == before
    assert wire.ask(READ, access(0, 0, 1))[0] == 0


def test_253_descriptors_are_accepted_and_too_many_for_one_message_are_fatal(
    engine: Engine, memory: int
) -> None:
    before = open_fds()
    wire = Wire(engine)
    assert wire.ask(READ, access(0, 0, 1), [memory] * 253) == (22, b"")
    for byte in message(READ, access(0, 0, 1))[:4]:
        wire.send(bytes([byte]), [memory] * 253)
    assert wire.wait() == -71
    wire.close()
    assert open_fds() == before


def test_the_unmask_eventfd_is_served_while_the_socket_is_idle(wire: Wire) -> None:
    device = wire.engine.device
    interrupt, unmask = os.eventfd(0), os.eventfd(0)
    assert wire.ask(SET_IRQS, irqs(0x24, lib.WB_INTX), [interrupt]) == (0, b"")
    assert wire.ask(SET_IRQS, irqs(0x14, lib.WB_INTX), [unmask]) == (0, b"")
    assert lib.wb_irq_level(device, 0, 1, lib.WB_DEVICE) == lib.WB_IRQ_DELIVERED
    for _ in range(3):
        assert os.eventfd_read(interrupt) == 1  # blocks until the loop has unmasked
        os.eventfd_write(unmask, 1)
    assert os.eventfd_read(interrupt) == 1
    assert wire.ask(READ, access(0, 0, 1))[0] == 0
    assert wire.ask(SET_IRQS, irqs(0x14, lib.WB_INTX)) == (0, b"")
    for fd in (interrupt, unmask):
        os.close(fd)


def test_a_reply_may_carry_a_descriptor(engine: Engine, memory: int) -> None:
    def answer(request: Any) -> int:
        if request.command == VERSION:
            return engine.accept(request)
        request.reply_fds[0], request.reply_nfds, request.reply_size = memory, 1, 2
        ffi.memmove(request.reply, b"ok", 2)
        return 0

    engine.message = answer
    with Wire(engine) as wire:
        wire.send(message(6))
        data, fds, _, _ = socket.recv_fds(wire.socket, 18, 1)
        assert data[16:] == b"ok"
        assert os.fstat(fds[0]).st_ino == os.fstat(memory).st_ino
        os.close(fds[0])


# ---- cold messages ----


def test_a_cold_message_goes_up_and_its_errno_comes_back(engine: Engine) -> None:
    seen = []

    def answer(request: Any) -> int:
        if request.command == VERSION:
            return engine.accept(request)
        seen.append((request.command, request.flags, bytes(ffi.buffer(request.payload, request.size))))
        return 61

    engine.message = answer
    with Wire(engine) as wire:
        assert wire.ask(16, b"feature") == (61, b"")
    assert seen == [(16, 0, b"feature")]


def test_a_negative_answer_is_an_error_reply_and_the_end(engine: Engine) -> None:
    engine.message = lambda request: engine.accept(request) if request.command == VERSION else -5
    wire = Wire(engine)
    assert wire.ask(99) == (5, b"")
    with pytest.raises(EOFError):
        wire.take(1)
    assert wire.wait() == -71
    wire.close()


def test_write_multi_is_cold_unless_negotiated(engine: Engine) -> None:
    def answer(request: Any) -> int:
        if request.command != VERSION:
            return 95
        lib.wb_serve_accept(engine.device, 64, 0)
        request.reply_size = 0
        return 0

    engine.message = answer
    with Wire(engine, hello=False) as wire:
        assert wire.ask(VERSION) == (0, b"")
        assert wire.ask(MULTI, entries((0, b"x"))) == (95, b"")
        assert wire.ask(READ, access(0, 0, 64))[0] == 0
        assert wire.ask(READ, access(0, 0, 65)) == (22, b"")


def test_write_multi_says_how_far_it_came(wire: Wire) -> None:
    assert wire.ask(MULTI, entries((0, b"a"), (4096, b"b"), (1, b"c"))) == (0, struct.pack("<Q", 1))
    assert wire.ask(MULTI, entries((4096, b"b"), (1, b"c"))) == (22, b"")
    assert wire.ask(MULTI, entries()) == (0, struct.pack("<Q", 0))
    assert wire.ask(READ, access(0, 0, 2)) == (0, access(0, 0, 2, b"a\0"))


def test_the_trace_sees_every_message_while_it_is_on(engine: Engine, memory: int) -> None:
    with Wire(engine) as wire:
        wire.ask(READ, access(0, 0, 1))
        lib.wb_serve_trace(engine.device, 1)
        wire.ask(MAP, dma_map(0), [memory])
        lib.wb_serve_trace(engine.device, 0)
        wire.ask(READ, access(0, 0, 1))
    request = message(MAP, dma_map(0))
    assert engine.traced == [(0, request, 1), (1, HEADER.pack(5, MAP, 16, 1, 0), 0)]


# ---- malformed messages ----


@pytest.mark.parametrize(
    ("command", "payload", "error"),
    [
        (VERSION, struct.pack("<HH", 0, 0), 22),
        (READ, b"", 22),
        (READ, access(0, 0, 1)[:15], 22),
        (READ, access(0, 0, (1 << 20) + 1), 22),
        (READ, access(0, 0, 0xFFFFFFFF), 22),
        (READ, access(0, (1 << 64) - 1, 2), 22),
        (READ, access(9, 0, 1), 22),
        (READ, access(1, 0, 0), 22),
        (WRITE, b"", 22),
        (WRITE, access(0, 0, 1)[:15], 22),
        (WRITE, access(0, 0, 2, b"x"), 22),
        (WRITE, access(0, 0, 1, b"xx"), 22),
        (WRITE, access(0, 4096, 1, b"x"), 22),
        (WRITE, access(7, 0, 1, b"x"), 22),
        (MULTI, b"", 22),
        (MULTI, entries((0, b"x"))[:-1], 22),
        (MULTI, entries((0, b"x")) + b"\0", 22),
        (MULTI, struct.pack("<Q", 1 << 61), 22),
        (MULTI, struct.pack("<Q", 0xAAAAAAAAAAAAAAAB) + bytes(8), 22),
        (MULTI, struct.pack("<QQII8s", 1, 0, 0, 9, b"x"), 22),
        (MAP, b"", 22),
        (MAP, dma_map(0)[:31], 22),
        (MAP, dma_map(0, argsz=31), 22),
        (MAP, dma_map(0, flags=4), 22),
        (MAP, dma_map(0, size=0), 22),
        (UNMAP, b"", 22),
        (UNMAP, dma_unmap(0)[:23], 22),
        (UNMAP, dma_unmap(0, argsz=23), 22),
        (UNMAP, dma_unmap(0, argsz=(1 << 20) + 1), 22),
        (UNMAP, dma_unmap(0, flags=1), 22),
        (UNMAP, dma_unmap(0, flags=3), 22),
        (UNMAP, dma_unmap(0, 4096, flags=2), 22),
        (UNMAP, dma_unmap(4096, 0, flags=2), 22),
        (UNMAP, dma_unmap(0), 2),
        (SET_IRQS, b"", 22),
        (SET_IRQS, irqs(0x21, 7), 22),
    ],
)
def test_a_wrong_message_is_an_error_reply_a_record_and_no_harm(
    wire: Wire, command: int, payload: bytes, error: int
) -> None:
    assert wire.ask(command, payload) == (error, b"")
    record = wire.engine.last()
    assert (record.kind, record.offset, record.value) == (lib.WB_KIND_ERROR, command, error)
    assert wire.ask(READ, access(0, 0, 1))[0] == 0


@pytest.mark.parametrize("flags", [1, 0x21])
def test_an_answer_that_nobody_waits_for_is_dropped(wire: Wire, memory: int, flags: int) -> None:
    before = open_fds()
    for ident in (0, 1, 0xFFFF):
        wire.send(message(11, bytes(20), flags=flags, ident=ident), [memory])
    assert wire.ask(READ, access(0, 0, 1))[0] == 0
    assert open_fds() == before


@pytest.mark.parametrize("kind", [2, 3, 15])
def test_a_message_that_is_no_command_is_refused_and_the_conversation_goes_on(wire: Wire, kind: int) -> None:
    wire.send(message(READ, access(0, 0, 1), flags=kind))
    assert wire.reply(READ) == (22, b"")
    assert wire.ask(READ, access(0, 0, 1))[0] == 0


@pytest.mark.parametrize("size", [0, 15, MAX_MESSAGE + 1, 0xFFFFFFFF])
def test_an_impossible_size_is_answered_and_ends_the_conversation(
    engine: Engine, memory: int, size: int
) -> None:
    before = open_fds()
    wire = Wire(engine)
    wire.send(HEADER.pack(3, READ, size, 0, 0), [memory])
    assert wire.reply(READ, 3) == (22, b"")
    with pytest.raises(EOFError):
        wire.take(1)
    assert wire.wait() == -71
    wire.close()
    assert open_fds() == before
    assert engine.kinds()[-2:] == [lib.WB_KIND_ERROR, lib.WB_KIND_DETACH]
    assert engine.last().value == 71


@pytest.mark.parametrize("fds", [0, 1])
def test_the_first_message_must_be_version_without_descriptors(engine: Engine, memory: int, fds: int) -> None:
    wire = Wire(engine, hello=False)
    wire.send(HELLO if fds else message(READ, access(0, 0, 1), ident=1), [memory] * fds)
    assert wire.reply(VERSION if fds else READ, 1) == (22, b"")
    assert wire.wait() == -71
    wire.close()
    assert engine.kinds() == [lib.WB_KIND_ERROR]
