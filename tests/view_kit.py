"""A view as a plain object, and the browser's part of the conversation, for tests of the hub."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from workbench.device import Device
from workbench.views.feeds.registers import ENTRY
from workbench.views.hub import Hub

TIMEOUT = 5.0


class Page:
    """A browser page on one view: collects what it is sent, acknowledges it if ``acks``."""

    def __init__(self, hub: Hub, acks: bool = True, name: str = "tab") -> None:
        self.hub, self.acks, self.name = hub, acks, name
        self.got: list[tuple[float, dict[str, Any], list[bytes]]] = []
        self.threads: set[str] = set()
        self.values: dict[int, int] = {}
        self.counts: dict[int, tuple[int, int]] = {}
        self.feeds: dict[str, dict[str, Any]] = {}
        self.closed = False
        self._changed = threading.Condition()
        self.layout = hub.join(self)

    # -- what the hub calls --

    def send(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        with self._changed:
            self.threads.add(threading.current_thread().name)
            self.got.append((time.monotonic(), content, list(buffers or ())))
            for name, json in content.get("feeds", {}).items():
                self.feeds[name] = {**json, "bytes": buffers[json["buffer"]] if "buffer" in json else b""}
                if name == "registers":
                    self._take(self.feeds[name]["bytes"])
            self._changed.notify_all()
        if self.acks and content["type"] == "frame":
            self.say({"type": "ack", "seq": content["seq"]})

    def set_layout(self, layout: dict[str, Any]) -> None:
        with self._changed:
            self.layout = layout
            self._changed.notify_all()

    def close(self) -> None:
        self.closed = True
        self.hub.leave(self)

    # -- what a person's browser does --

    def say(self, content: dict[str, Any]) -> None:
        self.hub.receive(self, content, self.name)

    def look(self, visible: bool = True, **feeds: dict[str, Any]) -> None:
        self.say({"type": "hello"})
        self.say({"type": "want", "visible": visible, "feeds": feeds})

    def do(self, action: str, **arguments: Any) -> dict[str, Any]:
        number = len(self.got) + 1000
        self.say({"type": "do", "id": number, "action": action, **arguments})
        return self.wait(lambda: next((c for _, c, _ in list(self.got) if c.get("id") == number), None))

    def wait(self, condition: Any, timeout: float = TIMEOUT) -> Any:
        """Wait until the condition, looked at after each message, is true; return what it gave."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"nothing like it within {timeout} s"
            return condition()

    def value(self, name: str) -> int:
        return self.values[self.hub.table.numbers[name]]

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [content for _, content, _ in list(self.got) if content["type"] == "frame"]

    def _take(self, data: bytes) -> None:
        for number, _, value, reads, writes in np.frombuffer(data, ENTRY).tolist():
            self.values[number], self.counts[number] = value, (reads, writes)


@contextlib.contextmanager
def page_on(device: Device, **options: Any) -> Iterator[Page]:
    page = Page(Hub(device), **options)
    try:
        yield page
    finally:
        page.close()
