"""What feeds draw from, and what a feed is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ...device import Device
from ..history import History
from ..table import RegisterTable

__all__ = ["Feed", "Part", "Source"]


class Part(NamedTuple):
    """A feed's share of a frame; ``json["buffer"]`` counts within ``buffers``."""

    json: dict[str, Any]
    buffers: tuple[bytes, ...] = ()


@dataclass
class Source:
    """A device at one flush, drained and ready to be looked at; nothing here reads, everything peeks."""

    device: Device
    table: RegisterTable
    history: History
    now: float  #: seconds, time.monotonic
    repeats: Mapping[str, float] = field(default_factory=dict)  #: "index:vector" -> hertz
    problems: Mapping[str, tuple[str, int]] = field(default_factory=dict)  #: of the views themselves
    machine: Any = None  #: the VM the device is plugged into, or None
    subshells: bool = False


class Feed(Protocol):
    """One feed of one view, made from the parameters that the view gave."""

    @property
    def interval(self) -> float:
        """Seconds between two polls, at least."""

    def poll(self, source: Source) -> Part | None:
        """Return what changed since the last poll; everything the first time; None: nothing to say."""
