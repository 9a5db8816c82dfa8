"""Servers that break the protocol, hang or die: QEMU gets an error while it attaches, and lives on later."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_server import FakeServer, Misbehave
from preload_kit import HERE, Card, run, running, sanitized

from workbench import protocol
from workbench.protocol import REGION_INFO, Command, Header

pytestmark = pytest.mark.slow

SOON = {"WORKBENCH_PRELOAD_TIMEOUT_MS": "200"}
C = Command
DEAD = "region EIO\nconfig EIO\nirq EIO\nset EIO\nreset EIO\nread EIO\nmap no"


def says(payload: bytes = b"", fds: int = 0, **changed: int) -> Misbehave:
    """Answer with this payload and so many descriptors; ``changed`` as in ``FakeServer.reply``."""

    def answer(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
        server.reply(header, payload, [0] * fds, **changed)

    return answer


def refuses(error: int) -> Misbehave:
    return says(flags=0x21, error=error)


def wrong_id(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    server.reply(header, server.payload_for(header.command, asked), id=header.id + 1)


def wrong_id_first(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    wrong_id(server, header, asked, _)
    server.reply(header, server.payload_for(header.command, asked))


def nothing(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    pass


def hangs_up(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    server.socket.shutdown(socket.SHUT_RDWR)


def hangs_up_in_the_middle(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    server.socket.sendall(struct.pack("<HHII", header.id, header.command, 100, 1))
    server.socket.shutdown(socket.SHUT_RDWR)


def in_pieces(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    payload = server.payload_for(header.command, asked)
    message = protocol.pack_message(header.id, header.command, payload, flags=1)
    for at in range(len(message)):
        server.socket.sendall(message[at : at + 1])


def huge(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    server.socket.sendall(struct.pack("<HHIII", header.id, header.command, 1 << 30, 1, 0))


def tiny(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    server.socket.sendall(struct.pack("<HHIII", header.id, header.command, 15, 1, 0))


def attach(tmp_path: Path, on: dict[int, Misbehave], **settings: str) -> tuple[str, str]:
    """Attach as QEMU does, under a sanitizer; return what failed and what was complained of."""
    path, program = str(tmp_path / "bad.sock"), sanitized("address,undefined")
    with FakeServer(path, on), running("attach", path, program=program, **settings) as qemu:
        said = qemu.process.communicate(timeout=20)
    return said[0].decode().strip(), said[1].decode()


def test_a_server_without_a_fault(tmp_path: Path) -> None:
    assert attach(tmp_path, {}) == ("map no", "")


def version(text: bytes, major: int = 0) -> Misbehave:
    return says(struct.pack("<HH", major, 1) + text)


@pytest.mark.parametrize(
    ("command", "fault", "error"),
    [
        (C.VERSION, hangs_up, "EIO"),
        (C.VERSION, hangs_up_in_the_middle, "EIO"),
        (C.VERSION, refuses(22), "EINVAL"),
        (C.VERSION, refuses(0), "EIO"),
        (C.VERSION, refuses(1 << 31), "EIO"),
        (C.VERSION, says(b"\0\0"), "EPROTO"),
        (C.VERSION, version(b"", major=1), "EPROTO"),
        (C.VERSION, version(b'{"capabilities":{"max_data_xfer_size":0}}\0'), "EPROTO"),
        (C.VERSION, version(b" " * 5000), "EPROTO"),
        (C.VERSION, version(b"", major=0), None),
        (C.VERSION, version(b"garbage \"max_msg_fds\" : x"), None),
        (C.VERSION, says(struct.pack("<HH", 0, 1), fds=1), "EPROTO"),
        (C.VERSION, huge, "EIO"),
        (C.VERSION, tiny, "EIO"),
        (C.VERSION, in_pieces, None),
        (C.VERSION, wrong_id_first, None),
        (C.DEVICE_GET_INFO, refuses(5), "EIO"),
        (C.DEVICE_GET_INFO, says(b"\0" * 15), "EPROTO"),
        (C.DEVICE_GET_INFO, says(protocol.DEVICE_INFO.pack(16, 3, 7, 5)), "EPROTO"),
        (C.DEVICE_GET_INFO, says(protocol.DEVICE_INFO.pack(16, 3, 9, 2)), "EPROTO"),
        (C.DEVICE_GET_INFO, says(protocol.DEVICE_INFO.pack(16, 0, 1 << 31, 1 << 31)), None),
        (C.DEVICE_GET_INFO, hangs_up, "EIO"),
    ],
)  # fmt: skip
def test_a_device_that_cannot_be_had(
    command: int, fault: Misbehave, error: str | None, tmp_path: Path
) -> None:
    said, complaint = attach(tmp_path, {command: fault})
    assert said == (f"device {error}" if error else "map no")
    assert ("no vfio-user server can be used there" in complaint) == (error is not None)


@pytest.mark.parametrize("fault", [nothing, wrong_id])
def test_a_server_that_does_not_answer_in_time(fault: Misbehave, tmp_path: Path) -> None:
    said, complaint = attach(tmp_path, {C.VERSION: fault}, **SOON)
    assert said == "device ETIMEDOUT"
    assert "the server does not answer" in complaint
    said, complaint = attach(tmp_path, {C.DEVICE_GET_REGION_INFO: fault}, **SOON)
    assert said == DEAD.replace("region EIO", "region ETIMEDOUT", 1)
    assert complaint.count("\n") == 1


def test_a_server_that_asks_instead_of_answering_holds_up_no_longer(tmp_path: Path) -> None:
    """It takes what it is answered slowly: in time for each answer, and 5 s for all of them."""
    paces = []

    def asks(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
        server.socket.sendall(protocol.pack_message(1, C.DMA_READ, struct.pack("<QQ", 0, 8)) * 6000)
        while len(paces) < 50 and server.socket.recv(2000):
            paces.append(threading.Event().wait(0.1))

    said, complaint = attach(tmp_path, {C.DEVICE_GET_REGION_INFO: asks}, **SOON)
    assert said == DEAD.replace("region EIO", "region ETIMEDOUT", 1)
    assert "the server does not answer" in complaint
    assert len(paces) < 25


@pytest.mark.parametrize(
    ("command", "fault", "said"),
    [
        (C.REGION_READ, refuses(13), "config EACCES\nread EACCES\nmap no"),
        (C.REGION_READ, says(b"\0" * 16), "config EIO\nread EIO\nmap no"),
        (C.REGION_READ, says(b"\0" * 8), "config EIO\nread EIO\nmap no"),
        (C.REGION_READ, says(bytes(272), fds=1), "config EPROTO\nread EPROTO\nmap no"),
        (C.REGION_READ, hangs_up_in_the_middle, DEAD.removeprefix("region EIO\n")),
        (C.REGION_READ, huge, DEAD.removeprefix("region EIO\n")),
        (C.DEVICE_GET_IRQ_INFO, refuses(22), "irq EINVAL\nmap no"),
        (C.DEVICE_GET_IRQ_INFO, says(b"\0" * 15), "irq EIO\nmap no"),
        (C.DEVICE_GET_IRQ_INFO, says(protocol.IRQ_INFO.pack(16, 1, 1, 3)), "irq EIO\nmap no"),
        (C.DEVICE_GET_IRQ_INFO, says(protocol.IRQ_INFO.pack(16, 1, 2, 1 << 30)), "irq EIO\nmap no"),
        (C.DEVICE_SET_IRQS, refuses(22), "set EINVAL\nmap no"),
        (C.DEVICE_SET_IRQS, says(fds=3), "set EPROTO\nmap no"),
        (C.DEVICE_RESET, refuses(95), "reset EOPNOTSUPP\nmap no"),
        (C.DEVICE_RESET, says(b"more than asked for" * 100), "map no"),
    ],
)  # fmt: skip
def test_one_answer_is_bad(command: int, fault: Misbehave, said: str, tmp_path: Path) -> None:
    assert attach(tmp_path, {command: fault})[0] == said


# ---- what is said of a region ----


def region(
    size: int = 0x4000, areas: bytes | None = None, file: int = 0x4000, fds: int = 1, **changed: int
) -> Misbehave:
    """BAR0 may be mapped, it says, from a file of so many bytes; ``areas`` are its capabilities."""

    def answer(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
        index = REGION_INFO.unpack(asked)[2]
        if index:
            server.reply(header, server.payload_for(header.command, asked))
            return
        more = areas or b""
        values = {"argsz": 32 + len(more), "flags": 0xF if more else 7, "index": 0, "cap": 32 if more else 0}
        values |= {"size": size, "offset": 0} | changed
        fd = os.memfd_create("bar")
        try:
            os.truncate(fd, file)
            server.reply(header, REGION_INFO.pack(*values.values()) + more, [fd] * fds)
        finally:
            os.close(fd)

    return answer


def growing(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
    """More room is needed than there is, whatever there is."""
    region(argsz=int.from_bytes(asked[:4], "little") + 1)(server, header, asked, _)


def sparse(*areas: tuple[int, int], count: int | None = None, identity: int = 1, following: int = 0) -> bytes:
    """A sparse-mmap capability."""
    number = len(areas) if count is None else count
    head = struct.pack("<HHIII", identity, 1, following, number, 0)
    return head + b"".join(struct.pack("<QQ", *area) for area in areas)


PAGE = 0x1000


@pytest.mark.parametrize(
    ("fault", "mapped"),
    [
        (region(), True),
        (region(areas=sparse((0x2000, PAGE), (0, PAGE))), True),
        (region(areas=sparse(identity=9, following=48) + sparse((0, PAGE))), True),
        (region(fds=0), False),
        (region(file=0x3FFF), False),
        (region(offset=PAGE), False),
        (region(offset=PAGE, file=0x5000), True),
        (region(offset=1, file=0x5000), False),
        (region(offset=(1 << 64) - PAGE), False),
        (region(areas=sparse((0, 2 * PAGE), (PAGE, PAGE))), False),
        (region(areas=sparse((0, 0))), False),
        (region(areas=sparse((1, PAGE))), False),
        (region(areas=sparse((0, PAGE + 1))), False),
        (region(areas=sparse((0x3000, 2 * PAGE))), False),
        (region(areas=sparse(((1 << 64) - PAGE, 2 * PAGE))), False),
        (region(areas=sparse((0, PAGE), count=1 << 31)), False),
        (region(areas=sparse((0, PAGE), count=2)), False),
        (region(areas=sparse(identity=9, following=32)), False),
        (region(areas=sparse(identity=9, following=41)), False),
        (region(areas=sparse((0, PAGE)), cap=31), False),
        (region(areas=sparse((0, PAGE)), cap=1 << 31), False),
        (region(areas=b"\1\0"), False),
    ],
)
def test_areas_are_mapped_when_they_fit(fault: Misbehave, mapped: bool, tmp_path: Path) -> None:
    said, complaint = attach(tmp_path, {C.DEVICE_GET_REGION_INFO: fault})
    assert (said, complaint) == (f"map {'yes' if mapped else 'no'}", "")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (region(argsz=31), "EPROTO"),
        (region(index=1), "EPROTO"),
        (region(fds=2), "EPROTO"),
        (region(argsz=1 << 31), "E2BIG"),
        (growing, "E2BIG"),
        (region(size=1 << 40), "EFBIG"),
        (region(areas=bytes(2000), argsz=32), "EPROTO"),
    ],
)
def test_a_region_that_makes_no_sense_is_none(fault: Misbehave, error: str, tmp_path: Path) -> None:
    assert attach(tmp_path, {C.DEVICE_GET_REGION_INFO: fault})[0] == f"region {error}\nmap no"


# ---- questions ----


def asks(command: int, payload: bytes, fds: int = 0, flags: int = 0) -> tuple[Misbehave, list[Header]]:
    """Ask before answering; the client's answer is kept."""
    answers: list[Header] = []

    def answer(server: FakeServer, header: Header, asked: bytes, _: list[int]) -> None:
        message = protocol.pack_message(77, command, payload, flags=flags)
        socket.send_fds(server.socket, [message], [0] * fds)
        if not flags:
            said = server.receive()
            assert said is not None
            answers.append(said[0])
        server.reply(header)

    return answer, answers


@pytest.mark.parametrize(
    ("command", "payload", "fds", "error"),
    [
        (C.DMA_READ, struct.pack("<QQ", 0x1000, 4), 0, 14),
        (C.DMA_READ, struct.pack("<QQ", (1 << 64) - 2, 4), 0, 14),
        (C.DMA_READ, struct.pack("<QQ", 0, (1 << 20) + 1), 0, 7),
        (C.DMA_READ, struct.pack("<QQ", 0, 1 << 63), 0, 7),
        (C.DMA_READ, struct.pack("<QQ", 0x1000, 0), 0, 0),
        (C.DMA_READ, b"\0" * 15, 0, 22),
        (C.DMA_READ, struct.pack("<QQ", 0x1000, 4), 2, 22),
        (C.DMA_WRITE, struct.pack("<QQ", 0x1000, 4) + b"abc", 0, 7),
        (C.DMA_WRITE, struct.pack("<QQ", 0x1000, 4) + b"abcd", 0, 14),
        (C.REGION_READ, bytes(16), 0, 38),
        (99, b"", 0, 38),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_answered(
    command: int, payload: bytes, fds: int, error: int, tmp_path: Path
) -> None:
    ask, answers = asks(command, payload, fds)
    assert attach(tmp_path, {C.DEVICE_RESET: ask}) == ("map no", "")
    (answer,) = answers
    assert (answer.id, answer.command, answer.error) == (77, command, error)
    assert answer.flags == (0x21 if error else 1)


def test_a_question_that_wants_no_answer_gets_none(tmp_path: Path) -> None:
    ask, _ = asks(C.DMA_WRITE, struct.pack("<QQ", 0x1000, 4) + b"abcd", flags=0x10)
    assert attach(tmp_path, {C.DEVICE_RESET: ask}) == ("map no", "")


# ---- the end of a server ----


def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with running("attach", path) as qemu:
        assert qemu.end() == "device ECONNREFUSED\n"
    assert "Connection refused" in qemu.errors


def test_a_device_that_goes_reads_as_all_ones() -> None:
    with Card() as card:
        server = card.serve()
        with running("life", server.path) as qemu:
            qemu.until("attached")
            server.stop()
            qemu.go()
            qemu.until("survived")
            qemu.go()
    assert qemu.errors.count("\n") == 1
    assert "the server closed the connection; the device is gone" in qemu.errors


def test_a_server_that_is_killed_reads_as_all_ones(tmp_path: Path) -> None:
    path = tmp_path / "card.sock"
    places = [str(HERE), str(HERE.parent)]
    code = f"import sys; sys.path[:0] = {places!r}; import preload_kit as kit; card = kit.Card()"
    code += f"; card.serve({str(path)!r}); print('there', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"there\n"
        with running("life", path) as qemu:
            qemu.until("attached")
            server.send_signal(signal.SIGKILL)
            qemu.go()
            qemu.until("survived")
            qemu.go()
    assert "the device is gone" in qemu.errors


def test_a_server_that_hangs_holds_one_access_up(tmp_path: Path) -> None:
    path = str(tmp_path / "hang.sock")
    with FakeServer(path) as server, running("life", path, **SOON) as qemu:
        qemu.until("attached")
        server.on[C.REGION_READ] = nothing
        qemu.go()
        qemu.until("survived")
        qemu.go()
        qemu.end()
    assert [header.command for header in server.seen].count(C.REGION_READ) == 1
    assert "the server does not answer; the device is gone" in qemu.errors


def test_qemu_is_asked_to_stop_when_that_is_wanted() -> None:
    with Card() as card:
        server = card.serve()
        with running("stop", server.path, WORKBENCH_PRELOAD_ON_DEATH="stop") as qemu:
            qemu.until("attached")
            server.stop()
            qemu.go()


def test_a_log_that_cannot_be_written_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with Card() as card:
        fake = run("kinds", card.serve().path, WORKBENCH_PRELOAD_LOG=str(tmp_path / "no/such/log"))
    assert (
        fake.errors
        == f"workbench preload: cannot write the log {tmp_path}/no/such/log: No such file or directory\n"
    )


@pytest.mark.parametrize("timeout", ["5s", "-1", "0", "abc", "86400001", "9" * 30])
def test_settings_that_make_no_sense_are_told_once_and_left_alone(timeout: str) -> None:
    with Card() as card:
        odd = {"WORKBENCH_PRELOAD_TIMEOUT_MS": timeout, "WORKBENCH_PRELOAD_ON_DEATH": "Stop"}
        fake = run("kinds", card.serve().path, **odd)
    assert fake.errors.splitlines() == [
        "workbench preload: WORKBENCH_PRELOAD_TIMEOUT_MS is a number from 1 to 86400000: 5000 it is",
        "workbench preload: WORKBENCH_PRELOAD_ON_DEATH is stop or continue: continue it is",
    ]
