"""Server: a background thread that listens on a UNIX socket and serves one client after another.

The loop itself is C (``wb_serve``), called from an ordinary named thread, so debuggers and
profilers see it and hooks re-enter Python on a thread that Python knows. A client that goes away
leaves the device as it is and the server listening. States::

    idle ── start ──▶ listening ◀── client ──▶ attached ── stop ──▶ stopped
                          └────────── the socket failed ──────────▶ failed
"""

import atexit
import contextlib
import errno
import os
import select
import socket
import struct
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from .device import Device
from .engine import ffi, lib
from .errors import StateError
from .runtime import SwitchInterval, remove_stale, socket_directory, take_path
from .session import Refused, Session
from .wire import WireMessage, describe

__all__ = ["Server", "WireTrace"]

SWITCH_INTERVAL = 5e-5  #: seconds; hooks then wait 0.2 ms (p99) for a busy cell instead of 5 ms
JOIN_SECONDS = 5.0
TRACE_MESSAGES = 10_000
TRACE_BYTES = 4096  # kept of one message: more is only data

_serving: dict[str, "weakref.ref[Server]"] = {}  # by device name: the same name replaces


class WireTrace:
    """Every message of the wire, newest last, at most 10,000: decoded when looked at."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bool, bytes, int, int]] = deque(maxlen=TRACE_MESSAGES)

    def add(self, from_server: bool, data: bytes, nfds: int, length: int) -> None:
        """Keep a message, or its beginning if it is shorter than ``length``, with the time (ns)."""
        self._kept.append((lib.wb_clock(), from_server, data, nfds, length))

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[WireMessage]:
        for _, from_server, data, nfds, length in list(self._kept):
            yield describe(data, from_server, nfds, length)

    @overload
    def __getitem__(self, index: int) -> WireMessage: ...

    @overload
    def __getitem__(self, index: slice) -> list[WireMessage]: ...

    def __getitem__(self, index: int | slice) -> WireMessage | list[WireMessage]:
        if isinstance(index, slice):
            return list(self)[index]
        _, from_server, data, nfds, length = self._kept[index]
        return describe(data, from_server, nfds, length)

    def clear(self) -> None:
        """Forget them."""
        self._kept.clear()

    def __repr__(self) -> str:
        kept = list(self._kept)
        lines = (
            f"{(at - kept[0][0]) / 1e6:12.3f} ms  {message}"
            for (at, *_), message in zip(kept, self, strict=False)
        )
        return "\n".join(lines) or "<no messages traced: serve(trace=True)>"


class Server:
    """Serves one device. Made by ``dev.serve()``; a context manager that stops at the end.

    ``path`` is the socket (default: in a private directory, named after the device). ``trace=True``
    keeps every message in ``trace``. ``switch_interval`` (seconds, None: leave alone) is what
    ``sys.setswitchinterval`` is lowered to while the device has Python hooks.
    ``error`` says why it failed.
    """

    def __init__(
        self,
        device: Device,
        path: str | os.PathLike[str] | None = None,
        *,
        trace: bool = False,
        switch_interval: float | None = SWITCH_INTERVAL,
    ) -> None:
        self.device = device
        self.paused = False
        self._phase = "idle"
        self.error: BaseException | None = None
        self.client: str | None = None  #: who is attached: "pid 1234 (qemu-system-x86)"
        self.trace = WireTrace()
        self._tracing = trace
        self._interval = switch_interval
        self._wanted = Path(path) if path is not None else None
        self._path = self._wanted
        self._owner = os.getpid()
        self._changed = threading.Condition(threading.RLock())
        self._stopping = False
        self._session: Session | None = None
        self._connection: socket.socket | None = None

    @property
    def state(self) -> str:
        """Return "idle", "listening", "attached", "paused", "stopped" or "failed"."""
        return "paused" if self.paused and self.running else self._phase

    @classmethod
    def serving(cls, name: str) -> "Server | None":
        """Return the server of the device of that name, if one runs in this process."""
        server = _serving.get(name, lambda: None)()
        return server if server is not None and server.running else None

    @property
    def path(self) -> str:
        """The socket's path."""
        return os.fspath(self._path) if self._path else ""

    @property
    def wanted(self) -> str | None:
        """The path that was asked for; None: a private directory."""
        return os.fspath(self._wanted) if self._wanted is not None else None

    @property
    def running(self) -> bool:
        """Whether the thread is there, in this process."""
        return self._phase in ("listening", "attached") and self._owner == os.getpid()

    # -- life --

    def start(self) -> None:
        """Listen and serve from a daemon thread.

        Raises StateError when the socket's path is taken, too long, or not private.
        """
        remove_stale()
        self._path = self._wanted or socket_directory() / f"{_file_name(self.device.name)}.sock"
        take_path(self._path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.fchmod(self._listener.fileno(), 0o600)  # before bind: the file is born with this mode
        try:
            self._listener.bind(self.path)
            self._listener.listen(4)
        except OSError as error:
            self._listener.close()
            raise StateError(f"cannot listen at {self.path}: {error.strerror}") from error
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.device._core.server = self
        lib.wb_serve_trace(self.device._core.handle, int(self._tracing))
        self.device.hooks.on_change = self._tune
        self._tune()
        self._set("listening")
        _serving[self.device.name] = weakref.ref(self)
        atexit.register(self.stop)
        self._thread = threading.Thread(target=self._run, name=f"workbench {self.device.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, drop the client, remove the socket. May be repeated, and called by a hook."""
        with self._changed:  # the thread closes _wake under the same lock
            if not self.running:
                return
            self._stopping = True
            os.eventfd_write(self._wake, 1)
            connection = self._connection
        self.resume()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_SECONDS)
            if self._thread.is_alive():
                raise StateError(
                    f"{self.device.name}: a hook has not returned for {JOIN_SECONDS:g} s; still stopping"
                )

    # -- control --

    def pause(self) -> None:
        """Let the guest wait at its next register access. Its vCPU stands still meanwhile.

        QEMU gives up on a device after 5 s (``x-msg-timeout``); machines of ``wb.VM`` wait for a day.
        """
        self._gate(True)

    def resume(self) -> None:
        """Let the guest go on."""
        self._gate(False)

    def step(self, accesses: int = 1) -> None:
        """Let so many accesses pass while paused. Raises StateError when the server is not paused."""
        if not self.paused:
            raise StateError(f"{self.device.name} is {self.state}: pause() it before step()")
        lib.wb_gate_step(self.device._core.handle, accesses)

    @property
    def waiting(self) -> bool:
        """Whether an access of the guest waits at the gate now."""
        return bool(lib.wb_gate_waiting(self.device._core.handle))

    def _gate(self, closed: bool) -> None:
        lib.wb_gate_pause(self.device._core.handle, int(closed))
        with self._changed:
            self.paused = closed
            self._changed.notify_all()

    def expect(self, path: str | None, options: dict[str, Any]) -> None:
        """Check that this running server is what a second ``serve()`` asks for; StateError if not."""
        if path is not None and os.fspath(path) != self.path:
            raise StateError(f"{self.device.name} is served at {self.path} already: stop that server first")
        if "trace" in options:
            self._tracing = bool(options["trace"])
            lib.wb_serve_trace(self.device._core.handle, int(self._tracing))

    def wait_listening(self, timeout: float = 5.0) -> None:
        """Wait until the last client is gone. Raises StateError naming it after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._phase != "attached", timeout):
                raise StateError(f"{self.device.name} is in use by {self.client}: detach it first (guest.disconnect(), or close the VM)")
        if self._phase != "listening":
            raise StateError(f"the server of {self.device.name} is {self.state}: call serve() again")

    def wait_attached(self, timeout: float = 30.0) -> None:
        """Wait until a client is attached. Raises TimeoutError after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._phase == "attached", timeout):
                raise TimeoutError(f"no client came to {self.path} within {timeout:g} s")

    def _set(self, state: str, client: str | None = None) -> None:
        with self._changed:
            self._phase, self.client = state, client
            self._changed.notify_all()

    def _tune(self) -> None:
        wanted = self._interval if len(self.device.hooks) and not self._stopping else None
        SwitchInterval.want(self, wanted)

    # -- the thread --

    def _run(self) -> None:
        try:
            while self._wait_for_client():
                self._serve_one()
            self._end("stopped")
        except BaseException as error:
            self.error = error
            self.device.logger.error("the server of %s failed: %r", self.device.name, error)
            self._end("failed")

    def _wait_for_client(self) -> bool:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        poller.poll()
        return not self._stopping

    def _serve_one(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self._connection = connection
            self._session = Session(self.device._core)
            self._set("attached", _peer(connection))
            if not self._stopping:  # else stop() may have missed this connection
                lib.wb_serve(self.device._core.handle, connection.fileno())
            self._connection = None
        if self._session.accepted is not None:
            self.device.hooks.event("on_detach", self.device.on_detach)
        if not self._stopping:
            self._set("listening")

    def _end(self, state: str) -> None:
        self._stopping = True
        self._tune()
        self.device.hooks.on_change = lambda: None
        self._listener.close()
        with contextlib.suppress(OSError):
            Path(self.path).unlink()
        if self._wanted is None:
            with contextlib.suppress(OSError):  # other devices' sockets may be there still
                Path(self.path).parent.rmdir()
        atexit.unregister(self.stop)
        with self._changed:
            os.close(self._wake)
            self._set(state)

    # -- upcalls, on the server's thread --

    def answer(self, message: Any) -> int:
        """Answer a cold message through the session: 0, an errno for an Error reply, -1 to close."""
        assert self._session is not None
        payload = bytes(ffi.buffer(message.payload, message.size)) if message.size else b""
        first = self._session.accepted is None
        try:
            reply = self._session.answer(message.command, payload)
        except Refused as refused:
            return -refused.code if refused.close else refused.code
        if len(reply) > message.reply_room:
            return errno.E2BIG
        ffi.memmove(message.reply, reply, len(reply))
        message.reply_size = len(reply)
        if first and self._session.accepted is not None:
            lib.wb_serve_accept(self.device._core.handle, *map(int, self._session.accepted))
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
        who = f" to {self.client}" if self.client else ""
        return f"<Server of {self.device.name}: {self.state}{who} at {self.path}>"


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:40]


def _peer(connection: socket.socket) -> str:
    """Name the process at the other end: pid and command."""
    pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"pid {pid}"
    # A relocated QEMU is started by its own loader, whose options come first.
    program = next((word for word in words if "/ld-" not in word and "qemu" in word.rpartition("/")[2]), words[0])
    return f"pid {pid} ({program.rpartition('/')[2]})"


@ffi.def_extern(error=-errno.EIO)  # our own fault: answered, then closed
def wb_python_message(context: Any, message: Any) -> int:
    """Engine upcall: a message that is not hot."""
    return int(ffi.from_handle(context).server.answer(message))


@ffi.def_extern()
def wb_python_trace(context: Any, from_server: int, data: Any, size: int, nfds: int) -> None:
    """Engine upcall: a message went by while tracing is on."""
    kept = bytes(ffi.buffer(data, min(size, TRACE_BYTES)))
    ffi.from_handle(context).server.trace.add(bool(from_server), kept, nfds, size)
