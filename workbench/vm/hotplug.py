"""HotPlug: plug devices into a running guest and unplug them, behind the root ports that `Slots` counts.

QEMU is told through QMP (``device_add``, ``device_del``). A plug is done when the guest's kernel has the
device, an unplug when QEMU has hung up: the guest's driver let go before.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..errors import StateError, VmError
from .devices import Servable, devices_of, plugged, serve_free
from .slots import Slots

__all__ = ["HotPlug"]

#: The newest QEMU that was seen to abort when a device with MSI-X is unplugged; older ones do too.
ABORTS = (11, 1, 3)
MSIX = 2  #: vfio IRQ index
#: Seconds for the guest's shell beyond those it waits for the device.
GRACE = 15.0


class Machine(Protocol):
    """What plugging needs of a VM."""

    def qmp(self, command: str, **arguments: object) -> Any:
        """Execute a QMP command."""

    def run(self, command: str, *, timeout: float) -> Any:
        """Run a command in the guest and return what is like a CompletedProcess."""


class HotPlug:
    """Plugs and unplugs the devices in the ``slots`` of one VM; ``machines``: see `serve_free`."""

    def __init__(self, machine: Machine, slots: Slots, machines: Callable[[], Sequence[str]]) -> None:
        self._machine, self._slots, self._machines = machine, slots, machines

    def plug(self, device: object, timeout: float) -> str:
        """Plug a device in; return its address in the guest. Raises as `VM.plug`."""
        (new,) = devices_of((device,))
        number = self._slots.take(new)
        try:
            serve_free(new, self._machines)
            self._machine.qmp("device_add", **self._slots.properties(number))
        except BaseException:
            self._slots.leave(number)
            raise
        plugged(new, self._machine)
        return self._wait_seen(new, f"0000:{number:02x}:00.0", timeout)

    def _wait_seen(self, device: Servable, address: str, timeout: float) -> str:
        tries = max(1, round(timeout * 10))
        seen = f"n=0; while [ $n -lt {tries} ]; do [ -e /sys/bus/pci/devices/{address} ] && exit; "
        wait = f"{seen} sleep 0.1; n=$((n+1)); done; exit 1"
        if self._machine.run(wait, timeout=timeout + GRACE).returncode:
            raise VmError(f"the guest did not see {device.name} at {address} within {timeout:g} s")
        return address

    def unplug(self, device: object, timeout: float) -> None:
        """Unplug a device and empty its slot. Raises as `VM.unplug`."""
        (old,) = devices_of((device,))
        number = self._slots.find(old)
        risky = old.irq.description.counts()[MSIX] and not self._slots.preload  # it is QEMU's own client
        if risky and (reason := aborts(self._machine.qmp("query-version"))):
            raise StateError(f"{old.name} cannot be unplugged: {reason}")
        self._machine.qmp("device_del", id=f"wb-device{number}")
        try:
            old.serve().wait_listening(timeout)
        except StateError as error:
            raise VmError(f"the guest did not let go of {old.name} within {timeout:g} s") from error
        self._slots.leave(number)


def aborts(version: Mapping[str, Any]) -> str:
    """Say why a QEMU, by its ``query-version``, would abort when MSI-X is unplugged; "" if it would not."""
    numbers = tuple(version["qemu"][part] for part in ("major", "minor", "micro"))
    if numbers > ABORTS:
        return ""
    said = ".".join(map(str, numbers))
    return (
        f"QEMU {said} aborts when a vfio-user device with MSI-X is unplugged, and the guest would be gone; "
        "use MSI or INTx for a device that comes and goes, or end the VM"
    )
