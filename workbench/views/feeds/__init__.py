"""Feeds: what a view can be sent, one small class each; their JSON is described in ``feed.py`` above.

``FEEDS`` maps their names to classes. A Feed is made when a view asks for it and forgotten when the view
asks for something else; it remembers what it sent last and says nothing while nothing changed.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .console import ConsoleFeed
from .dma import DmaFeed
from .hooks import HooksFeed
from .image import ImageFeed
from .irq import IrqFeed
from .log import LogFeed
from .memory import MemoryFeed
from .registers import RegistersFeed
from .source import Feed, Part, Source
from .state import StateFeed
from .timeline import TimelineFeed

__all__ = ["FEEDS", "Feed", "Part", "Source"]

FEEDS: Mapping[str, Callable[[Mapping[str, Any]], Feed]] = {
    "state": StateFeed,
    "registers": RegistersFeed,
    "memory": MemoryFeed,
    "irq": IrqFeed,
    "dma": DmaFeed,
    "log": LogFeed,
    "timeline": TimelineFeed,
    "hooks": HooksFeed,
    "console": ConsoleFeed,
    "image": ImageFeed,
}
