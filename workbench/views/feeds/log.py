"""The feed ``log``: rows of the access log, the newest or older ones, those that a filter lets through."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...records import Record, Records
from .. import query
from .source import Part, Source

__all__ = ["LogFeed", "row_of"]

MOST = 200  #: rows of one frame


class LogFeed:
    """A window of the log. The filter is run over each record once; what it found is kept by number."""

    interval = 0.1

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._asked = parameters.get("filter") or ""
        self._text = str(self._asked).strip()
        before = parameters.get("before")
        self._before = None if before is None else int(before)
        self._most = min(max(0, int(parameters.get("rows") or 0)), MOST)
        self._paused = bool(parameters.get("paused"))
        self._table: object = None
        self._filter: query.Filter | None = None
        self._error = ""
        self._hits: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._next = 0
        self._sent: tuple[Any, ...] | None = None
        self._rows: dict[int, list[Any]] = {}

    def poll(self, source: Source) -> Part | None:
        """Return the rows, if there are others than before; while paused, those of the first time."""
        if self._paused and self._sent is not None:
            return None
        log = source.device.log
        self._search(source)
        begin, matching = self._shown_from(log.first, log.total)
        rows = self._window(source, begin)
        sent = (log.total, log.dropped, matching, self._error, [row["seq"] for row in rows])
        if sent == self._sent:
            return None
        self._sent = sent
        json = {
            "rows": self._decoded(source, rows), "total": log.total, "matching": matching,
            "dropped": log.dropped, "error": self._error, "filter": self._text, "before": self._before,
        }  # fmt: skip
        return Part(json)

    def _search(self, source: Source) -> None:
        """Run the filter over the records that came since the last time."""
        if self._table is not source.table:  # made, or the registers are described anew
            self._table, self._rows = source.table, {}
            self._hits, self._next = np.empty(0, np.uint64), 0
            try:
                self._filter = query.compile(self._text, source.device.log.names) if self._text else None
            except ValueError as error:
                self._error = str(error)
        if self._filter is not None:
            history = source.history
            fresh = history.records[history.behind(self._next) :]
            if len(fresh):
                self._next = int(fresh["seq"][-1]) + 1
                oldest = history.records["seq"][0]
                kept = self._hits[np.searchsorted(self._hits, oldest) :]
                self._hits = np.concatenate([kept, fresh["seq"][self._filter(fresh)]])

    def _shown_from(self, first: int, total: int) -> tuple[int, int]:
        """Return the first sequence number shown and how many records match."""
        if self._error:
            return first, 0
        if self._filter is None:
            return first, total
        return first, len(self._hits) - int(np.searchsorted(self._hits, np.uint64(first)))

    def _window(self, source: Source, first: int) -> Records:
        """Return the records of the last rows before ``before``, oldest first."""
        records, history = source.history.records, source.history
        if self._error:
            return records[:0]
        begin = history.behind(first)
        end = len(records) if self._before is None else max(begin, history.behind(self._before))
        if self._filter is None:
            return records[max(begin, end - self._most) : end]
        low = int(np.searchsorted(self._hits, np.uint64(first)))
        high = len(self._hits)
        if self._before is not None:
            high = max(low, int(np.searchsorted(self._hits, np.uint64(self._before))))
        chosen = self._hits[max(low, high - self._most) : high]
        return records[[history.behind(int(seq)) for seq in chosen]] if len(chosen) else records[:0]

    def _decoded(self, source: Source, rows: Records) -> list[list[Any]]:
        """Return the rows in words, by the time they began; each record is decoded once."""
        before, self._rows = self._rows, {}
        log = source.device.log
        failed = {(failure.name, failure.revision) for failure in source.device.hooks.failures}
        for row in rows:
            seq = int(row["seq"])
            self._rows[seq] = before.get(seq) or row_of(
                Record.decode(row.item(), log.names, log.epoch), failed
            )
        # Rows that are all new each time cannot be read anyway: rest longer.
        self.interval = 0.1 if before.keys() & self._rows.keys() else 0.2
        return sorted(self._rows.values(), key=lambda row: (row[1], row[0]))


def row_of(record: Record, failed: set[tuple[str, int]]) -> list[Any]:
    """Return a record as the row of a frame; ``failed``: the hooks that raised, and in which revision."""
    key = f"{record.register}.on_{record.kind}"
    return [
        record.seq, round(record.elapsed / 1e6, 6), record.origin, record.kind, record.register,
        record.digits, record.text, round(record.latency / 1e3, 2), record.revision, record.marks,
        key if "hook_failed" in record.flags and (key, record.revision) in failed else "",
    ]  # fmt: skip
