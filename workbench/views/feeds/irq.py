"""The feed ``irq``: every vector the device has, as it stands."""

from collections.abc import Mapping
from typing import Any

from ...records import vector_name
from .source import Part, Source

__all__ = ["IrqFeed", "vectors"]

_COMMAND, _INTERRUPT_DISABLE = 4, 1 << 10  # PCI 3.0, 6.2.2


def vectors(device: Any) -> list[tuple[int, int, str]]:
    """Return (index, vector, name) of every interrupt the device describes."""
    counts = device.irq.description.counts()
    return [
        (index, vector, vector_name(index, vector))
        for index, count in enumerate(counts)
        for vector in range(count)
    ]


class IrqFeed:
    """The interrupt lines and vectors."""

    interval = 0.05

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._last: dict[str, Any] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return all lines, if one changed."""
        lines = [_line(source, *which) for which in vectors(source.device)]
        json = {"lines": lines, "repeat": dict(source.repeats)}
        if json == self._last:
            return None
        self._last = json
        return Part(json)


def _line(source: Source, index: int, vector: int, name: str) -> dict[str, Any]:
    status, last = source.device.irq.status, source.history.last_irq.get(index << 16 | vector, 0)
    disabled = int.from_bytes(source.device.config.peek(_COMMAND, 2), "little") & _INTERRUPT_DISABLE
    return {
        "index": index,
        "vector": vector,
        "name": name,
        "armed": status.armed,
        "enabled": index != 0 or not disabled,
        "masked": status.masked,
        "asserted": status.asserted,
        "pending": status.pending,
        "count": status.count,
        "last": max(0, last - source.device.log.epoch) if last else 0,
    }
