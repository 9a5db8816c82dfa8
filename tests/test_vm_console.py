import socket
import threading

import pytest

from workbench.vm.console import Console, Transcript


def test_what_arrives_becomes_text_with_one_kind_of_line_end() -> None:
    log = Transcript()
    log.add(b"one\r\ntwo\0\r\n\x1b[1mbold\xff")
    assert log.text() == "one\ntwo\n\x1b[1mbold\ufffd"


@pytest.mark.parametrize("text", ["a\r\nb", "a\rb", "grüß€", "x\x1b[6ny", "x\x1b[6my", "x\x1b[7ny"])
def test_text_that_comes_byte_by_byte_is_the_same(text: str) -> None:
    whole, parts = Transcript(), Transcript()
    whole.add(text.encode())
    positions = []
    for byte in text.encode():
        parts.add(bytes([byte]))
        positions.append(parts.text())
    assert parts.text() == whole.text() == text.replace("\r\n", "\n").replace("\x1b[6n", "")
    assert all(parts.text().startswith(earlier) for earlier in positions)


def test_half_a_line_end_at_the_end_is_shown() -> None:
    log = Transcript()
    log.add(b"a\r")
    assert log.text() == "a"
    log.add(b"")
    assert log.text() == "a\r"
    assert log.ended


def test_the_oldest_is_forgotten_and_positions_stay_valid() -> None:
    log = Transcript(kept=10)
    for letter in b"abcdefghijklmnopqrstuvwxyz":
        log.add(bytes([letter]))
    assert log.text() == "qrstuvwxyz"
    assert log.since(0) == (26, "qrstuvwxyz")
    assert log.since(24) == (26, "yz")
    assert log.since(26) == (26, "")


def test_a_wait_ends_with_the_text_wherever_it_is_cut() -> None:
    log = Transcript()
    log.add(b"ready ")
    found: list[str | None] = []
    waiter = threading.Thread(target=lambda: found.append(log.wait("ready now", 20, 0)))
    waiter.start()
    for part in (b"rea", b"dy", b" no", b"w and more"):
        log.add(part)
    waiter.join()
    assert found == ["ready ready now"]
    assert log.wait("ready", 0, 3) == "dy ready"
    assert log.wait("never", 0.01, 0) is None


def test_a_wait_ends_when_nothing_more_can_come() -> None:
    log = Transcript()
    log.add(b"")
    assert log.wait("x", 20, 0) is None


def test_the_console_keeps_what_was_said_before_the_end() -> None:
    console = Console()
    other = socket.socket(fileno=console.far.detach())
    assert console.send(b"typed") == 5
    assert other.recv(100) == b"typed"
    other.sendall(b"x" * 100_000 + b"last words\r\n")
    other.close()
    console.close()
    assert console.log.text() == "x" * 100_000 + "last words\n"


def test_input_that_nobody_takes_is_told_at_once() -> None:
    console = Console()
    assert 0 < console.send(bytes(10_000_000)) < 10_000_000
    assert console.send(b"x" * 1_000_000) == 0
    console.close()
