"""The slots of a VM: every device sits behind a PCIe root port of its own, so that it can come and go.

QEMU refuses hot-plug on the root bus itself (PCIe 4.0, 6.7; QEMU docs/pcie.txt). Root port ``n`` is the
guest's bus ``n``: the device in it is ``0000:0n:00.0``.
"""

import json
import threading
from collections.abc import Sequence

from ..errors import StateError
from .devices import Servable
from .kit import PATIENCE_MS

__all__ = ["Slots"]

SPARE = 2  #: slots that are free for hot-plug
PATIENCE = PATIENCE_MS / 1000


class Slots:
    """Which device is in which root port of one VM, numbered from 1."""

    def __init__(self, devices: Sequence[Servable]) -> None:
        self._inside: dict[int, Servable] = dict(enumerate(devices, 1))
        self.count = len(devices) + SPARE
        self.preload = False  #: they are plugged into a QEMU without vfio-user-pci
        self._lock = threading.Lock()  # a cell and a button may plug at the same time

    def arguments(self) -> list[str]:
        """Return QEMU's arguments for the root ports and the devices in them."""
        ports = [f"pcie-root-port,id=wb-slot{n},chassis={n},slot={n}" for n in range(1, self.count + 1)]
        words = [word for port in ports for word in ("-device", port)]
        for number in self._inside:
            words += ["-device", json.dumps(self.properties(number))]
        return words

    def properties(self, number: int) -> dict[str, object]:
        """Return the properties of the device in a slot, as ``-device`` and ``device_add`` take them."""
        plain: dict[str, object] = json.loads(
            self._inside[number].qemu_args(None, PATIENCE, preload=self.preload)[-1]
        )
        return {**plain, "id": f"wb-device{number}", "bus": f"wb-slot{number}"}

    def take(self, device: Servable) -> int:
        """Put a device into a free slot; return its number. StateError when it is in one, or none is free."""
        with self._lock:
            if self._number(device):
                raise StateError(f"{device.name} is plugged in already")
            free = [number for number in range(1, self.count + 1) if number not in self._inside]
            if not free:
                raise StateError(f"all {self.count} slots of the VM are taken: unplug a device first")
            self._inside[free[0]] = device
            return free[0]

    def find(self, device: Servable) -> int:
        """Return the slot of a device. StateError when it is not plugged in."""
        number = self._number(device)
        if not number:
            raise StateError(f"{device.name} is not plugged into this VM")
        return number

    def _number(self, device: Servable) -> int:
        # By name, as its server goes: a device made anew takes over, under its name, what the guest has.
        return next((n for n, inside in list(self._inside.items()) if inside.name == device.name), 0)

    def leave(self, number: int) -> None:
        """Say that a slot is empty."""
        del self._inside[number]

    @property
    def devices(self) -> tuple[Servable, ...]:
        """The devices that are plugged in, by slot."""
        return tuple(device for _, device in sorted(self._inside.items()))
