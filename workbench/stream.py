"""ByteStream: bytes between a device and a person, both ways safe from any thread.

A serial port, a network card or a console has one for each direction. It keeps what was written until
somebody reads it; one with a limit forgets the oldest and counts them, because a guest decides how much it
writes.
"""

import codecs
import threading
from collections.abc import Callable
from typing import AnyStr

from .lock import Lock

__all__ = ["ByteStream"]

LIMIT = 1 << 20  #: bytes
TIMEOUT = 5.0  #: seconds, as of the software guest
SHOWN = 60  # bytes of the end that an error quotes


class ByteStream:
    """Bytes in the order in which they were written. Reading takes them out; whatever waits has a time-out.

    At most ``limit`` bytes wait to be read (None: any number); beyond it the oldest are forgotten, and
    ``lost`` counts them. ``on_write()`` is called after each write, by the thread that wrote.
    """

    def __init__(self, limit: int | None = LIMIT, on_write: Callable[[], object] = lambda: None) -> None:
        self.limit = limit
        self.lost = 0
        self._on_write = on_write
        self._data = bytearray()
        self._lock = Lock()
        self._changed = threading.Condition(self._lock)

    def write(self, data: "bytes | bytearray | memoryview | str") -> int:
        """Append bytes, or a text as UTF-8; return how many bytes. ``print(..., file=stream)`` works, too."""
        data = data.encode() if isinstance(data, str) else bytes(memoryview(data))
        with self._lock:
            self._data += data
            excess = 0 if self.limit is None else max(0, len(self._data) - self.limit)
            del self._data[:excess]
            self.lost += excess
            self._changed.notify_all()
        self._on_write()
        return len(data)

    def take(self, size: int) -> bytes:
        """Take out up to ``size`` bytes: those that are there now, perhaps none."""
        with self._lock:
            return self._take(max(size, 0))

    def read(self, size: int | None = None, timeout: float = TIMEOUT) -> bytes:
        """Take out all that is there now or, with a size, wait for that many bytes.

        Raises TimeoutError when they have not come after ``timeout`` seconds; nothing is taken then.
        """
        with self._lock:
            wanted = len(self._data) if size is None else max(size, 0)
            self._wait(lambda: len(self._data) >= wanted, timeout, f"{wanted} bytes")
            return self._take(wanted)

    def read_until(self, mark: AnyStr, timeout: float = TIMEOUT) -> AnyStr:
        """Wait for ``mark``, take out all up to its end, and return it: as text when the mark is a text.

        Raises TimeoutError when it has not come after ``timeout`` seconds; nothing is taken then. ValueError
        without a mark.
        """
        wanted = mark.encode() if isinstance(mark, str) else mark
        if not wanted:
            raise ValueError("read_until() needs a mark: a text or bytes that will come")
        with self._lock:
            self._wait(lambda: wanted in self._data, timeout, repr(mark))
            data = self._take(self._data.index(wanted) + len(wanted))
        return data.decode(errors="replace") if isinstance(mark, str) else data

    def readline(self, timeout: float = TIMEOUT) -> str:
        r"""Wait for a line and return it as text, its "\\n" included. Raises TimeoutError as `read_until`."""
        return self.read_until("\n", timeout)

    def text(self) -> str:
        """Take out all that is there now as text; half a character stays until the rest of it comes."""
        with self._lock:
            text, used = codecs.utf_8_decode(self._data, "replace", False)
            del self._data[:used]
        return text

    def clear(self) -> None:
        """Forget what is there."""
        self.read()

    def _take(self, size: int) -> bytes:
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def _wait(self, ready: Callable[[], bool], timeout: float, what: str) -> None:
        if not self._changed.wait_for(ready, timeout):
            end = bytes(self._data[-SHOWN:])
            raise TimeoutError(
                f"{what} did not come within {timeout:g} s; there are {len(self)}, ending {end!r}"
            )

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return True  # a stream without bytes is a stream

    def __repr__(self) -> str:
        lost = f", {self.lost} lost" if self.lost else ""
        return f"<ByteStream: {len(self)} bytes wait to be read{lost}>"
