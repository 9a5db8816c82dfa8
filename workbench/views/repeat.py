"""The repeater: triggers interrupts at a rate, for the control in the interrupt view."""

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Repeater"]

FASTEST = 1000.0  #: hertz
SLICE = 0.2  # seconds after which it looks whether it is still wanted


class Repeater:
    """One thread while at least one interrupt is repeated."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._due: dict[tuple[int, int], float] = {}
        self.rates: Mapping[str, float] = {}  #: "index:vector" -> hertz; replaced, never changed

    def set(self, index: int, vector: int, hertz: float) -> None:
        """Trigger at this rate from now on, at most 1000 hertz; 0 stops it. ValueError when negative."""
        if not 0 <= hertz < float("inf"):
            raise ValueError(f"a rate is 0 to {FASTEST:g} hertz, not {hertz:g}")
        key = f"{index}:{vector}"
        with self._changed:
            rest = {name: rate for name, rate in self.rates.items() if name != key}
            self.rates = {**rest, key: min(hertz, FASTEST)} if hertz else rest
            self._due[index, vector] = time.monotonic() + (1 / hertz if hertz else 0)
            self._changed.notify_all()
            if self.rates and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="workbench repeat", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Repeat nothing any more."""
        with self._changed:
            self.rates = {}
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self.rates:
                    self._thread = None
                    return
                now = time.monotonic()
                wanted = [(_which(key), 1 / rate) for key, rate in self.rates.items()]
                due = [(index, vector) for (index, vector), _ in wanted if self._due[index, vector] <= now]
                for (index, vector), period in wanted:
                    if self._due[index, vector] <= now:  # late ones are left out, not made up for
                        self._due[index, vector] = max(self._due[index, vector] + period, now)
                if not due:
                    pause = min(self._due[index, vector] for (index, vector), _ in wanted) - now
                    self._changed.wait(min(pause, SLICE))
            if due:
                self._trigger(due)

    def _trigger(self, due: list[tuple[int, int]]) -> None:
        device = self._hub.device
        if device is None or device.closed:
            return self.stop()
        try:
            for index, vector in due:
                device.irq.of(index)[vector].trigger()
        except Exception as error:
            self._hub.problem("repeat", error)
            self.stop()
        return None


def _which(key: str) -> tuple[int, int]:
    index, vector = map(int, key.split(":"))
    return index, vector
