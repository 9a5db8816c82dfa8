"""The hub: what all live views of one device share. The messages are described in feed.py.

Messages of the browser arrive on the main thread or, while a cell runs, on a subshell's; they only note
wishes and run actions. Everything is sent by the flusher (flusher.py), within the budget (budget.py).
The hub keeps no device alive, and follows one that was replaced under the same name.
"""

import threading
import time
import traceback
import weakref
from collections.abc import Mapping
from typing import Any

from ..device import Device
from .actions import Actions
from .budget import Budget
from .feeds import Source
from .flusher import flusher
from .history import History
from .layout import layout_of
from .machines import machine_of
from .pictures import has_image
from .seat import SILENT, UNHEARD, Seat, View
from .table import RegisterTable

__all__ = ["Hub", "hub_of"]

FORSAKEN = 60.0  # seconds after which a view of a device that was replaced is closed, if nobody looks
_PROBLEMS = 20

_hubs: "weakref.WeakKeyDictionary[Device, Hub]" = weakref.WeakKeyDictionary()
_hubs_lock = threading.Lock()


def hub_of(device: Device) -> "Hub":
    """Return the hub of a device, the same every time."""
    with _hubs_lock:
        hub = _hubs.get(device)
        if hub is None:
            hub = _hubs[device] = Hub(device)
        return hub


class Hub:
    """The live views of one device. ``problems`` are errors of the views themselves: text and count."""

    def __init__(self, device: Device, *, subshells: bool = False) -> None:
        self._device = weakref.ref(device)
        self._core = weakref.ref(device._core)
        self._lock = threading.Lock()
        self._seats: dict[View, Seat] = {}
        self._budget = Budget()
        self._table = RegisterTable(device)
        self._described: tuple[Any, ...] = ()
        self._layout: dict[str, Any] = {"version": 0}
        self._history = History(self._table)
        self.actions = Actions(self)
        self.subshells = subshells
        self.kept: dict[Any, Any] = {}  #: views to be shown again, by whatever their maker finds them
        self.problems: dict[str, tuple[str, int]] = {}
        self.flushes = 0
        self.busy = 0.0  #: seconds of CPU time spent in flushes

    @property
    def device(self) -> Device | None:
        """The device, or the one that took its place, or None when both are gone."""
        device = self._device()
        if device is not None:
            self._core = weakref.ref(device._core)
        core = self._core()
        return core.device if core is not None else device

    # -- views come and go, from any thread --

    def join(self, view: View) -> dict[str, Any]:
        """Take a view in; return the layout it begins with. It is sent nothing before it asks."""
        device = self.device
        with self._lock:
            if device is not None:
                self._describe(device)
            self._seats[view] = Seat(view, int(self._layout["version"]))
            return self._layout

    def leave(self, view: View) -> None:
        """Forget a view; the last one takes what it repeated with it."""
        with self._lock:
            self._seats.pop(view, None)
            self.kept = {key: kept for key, kept in self.kept.items() if kept is not view}
            last = not self._seats
        if last:
            self.actions.stop()
        flusher.wake(self)

    def receive(self, view: View, content: Mapping[str, Any], page: str = "") -> None:
        """Hear a message of a view's page, on any thread. Never raises."""
        try:
            self._hear(view, content, page)
        except Exception as error:
            self.problem("message", error)
        flusher.wake(self)

    def _hear(self, view: View, content: Mapping[str, Any], page: str) -> None:
        kind, now = content.get("type"), time.monotonic()
        with self._lock:
            seat = self._seats.get(view)
            if seat is None:
                return
            seat.heard(page, now)
            if kind == "hello":
                seat.hello()
            elif kind == "want":
                seat.want(page, content, now)
            elif kind == "ack":
                seat.pace.acknowledged(int(content["seq"]))
        if kind == "do":
            self.actions.begin(content, lambda answer: self._answer(seat, answer))

    def _answer(self, seat: Seat, answer: dict[str, Any]) -> None:
        with self._lock:
            seat.answers.append(answer)
        flusher.wake(self)

    def problem(self, name: str, error: BaseException) -> None:
        """Count an error of the views themselves."""
        text = "".join(traceback.format_exception(error))
        known = self.problems.get(name, ("", 0))[1]
        if known or len(self.problems) < _PROBLEMS:
            self.problems = {**self.problems, name: (text, known + 1)}

    # -- on the flusher --

    def empty(self) -> bool:
        """Whether no view is left."""
        return not self._seats

    def delay(self, now: float) -> float | None:
        """Return the seconds until flush() has something to do."""
        with self._lock:
            seats = list(self._seats.values())
            delays = [self._budget.delay(now, False) for seat in seats if seat.answers]
            waits = [delay for seat in seats if (delay := seat.delay(now)) is not None]
            if waits:
                delays.append(max(min(waits), self._budget.delay(now, True)))
            if self._device() is None:  # nobody may look any more: tidy up, at leisure
                delays.append(5.0 if self._core() is not None else 0.0)
            return min(delays, default=None)

    def flush(self, now: float) -> None:
        """Send the answers and frames that are due. Never raises."""
        begun = time.thread_time()
        try:
            device = self.device
            self._tidy(device is None, now)
            self._send_answers(now)
            if device is not None:
                self._send_frames(device, now)
        except Exception as error:
            self.problem("flush", error)
        self.flushes += 1
        self.busy += time.thread_time() - begun

    def _tidy(self, gone: bool, now: float) -> None:
        """Close the views of a device that is gone, or was replaced and nobody looks at them."""
        if self._device() is not None:
            return
        with self._lock:
            forsaken = [
                view
                for view, seat in self._seats.items()
                if gone or (not seat.visible and now - seat.seen > FORSAKEN)
            ]
        for view in forsaken:
            view.close()
            self.leave(view)

    def _send_answers(self, now: float) -> None:
        with self._lock:
            waiting = [(seat, seat.answers) for seat in self._seats.values() if seat.answers]
        for seat, answers in waiting:
            while answers and not self._budget.delay(now, False):
                self._send(seat, answers.popleft(), [])

    def _send_frames(self, device: Device, now: float) -> None:
        source: Source | None = None
        with self._lock:
            seats = sorted(self._seats.values(), key=lambda seat: seat.last)
        for seat in seats:
            with self._lock:
                delay = seat.delay(now)
                if delay is None or delay > 0.001 or self._budget.delay(now, True):
                    continue
                seat.prepare(now, SILENT if self.subshells else UNHEARD)
            source = source or self._source(device, now)
            self._send_frame(seat, source)

    def _send_frame(self, seat: Seat, source: Source) -> None:
        if seat.version != self._layout["version"]:
            seat.version = self._layout["version"]
            self._budget.spend(time.monotonic(), True)
            seat.view.set_layout(self._layout)
        feeds, buffers = seat.collect(source)
        failed, seat.failed = seat.failed, []
        for name, error in failed:
            self.problem(name, error)
        if not feeds:
            return
        with self._lock:
            seq, seat.last = seat.pace.sent(source.now), source.now
        self._send(seat, {"type": "frame", "seq": seq, "feeds": feeds}, buffers)

    def _send(self, seat: Seat, content: dict[str, Any], buffers: list[bytes]) -> None:
        # Not the flush's time: a flush that had to wait would let the next second's messages crowd behind it.
        self._budget.spend(time.monotonic(), content["type"] == "frame")
        try:
            seat.view.send(content, buffers)
        except Exception as error:  # a comm that closes at this moment
            self.problem("send", error)

    def _source(self, device: Device, now: float) -> Source:
        with self._lock:
            self._describe(device)
        if self._history.table is not self._table:
            self._history.describe(self._table)
        self._history.drain(device)
        return Source(
            device, self._table, self._history, now, self.actions.repeats, self.problems,
            machine_of(device), self.subshells,
        )  # fmt: skip

    def _describe(self, device: Device) -> None:
        """See to it that table and layout are of the device as it is described and served now."""
        server = device.server
        described = (device.blocks, server.path if server is not None else "", has_image(device))
        if self._described and self._described[0] is described[0] and self._described[1:] == described[1:]:
            return
        if self._table.blocks is not device.blocks:
            self._table = RegisterTable(device)
        self._described = described
        self._layout = layout_of(device, self._table, int(self._layout["version"]) + 1)

    @property
    def table(self) -> RegisterTable:
        """The registers by number, as the views have them."""
        return self._table

    @property
    def history(self) -> History:
        """The records and counts; the flusher's alone."""
        return self._history
