"""Which VM a device is plugged into, for its console and its switches; told by the VM itself."""

import weakref
from typing import Any

__all__ = ["devices_of", "machine_of", "plugged"]

#: By core, which stays when a device made anew takes its place.
_machines: "weakref.WeakKeyDictionary[Any, weakref.ref[Any]]" = weakref.WeakKeyDictionary()


def plugged(device: Any, machine: Any) -> None:
    """Note that the VM has the device; neither is kept alive by it."""
    _machines[device._core] = weakref.ref(machine)


def machine_of(device: Any) -> Any:
    """Return the VM that had the device last, or None."""
    found = _machines.get(device._core)
    return found() if found is not None else None


def devices_of(machine: Any) -> list[Any]:
    """Return the devices that the VM had last, in the order in which they were plugged in first."""
    return [core.device for core, found in list(_machines.items()) if found() is machine is not None]
