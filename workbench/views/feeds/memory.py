"""The feed ``memory``: the bytes of a BAR, of config space, or of the guest's memory at an IOVA."""

from collections.abc import Mapping
from typing import Any

from .source import Part, Source

__all__ = ["MemoryFeed"]

LONGEST = 16384  #: bytes of one window
IOVA_SIZE = 1 << 64


class MemoryFeed:
    """One window of bytes, sent again when one of them changed."""

    interval = 0.05

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._space = str(parameters.get("space", ""))
        self._start = max(0, int(str(parameters.get("start", "0x0")), 16))
        self._length = min(max(0, int(parameters.get("length", 0))), LONGEST)
        self._last: tuple[bytes, str, int] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return the window, if a byte of it changed."""
        if self._space == "iova":
            size, (data, error) = IOVA_SIZE, self._guest(source)
        else:
            size, data, error = self._own(source)
        if self._last == (data, error, size):
            return None
        self._last = (data, error, size)
        json = {
            "space": self._space,
            "start": hex(self._start),
            "size": hex(size),
            "error": error,
            "buffer": 0,
        }
        return Part(json, (data,))

    def _own(self, source: Source) -> tuple[int, bytes, str]:
        for table in source.table.tables:
            if table.name == self._space:
                length = max(0, min(self._length, table.size - self._start))
                block = getattr(source.device, table.name)
                return table.size, block.peek(self._start, length) if length else b"", ""
        return 0, b"", f"the device has no {self._space!r}"

    def _guest(self, source: Source) -> tuple[bytes, str]:
        if self._start >= IOVA_SIZE:
            return b"", "an IOVA has 64 bits"
        try:
            return source.device.dma.peek(self._start, min(self._length, IOVA_SIZE - self._start)), ""
        except OSError as error:  # DmaError: not mapped, or without a file descriptor
            return b"", str(error.strerror or error)
