"""One displayed view as the kernel sees it: what its pages wish, what runs for it, how fast it hears.

A widget may be shown in several browser pages at once (two tabs on one notebook): each page wishes for
itself, all are sent the same. What messages change is guarded by the hub's lock; feeds belong to the
flusher alone.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .budget import Pace
from .feeds import FEEDS, Feed, Part, Source

__all__ = ["Seat", "View"]

SILENT = 30.0  #: seconds after which a page that said nothing is gone; pages repeat their wish every 10
UNHEARD = 600.0  #: the same where messages wait for the running cell
IDLE = 1.0  #: seconds between two looks at wishes that nothing works for: unknown feeds, senseless parameters
SHARE = 40  # a feed rests this many times as long as it computed: at most 2.5 % of a core each


class View(Protocol):
    """What the hub needs of a widget."""

    def send(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a custom message to every page."""

    def set_layout(self, layout: dict[str, Any]) -> None:
        """Sync another layout."""

    def close(self) -> None:
        """End it, in every page."""


@dataclass
class Wish:
    """What one page wants to see, and when it last said anything (time.monotonic)."""

    feeds: Mapping[str, Any]
    visible: bool
    heard: float


@dataclass
class Running:
    """A feed at work: its parameters and when it may be asked again."""

    feed: Feed
    parameters: Any
    due: float = 0.0


class Seat:
    """A view in a hub."""

    def __init__(self, view: View, version: int) -> None:
        self.view = view
        self.version = version  #: of the layout it has
        self.pace = Pace()
        self.answers: deque[dict[str, Any]] = deque()
        self.last = 0.0  #: when it was last sent a frame
        self.seen = time.monotonic()  #: when a page last saw it
        self._pages: dict[str, Wish] = {}
        self._running: dict[str, Running] = {}
        self._anew = False
        self._looked = 0.0  # when the wishes were last looked at; 0: not since they changed
        self.failed: list[tuple[str, Exception]] = []

    # -- on the thread of a message, under the hub's lock --

    def hello(self) -> None:
        """A page began: it has to be sent everything."""
        self._anew = True
        self.pace.anew()

    def want(self, page: str, content: Mapping[str, Any], now: float) -> None:
        """Take a page's whole wish."""
        feeds = content.get("feeds")
        self._looked = 0.0
        self._pages[page] = Wish(
            dict(feeds) if isinstance(feeds, dict) else {}, bool(content.get("visible")), now
        )

    def heard(self, page: str, now: float) -> None:
        """Any message tells that a page is there."""
        if page in self._pages:
            self._pages[page].heard = now

    # -- on the flusher, under the hub's lock --

    def prepare(self, now: float, patience: float) -> None:
        """Make feeds that are newly wished for, drop those that are not."""
        self._looked = now
        if self._anew:
            self._running, self._anew = {}, False
        wanted = self._wanted(now, patience)
        for name in [name for name in self._running if name not in wanted]:
            del self._running[name]
        for name, parameters in wanted.items():
            running = self._running.get(name)
            if name in FEEDS and (running is None or running.parameters != parameters):
                try:
                    self._running[name] = Running(FEEDS[name](dict(parameters or {})), parameters)
                except (TypeError, ValueError, OverflowError) as error:
                    self.failed.append((name, error))

    def _wanted(self, now: float, patience: float) -> dict[str, Any]:
        for page in [page for page, wish in self._pages.items() if now - wish.heard > patience]:
            del self._pages[page]
        wanted: dict[str, Any] = {}
        for wish in sorted(self._pages.values(), key=lambda wish: wish.heard):
            if wish.visible:
                wanted.update(wish.feeds)
                self.seen = now
        return wanted

    @property
    def visible(self) -> bool:
        """Whether a page shows it."""
        return any(wish.visible for wish in self._pages.values())

    def delay(self, now: float) -> float | None:
        """Return the seconds until there may be something to send; None: not before a message comes."""
        if not self.visible:
            return None
        if self._anew:
            return self.pace.delay(now)
        due = min((one.due for one in self._running.values()), default=self._looked + IDLE)
        return max(self.pace.delay(now), due - now)

    # -- on the flusher --

    def collect(self, source: Source) -> tuple[dict[str, Any], list[bytes]]:
        """Ask the feeds that are due; return what they say and their buffers. Errors are in ``failed``."""
        feeds: dict[str, Any] = {}
        buffers: list[bytes] = []
        for name, running in list(self._running.items()):
            if running.due > source.now:
                continue
            begun = time.thread_time()
            part = self._ask(name, running.feed, source)
            rest = max(running.feed.interval, SHARE * (time.thread_time() - begun))
            running.due = source.now + rest - 0.005  # half a tick early is on time
            if part is not None:
                json = dict(part.json)
                if "buffer" in json:
                    json["buffer"] += len(buffers)
                feeds[name] = json
                buffers += part.buffers
        return feeds, buffers

    def _ask(self, name: str, feed: Feed, source: Source) -> Part | None:
        try:
            return feed.poll(source)
        except Exception as error:  # one feed's mistake must not take the others along
            self.failed.append((name, error))
            return None
