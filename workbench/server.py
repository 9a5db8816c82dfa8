"""Server: a background thread that listens on a UNIX socket and serves one client after another.

The loop itself is C (``wb_serve``), called from an ordinary named thread, so debuggers and
profilers see it and hooks re-enter Python on a thread that Python knows. A client that goes away
leaves the device as it is and the server listening. States::

    idle ── start ──▶ listening ◀── client ──▶ attached ── stop ──▶ stopped
                          └────────── the socket failed ──────────▶ failed

"paused" is listening or attached with the gate closed: the guest waits at its next access.
"""

import atexit
import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from .complaints import Complaints
from .device import Device
from .engine import ffi, lib
from .errors import StateError
from .gate import Gated
from .listener import Listener, peer_name
from .lock import Lock
from .poller import Poller, check_poll_us
from .runtime import SwitchInterval
from .session import Refused, Session
from .trace import WireTrace

__all__ = ["Server"]

#: Seconds; a hook then waits about 50 µs for a busy cell instead of 5 ms. Below some 10 µs a waiting thread
#: sets a timer that is over before it sleeps: it spins, and a cell on the same core hardly runs to let go.
SWITCH_INTERVAL = 2e-5
JOIN_SECONDS = 5.0
TRACE_BYTES = 4096  # kept of one message: more is only data

_running: dict[str, "Server"] = {}  # by device name, as long as the thread is there


class Server(Gated):
    """Serves one device. Made by ``dev.serve()``; a context manager that stops at the end.

    ``path`` is the socket (default: in a private directory, named after the device). ``trace=True``
    keeps every message in ``trace``. ``switch_interval`` (seconds, None: leave alone) is what
    ``sys.setswitchinterval`` is lowered to while the device has Python hooks (to more while many devices
    have); ValueError if not positive.
    ``poll_us`` is how long (µs) the thread looks for the next message before it sleeps; a ``poller`` answers
    instead of it, together with other devices. ``users`` (names) may connect beside this process's own;
    ``path`` is then a place that they can reach. ``client`` says who is attached ("pid 1234
    (qemu-system-x86_64)"), ``error`` why it failed.
    """

    #: Held while a server starts or is taken over; re-entrant.
    starting: ClassVar[Any] = Lock()

    def __init__(
        self,
        device: Device,
        path: str | os.PathLike[str] | None = None,
        *,
        trace: bool = False,
        switch_interval: float | None = SWITCH_INTERVAL,
        poll_us: int = 0,
        poller: Poller | None = None,
        users: Sequence[str] = (),
    ) -> None:
        _check_interval(switch_interval)
        if isinstance(users, str):
            raise TypeError(f"users are names, as [{users!r}]")
        self.device = device
        self.users = tuple(users)
        self.poll_us = check_poll_us(poll_us)
        if not isinstance(poller, Poller | None):
            raise TypeError(f"poller is a wb.Poller or None, not {poller!r}")
        self.poller = poller
        self.paused = False
        self.error: BaseException | None = None
        self.client: str | None = None
        self.guest: Callable[[], Any] = lambda: None  #: the one that dev.connect() made last, if it is there
        self.trace = WireTrace()
        self.wanted = os.path.abspath(os.fsdecode(path)) if path is not None else None
        self._path = self.wanted or ""
        self._tracing = trace
        self._interval = switch_interval
        self._phase = "idle"
        self._owner = os.getpid()
        # Taken by a bare `with`: that of the condition is Python, and Ctrl-C inside it leaves it locked.
        self._lock = Lock()
        self._changed = threading.Condition(self._lock)
        self._stopping = False
        self._complaints = Complaints(self)
        self._session: Session | None = None
        self._connection: socket.socket | None = None

    @property
    def state(self) -> str:
        """Return "idle", "listening", "attached", "paused", "stopped" or "failed"."""
        return "paused" if self.paused and self.running else self._phase

    @property
    def standing(self) -> str:
        """Return state and client in words: "attached to pid 5", "paused, attached to pid 5"."""
        state, client = self.state, self.client
        if not client:
            return state
        return f"{'' if state == 'attached' else f'{state}, '}attached to {client}"

    @classmethod
    def serving(cls, name: str) -> "Server | None":
        """Return the server of the device of that name, if one runs in this process."""
        server = _running.get(name)
        return server if server is not None and server.running else None

    @property
    def manner(self) -> dict[str, Any]:
        """What ``dev.serve()`` is to be told to serve again as now, at a place that was asked for."""
        thread = {"poll_us": self.poll_us} if self.poller is None else {"poller": self.poller}
        told = {"trace": self._tracing, "switch_interval": self._interval, "users": self.users}
        return {"path": self.wanted, **thread, **told}

    @property
    def path(self) -> str:
        """The socket's path."""
        return self._path

    @property
    def running(self) -> bool:
        """Whether the thread is there, in this process."""
        return self._phase in ("listening", "attached") and self._owner == os.getpid()

    @property
    def ending(self) -> bool:
        """Whether it was asked to stop and the thread is still there."""
        return self.running and self._stopping

    # -- life --

    def start(self) -> None:
        """Listen and serve from a daemon thread; ``device.server`` is this server then.

        Raises StateError when the socket's path is taken, too long, or not private, or another server
        serves the device.
        """
        with self.starting:
            other = self.device.server
            if other is not None and other.running:
                raise StateError(f"{self.device.name} is served at {other.path} already")
            self._listener = Listener(self.device.name, self.wanted, self.users)
            try:
                self._launch()
            except BaseException:  # Ctrl-C too: at any moment, perhaps when the thread runs already
                self._leave()
                self._end("failed")
                raise

    def _launch(self) -> None:
        """Begin to serve at the listener."""
        self._path = self._listener.path
        self._thread = threading.Thread(target=self._run, name=f"workbench {self.device.name}", daemon=True)
        core = self.device._core
        lib.wb_serve_trace(core.handle, int(self._tracing))
        lib.wb_gate_abandon(core.handle, 0)
        lib.wb_serve_poll(core.handle, self.poll_us)
        if self.poller is not None:
            self.poller.take(self)
        core.server = self.device.server = self
        core.hooks.on_change = self._tune
        with self._lock:  # who stops it at once waits for a thread that has been started
            self._set("listening")
            _running[self.device.name] = self
            self._tune()
            self._thread.start()

    def stop(self, timeout: float = JOIN_SECONDS) -> None:
        """Stop serving, drop the client, remove the socket. May be repeated, and called by a hook.

        Raises StateError naming the hook that has not returned within ``timeout`` seconds; its socket is
        gone nevertheless, and the thread ends with it.
        """
        self._leave()
        hooks = self.device.hooks
        if self._phase == "idle" or hooks.running_here or self._here:
            return
        if self._thread.ident is None:  # the system had none for it
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._listener.unlink()
            unknown = "a hook" if self.poller is None else f"a hook of another device of {self.poller!r}"
            name = hooks.doing or unknown
            raise StateError(
                f"{self.device.name}: {name} has not returned for {timeout:g} s; the socket is gone"
            )

    @property
    def _here(self) -> bool:
        """Whether the calling thread is one that serves: it cannot wait for its own end."""
        return threading.current_thread() is self._thread or (self.poller is not None and self.poller.here)

    def _leave(self) -> None:
        """Ask the thread to end."""
        with self._lock:  # the thread closes the listener under the same lock
            if not self.running:
                return
            self._stopping = True  # perhaps again: Ctrl-C may have come before all below was done
            self._listener.wake()
            connection = self._connection
        lib.wb_gate_abandon(self.device._core.handle, 1)
        self.resume()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # -- control --

    def expect(
        self,
        path: str | os.PathLike[str] | None,
        trace: bool | None,
        switch_interval: float | None,
        poll_us: int | None,
        poller: Poller | None,
        users: Sequence[str] | None,
    ) -> None:
        """Make this running server what a second ``serve()`` asks for; None: as it is.

        StateError when the path, the thread or the users differ.
        """
        if users is not None and set(users) != set(self.users):
            raise StateError(f"{self.device.name} is served for other users: dev.server.stop() first")
        if path is not None and os.path.abspath(os.fsdecode(path)) != self.path:
            raise StateError(f"{self.device.name} is served at {self.path} already: dev.server.stop() first")
        if poller is not None and poller is not self.poller:
            raise StateError(f"{self.device.name} is served by another thread: dev.server.stop() first")
        if poll_us is not None and self.poller is not None:
            raise StateError(
                f"{self.device.name} is served by {self.poller!r}, which says for how long it polls"
            )
        _check_interval(switch_interval)
        if poll_us is not None:
            self.poll_us = check_poll_us(poll_us)
            lib.wb_serve_poll(self.device._core.handle, self.poll_us)
        if trace is not None:
            self._tracing = trace
            lib.wb_serve_trace(self.device._core.handle, bool(trace))
        if switch_interval is not None:
            self._interval = switch_interval
            self._tune()

    def wait_listening(self, timeout: float = 5.0) -> None:
        """Wait until the last client is gone. Raises StateError naming it after ``timeout`` seconds.

        Also in a hook on the poller's thread, which answers no new client before the hook has returned.
        """
        if self.poller is not None and self.poller.here:
            raise StateError(f"{self.device.name} answers on this thread, once its hook has returned")
        with self._lock:
            if not self._changed.wait_for(
                lambda: self._phase != "attached", min(timeout, threading.TIMEOUT_MAX)
            ):
                raise StateError(f"{self.device.name} is in use by {self.client}: {self._way_out()}")
        if self._phase != "listening":
            raise StateError(f"the server of {self.device.name} is {self.state}: call serve() again")
        if not self._listener.reachable:
            way_out = "stop() the server and call serve() again"
            raise StateError(f"the socket {self.path} was removed by somebody else: {way_out}")

    def _way_out(self) -> str:
        """Say what lets the client go: one that is gone already is noticed when its access has ended."""
        if self.waiting:
            return "it waits because you paused: resume() first"
        name, _ = self.device.hooks.stalls.now
        if self.device.hooks.stalls.seconds_in_hook > 1:
            return f"it waits for {name}, which has not returned: hooks.skip() ends that"
        if self._ours:
            return "a software guest in this process: guest.disconnect() lets it go"
        return "detach it first (guest.disconnect(), or close the VM)"

    @property
    def _ours(self) -> bool:
        """Tell whether the client is in this process; a VM is in one of its own."""
        return (self.client or "").startswith(f"pid {os.getpid()} ")

    def stays(self) -> bool:
        """Tell whether the client is the guest that ``dev.connect()`` made last, and has not let go."""
        guest = self.guest()
        return self._ours and guest is not None and not guest.closed

    def wait_attached(self, timeout: float = 30.0) -> None:
        """Wait until a client is attached. Raises TimeoutError after ``timeout`` seconds."""
        with self._lock:
            if not self._changed.wait_for(lambda: self._phase == "attached", timeout):
                raise TimeoutError(f"no client came to {self.path} within {timeout:g} s")

    def _set(self, phase: str, client: str | None = None) -> None:
        with self._lock:
            self._phase, self.client = phase, client
            self._changed.notify_all()

    def _tune(self) -> None:
        wanted = self._interval if self.device.hooks.in_python and not self._stopping else None
        SwitchInterval.want(self, wanted, self.poller)

    # -- the thread --

    def _run(self) -> None:
        lib.wb_thread_hurry()
        try:
            told = self._complaints
            while (connection := self._listener.accept(told.short, told.stranger)) is not None:
                self._serve(connection)
                if self._stopping:
                    break
            self._end("stopped")
        except BaseException as error:
            self.error = error
            self.device.logger.error("the server of %s failed: %r", self.device.name, error)
            self._end("failed")

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            with self._lock:
                self._connection = connection
                self._session = session = Session(self.device._core)
                self._set("attached", peer_name(connection))
                stopping = self._stopping
            if not stopping:
                serve = lib.wb_serve if self.poller is None else self.poller.serve
                self._complaints.ended(serve(self.device._core.handle, connection.fileno()))
                session.migration.end()
            with self._lock:
                self._connection = None
            with contextlib.suppress(OSError):  # a forked child may hold the socket open too
                connection.shutdown(socket.SHUT_RDWR)
        if session.accepted is not None:
            self.device.hooks.event("on_detach", self.device.on_detach)
            if self.device.reset_on_detach:
                self.device._core.reset(lib.WB_RESET_DETACH)
        if not self._stopping:
            self._set("listening")

    def _end(self, phase: str) -> None:
        with self._lock:
            self._stopping = True
            try:
                self._listener.close()
                self.device.hooks.on_change = lambda: None
                self._tune()
                if self.poller is not None:
                    self.poller.give(self)
            finally:
                if _running.get(self.device.name) is self:
                    del _running[self.device.name]
                self._set(phase)

    # -- upcalls, on the server's thread --

    def answer(self, message: Any) -> int:
        """Answer a cold message through the session: 0, an errno for an Error reply, -1 to close."""
        assert self._session is not None
        payload = bytes(ffi.buffer(message.payload, message.size)) if message.size else b""
        first = self._session.accepted is None
        try:
            reply = self._session.answer(message.command, payload)
        except Refused as refused:
            if refused.close:
                self._complaints.tell("was refused: %s", refused)
            return -refused.code if refused.close else refused.code
        if len(reply) > message.reply_room:
            return errno.E2BIG
        ffi.memmove(message.reply, reply, len(reply))
        message.reply_size = len(reply)
        message.reply_nfds = len(self._session.fds)
        message.reply_fds[0 : len(self._session.fds)] = self._session.fds
        if first and self._session.accepted is not None:
            lib.wb_serve_accept(self.device._core.handle, *map(int, self._session.accepted))
            self.device.dma.sharing.begin(self.client)
            self.device.hooks.event("on_attach", self.device.on_attach)
        return 0

    # -- the user's side --

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.stop()
        if self.device.strict and kind is None:
            self.device.hooks.failures.check()

    def __repr__(self) -> str:
        return f"<Server of {self.device.name}: {self.standing} at {self.path}>"


def _check_interval(seconds: object) -> None:
    """Refuse what ``sys.setswitchinterval`` would, before it is kept: each change of a hook asks for it."""
    if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < 60):
        raise ValueError(f"switch_interval is seconds above 0 or None, not {seconds!r}")


@atexit.register
def _stop_all() -> None:
    """Stop every server when the interpreter ends: all at once, with one deadline."""
    servers = [server for server in list(_running.values()) if server.running]
    for server in servers:
        server._leave()
    deadline = time.monotonic() + JOIN_SECONDS / 2
    for server in servers:
        server._thread.join(max(0.0, deadline - time.monotonic()))
        server._listener.unlink()


@ffi.def_extern(error=-errno.EIO)  # our own fault: answered, then closed
def wb_python_message(context: Any, message: Any) -> int:
    """Engine upcall: a message that is not hot."""
    return int(ffi.from_handle(context).server.answer(message))


@ffi.def_extern()
def wb_python_trace(context: Any, from_server: int, data: Any, size: int, nfds: int) -> None:
    """Engine upcall: a message went by while tracing is on."""
    kept = bytes(ffi.buffer(data, min(size, TRACE_BYTES)))
    ffi.from_handle(context).server.trace.add(bool(from_server), kept, nfds, size)
