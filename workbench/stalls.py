"""How long guests waited for Python, for which cell, and which hook runs now."""

import time
from typing import Any

from .cells import running_cell
from .hook import Hook
from .lock import Lock

__all__ = ["Stalls"]

NOTABLE = 1_000_000  #: ns; a shorter wait for the interpreter is not counted


class Stalls:
    """Waits of guests for the interpreter, of one device.

    ``waits`` counts those over 1 ms, ``total`` and ``worst`` are ns, ``worst_cell`` is the cell that ran
    then. ``running`` is the hook that runs now and ``since`` when it began (ns, ``time.monotonic_ns``);
    ``event`` and ``event_since`` are the same of a timer's function, or of ``on_reset`` and the like.
    """

    def __init__(self) -> None:
        self.short: Any = None  #: the ShortWay, whose hook runs if no other does
        self._lock = Lock()
        self.waits = 0
        self.total = 0
        self.worst = 0
        self.worst_cell = ""
        self.called: Hook | None = None
        self.called_at = 0
        self.event = ""
        self.event_since = 0

    @property
    def running(self) -> Hook | None:
        """The hook that runs now."""
        return self.called if self.called is not None else self.short.running

    @property
    def since(self) -> int:
        """When it began."""
        return self.called_at if self.called is not None else self.short.now.since

    def waited(self, ns: int) -> None:
        """Count a wait, if it is notable."""
        if ns < NOTABLE:
            return
        with self._lock:  # a guest and a cell may have waited at the same time
            self.waits += 1
            self.total += ns
            if ns > self.worst:
                self.worst, self.worst_cell = ns, running_cell()

    @property
    def now(self) -> tuple[str, int]:
        """What runs now ("bar0.CTRL.on_write", "after(blink)", or "") and since when (ns)."""
        hook, since = self.running, self.since
        return (hook.key, since) if hook is not None else (self.event, self.event_since)

    @property
    def seconds_in_hook(self) -> float:
        """How long the hook, or what else runs now, has been running; 0 when nothing does."""
        name, since = self.now
        return (time.monotonic_ns() - since) / 1e9 if name else 0.0

    def __repr__(self) -> str:
        if not self.waits:
            return "<no guest waited for Python>"
        cell = f" while {self.worst_cell} ran" if self.worst_cell else ""
        worst = f"the worst {self.worst / 1e6:.1f} ms{cell}"
        return f"<{self.waits} waits, {self.total / 1e6:.1f} ms in all, {worst}>"
