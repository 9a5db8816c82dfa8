"""The static side of every view: HTML without a script and plain text, small enough for a saved notebook."""

import base64
import contextlib
from collections.abc import Mapping
from html import escape
from typing import Any

from ..device import Device
from ..log import LogView
from . import html, query
from .machines import machine_of
from .pictures import picture_from
from .png import Picture, small_png

__all__ = ["LARGEST", "static_html", "static_text"]

LARGEST = 60_000  #: bytes of HTML, at most
_LINES = 25  # of a console
_BYTES = 256  # of a memory window
NO_PIXELS = "<a picture without pixels>"


def static_html(device: Device, kind: str, options: Mapping[str, Any]) -> str:
    """Return the view as HTML as it stands now; tables are cut until it is small."""
    if kind == "panel":
        return _smallest(lambda rows: html.device_card(device, rows))
    if kind == "registers":
        return _smallest(lambda rows: html.block_card(getattr(device, options["block"]), rows))
    if kind == "dma":
        return _smallest(lambda rows: html.dma_card(device, rows))
    if kind in ("log", "timeline"):
        with contextlib.suppress(ValueError):  # the text says what is wrong with the filter
            return html.log_table(_log(device, options))
    if kind == "image":
        return _image(device, str(options.get("source", "")), str(options.get("title", "")))
    return (
        f'<div class="wb">{html.STYLE}<pre class="s">{escape(static_text(device, kind, options))}</pre></div>'
    )


def _smallest(make: Any) -> str:
    text = ""
    for rows in (256, 64, 16, 4):
        text = make(rows)
        if len(text.encode()) <= LARGEST:
            break
    return text


def static_text(device: Device, kind: str, options: Mapping[str, Any]) -> str:
    """Return the view as plain text as it stands now."""
    if kind == "registers":
        return html.block_text(getattr(device, options["block"]))
    if kind in ("log", "timeline"):
        try:
            return repr(_log(device, options))
        except ValueError as error:
            return f"<nothing is found by {options['filter']!r}: {error}>"
    if kind == "irq":
        return repr(device.irq)
    if kind == "dma":
        return html.dma_text(device)
    if kind == "hooks":
        return repr(device.hooks)
    if kind == "memory":
        return _memory(device, options)
    if kind == "image":
        return _picture(device, str(options.get("source", "")))[1]
    if kind == "console":
        machine = machine_of(device)
        lines = machine.console.splitlines()[-_LINES:] if machine is not None else []
        return "\n".join(lines) or "<nothing on the console>"
    return html.device_text(device)


def _log(device: Device, options: Mapping[str, Any]) -> LogView:
    """Return what the view's filter lets through; ValueError for one that cannot be read."""
    log, text = device.log, str(options.get("filter") or "")
    if not text:
        return log
    records = log.records()
    return LogView(records[query.compile(text, log.names)(records)], log.names, log.epoch, log.dropped)


def _picture(device: Device, name: str) -> tuple[Picture | None, str]:
    """Return a picture and what to say of it; None when there is nothing to see."""
    try:
        picture = picture_from(device, name)
    except Exception as error:  # of the user's function
        return None, f"<no picture: {type(error).__name__}: {error}>"
    height, width = picture.shape[:2]
    return (picture, f"<picture of {width} × {height} pixels>") if picture.size else (None, NO_PIXELS)


def _image(device: Device, name: str, title: str) -> str:
    picture, said = _picture(device, name)
    shown, about = "", f"{title or device.name}: {said.strip('<>')}"
    if picture is not None:
        data, every = small_png(picture, LARGEST * 2 // 3)  # Base64 makes three bytes four
        about += f", every {every}th of them" if every > 1 else ""
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        shown = f'<img alt="{escape(about)}" style="max-width:100%" src="{source}">'
    return f'<div class="wb">{html.STYLE}{shown}<div class="d">{escape(about)}</div></div>'


def _memory(device: Device, options: Mapping[str, Any]) -> str:
    if "block" not in options:
        return f"guest memory at IOVA {options.get('iova', '0x0')}\n{device.dma!r}"
    block = getattr(device, options["block"])
    data = block.peek(0, min(block.description.size, _BYTES))
    return "\n".join(f"{at:08x}  {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16))
