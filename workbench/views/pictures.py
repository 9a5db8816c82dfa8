"""What counts as a picture, and where a view gets one: the device's ``image()`` or what a person gave.

A function is kept by the device's core under a name, and the view knows the name alone: a function that was
defined again is used at once, and a view keeps no device alive.
"""

from collections.abc import Callable
from operator import methodcaller
from typing import Any

import numpy as np

from ..device import Device
from ..errors import StateError
from .png import Picture

__all__ = ["as_picture", "has_image", "image_view", "picture_from"]

MOST = 1 << 24  #: pixels
_SHAPES = "(height, width, 3) of uint8, or (height, width) for grey, or (height, width, 4) with alpha"


def as_picture(given: Any) -> Picture:
    """Return what was given, not copied, as (height, width, samples) of uint8; booleans are black and white.

    Raises ValueError that says why it is no picture.
    """
    array = np.asarray(given)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.dtype not in (np.uint8, np.bool_) or array.shape[2] not in (1, 3, 4):
        what = f"an array {np.shape(given)} of {array.dtype}" if array.ndim else repr(given)[:80]
        raise ValueError(f"no picture: expected {_SHAPES}; this is {what}")
    if array.shape[0] * array.shape[1] > MOST:
        raise ValueError(f"a picture of {array.shape[1]} × {array.shape[0]} pixels is too large to be shown")
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    return array


def has_image(device: Device) -> bool:
    """Tell whether the device itself has a picture to show: a method ``image()``."""
    return callable(getattr(device, "image", None))


def picture_from(device: Device, name: str) -> Picture:
    """Return a picture by its name, "" for the device's own. Raises what its function raises."""
    if not name:
        if not has_image(device):
            raise StateError(f"{device.name} has no method image() that returns a picture")
        return as_picture(device.image())
    make = device._core.pictures.get(name)
    if make is None:
        raise StateError(f"nothing makes the picture {name!r} any more: run the cell again that shows it")
    return as_picture(make(device))


def image_view(device: Device, source: Any, title: str) -> Any:
    """Return the live view that ``Device.view_image`` documents."""
    from .widget import live, running_cell  # anywidget is slow to import

    if source is None and not has_image(device):
        raise StateError(f"{device.name} has no method image(): give view_image() a function or an array")
    own = getattr(source, "__self__", None) is device
    if source is None or (own and source.__name__ == "image"):
        return live(device, "image", source="", title=title)
    # The cell is part of the name, so that two lambdas of two cells are two pictures.
    shown = title or getattr(source, "__name__", "array")
    name = shown if own or title else f"{shown} {running_cell()}".strip()
    device._core.pictures[name] = methodcaller(source.__name__) if own else _maker(source)
    return live(device, "image", source=name, title=shown)


def _maker(source: Any) -> Callable[[Any], Any]:
    """Return a function of the device for what a person gave: a function of nothing, or an array."""
    if callable(source):
        return lambda device: source()
    as_picture(source)  # a mistake is told now
    return lambda device: source
