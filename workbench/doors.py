"""The doors of a device: a server that QEMU attaches to, a software guest, a picture of what it shows.

They know the device, not the other way round, so each is imported when it is first used.
"""

import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from .errors import DescriptionError, StateError
from .qemuargs import qemu_arguments
from .succession import succeed

if TYPE_CHECKING:
    from .client import Client
    from .device import Device
    from .poller import Poller
    from .server import Server

__all__ = ["DeviceDoors"]


class DeviceDoors:
    """The part of a Device that others come in by."""

    name: str
    closed: bool
    server: "Server | None"

    def serve(
        self,
        path: "str | os.PathLike[str] | None" = None,
        *,
        trace: bool | None = None,
        switch_interval: float | None = None,
        poll_us: int | None = None,
        poller: "Poller | None" = None,
        users: Sequence[str] | None = None,
    ) -> "Server":
        """Serve on a UNIX socket from a background thread; return the Server, the same if it runs.

        The thread is this process's: one that is forked from it must not use the device.

        ``path`` defaults to a private directory. ``trace=True`` keeps every vfio-user message,
        ``switch_interval`` (seconds) is used while the device has Python hooks: see Server. ``poll_us`` (µs)
        is how long the thread looks for the next message before it sleeps, at first 0; a ``poller`` serves
        this device and others from one thread. ``users`` names who may connect beside you, at a ``path`` that
        they can reach. Raises DescriptionError when the layout is known to crash or hang QEMU, StateError
        when the path is taken or too long, ValueError for ``poll_us`` with ``poller`` or an unknown user.
        """
        from .server import Server

        if poll_us is not None and poller is not None:
            raise ValueError(
                "the poller says for how long it polls: leave poll_us away, or make Poller(poll_us)"
            )
        device = cast("Device", self)
        with Server.starting:
            if self.closed:  # perhaps just now, by one that took its core over
                raise StateError(f"{self.name} is closed: make a new one with {type(self).__name__}()")
            previous = Server.serving(self.name)
            if previous is not None and previous.ending:
                previous.stop()  # Ctrl-C ended the call that waited for its thread
                previous = Server.serving(self.name)
            if previous is not None and previous.device is not device:
                succeed(device, previous)
            if self.server is not None and self.server.running:
                self.server.expect(path, trace, switch_interval, poll_us, poller, users)
                return self.server
            problems = device.lint()
            if problems:
                raise DescriptionError(self.name, problems)
            keywords: dict[str, Any] = {} if switch_interval is None else {"switch_interval": switch_interval}
            keywords |= {"poller": poller, "users": users or ()}
            server = Server(device, path, trace=bool(trace), poll_us=poll_us or 0, **keywords)
            server.start()
            return server

    def connect(self, timeout: float = 5.0) -> "Client":
        """Return a software guest connected to this device: be the driver, no VM needed.

        Serves the device first if nobody does. Raises StateError while another client is attached, and
        while the device is paused, which would answer none.
        """
        from .client import Client

        server = self._served()
        server.wait_listening(0 if server.stays() else timeout)
        if server.paused:
            raise StateError(
                f"{self.name} is paused, and a guest that connects waits: dev.server.resume() first,"
                " or Resume in the panel"
            )
        guest = Client(server.path, timeout=timeout)
        server.guest = weakref.ref(guest)
        return guest

    def _served(self) -> "Server":
        if self.server is None or self.server.running:
            return self.serve()
        return self.serve(**self.server.manner)

    def qemu_args(
        self, memory: str | None = "256M", patience: float | None = None, *, preload: bool = False
    ) -> list[str]:
        """Return the arguments that plug this device into a QEMU (10.1 or newer) of your own.

        ``patience`` is how many seconds QEMU waits for an answer, pauses included (its default: 5).

        With ``memory`` they include shared guest memory of that size, which DMA needs; with None
        they are the device alone. ``preload``: those for an older QEMU, started with the library that
        ``workbench preload-path`` names in LD_PRELOAD; its patience is WORKBENCH_PRELOAD_TIMEOUT_MS.
        Serves the device first if nobody does.
        """
        return qemu_arguments(self._served().path, memory, patience, preload)

    def view_image(self, source: Any = None, title: str = "") -> Any:
        """Return a live view of a picture: of ``image()``, or of an array, or of what a function returns.

        A picture is an array of uint8: (height, width, 3) of red, green, blue, (height, width) of grey, or
        (height, width, 4) with alpha. While it is on screen ``source`` is called up to ten times a second, on
        a thread of ours: it should only look. Two lambdas in one cell need a ``title`` each. Raises
        StateError without a source for a device that has no ``image()``, ValueError for no picture.
        """
        from .views.pictures import image_view

        return image_view(cast("Device", self), source, title)
