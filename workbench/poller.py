"""Poller: one thread that answers the guests of several devices, and looks for messages before it sleeps.

The loop is C (``wb_poller_run``). Each device's server keeps its own thread for accepting clients, which
sleeps while the poller answers one. The poller's thread is there while a server uses it.
"""

import os
import threading
from operator import index
from typing import TYPE_CHECKING, Any

from .engine import ffi, lib
from .errors import StateError

if TYPE_CHECKING:
    from .server import Server

__all__ = ["LONGEST_US", "Poller", "check_poll_us"]

JOIN_SECONDS = 5.0
LONGEST_US = 1_000_000
MOST: int = lib.WB_MAX_POLLED


def check_poll_us(microseconds: int) -> int:
    """Return a time to poll for, µs; ValueError unless it is 0 to a second, TypeError for no integer."""
    if not 0 <= index(microseconds) <= LONGEST_US:
        raise ValueError(f"poll_us is 0 to {LONGEST_US} µs, not {microseconds}")
    return index(microseconds)


class Poller:
    """Serves several devices from one thread: ``dev.serve(poller=poller)`` for each, at most 256.

    After every message it looks for the next one for ``poll_us`` µs (0 to 1,000,000; 0: not at all) and
    then sleeps. That answers sooner than waking a thread does, and keeps one core busy meanwhile. Python
    hooks of its devices run one after another: one that blocks holds up the others, and must not be the
    client of another device of the same poller. A paused device holds up nobody.
    """

    def __init__(self, poll_us: int = 50) -> None:
        self._poll_us = check_poll_us(poll_us)
        self._lock = threading.Lock()
        self._servers: set[Server] = set()
        self._owner = os.getpid()
        self._handle: Any = None
        self._thread: threading.Thread | None = None

    @property
    def poll_us(self) -> int:
        """How long it looks for the next message before it sleeps, µs: what it was made with."""
        return self._poll_us

    @property
    def devices(self) -> list[str]:
        """The names of the devices it serves now."""
        with self._lock:
            return sorted(server.device.name for server in self._servers)

    @property
    def here(self) -> bool:
        """Whether the calling thread is the poller's: a hook of one of its devices runs."""
        return self._thread is threading.current_thread()

    def take(self, server: "Server") -> None:
        """Begin to serve for ``server``. StateError when it has too many already."""
        with self._lock:
            if self._owner != os.getpid():  # a forked child has the poller, but not its thread
                self._owner, self._thread = os.getpid(), None
                self._servers.clear()
            if len(self._servers) >= MOST:
                raise StateError(f"a poller serves {MOST} devices at most: make another one")
            if self._thread is None:
                self._start()
            self._servers.add(server)

    def _start(self) -> None:
        made = lib.wb_poller_new(self.poll_us)
        if made == ffi.NULL:
            raise StateError("cannot make a poller: no memory or no descriptor is left")
        handle = ffi.gc(made, lib.wb_poller_free)
        thread = threading.Thread(target=_run, args=(handle,), name="workbench poller", daemon=True)
        try:
            thread.start()
            self._handle, self._thread = handle, thread
        except BaseException:  # Ctrl-C too, perhaps when it runs already
            lib.wb_poller_stop(handle)
            raise

    def give(self, server: "Server") -> None:
        """Serve no longer for ``server``, which has no client any more; with the last one the thread ends."""
        with self._lock:
            self._servers.discard(server)
            thread = self._thread
            if self._servers or thread is None or self._owner != os.getpid():
                return
            lib.wb_poller_stop(self._handle)
            self._handle = self._thread = None
        thread.join(JOIN_SECONDS)

    def serve(self, device: Any, socket: int) -> int:
        """Answer an engine device's client until it goes, as ``wb_serve``; a Server's thread waits here."""
        return lib.wb_poller_serve(self._handle, device, socket)

    def __repr__(self) -> str:
        return f"<Poller: poll_us={self.poll_us}, serves {', '.join(self.devices) or 'nothing'}>"


def _run(handle: Any) -> None:
    lib.wb_thread_hurry()
    try:
        lib.wb_poller_run(handle)
    finally:
        del handle  # the traceback of a hook leads here, and is not to keep its descriptors
