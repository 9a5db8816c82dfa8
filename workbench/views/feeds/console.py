"""The feed ``console``: what the guest prints on its serial console, in pieces."""

from collections.abc import Mapping
from typing import Any, ClassVar

from .source import Part, Source

__all__ = ["ConsoleFeed"]

PIECE = 32768  #: letters sent at once, the last ones of what there is
NO_VM = "no VM of this notebook has the device plugged in"


class ConsoleFeed:
    """The console from the letter on that the view asked for."""

    interval: ClassVar[float] = 0.05

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._at = max(0, int(parameters.get("from", 0)))
        self._last: tuple[bool, str] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return what was printed since."""
        machine = source.machine
        alive = machine is not None and machine.alive
        who = f"{machine.accelerator}, pid {machine.pid}" if alive else "not running" if machine else NO_VM
        text = machine.console if machine is not None else ""
        if len(text) < self._at:  # another boot, another console
            self._at = 0
        fresh = text[self._at :]
        if not fresh and self._last == (alive, who):
            return None
        begin = max(self._at, len(text) - PIECE)
        self._at, self._last = len(text), (alive, who)
        return Part({"from": begin, "text": text[begin:], "alive": alive, "vm": who})
