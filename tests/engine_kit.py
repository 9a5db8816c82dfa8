"""A thin handle on the C engine for its own tests: no Device, no description, only planes and calls."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from workbench.engine import ffi, lib

HEADER = struct.Struct("<HHIII")
PLANES = {
    name.removeprefix("WB_"): number
    for number, name in ffi.typeof("enum wb_plane").elements.items()
    if number < lib.WB_PLANES
}


class Engine:
    """One engine device; ``hook`` and ``message`` are plain Python functions."""

    def __init__(self, log: int = 4096) -> None:
        self.hook: Callable[[Any], None] = lambda access: None
        self.message: Callable[[Any], int] = self.accept
        self.traced: list[tuple[int, bytes, int]] = []
        self._keep = (
            ffi.callback("void(void *, wb_access *)", lambda _, access: self._hook(access)),
            ffi.callback("int(void *, wb_message *)", lambda _, message: self.message(message)),
            ffi.callback("void(void *, int, const uint8_t *, uint32_t, uint32_t)", self._trace),
        )
        upcalls = ffi.new("wb_upcalls *", (ffi.NULL, *self._keep))
        self.device = lib.wb_device_new(upcalls, log)
        assert self.device

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        lib.wb_device_free(self.device)

    def _hook(self, access: Any) -> None:
        access.flags = 0  # all is well unless the test's hook says otherwise
        self.hook(access)

    def _trace(self, _: Any, from_server: int, data: Any, size: int, nfds: int) -> None:
        self.traced.append((from_server, bytes(ffi.buffer(data, size)), nfds))

    def accept(self, message: Any) -> int:
        """Answer VERSION with 0.2 and write_multiple, and nothing else."""
        if message.command != 1:
            return 95  # EOPNOTSUPP
        ffi.memmove(message.reply, struct.pack("<HH", 0, 2), 4)
        message.reply_size = 4
        lib.wb_serve_accept(self.device, 1 << 20, 1)
        return 0

    # regions

    def region(self, index: int, size: int, flags: int = 3, **planes: bytes) -> None:
        assert lib.wb_region_add(self.device, index, size, flags) == 0
        for name, data in planes.items():
            self.set(index, name, 0, data)

    def memory(self, index: int, size: int) -> None:
        """Add a region that is plain read-write memory."""
        ones = b"\xff" * size
        self.region(index, size, READABLE=ones, WRITABLE=ones, ACCEPT=ones, KNOWN=ones)

    def set(self, index: int, plane: str, offset: int, data: bytes) -> None:
        assert lib.wb_region_set(self.device, index, PLANES[plane], offset, data, len(data)) == 0

    def get(self, index: int, plane: str, offset: int, size: int) -> bytes:
        data = ffi.new("uint8_t[]", size)
        assert lib.wb_region_get(self.device, index, PLANES[plane], offset, data, size) == 0
        return bytes(ffi.buffer(data))

    def read(self, index: int, offset: int, size: int, origin: int = lib.WB_GUEST) -> bytes:
        data = ffi.new("uint8_t[]", max(size, 1))
        result = lib.wb_region_read(self.device, index, offset, data, size, origin)
        if result:
            raise OSError(-result, os.strerror(-result))
        return bytes(ffi.buffer(data, size))

    def write(self, index: int, offset: int, data: bytes, origin: int = lib.WB_GUEST) -> None:
        result = lib.wb_region_write(self.device, index, offset, data, len(data), origin)
        if result:
            raise OSError(-result, os.strerror(-result))

    # the log

    def records(self, since: int = 0) -> list[Any]:
        place = ffi.new("uint64_t *", since)
        room = ffi.new("wb_record[]", 8192)
        count = lib.wb_log_copy(self.device, place, room, 8192)
        self._room = room
        return [room[i] for i in range(count)]

    def last(self) -> Any:
        return self.records()[-1]

    def kinds(self) -> list[int]:
        return [record.kind for record in self.records()]


@contextlib.contextmanager
def running_poller(poll_us: int) -> Iterator[Any]:
    """Yield a wb_poller that has a thread."""
    poller = lib.wb_poller_new(poll_us)
    assert poller
    thread = threading.Thread(target=lib.wb_poller_run, args=(poller,))
    thread.start()
    try:
        yield poller
    finally:
        lib.wb_poller_stop(poller)
        thread.join(10)
        assert not thread.is_alive()
        lib.wb_poller_free(poller)


class Wire:
    """The engine serving one end of a socketpair on a thread; the test holds the other end."""

    poll_us = 0  #: how all of them look for messages before they sleep
    poller: Any = None  #: a wb_poller that answers instead of the wire's thread

    def __init__(self, engine: Engine, hello: bool = True) -> None:
        self.engine = engine
        self.socket, self._far = socket.socketpair()
        self.socket.settimeout(10)
        self.result: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        if hello:
            assert self.ask(1, struct.pack("<HH", 0, 0)) == (0, struct.pack("<HH", 0, 2))

    def _run(self) -> None:
        if self.poller is not None:
            self.result = lib.wb_poller_serve(self.poller, self.engine.device, self._far.fileno())
        else:
            lib.wb_serve_poll(self.engine.device, self.poll_us)
            self.result = lib.wb_serve(self.engine.device, self._far.fileno())
        self._far.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> int | None:
        """Hang up and return what the loop returned."""
        self.socket.close()
        return self.wait()

    def wait(self) -> int | None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.result

    def send(self, data: bytes, fds: list[int] | None = None) -> None:
        if fds:
            assert socket.send_fds(self.socket, [data], fds) == len(data)
        else:
            self.socket.sendall(data)

    def ask(
        self, command: int, payload: bytes = b"", fds: list[int] | None = None, ident: int = 5
    ) -> tuple[int, bytes]:
        """Send a command, return errno and payload of its reply."""
        self.send(message(command, payload, ident=ident), fds)
        return self.reply(command, ident)

    def reply(self, command: int, ident: int = 5) -> tuple[int, bytes]:
        header = HEADER.unpack(self.take(16))
        assert header[:2] == (ident, command)
        assert header[3] == (0x21 if header[4] else 1)
        return header[4], self.take(header[2] - 16)

    def take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError(f"the server hung up after {len(data)} of {size} bytes")
            data += piece
        return data


def message(command: int, payload: bytes = b"", flags: int = 0, ident: int = 5) -> bytes:
    return HEADER.pack(ident, command, 16 + len(payload), flags, 0) + payload


def access(region: int, offset: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<QII", offset, region, count) + data


def irqs(flags: int, index: int, start: int = 0, count: int = 1, data: bytes = b"", argsz: int = 20) -> bytes:
    return struct.pack("<IIIII", argsz, flags, index, start, count) + data
