"""The doors from a part of a device to its live views: what ``dev.log.view()`` and the like call."""

from collections.abc import Callable
from typing import Any

from ..errors import StateError

__all__ = ["view_of"]


def view_of(owner: Callable[[], Any], kind: str, **options: Any) -> Any:
    """Return the live view of the device that owns a part. Raises StateError when that is gone."""
    core = owner()
    if core is None:
        raise StateError(f"the device of this {kind} view is gone")
    from .widget import live  # anywidget is slow to import

    return live(core.device, kind, **options)
