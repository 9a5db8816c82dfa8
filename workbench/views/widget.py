"""LiveView: the anywidget of every live view, and ``live()``, which makes or finds it.

The JavaScript and the style are the files of ``static/``, put together in a fixed order. A view carries
no data: what it shows comes in frames (see feed.py), so a saved notebook stays small. Where no browser
listens (a script, nbclient) ``live()`` gives the static view alone and starts no thread.
"""

import json
import os
from collections.abc import Mapping
from contextvars import copy_context
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.core.getipython import get_ipython

from ..device import Device
from .fallback import static_html, static_text
from .hub import Hub, hub_of

__all__ = [
    "SCRIPTS",
    "STATIC",
    "STYLES",
    "LiveView",
    "StaticView",
    "joined",
    "live",
    "mimebundle",
    "running_cell",
    "shows_widgets",
]

STATIC = Path(__file__).parent / "static"
#: util.js first, panel.js last, the others by name.
SCRIPTS = (
    "util.js", "console.js", "dma.js", "edit.js", "header.js", "hooks.js", "image.js", "irq.js", "link.js",
    "log.js", "marks.js", "memory.js", "memory_row.js", "registers.js", "registers_row.js", "scale.js",
    "scroller.js", "terminal.js", "timeline.js", "timeline_canvas.js", "timeline_input.js", "panel.js",
)  # fmt: skip
STYLES = (
    "style.css", "console.css", "dma.css", "hooks.css", "image.css", "irq.css", "log.css", "timeline.css",
)  # fmt: skip
WIDGET = "application/vnd.jupyter.widget-view+json"
KINDS = ("panel", "registers", "memory", "irq", "dma", "log", "timeline", "hooks", "console", "image")


def joined(names: tuple[str, ...]) -> str:
    """Return the text of files of ``static/``, one after another."""
    return "\n".join(["/* workbench */", *((STATIC / name).read_text(encoding="utf-8") for name in names)])


class LiveView(anywidget.AnyWidget):
    """One live view of one device. Displaying it shows it; ``close()`` ends it everywhere."""

    _esm = joined(SCRIPTS)
    _css = joined(STYLES)
    kind = traitlets.Unicode("panel").tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    device_layout = traitlets.Dict().tag(sync=True)

    def __init__(self, hub: Hub, kind: str, options: Mapping[str, Any]) -> None:
        self._hub, self._heard = hub, copy_context()
        super().__init__(kind=kind, options=dict(options), device_layout=hub.join(self))
        self.comm.on_close(lambda message: hub.leave(self))

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        """Hear the browser, on the thread of its message; each page has a session of its own."""
        self._heard = copy_context()
        data = msg["content"]["data"]
        if data.get("method") == "custom":
            self._hub.receive(self, data.get("content") or {}, str(msg["header"].get("session", "")))
        else:
            super()._handle_msg(msg)

    # The kernel takes a comm's next message to the (sub)shell in whose context somebody sent on it last, and
    # a thread of ours counts as the running cell: buttons would wait for its end. So what is sent is sent in
    # the context of what was heard.

    def send(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a custom message to every page, from any thread."""
        self._heard.copy().run(super().send, content, buffers)

    def set_layout(self, layout: dict[str, Any]) -> None:
        """Tell the browser how the device is described now."""
        self._heard.copy().run(setattr, self, "device_layout", layout)

    def close(self) -> None:
        """End the view, in every page."""
        self._hub.leave(self)
        super().close()

    def _repr_mimebundle_(self, **keywords: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        static = _static(self._hub.device, self.kind, self.options)
        return {**static, WIDGET: {"version_major": 2, "version_minor": 0, "model_id": self.model_id}}, {}


class StaticView:
    """What stands for a live view where no browser listens."""

    def __init__(self, device: Device, kind: str, options: Mapping[str, Any]) -> None:
        self._bundle = _static(device, kind, options)

    def _repr_mimebundle_(self, **keywords: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        return self._bundle, {}

    def __repr__(self) -> str:
        return str(self._bundle["text/plain"])


def _static(device: Device | None, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if device is None:
        return {"text/plain": "<a view of a device that is gone>"}
    return {"text/plain": static_text(device, kind, options), "text/html": static_html(device, kind, options)}


def live(device: Device, kind: str, **options: Any) -> LiveView | StaticView:
    """Return a live view of the device: "panel", "registers", "memory", "irq", "log", "timeline" ...

    Run again in the same cell, it is the same view. ``options`` are the view's own: ``block="bar0"``,
    ``iova="0x1000"``. Without a browser it is the static view. Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no view is called {kind!r}; there are {', '.join(KINDS)}")
    if not shows_widgets():
        return StaticView(device, kind, options)
    hub = hub_of(device)
    hub.subshells = _subshells()
    key = (kind, json.dumps(options, sort_keys=True), running_cell())
    view = hub.kept.get(key)
    if view is None or view.comm is None:
        view = LiveView(hub, kind, options)
        hub.kept[key] = view
    return view


def mimebundle(device: Device) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return what displays a device: the panel where a browser listens, always the card and plain text."""
    return live(device, "panel")._repr_mimebundle_()


def shows_widgets() -> bool:
    """Whether a front end that can show widgets asked for the running cell.

    Those say which cell it is; nbclient and consoles do not. ``WORKBENCH_VIEWS`` set to "live" or "static"
    decides instead.
    """
    wanted = os.environ.get("WORKBENCH_VIEWS", "")
    if wanted in ("live", "static"):
        return wanted == "live" and _kernel() is not None
    return bool(running_cell())


def _kernel() -> Any:
    return getattr(get_ipython(), "kernel", None)


def running_cell() -> str:
    """Return the id of the cell that runs, as the front end gave it; "" when it gave none."""
    kernel = _kernel()
    parent = kernel.get_parent() if kernel is not None else None
    return str((parent or {}).get("metadata", {}).get("cellId") or "")


def _subshells() -> bool:
    """Whether the kernel hears buttons while a cell runs (ipykernel 7 and newer)."""
    return "kernel subshells" in _kernel().kernel_info.get("supported_features", ())
