"""ByteStream: order, texts, waits, the limit, and two threads at its ends."""

import threading

import pytest

from workbench import ByteStream


def filled(data: bytes | str, limit: int | None = None) -> ByteStream:
    stream = ByteStream(limit)
    stream.write(data)
    return stream


def test_what_is_written_is_read_once_and_in_order() -> None:
    stream = filled(b"one ")
    assert stream.write(bytearray(b"two")) == 3
    assert stream.read() == b"one two"
    assert stream.read() == b""


def test_a_text_goes_in_and_comes_out() -> None:
    stream = ByteStream()
    print("grüß dich", file=stream)
    assert len(stream) == 12
    assert stream.readline() == "grüß dich\n"


def test_half_a_character_waits_for_its_rest() -> None:
    stream = filled("a€".encode()[:-1])
    assert stream.text() == "a"
    stream.write("€".encode()[-1:])
    assert stream.text() == "€"
    assert filled(b"a\xffb").text() == "a�b"


def test_an_integer_is_no_data() -> None:
    with pytest.raises(TypeError):
        ByteStream().write(5)  # type: ignore[arg-type]


def test_take_never_waits_and_read_with_a_size_does() -> None:
    stream = filled(b"abc")
    assert stream.take(2) == b"ab"
    assert stream.take(-1) == b""
    with pytest.raises(TimeoutError, match=r"2 bytes did not come within 0 s; there are 1, ending b'c'"):
        stream.read(2, timeout=0)
    assert stream.read(1) == b"c"  # nothing was taken in vain


def test_a_mark_is_text_or_bytes_and_so_is_the_answer() -> None:
    stream = filled(b"login: user\nrest")
    assert stream.read_until("login: ") == "login: "
    assert stream.read_until(b"\n") == b"user\n"
    with pytest.raises(TimeoutError, match="'never' did not come"):
        stream.read_until("never", timeout=0)
    with pytest.raises(ValueError, match="needs a mark"):
        stream.read_until(b"")
    assert stream.read() == b"rest"


def test_the_oldest_are_forgotten_and_counted() -> None:
    stream = filled(b"0123456789", limit=8)
    stream.write(b"ab")
    assert (len(stream), stream.lost) == (8, 4)
    assert repr(stream) == "<ByteStream: 8 bytes wait to be read, 4 lost>"
    assert stream.read() == b"456789ab"
    assert repr(ByteStream(4)) == "<ByteStream: 0 bytes wait to be read>"


def test_clear_forgets_and_an_empty_stream_is_still_one() -> None:
    stream = filled(b"x")
    stream.clear()
    assert len(stream) == 0
    assert bool(stream)


def test_the_writer_is_called_back_and_may_read() -> None:
    seen: list[bytes] = []
    stream = ByteStream(None, lambda: seen.append(stream.take(2)))
    stream.write(b"abc")
    stream.write(b"d")
    assert seen == [b"ab", b"cd"]


def test_a_reader_waits_for_a_writer_in_another_thread() -> None:
    stream, got = ByteStream(), list[bytes]()
    reader = threading.Thread(target=lambda: got.extend(stream.read(3, 20) for _ in range(100)))
    reader.start()
    for number in range(300):
        stream.write(bytes([number % 256]))
    reader.join(20)
    assert b"".join(got) == bytes(number % 256 for number in range(300))
