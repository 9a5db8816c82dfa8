"""The feed ``console``: what the guest prints on its serial console, in pieces."""

from collections.abc import Mapping
from typing import Any

from .source import Part, Source

__all__ = ["ConsoleFeed"]

PIECE = 32768  #: letters sent at once, the last ones of what there is
NO_VM = "no VM of this notebook has the device plugged in"


class ConsoleFeed:
    """The console from the letter on that the view asked for."""

    interval = 0.05

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._at = max(0, int(parameters.get("from", 0)))
        self._last: tuple[bool, str] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return what was printed since."""
        machine = source.machine
        alive = machine is not None and machine.alive
        who = f"{machine.accelerator}, pid {machine.pid}" if alive else "not running" if machine else NO_VM
        end, text = machine.read_console(self._at) if machine is not None else (0, "")
        if end < self._at:  # another start, another console
            end, text = machine.read_console(0) if machine is not None else (0, "")
        if not text and self._last == (alive, who):
            return None
        text = text[-PIECE:]
        self._at, self._last = end, (alive, who)
        return Part({"from": end - len(text), "text": text, "alive": alive, "vm": who})
