"""The access log: every touch of a device, read from the engine's ring.

``AccessLog`` is live; ``filter()`` and slices give a ``LogView``, a snapshot with the same methods.
The ring keeps the newest records and counts those it had to overwrite: ``dropped`` says how many,
and every display shows it. Work on many records is done in NumPy; ``Record`` objects are made only
for what is looked at.
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np

from .columns import PIECE, Columns
from .engine import ffi, lib
from .records import FLAGGED, FLAGS, KINDS, ORIGINS, RECORD, Names, Record, Records
from .registers import Block
from .selection import (
    codes_of,
    flag_of,
    moment_of,
    newest_seconds,
    seconds_of,
    sequence_of,
    touching,
)
from .wholefile import whole_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["RECORD", "AccessLog", "LogView", "Record"]

_CHUNK = 4096  # records a lock of the engine: about 10 µs that a guest may have to wait
_SLICE = 0.1  # seconds: how long Ctrl-C may have to wait
_SHOWN = 20
_COLUMNS = ("seq", "offset", "size", "value", "old", "now", "latency", "revision")


class LogView:
    """Records of a device at one moment. Made by ``AccessLog.filter()`` and slices."""

    def __init__(self, records: Records, names: Names, epoch: int, dropped: int = 0) -> None:
        self._array, self._names, self._epoch, self._lost = records, names, epoch, dropped

    def records(self, since: int = 0) -> Records:
        """Return the records with sequence number ``since`` and later as a structured array of RECORD."""
        return self._array[np.searchsorted(self._array["seq"], since) :] if since else self._array

    def columns(self, *names: str, places: bool = False) -> Columns:
        """Return fields of all records as arrays of their own: what works on many records starts here."""
        return Columns(self._pieces(), len(self), names, self.names if places else None)

    def _pieces(self) -> Iterator[Records]:
        """Yield all records in short pieces, oldest first."""
        records = self.records()
        for begin in range(0, len(records), PIECE):
            yield records[begin : begin + PIECE]

    def redescribe(self, blocks: Mapping[int, Block]) -> None:
        """Name registers by other blocks from now on."""
        self._names = Names(blocks)

    @property
    def names(self) -> Names:
        """What turns places into register names."""
        return self._names

    @property
    def epoch(self) -> int:
        """The time that counts as 0 in displays: that of the log's first record, ns of CLOCK_MONOTONIC."""
        return self._epoch

    @property
    def dropped(self) -> int:
        """How many records the ring had overwritten before they could be seen here."""
        return self._lost

    @property
    def total(self) -> int:
        """Records here and dropped ones together."""
        return len(self) + self.dropped

    def filter(
        self,
        *,
        register: Any = None,
        kind: str | Iterable[str] | None = None,
        origin: str | Iterable[str] | None = None,
        since: "int | Record | None" = None,
        until: "int | Record | None" = None,
        last: float | None = None,
        flagged: bool | None = None,
    ) -> "LogView":
        """Return the records that fit everything given.

        ``register``: "CTRL", "DB[2]", "bar0.CTRL", "bar0", "bar0+0x40", "irq", "dma", what a record calls
        it, a register, element, field or block (``dev.bar0.CTRL``, ``dev.bar0``), or several of them;
        ``kind``: "read", "write" ...; ``origin``: "guest", "notebook", "device"; ``since`` and
        ``until``: a time as in ``record.time`` (ns), or a Record, both included; ``last``: seconds
        before the newest record; ``flagged``: True for what deserves a look, False for the rest.
        Raises ValueError for a register, kind or origin that does not exist, TypeError for what is none.
        """
        records = self.records()
        keep = np.ones(len(records), dtype=bool)
        if kind is not None:
            keep &= np.isin(records["kind"], codes_of(kind, KINDS, "kind"))
        if origin is not None:
            keep &= np.isin(records["origin"], codes_of(origin, ORIGINS, "origin"))
        if last is not None:
            keep &= newest_seconds(records["time"], last)
        if since is not None:
            keep &= records["time"] >= moment_of(since)
        if until is not None:
            keep &= records["time"] <= moment_of(until, "until")
        if flagged is not None:
            bad = (records["flags"] & FLAGGED != 0) | (records["kind"] == lib.WB_KIND_ERROR)
            keep &= bad == flag_of(flagged)
        if register is not None:
            keep &= touching(records, self.names, register)
        return self._view(records[keep])

    def _view(self, records: Records) -> "LogView":
        return LogView(records, self.names, self.epoch, self.dropped)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Record]:
        names, epoch, records = self.names, self.epoch, self.records()
        return (Record.decode(row.item(), names, epoch) for row in records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "LogView": ...
    def __getitem__(self, index: int | slice) -> "Record | LogView":
        records = self.records()
        if isinstance(index, slice):
            return self._view(records[index])
        return Record.decode(records[index].item(), self.names, self.epoch)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a DataFrame, indexed by the time since the log's first record (Timedelta).

        In the order in which things began. Columns: seq, kind, origin, register (categories), offset,
        size (bytes), value, old, now, latency (ns), revision, and one of booleans for each flag.
        Raises ImportError without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install 'pci-workbench[data]'") from error
        table = self.columns(*_COLUMNS, "time", "kind", "origin", "flags", places=True)
        table.by_time()
        labels, merged = np.unique([touch.label for touch in table.touches], return_inverse=True)
        columns: dict[str, Any] = {name: table[name] for name in _COLUMNS}
        for column, numbers, words in (
            ("kind", table["kind"].view(np.int8), list(KINDS.values())),
            ("origin", table["origin"].view(np.int8), list(ORIGINS.values())),
            ("register", merged.astype(np.int32)[table.codes], labels.astype(str).tolist()),
        ):
            columns[column] = pd.Categorical.from_codes(numbers, pd.Index(words))
        columns |= {name: table["flags"] & bit != 0 for bit, name in FLAGS.items()}
        elapsed = (table["time"].view(np.int64) - self.epoch).view("timedelta64[ns]")
        order = ["seq", "kind", "origin", "register", *_COLUMNS[1:], *FLAGS.values()]
        index = pd.TimedeltaIndex(elapsed, name="time")
        return pd.DataFrame({name: columns[name] for name in order}, index=index, copy=False)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a comma-separated file: times in ns since the first record, numbers decimal, flags as words.

        Raises OSError when the file cannot be written; what was there before is then as it was.
        """
        records = self.records()
        codes, touches = self.names.table(records)
        words = {
            bits: "|".join(name for bit, name in FLAGS.items() if bits & bit)
            for bits in np.unique(records["flags"]).tolist()
        }
        with whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["time", "kind", "origin", "register", "flags", *_COLUMNS])
            for code, row in zip(codes.tolist(), records, strict=True):
                head = (int(row["time"]) - self.epoch, KINDS[int(row["kind"])], ORIGINS[int(row["origin"])])
                tail = (row[name].item() for name in _COLUMNS)
                writer.writerow([*head, touches[code].label, words[int(row["flags"])], *tail])

    def plot(self, **options: Any) -> "Axes":
        """Draw the timeline: one lane a register. Options: see ``workbench.views.timeline.plot``."""
        from .views import timeline  # here, so that importing the package does not load matplotlib

        return timeline.plot(self, **options)

    def __repr__(self) -> str:
        lines = [str(record) for record in self.newest(_SHOWN)]
        return "\n".join([f"{type(self).__name__}: {self.summary()}", *lines])

    def _repr_html_(self) -> str:
        from .views import html

        return html.log_table(self, _SHOWN)

    def newest(self, most: int) -> list[Record]:
        """Return the last records by the time they began: an access before what its hook did.

        In the log itself a record stands where it was finished.
        """
        return sorted(self[-most:], key=lambda record: record.time) if most > 0 else []

    def summary(self) -> str:
        """Return the counts in words; dropped records are always mentioned."""
        return f"{len(self):,} records, {self.dropped:,} dropped"


class AccessLog(LogView):
    """The live log of a device. Everything reads the newest state; ``filter()`` takes a snapshot.

    ``handle`` is the engine's device, ``blocks`` maps region indexes to their descriptions.
    """

    def __init__(self, handle: Any, blocks: Mapping[int, Block]) -> None:
        super().__init__(np.empty(0, RECORD), Names(blocks), 0)
        self.handle = handle
        self.owner: Callable[[], Any] = lambda: None  #: the core it belongs to
        self._start = 0  # the first sequence number of this view

    def records(self, since: int = 0) -> Records:
        """Return the records with sequence number ``since`` and later, oldest first.

        One structured array of RECORD, copied in bulk. Records that the ring overwrote are not in it;
        the sequence numbers show the gap and ``dropped`` counts them.
        """
        begin = max(since, self._start)
        array = self.since(begin)
        if len(array) and begin == self._start and not self._epoch:
            self._epoch = int(array["time"][0])
        return array

    def _pieces(self) -> Iterator[Records]:
        begin, end = self._start, int(lib.wb_log_count(self.handle))
        while begin < end and len(piece := self.since(begin, min(PIECE, end - begin))):
            begin = int(piece["seq"][-1]) + 1
            yield piece

    def __reduce__(self) -> NoReturn:
        raise TypeError("the log belongs to a device; what can be copied and pickled is a part of it: log[:]")

    def since(self, begin: int, most: int | None = None) -> Records:
        """Return the records from sequence number ``begin`` on, those before ``clear()`` included.

        At most ``most`` of them, the oldest; None: all.
        """
        position = ffi.new("uint64_t *", begin)
        room = lib.wb_log_count(self.handle) - max(begin, lib.wb_log_dropped(self.handle))
        room = room if most is None else min(room, most)
        array, have = np.empty(max(0, room), RECORD), 0
        while have < room:
            target = ffi.from_buffer("wb_record[]", array[have:], require_writable=True)
            got = lib.wb_log_copy(self.handle, position, target, min(_CHUNK, room - have))
            if not got:
                break
            have += got
        return array[:have]

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> LogView: ...
    def __getitem__(self, index: int | slice) -> Record | LogView:
        # Only what is asked for is copied: the whole ring takes milliseconds.
        first = max(self._start, int(lib.wb_log_dropped(self.handle)))
        numbers = range(first, int(lib.wb_log_count(self.handle)))[index]
        if isinstance(numbers, range):
            return self._view(self._pick(numbers))
        found = self.since(numbers, 1)
        return Record.decode(found[0].item(), self.names, self.epoch)

    def _pick(self, numbers: range) -> Records:
        """Return the records with these sequence numbers, in this order, but for those overwritten."""
        if not numbers:
            return np.empty(0, RECORD)
        low = min(numbers[0], numbers[-1])
        array = self.since(low, abs(numbers[-1] - numbers[0]) + 1)
        oldest = int(array["seq"][0]) if len(array) else low
        places = np.arange(numbers.start, numbers.stop, numbers.step) - oldest
        return array[places[(places >= 0) & (places < len(array))]]

    @property
    def first(self) -> int:
        """The sequence number of the first record shown here: moved by ``clear()``."""
        return self._start

    @property
    def epoch(self) -> int:
        """The time of the first record that was seen here, ns of CLOCK_MONOTONIC; 0 before there is one."""
        if not self._epoch:
            oldest = self.since(self._start, 1)
            self._epoch = int(oldest["time"][0]) if len(oldest) else 0
        return self._epoch

    @property
    def dropped(self) -> int:
        """How many records the ring has overwritten since ``clear()`` (or the beginning)."""
        start = self._start
        return max(0, int(lib.wb_log_dropped(self.handle)) - start)

    @property
    def total(self) -> int:
        """How many records were written since ``clear()`` (or the beginning), dropped ones included."""
        start = self._start  # first: another thread may clear() now, and nothing is negative
        return int(lib.wb_log_count(self.handle)) - start

    def __len__(self) -> int:
        first = max(self._start, int(lib.wb_log_dropped(self.handle)))
        return int(lib.wb_log_count(self.handle)) - first

    def view(self, filter: str = "") -> Any:  # noqa: A002
        """Return a live view of the log; ``filter`` as in it: ``reg == CTRL && op == w && value & 1``."""
        from .views.doors import view_of

        return view_of(self.owner, "log", filter=filter)

    def timeline(self) -> Any:
        """Return a live timeline; ``plot()`` gives the same as a figure."""
        from .views.doors import view_of

        return view_of(self.owner, "timeline")

    def clear(self) -> None:
        """Begin anew: older records are no longer shown here.

        Only a mark is moved. The ring keeps its records, sequence numbers go on counting, and other
        views of the device still see everything.
        """
        self._start = int(lib.wb_log_count(self.handle))
        self._epoch = 0

    def wait(
        self,
        condition: int | Callable[[Record], object] = 1,
        timeout: float = 10.0,
        *,
        since: int | None = None,
        **filters: Any,
    ) -> Record:
        """Block until a record arrives that fits, and return it.

        ``condition``: a function of a Record, or how many fitting records to wait for; ``filters``: as
        for ``filter()``; ``since``: the first sequence number that counts, 0 for those already there;
        by default only records after this call. Raises TimeoutError after ``timeout`` seconds.
        """
        if not isinstance(condition, int) and not callable(condition):
            text = "wait for a number of records, or give a function of a Record"
            raise TypeError(f"{text}; a register goes in by keyword: wait(register={condition!r})")
        seen = int(lib.wb_log_count(self.handle)) if since is None else sequence_of(since)
        wanted, end = condition if isinstance(condition, int) else 1, monotonic() + seconds_of(timeout)
        if wanted < 1:
            raise ValueError("wait for at least one record")
        while True:
            fresh = self.records(seen)
            for record in self._view(fresh).filter(**filters):
                wanted -= isinstance(condition, int) or bool(condition(record))
                if not wanted:
                    return record
            seen = int(fresh["seq"][-1]) + 1 if len(fresh) else seen
            self._wait(seen, end, timeout)

    def _wait(self, seen: int, end: float, timeout: float) -> None:
        """Block until there is a record beyond ``seen``; in slices, so that Ctrl-C is heard."""
        while not lib.wb_log_wait(self.handle, seen, round(1000 * max(0.0, min(_SLICE, end - monotonic())))):
            if not monotonic() < end:  # so that waiting until NaN ends too
                raise TimeoutError(f"no such record within {timeout:g} s; log: {self.summary()}")
