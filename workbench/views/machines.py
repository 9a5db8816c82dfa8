"""Which VM a device is plugged into, for its console and its switches; told by the VM itself."""

import weakref
from typing import Any

__all__ = ["machine_of", "plugged"]

_machines: "weakref.WeakKeyDictionary[Any, weakref.ref[Any]]" = weakref.WeakKeyDictionary()


def plugged(device: Any, machine: Any) -> None:
    """Note that the VM has the device; neither is kept alive by it."""
    _machines[device] = weakref.ref(machine)


def machine_of(device: Any) -> Any:
    """Return the VM that had the device last, or None."""
    found = _machines.get(device)
    return found() if found is not None else None
