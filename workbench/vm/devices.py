"""What a VM needs of its devices, checked before QEMU starts: QEMU itself only times out."""

import inspect
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import StateError

#: Seconds for the server to notice that its last client is gone.
SETTLE = 2.0


class Servable(Protocol):
    """What a VM needs of a device."""

    name: str
    irq: Any  #: its interrupts; what it has of which kind is ``irq.description.counts()``

    def serve(self) -> Any:
        """Start to serve and return the server; nothing happens if it is served already."""

    def qemu_args(
        self, memory: str | None = ..., patience: float | None = ..., *, preload: bool = ...
    ) -> list[str]:
        """Return the arguments that plug it in; with ``memory`` None only those of the device."""


def devices_of(given: Sequence[object]) -> tuple[Servable, ...]:
    """Return the devices among what ``VM()`` was given; a server stands for its device.

    Raises TypeError for anything else, ValueError for the same device or the same name twice.
    """
    devices = tuple(_device(each) for each in given)
    for at, device in enumerate(devices):
        kind = type(device).__name__
        for earlier in devices[:at]:
            if earlier is device:
                raise ValueError(f"{device.name} is given twice: make a second one, {kind}('b')")
            if earlier.name == device.name:
                raise ValueError(
                    f"two devices have the name {device.name}: give them names of their own: "
                    f"{type(earlier).__name__}('a'), {kind}('b')"
                )
    return devices


def _device(given: Any) -> Servable:
    if inspect.isclass(given):
        raise TypeError(f"VM takes a device, {given.__name__} is a class: VM({given.__name__}())")
    if isinstance(given, list | tuple):
        raise TypeError(f"VM takes its devices one by one, not in a {type(given).__name__}: VM(*devices)")
    device = given if hasattr(given, "qemu_args") else getattr(given, "device", given)
    if not hasattr(device, "qemu_args"):
        raise TypeError(f"VM takes devices, not {given!r}")
    found: Servable = device
    return found


def serve_free(device: Servable, machines: Callable[[], Sequence[str]]) -> None:
    """Serve ``device`` and see that no other client has it. Raises StateError that says who has.

    ``machines`` returns who is a VM of this process, as servers name clients: "pid 12".
    """
    server = device.serve()
    try:
        server.wait_listening(SETTLE)  # the last client may have gone this moment
    except StateError as error:
        who = server.client
        if who is None:
            raise
        raise StateError(f"{device.name} is in use by {_way_out(who, machines())}") from error


def plugged(device: Servable, machine: object) -> None:
    """Tell the device's views which VM has it: for their console and its switches."""
    from ..views.machines import plugged as tell

    tell(device, machine)


def _way_out(client: str, machines: Sequence[str]) -> str:
    pid = client.partition(" (")[0]
    if pid == f"pid {os.getpid()}":
        return "a software guest in this process: guest.disconnect() lets it go"
    if pid in machines:
        return f"another VM of this process, {client}: close that VM"
    return f"{client}: close that VM or end that program"


def suspects(devices: Sequence[Servable], vm: int | None) -> list[str]:
    """Return what about ``devices`` may have kept the QEMU of process id ``vm`` waiting, a line each."""
    found = []
    for device in devices:
        server, hooks = getattr(device, "server", None), getattr(device, "hooks", None)
        if server is not None and server.paused:
            found.append(f"{device.name} is paused: resume() of its server lets the guest go on")
        if server is not None and server.client and not server.client.startswith(f"pid {vm} "):
            found.append(f"{device.name} is in use by {server.client}, and serves one client at a time")
        if server is not None and not server.running:
            found.append(f"{device.name} is not served any more (its server is {server.state})")
        stalls = getattr(hooks, "stalls", None)
        if stalls is not None and stalls.seconds_in_hook > 1:
            found.append(f"{stalls.now[0]} of {device.name} runs for {stalls.seconds_in_hook:.0f} s")
    return found


def likely_causes(devices: Sequence[Servable], vm: int | None, output: str) -> list[str]:
    """Return lines that explain a failed start: the suspects, else in general when ``output`` says so."""
    found = [f"likely because {each}" for each in suspects(devices, vm)]
    # QEMU's warnings repeat the arguments, x-msg-timeout among them.
    if not found and re.search(r"(?<!-)tim(ed|e)[ -]?out", output, re.IGNORECASE):
        found = [
            "a device did not answer QEMU in time: it is paused, a hook does not return, a cell keeps Python "
            "busy, or another client is attached"
        ]
    return found
