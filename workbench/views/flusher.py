"""The flusher: the one thread of the process that computes frames and sends them.

It starts when a view is first looked at and ends when no view is left or the process ends. It never
raises and never prints: what goes wrong in a hub is counted there and shown in the panel.
"""

import atexit
import threading
import time
from typing import Protocol

from ..runtime import SwitchInterval

__all__ = ["Flushed", "Flusher", "flusher"]

NAME = "workbench views"
SWITCH_INTERVAL = 5e-4  #: seconds; a flush, and a click, then wait little for a cell that computes
GRACE = 1.0  # seconds the end of the process waits for the thread


class Flushed(Protocol):
    """What the flusher needs of a hub."""

    def delay(self, now: float) -> float | None:
        """Return the seconds until flush() has something to do; None: not before wake()."""

    def flush(self, now: float) -> None:
        """Send what is due. Never raises."""

    def empty(self) -> bool:
        """Whether no view is left."""


class Flusher:
    """Flushes its hubs, each when it is due."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._hubs: list[Flushed] = []
        self._thread: threading.Thread | None = None
        self._woken = self._ending = False

    def wake(self, hub: Flushed) -> None:
        """Look at this hub now: something about it changed."""
        with self._changed:
            if self._ending:
                return
            if hub not in self._hubs:
                self._hubs.append(hub)
            self._woken = True
            self._changed.notify_all()
            if self._thread is None or not self._thread.is_alive():  # a fork takes the thread away
                self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, for good: the process ends."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(GRACE)

    def _run(self) -> None:
        while True:
            hubs = self._wait()
            if hubs is None:
                return
            now = time.monotonic()
            for hub in hubs:
                hub.flush(now)
            del hubs  # while it sleeps it keeps nobody alive

    def _wait(self) -> list[Flushed] | None:
        """Sleep until a hub is due; return the hubs, or None when there is none left."""
        with self._changed:
            while True:
                self._hubs = [hub for hub in self._hubs if not hub.empty()]
                if self._ending or not self._hubs:
                    self._thread = None
                    SwitchInterval.want(self, None)
                    return None
                now = time.monotonic()
                delays = [delay for hub in self._hubs if (delay := hub.delay(now)) is not None]
                pause = min(delays, default=None)
                if pause is not None and pause <= 0:
                    break
                if self._woken and pause is None:
                    self._woken = False  # somebody spoke, but nobody has to be sent anything
                    continue
                self._woken = False
                SwitchInterval.want(self, SWITCH_INTERVAL if pause is not None else None)
                self._changed.wait(pause)
            self._woken = False
            SwitchInterval.want(self, SWITCH_INTERVAL)
            return list(self._hubs)


flusher = Flusher()
atexit.register(flusher.stop)
