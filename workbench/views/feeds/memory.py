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
        self._last: tuple[bytes, str, int, list[list[int]]] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return the window, if a byte of it changed."""
        gaps: list[list[int]] = []
        if self._space == "iova":
            size, (data, error, gaps) = IOVA_SIZE, self._guest(source)
        else:
            size, data, error = self._own(source)
        if self._last == (data, error, size, gaps):
            return None
        self._last = (data, error, size, gaps)
        json = {
            "space": self._space,
            "start": hex(self._start),
            "size": hex(size),
            "error": error,
            "gaps": gaps,
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

    def _guest(self, source: Source) -> tuple[bytes, str, list[list[int]]]:
        """Return bytes, error, and the parts of the bytes that cannot be reached: offset and length."""
        if self._start >= IOVA_SIZE:
            return b"", "an IOVA has 64 bits", []
        dma, length = source.device.dma, min(self._length, IOVA_SIZE - self._start)
        try:
            return dma.peek(self._start, length), "", []
        except OSError as error:  # DmaError: not mapped, or without a file descriptor
            reason = str(error.strerror or error)
            reason = reason.partition(": ")[2] or reason  # where the window begins is no place one asked for
        data, reached = bytearray(length), 0
        gaps: list[list[int]] = []
        for region in dma.regions:
            begin, end = (
                max(0, region.iova - self._start),
                min(length, region.iova + region.size - self._start),
            )
            if end <= begin:
                continue
            try:
                part = dma.peek(self._start + begin, end - begin)
            except OSError:
                continue
            if begin > reached:
                gaps.append([reached, begin - reached])
            data[begin:end], reached = part, end
        if not reached:
            return b"", reason, []
        return bytes(data), "", [*gaps, [reached, length - reached]] if reached < length else gaps
