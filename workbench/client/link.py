"""One vfio-user connection seen from the client: whole messages in and out, replies matched by id.

A request holds the lock until its reply is there, so any thread may ask. The device's own commands
(DMA_READ, DMA_WRITE) are answered whenever they arrive, also in the middle of a request. Anything
that leaves the stream in doubt (a time-out, a wrong reply, a cut message) closes the connection;
Ctrl-C does not: what has come of a message is kept, and the reply nobody waits for is dropped later.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .. import protocol
from ..errors import ProtocolError
from ..protocol import Command, Header, MessageFlag

__all__ = ["Link", "Message", "Request", "Sender", "close_fds"]

#: The signature of Client.request.
Request = Callable[..., tuple[bytes, tuple[int, ...]]]

#: Sends a command and its fds; raises ProtocolError when it is refused.
Sender = Callable[[Command, bytes, Sequence[int], str], None]

#: Answers a command of the device: payload of the reply, or ProtocolError with the errno to send.
Responder = Callable[[int, bytes], bytes]

_LONGEST = 1e6  # seconds that a wait may take: poll() counts milliseconds in 32 bits

_FD_ROOM = socket.CMSG_SPACE(253 * 4)  # SCM_MAX_FD: the kernel passes no more at once
_WHOLE = 4096  # bytes up to which a UNIX socket takes all of a message or nothing


class Message(NamedTuple):
    """A message as it came; whoever takes it closes the fds."""

    header: Header
    payload: bytes
    fds: tuple[int, ...]


class Link:
    """A connection to the socket at ``path``; every wait ends after ``timeout`` seconds.

    Raises ProtocolError when nobody listens there.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float, respond: Responder) -> None:
        self.path = os.fspath(path)
        self.timeout = timeout = milliseconds(timeout) / 1000
        self._respond = respond
        # Taken by a bare `with` alone: anything else can be left locked by Ctrl-C. Who has it is
        # done, or hangs up, within the time-out, so that waiting for it ends too.
        self._lock = threading.Lock()
        self._number = 0
        self._abandoned: set[int] = set()  # ids whose reply nobody waits for any more
        self._incoming: list[Any] = []  # what has come of the next message: results of recvmsg()
        self._servant: threading.Thread | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # With a full backlog a blocking connect waits, one with Python's time-out fails at once.
            limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(self.path)
        except OSError as error:
            self._socket.close()
            reason = f"busy for {timeout} s" if error.errno == errno.EAGAIN else error.strerror or error
            text = f"nobody serves {self.path}: {reason}"
            raise ProtocolError(text, error.errno or 0) from None
        # A forgotten link is part of a cycle: the socket must not be the first of it to be finalized.
        weakref.finalize(self, _abandon, self._socket).atexit = False

    @property
    def closed(self) -> bool:
        """Whether this end is closed; a server that went away is noticed at the next message."""
        return self._socket.fileno() < 0

    def fileno(self) -> int:
        """Return the socket's file descriptor, -1 when closed; it stays the link's."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection; again is no error."""
        servant, self._servant = self._servant, None
        _hang_up(self._socket)
        if servant is not None and servant is not threading.current_thread():
            servant.join(self.timeout)
        self._discard()

    def _discard(self) -> None:
        self._socket.close()
        parts, self._incoming = self._incoming, []
        close_fds(_fds_in(parts))

    # ---- requests

    def request(
        self, command: int, payload: bytes, fds: Sequence[int], no_reply: bool, about: str
    ) -> tuple[bytes, tuple[int, ...]]:
        """Send a command; return payload and fds of its reply, or nothing at once with ``no_reply``.

        Raises ProtocolError: refused (``code`` is the errno), timed out, or the server is gone.
        """
        with self._lock:
            self._check_open(about)
            number = self._next_number()
            flags = MessageFlag.NO_REPLY if no_reply else 0
            message = protocol.pack_message(number, command, payload, flags)
            if no_reply:
                self._send(message, fds, about)
                return b"", ()
            # From here on Ctrl-C may come anywhere: until the reply is taken, its id is an abandoned one.
            self._abandoned.add(number)
            self._send(message, fds, about)
            reply = self._reply(number, command, about)
        if reply.header.flags & MessageFlag.ERROR:
            close_fds(reply.fds)
            code = reply.header.error
            raise ProtocolError(f"{about} was refused: {protocol.errno_name(code)}", code)
        return reply.payload, reply.fds

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are, for tests and experiments."""
        with self._lock:
            self._check_open("raw bytes")
            self._send(data, fds, "raw bytes")

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message, whatever it is. Raises ProtocolError on time-out and at the end."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        with self._lock:
            self._check_open("a message")
            message = self._receive(deadline, "a message")
            self._abandoned.discard(message.header.id)
            return message

    # ---- the device's commands while nothing is asked

    def serve_in_background(self) -> None:
        """Answer the device's commands on a thread, from now until close()."""
        if self._servant is None:
            # The thread holds no reference to the link while it waits: a forgotten guest can go.
            arguments = (weakref.ref(self), self._socket)
            name = f"guest of {self.path}"
            self._servant = threading.Thread(target=_serve, args=arguments, name=name, daemon=True)
            self._servant.start()

    def serve_one(self) -> bool:
        """Answer a command if one is there; False when the connection is closed."""
        with self._lock:  # a request in progress reads for itself
            if not self.closed and _readable(self._socket, 0):
                message = self._receive(time.monotonic() + self.timeout, "a command")
                self._answer_or_break(message)
            return not self.closed

    def _answer_or_break(self, message: Message) -> None:
        header = message.header
        close_fds(message.fds)
        if header.flags & 0xF != MessageFlag.REPLY:
            self._answer(message)
        elif header.id in self._abandoned:
            self._abandoned.discard(header.id)
        else:
            raise self._broken(f"the server sent a reply that nobody asked for: id {header.id}")

    # ---- below: the lock is held

    def _check_open(self, about: str) -> None:
        if self.closed:
            raise ProtocolError(f"{about}: the connection is closed", errno.ENOTCONN)

    def _next_number(self) -> int:
        self._number = (self._number + 1) & 0xFFFF
        while self._number in self._abandoned:
            self._number = (self._number + 1) & 0xFFFF
        return self._number

    def _broken(self, text: str, code: int = 0) -> ProtocolError:
        # The servant may be the one who notices, so it cannot be joined here; it ends by itself.
        _hang_up(self._socket)
        self._discard()
        return ProtocolError(text, code)

    def _gone(self, about: str, error: OSError) -> ProtocolError:
        return self._broken(f"{about}: the server is gone ({error.strerror})", error.errno or 0)

    def _send(self, data: bytes, fds: Sequence[int], about: str) -> None:
        try:
            self._socket.settimeout(self.timeout)
            sent = socket.send_fds(self._socket, [data], list(fds)) if fds else self._socket.send(data)
            if sent < len(data):
                self._socket.sendall(data[sent:])
        except TimeoutError:
            text = f"{about}: the server took no data for {self.timeout} s"
            raise self._broken(text, errno.ETIMEDOUT) from None
        except OSError as error:
            raise self._gone(about, error) from None
        except BaseException:
            if len(data) > _WHOLE:  # Ctrl-C, and perhaps a part of it is on its way
                self._broken(about)
            raise

    def _reply(self, number: int, command: int, about: str) -> Message:
        deadline = time.monotonic() + self.timeout
        while True:
            message = self._receive(deadline, about)
            header = message.header
            if header.flags & 0xF == MessageFlag.REPLY and header.id == number:
                break
            if header.flags & 0xF == MessageFlag.REPLY and header.id not in self._abandoned:
                break
            self._answer_or_break(message)
        if (header.id, header.command) == (number, command):
            self._abandoned.discard(number)
            return message
        close_fds(message.fds)
        text = f"{about}: the reply has id {header.id}, command {header.command}; asked: {number}, {command}"
        raise self._broken(text, errno.EPROTO)

    def _answer(self, message: Message) -> None:
        header, code, payload = message.header, 0, b""
        try:
            payload = self._respond(header.command, message.payload)
        except ProtocolError as error:
            code = error.code
        flags = MessageFlag.REPLY | (MessageFlag.ERROR if code else 0)
        if not header.flags & MessageFlag.NO_REPLY:
            self._send(protocol.pack_message(header.id, header.command, payload, flags, code), (), "a reply")

    def _receive(self, deadline: float, about: str) -> Message:
        while missing := self._missing(about):
            self._piece(missing, deadline, about)
        data = b"".join(part[0] for part in self._incoming)
        fds = tuple(_fds_in(self._incoming))
        message = Message(Header.unpack(data), data[protocol.HEADER.size :], fds)
        self._incoming.clear()
        return message

    def _missing(self, about: str) -> int:
        """Return how many bytes of the next message have yet to come, header first."""
        have = sum(len(part[0]) for part in self._incoming)
        if have < protocol.HEADER.size:
            return protocol.HEADER.size - have
        size = Header.unpack(b"".join(part[0] for part in self._incoming)).size
        if not protocol.HEADER.size <= size <= protocol.MAX_TRANSFER + 64:
            raise self._broken(f"{about}: the server sent a message of {size} bytes", errno.EPROTO)
        return size - have

    def _piece(self, size: int, deadline: float, about: str) -> None:
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-6))
            # In one step of C, so that Ctrl-C cannot come between taking the bytes and keeping them.
            self._incoming.extend(map(self._socket.recvmsg, (size,), (_FD_ROOM,), (socket.MSG_CMSG_CLOEXEC,)))
        except TimeoutError:
            raise self._broken(f"{about}: no answer for {self.timeout} s", errno.ETIMEDOUT) from None
        except OSError as error:
            raise self._gone(about, error) from None
        data, _, flags, _ = self._incoming[-1]
        if flags & socket.MSG_CTRUNC:
            # There is room for as many as can be sent at once.
            text = f"{about}: no file descriptors are left here to take those that the server sent"
            raise self._broken(text, errno.EMFILE)
        if not data:
            raise self._broken(f"{about}: the server is gone (closed the connection)", errno.ECONNRESET)


def _serve(link_of: "weakref.ref[Link]", connection: socket.socket) -> None:
    # Closing is an error here and the way out; the next request of the user reports it.
    with contextlib.suppress(ProtocolError, OSError, ValueError):
        while _readable(connection, None):
            link = link_of()
            if link is None or not link.serve_one():
                return
            del link


def milliseconds(timeout: float) -> float:
    """Return a time-out as poll() takes it. ValueError below 0, which poll() takes for ever, and for NaN."""
    if not timeout >= 0:
        raise ValueError(f"a timeout is 0 seconds or more, not {timeout!r}")
    return min(float(timeout), _LONGEST) * 1000


def _readable(connection: socket.socket, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(timeout))


def _hang_up(connection: socket.socket) -> None:
    # Wakes every thread of ours that waits for the socket, before its number can be reused.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _abandon(connection: socket.socket) -> None:
    _hang_up(connection)
    connection.close()


def _fds_in(parts: Sequence[Any]) -> Iterator[int]:
    for _, control, _, _ in parts:
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                yield from memoryview(data[: len(data) & ~3]).cast("i")


def close_fds(fds: Iterable[int]) -> None:
    """Close every one of them."""
    for fd in fds:
        os.close(fd)
