"""The static side of every view: HTML without a script and plain text, small enough for a saved notebook."""

from collections.abc import Mapping
from html import escape
from typing import Any

from ..device import Device
from . import html
from .machines import machine_of

__all__ = ["LARGEST", "static_html", "static_text"]

LARGEST = 60_000  #: bytes of HTML, at most
_LINES = 25  # of a console
_BYTES = 256  # of a memory window


def static_html(device: Device, kind: str, options: Mapping[str, Any]) -> str:
    """Return the view as HTML as it stands now; tables are cut until it is small."""
    if kind == "panel":
        return _smallest(lambda rows: html.device_card(device, rows))
    if kind == "registers":
        return _smallest(lambda rows: html.block_card(getattr(device, options["block"]), rows))
    if kind in ("log", "timeline"):
        return html.log_table(device.log)
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
        return repr(device.log)
    if kind == "irq":
        return repr(device.irq)
    if kind == "hooks":
        return repr(device.hooks)
    if kind == "memory":
        return _memory(device, options)
    if kind == "console":
        machine = machine_of(device)
        lines = machine.console.splitlines()[-_LINES:] if machine is not None else []
        return "\n".join(lines) or "<nothing on the console>"
    return html.device_text(device)


def _memory(device: Device, options: Mapping[str, Any]) -> str:
    if "block" not in options:
        return f"guest memory at IOVA {options.get('iova', '0x0')}\n{device.dma!r}"
    block = getattr(device, options["block"])
    data = block.peek(0, min(block.description.size, _BYTES))
    return "\n".join(f"{at:08x}  {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16))
