"""The feed ``registers``: values, counts and who answers; changed ones only."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...registers import Located
from .source import Part, Source

__all__ = ["ENTRY", "RegistersFeed"]

ENTRY = np.dtype(
    [("number", "<u4"), ("answers", "<u4"), ("value", "<u8"), ("reads", "<u8"), ("writes", "<u8")]
)
PYTHON, NATIVE, MAPPED = 1, 2, 3  #: 0: C answers alone
_HOOKS_EVERY = 0.25  # seconds between two looks at which registers have hooks


class RegistersFeed:
    """The registers of one block, or of all."""

    interval = 0.05

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._block = parameters.get("block")
        self._last: npt.NDArray[np.void] | None = None
        self._table: object = None
        self._answers: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._looked = 0.0

    def poll(self, source: Source) -> Part | None:
        """Return the entries that differ from those sent before."""
        now = self._entries(source)
        if self._last is None or self._table is not source.table:
            changed = now
        else:
            changed = now[now != self._last]
            if not len(changed):
                return None
        self._last, self._table = now, source.table
        return Part({"buffer": 0, "count": len(changed)}, (changed.tobytes(),))

    def _entries(self, source: Source) -> npt.NDArray[np.void]:
        tables = [table for table in source.table.tables if self._block in (None, table.name)]
        entries = np.zeros(sum(table.count for table in tables), ENTRY)
        at, counts, answers = 0, source.history.counts, self._who(source)
        for table in tables:
            mine, theirs = slice(at, at + table.count), slice(table.first, table.first + table.count)
            entries["number"][mine] = np.arange(theirs.start, theirs.stop)
            entries["answers"][mine] = answers[theirs]
            if table.count:
                entries["value"][mine] = table.values(getattr(source.device, table.name))
            entries["reads"][mine], entries["writes"][mine] = counts[:, theirs]
            at += table.count
        return entries

    def _who(self, source: Source) -> npt.NDArray[np.uint32]:
        if len(self._answers) == source.table.count and source.now < self._looked + _HOOKS_EVERY:
            return self._answers
        self._looked, answers = source.now, np.zeros(source.table.count, np.uint32)
        for table in source.table.tables:
            if getattr(source.device, table.name).description.mapped:
                places = enumerate(table.elements, table.first)
                answers[[number for number, one in places if _mapped(one)]] = MAPPED
        for hook in source.device.hooks:
            number = source.table.numbers.get(hook.name)
            if number is not None and hook.enabled:
                answers[number] = PYTHON if answers[number] == PYTHON or not hook.native else NATIVE
        self._answers = answers
        return answers


def _mapped(one: Located) -> bool:
    block = one.register.block
    return block is not None and block.mapped_area(one.register.element_offset(one.index)) is not None
