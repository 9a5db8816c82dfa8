"""Memory that came without a file: the engine asks the client with DMA_READ and DMA_WRITE messages."""

import os
import resource
import select
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from engine_kit import HEADER, Engine, Wire, access, message

from workbench.engine import ffi, lib

MAP, UNMAP, REGION_READ, DMA_READ, DMA_WRITE = 2, 3, 9, 11, 12
PAGE, MIB = 4096, 1 << 20
BASE = 0x10000


class Asked(Wire):
    """A client with 2 MiB at BASE that the server has to ask for; the test answers in its place."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.pool = ThreadPoolExecutor(2)
        self.ram = bytearray(2 * MIB)
        assert self.map(BASE, len(self.ram)) == 0

    def close(self) -> int | None:
        self.pool.shutdown()
        return super().close()

    def map(self, iova: int, size: int, fds: list[int] | None = None, flags: int = 3) -> int:
        return self.ask(MAP, struct.pack("<IIQQQ", 32, flags, 0, iova, size), fds)[0]

    def read(self, iova: int, size: int) -> "Future[bytes | int]":
        """Start a copy on another thread, as a device's own thread would."""

        def run() -> bytes | int:
            data = ffi.new("uint8_t[]", size)
            result = lib.wb_dma_read(self.engine.device, iova, data, size, lib.WB_DEVICE)
            return result or bytes(data)

        return self.pool.submit(run)

    def write(self, iova: int, data: bytes) -> "Future[int]":
        return self.pool.submit(lib.wb_dma_write, self.engine.device, iova, data, len(data), lib.WB_DEVICE)

    def question(self) -> tuple[int, int, int, int, bytes]:
        """Return id, command, IOVA, count and data of the server's next message."""
        ident, command, size, flags, error = HEADER.unpack(self.take(16))
        assert (flags, error) == (0, 0)
        iova, count = struct.unpack("<QQ", self.take(16))
        return ident, command, iova, count, self.take(size - 32)

    def answer(self) -> tuple[int, int, int]:
        """Answer the next question from ``ram``; return its command, IOVA and count."""
        ident, command, iova, count, data = self.question()
        at, reply = iova - BASE, struct.pack("<QQ", iova, count)
        if command == DMA_WRITE:
            assert len(data) == count
            self.ram[at : at + count] = data
        else:
            reply += self.ram[at : at + count]
        self.send(message(command, reply, 1, ident))
        return command, iova, count

    def refuse(self, error: int) -> None:
        ident, command, *_ = self.question()
        self.send(HEADER.pack(ident, command, 16, 0x21, error))


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        engine.memory(0, 64)
        engine.memory(lib.WB_CONFIG, 256)
        engine.write(lib.WB_CONFIG, 4, b"\x04")
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[Asked]:
    with Asked(engine) as client:
        yield client


def test_a_read_is_a_message_and_a_record(client: Asked) -> None:
    client.ram[16:20] = b"RAM!"
    copy = client.read(BASE + 16, 4)
    assert client.answer() == (DMA_READ, BASE + 16, 4)
    assert copy.result(10) == b"RAM!"
    record = client.engine.last()
    assert (record.kind, record.offset, record.size) == (lib.WB_KIND_DMA_READ, BASE + 16, 4)
    assert record.value.to_bytes(4, "little") == b"RAM!"


def test_a_write_is_a_message_that_is_answered(client: Asked) -> None:
    copy = client.write(BASE + MIB, b"written")
    assert client.answer() == (DMA_WRITE, BASE + MIB, 7)
    assert copy.result(10) == 0
    assert client.ram[MIB : MIB + 7] == b"written"


def test_a_mebibyte_goes_in_chunks(client: Asked) -> None:
    data = os.urandom(MIB + 5)
    copy = client.write(BASE + 3, data)
    sizes = [client.answer()[2] for _ in range(9)]
    assert (copy.result(10), sizes) == (0, [128 << 10] * 8 + [5])
    back = client.read(BASE + 3, MIB + 5)
    asked = [client.answer() for _ in range(33)]
    assert asked == [(DMA_READ, BASE + 3 + at, min(32768, MIB + 5 - at)) for at in range(0, MIB + 5, 32768)]
    assert back.result(10) == data


def test_chunks_are_no_longer_than_the_client_takes(engine: Engine) -> None:
    accept = engine.accept

    def small(sent: Any) -> int:
        result = accept(sent)
        lib.wb_serve_accept(engine.device, 1000, 1)
        return result

    engine.message = small
    with Asked(engine) as client:
        copies = [client.read(BASE, 2500), client.write(BASE, bytes(1001))]
        counts = sorted(client.answer()[2] for _ in range(5))
        assert [copy.result(10) for copy in copies] == [bytes(2500), 0]
        assert counts == [1, 500, 1000, 1000, 1000]


def test_a_copy_crosses_from_a_file_to_memory_without_one(client: Asked) -> None:
    file = os.memfd_create("guest")
    os.truncate(file, PAGE)
    assert client.map(BASE - PAGE, PAGE, [file]) == 0
    copy = client.write(BASE - 3, b"abcdef")
    assert client.answer() == (DMA_WRITE, BASE, 3)
    assert (copy.result(10), os.pread(file, 3, PAGE - 3), client.ram[:3]) == (0, b"abc", b"def")
    back = client.read(BASE - 3, 6)
    client.answer()
    assert back.result(10) == b"abcdef"
    os.close(file)
    unmapped = client.ask(UNMAP, struct.pack("<IIQQ", 24, 0, BASE - PAGE, PAGE))
    assert unmapped[0] == 0


def test_gather_scatter_and_copy_reach_it_too(client: Asked) -> None:
    device = client.engine.device
    spans = ffi.new("wb_dma_span[]", [(BASE, 2), (BASE + PAGE, 3)])
    client.ram[:2], client.ram[PAGE : PAGE + 3] = b"ab", b"cde"
    into = ffi.new("uint8_t[5]")
    copy = client.pool.submit(lib.wb_dma_gather, device, spans, 2, into, lib.WB_DEVICE)
    assert [client.answer(), client.answer()] == [(DMA_READ, BASE, 2), (DMA_READ, BASE + PAGE, 3)]
    assert (copy.result(10), bytes(into)) == (0, b"abcde")
    copy = client.pool.submit(lib.wb_dma_copy, device, BASE + 9, BASE, 2, lib.WB_DEVICE)
    assert [client.answer(), client.answer()] == [(DMA_READ, BASE, 2), (DMA_WRITE, BASE + 9, 2)]
    assert (copy.result(10), client.ram[9:11]) == (0, b"ab")


def test_two_threads_may_ask_at_once_and_answers_may_come_in_any_order(client: Asked) -> None:
    client.ram[:2] = b"12"
    copies = {BASE: client.read(BASE, 1), BASE + 1: client.read(BASE + 1, 1)}
    questions = [client.question(), client.question()]
    assert questions[0][0] != questions[1][0]
    for ident, command, iova, count, _ in reversed(questions):
        reply = struct.pack("<QQ", iova, count) + client.ram[iova - BASE : iova - BASE + 1]
        client.send(message(command, reply, 1, ident))
    assert [copies[BASE].result(10), copies[BASE + 1].result(10)] == [b"1", b"2"]


def test_the_guest_is_served_while_the_server_waits_for_it(client: Asked) -> None:
    copy = client.read(BASE, 4)
    ident, command, iova, count, _ = client.question()
    assert client.ask(REGION_READ, access(0, 0, 4), ident=ident) == (0, access(0, 0, 4, bytes(4)))
    client.send(message(command, struct.pack("<QQ", iova, count) + b"done", 1, ident))
    assert copy.result(10) == b"done"


# ---- what goes wrong


@pytest.mark.parametrize("error", [19, 1, 0])
def test_a_refusal_is_an_error_and_a_record(client: Asked, error: int) -> None:
    copy = client.read(BASE, 4)
    client.refuse(error)
    assert copy.result(10) == -121  # EREMOTEIO
    assert (client.engine.last().value, client.engine.last().flags & lib.WB_REFUSED) == (121, lib.WB_REFUSED)


def test_a_refusal_in_the_middle_ends_the_copy(client: Asked) -> None:
    copy = client.write(BASE, bytes(MIB))
    client.answer()
    client.refuse(19)
    assert copy.result(10) == -121
    assert client.ask(REGION_READ, access(0, 0, 1))[0] == 0


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        struct.pack("<QQ", BASE, 4),
        struct.pack("<QQ", BASE, 3) + b"abcd",
        struct.pack("<QQ", BASE, 4) + b"abc",
    ],
)
def test_a_malformed_answer_is_an_error_of_that_copy(client: Asked, reply: bytes) -> None:
    copy = client.read(BASE, 4)
    ident, command, *_ = client.question()
    client.send(message(command, reply, 1, ident))
    assert copy.result(10) == -71
    assert client.ask(REGION_READ, access(0, 0, 1))[0] == 0


def test_a_missing_answer_is_waited_for_so_long_and_a_late_one_is_dropped(client: Asked) -> None:
    lib.wb_peer_patience(client.engine.device, 30)
    copy = client.read(BASE, 4)
    ident, command, iova, count, _ = client.question()
    assert copy.result(10) == -110
    client.send(message(command, struct.pack("<QQ", iova, count) + b"late", 1, ident))
    lib.wb_peer_patience(client.engine.device, 10_000)
    copy = client.read(BASE, 4)
    assert client.answer() == (DMA_READ, BASE, 4)
    assert copy.result(10) == bytes(4)


def test_a_client_that_takes_half_a_message_is_hung_up_on(client: Asked) -> None:
    lib.wb_peer_patience(client.engine.device, 50)
    results = [client.write(BASE, bytes(MIB)).result(10)]
    while results[-1] == -110 and len(results) < 50:  # until the socket is full
        results.append(client.write(BASE, bytes(MIB)).result(10))
    assert results[-1] in (-107, -104, -14)  # as far as the end had come
    assert client.wait() == 0


def test_who_asks_behind_a_reply_that_is_not_taken_waits_no_longer_than_for_an_answer(client: Asked) -> None:
    lib.wb_peer_patience(client.engine.device, 50)
    room = select.poll()
    room.register(client.socket, select.POLLOUT)
    while room.poll(100):  # until the server takes nothing more, since nobody takes its replies
        client.send(message(REGION_READ, access(0, 0, 64)))
    assert client.read(BASE, 4).result(10) == -110


def test_the_serving_thread_is_refused_at_once(client: Asked) -> None:
    results = []

    def hook(seen: Any) -> None:
        data = ffi.new("uint8_t[4]")
        results.append(lib.wb_dma_read(client.engine.device, BASE, data, 4, lib.WB_DEVICE))
        results.append(lib.wb_peer_read(client.engine.device, BASE, data, 4))

    client.engine.hook = hook
    lib.wb_region_hook(client.engine.device, 0, 0, 4, lib.WB_HOOK_WRITE, 1)
    assert client.ask(10, access(0, 0, 4, b"ring"))[0] == 0
    assert results == [-35, -35]


@pytest.mark.parametrize("asked", [True, False])
def test_a_client_that_leaves_ends_the_wait(client: Asked, asked: bool) -> None:
    if asked:
        copy = client.read(BASE, 4)
        client.question()
        client.socket.close()
        assert copy.result(10) == -104
    assert client.close() == 0
    data = ffi.new("uint8_t[4]")
    assert lib.wb_dma_read(client.engine.device, BASE, data, 4, lib.WB_DEVICE) == -14


@pytest.mark.slow
def test_what_a_copy_of_any_size_may_have_written_is_logged_in_bounded_memory(client: Asked) -> None:
    device, size, at = client.engine.device, 1 << 46, 1 << 50
    assert client.map(at, 2 * size) == 0
    lib.wb_peer_patience(device, 20)
    assert lib.wb_dirty_start(device, ffi.new("uint64_t *", PAGE), ffi.NULL, 0) == 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert lib.wb_dma_copy(device, at, at + size, size, lib.WB_DEVICE) == -110
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB
    bits = ffi.new("uint64_t *")
    assert lib.wb_dirty_report(device, at + size - 64 * PAGE, 64 * PAGE, PAGE, bits, 1) == 0
    assert bits[0] == 2**64 - 1


def test_an_unmap_does_not_wait_for_answers_and_ends_the_copy(client: Asked) -> None:
    copy = client.read(BASE, 2 * 32768)
    ident, command, iova, count, _ = client.question()
    assert client.ask(UNMAP, struct.pack("<IIQQ", 24, 0, BASE, 2 * MIB))[0] == 0
    client.send(message(command, struct.pack("<QQ", iova, count) + bytes(count), 1, ident))
    assert copy.result(10) == -14  # and no question follows
    assert client.ask(REGION_READ, access(0, 0, 1))[0] == 0


def test_an_unmap_does_not_wait_for_a_copy_from_a_file_to_memory_without_one(client: Asked) -> None:
    file = os.memfd_create("guest")
    os.truncate(file, PAGE)
    assert client.map(0, PAGE, [file]) == 0
    os.close(file)
    copy = client.pool.submit(lib.wb_dma_copy, client.engine.device, BASE, 0, 4, lib.WB_DEVICE)
    ident, command, iova, count, _ = client.question()
    assert client.ask(UNMAP, struct.pack("<IIQQ", 24, 0, 0, PAGE))[0] == 0
    client.send(message(command, struct.pack("<QQ", iova, count), 1, ident))
    assert copy.result(10) == 0


def test_rights_and_bus_mastering_come_first(client: Asked) -> None:
    assert client.map(0, PAGE, flags=1) == 0
    assert client.write(0, b"x").result(10) == -1
    client.engine.write(lib.WB_CONFIG, 4, b"\0")
    assert client.read(BASE, 4).result(10) == -13
    data = ffi.new("uint8_t[4]")
    assert lib.wb_peer_read(client.engine.device, BASE, data, 4) == -13


def test_what_is_asked_is_traced(client: Asked) -> None:
    lib.wb_serve_trace(client.engine.device, 1)
    copy = client.write(BASE, b"abc")
    client.answer()
    assert copy.result(10) == 0
    (sent, question, _), (received, _, _) = client.engine.traced
    assert (sent, received) == (1, 0)
    assert question[2:4] + question[16:] == struct.pack("<HQQ", DMA_WRITE, BASE, 3) + b"abc"


@pytest.mark.parametrize("write", [False, True])
def test_peer_read_asks_even_for_what_has_a_file(client: Asked, write: bool) -> None:
    file = os.memfd_create("guest")
    os.truncate(file, PAGE)
    assert client.map(BASE - PAGE, PAGE, [file], 3 if write else 1) == 0
    os.close(file)
    data = ffi.new("uint8_t[4]")
    call: Callable[..., int] = lib.wb_peer_read
    copy = client.pool.submit(call, client.engine.device, BASE - PAGE, data, 4)
    ident, command, iova, count, _ = client.question()
    client.send(message(command, struct.pack("<QQ", iova, count) + b"ours", 1, ident))
    assert (copy.result(10), bytes(data)) == (0, b"ours")
