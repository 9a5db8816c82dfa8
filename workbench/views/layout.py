"""The layout of a device, as its widgets carry it: what does not change while the guest runs."""

import shlex
from typing import Any

from ..device import Device
from ..interrupts import KINDS
from ..qemuargs import qemu_arguments
from ..registers import Field, Located
from .pictures import has_image
from .table import BlockTable, RegisterTable

__all__ = ["layout_of"]


def layout_of(device: Device, table: RegisterTable, version: int) -> dict[str, Any]:
    """Return the ``layout`` trait of the device's views; see feed.py."""
    server = device.server
    who = device.id
    return {
        "version": version,
        "name": device.name,
        "id": f"{who.vendor:04x}:{who.device:04x}",
        "doc": (vars(type(device)).get("__doc__") or "").strip(),
        "socket": server.path if server is not None else "",
        # Not asked of the device, which would start a server that is not there.
        "qemu_args": shlex.join(qemu_arguments(server.path)) if server is not None else "",
        "blocks": [
            {"name": one.name, "index": one.index, "size": one.size, "kind": _kind(device, one)}
            for one in table.tables
        ],
        "registers": [_register(one, block.name) for block in table.tables for one in block.elements],
        "irqs": _interrupts(device),
        "image": has_image(device),
    }


def _interrupts(device: Device) -> list[dict[str, Any]]:
    """One entry a kind: the rows of 2,048 vectors are made in the browser."""
    kinds = [(index, len(device.irq.of(index))) for index in range(len(KINDS))]
    return [{"index": index, "name": KINDS[index], "count": count} for index, count in kinds if count]


def _kind(device: Device, block: BlockTable) -> str:
    bar = device.bars.get(block.index)
    if bar is None:
        return "option ROM" if block.name == "rom" else "config space"
    prefetchable = ", prefetchable" if bar.prefetchable else ""
    mapped = ", mapped" if bar.block.mapped else ""
    return "I/O" if bar.kind == "io" else f"{bar.bits}-bit memory{prefetchable}{mapped}"


def _register(located: Located, block: str) -> dict[str, Any]:
    described, index = located
    return {
        "block": block,
        "name": described.element_name(index),
        "offset": described.element_offset(index),
        "width": described.width,
        "mode": described.modes,
        "reset": hex(described.reset),
        "doc": (described.doc or "").strip(),
        "fields": [_field(field) for field in described.fields.values()],
    }


def _field(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "lsb": field.lsb,
        "width": field.width,
        "mode": str(field.mode),
        "doc": field.doc,
        "enum": {str(number): name for name, number in reversed(field.names.items())},
    }
