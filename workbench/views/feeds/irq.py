"""The feed ``irq``: the vectors on screen as they stand; a device may have 2,048."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from ...interrupts import KINDS
from .source import Part, Source

__all__ = ["IrqFeed"]

MOST = 128  #: lines of one window


class IrqFeed:
    """A window of the interrupt lines and vectors."""

    interval = 0.05

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._first = max(0, int(parameters.get("first", 0)))
        self._count = min(max(0, int(parameters.get("count", MOST))), MOST)
        self._last: dict[str, Any] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return the window, if one of its lines changed."""
        lines = [_line(source, one) for one in self._shown(source.device.irq)]
        json = {
            "first": self._first,
            "total": sum(len(source.device.irq.of(index)) for index in range(len(KINDS))),
            "lines": lines,
            "mode": source.device.irq.mode,
            "repeat": dict(source.repeats),
        }
        if json == self._last:
            return None
        self._last = json
        return Part(json)

    def _shown(self, irq: Any) -> list[Any]:
        """Return the vectors of the window, without making the others."""
        shown: list[Any] = []
        skip = self._first
        for index in range(len(KINDS)):
            kind = irq.of(index)
            shown += islice((kind[n] for n in range(skip, len(kind))), self._count - len(shown))
            skip = max(0, skip - len(kind))
        return shown


def _line(source: Source, vector: Any) -> dict[str, Any]:
    status = vector.status
    last = source.history.last_irq.get(vector.index << 16 | vector.number, 0)
    return {
        "index": vector.index,
        "vector": vector.number,
        "name": vector.name,
        "armed": status.armed,
        "enabled": status.enabled,
        "masked": status.masked,
        "asserted": status.asserted,
        "pending": status.pending,
        "count": status.count,
        "last": max(0, last - source.device.log.epoch) if last else 0,
    }
