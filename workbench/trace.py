"""WireTrace: every vfio-user message of a conversation, for people who ask why an attach fails."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import overload

from .engine import lib
from .wire import WireMessage, describe

__all__ = ["WireTrace"]

TRACE_MESSAGES = 10_000


class WireTrace:
    """Every message of the wire, newest last, at most 10,000: decoded when looked at."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bool, bytes, int, int]] = deque(maxlen=TRACE_MESSAGES)
        self._lock = threading.Lock()  # without the GIL a deque cannot be copied while it grows

    def add(self, from_server: bool, data: bytes, nfds: int, length: int) -> None:
        """Keep a message, or its beginning if it is shorter than ``length``, with the time (ns)."""
        with self._lock:
            self._kept.append((lib.wb_clock(), from_server, data, nfds, length))

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[WireMessage]:
        for _, from_server, data, nfds, length in self._copy():
            yield describe(data, from_server, nfds, length)

    @overload
    def __getitem__(self, index: int) -> WireMessage: ...

    @overload
    def __getitem__(self, index: slice) -> list[WireMessage]: ...

    def __getitem__(self, index: int | slice) -> WireMessage | list[WireMessage]:
        if isinstance(index, slice):
            return list(self)[index]
        _, from_server, data, nfds, length = self._kept[index]
        return describe(data, from_server, nfds, length)

    def take(self) -> list[tuple[int, WireMessage]]:
        """Return the messages kept, each with its time (ns of CLOCK_MONOTONIC), and forget them."""
        with self._lock:
            kept = list(self._kept)
            self._kept.clear()
        return [
            (at, describe(data, from_server, nfds, length)) for at, from_server, data, nfds, length in kept
        ]

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._kept.clear()

    def _copy(self) -> list[tuple[int, bool, bytes, int, int]]:
        with self._lock:
            return list(self._kept)

    def __repr__(self) -> str:
        kept = self._copy()
        lines = (
            f"{(at - kept[0][0]) / 1e6:12.3f} ms  {describe(data, from_server, nfds, length)}"
            for at, from_server, data, nfds, length in kept
        )
        return "\n".join(lines) or "<no messages traced: serve(trace=True)>"
