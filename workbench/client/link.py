"""One vfio-user connection seen from the client: whole messages in and out, replies matched by id.

A request holds the lock until its reply is there, so any thread may ask. The device's own commands
(DMA_READ, DMA_WRITE) are answered whenever they arrive, also in the middle of a request. Anything
that leaves the stream in doubt (a time-out, a wrong reply, a cut message) closes the connection.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .. import protocol
from ..errors import ProtocolError
from ..protocol import Header, MessageFlag

__all__ = ["Link", "Message"]

#: Answers a command of the device: payload of the reply, or ProtocolError with the errno to send.
Responder = Callable[[int, bytes], bytes]

_FD_ROOM = socket.CMSG_SPACE(253 * 4)  # SCM_MAX_FD: the kernel passes no more at once


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
        self.timeout = timeout
        self._respond = respond
        self._lock = threading.Lock()
        self._number = 0
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

    @property
    def closed(self) -> bool:
        """Whether this end is closed; a server that went away is noticed at the next message."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Close the connection; again is no error."""
        servant, self._servant = self._servant, None
        self._hang_up()
        if servant is not None and servant is not threading.current_thread():
            servant.join(self.timeout)
        self._socket.close()

    def _hang_up(self) -> None:
        # Wakes every thread of ours that waits for the socket, before its number can be reused.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # ---- requests

    def request(
        self, command: int, payload: bytes, fds: Sequence[int], no_reply: bool, about: str
    ) -> tuple[bytes, tuple[int, ...]]:
        """Send a command; return payload and fds of its reply, or nothing at once with ``no_reply``.

        Raises ProtocolError: refused (``code`` is the errno), timed out, or the server is gone.
        """
        self._take_turn(about)
        try:
            self._number = (self._number + 1) & 0xFFFF
            flags = MessageFlag.NO_REPLY if no_reply else 0
            self._send(protocol.pack_message(self._number, command, payload, flags), fds, about)
            if no_reply:
                return b"", ()
            reply = self._reply(self._number, command, about)
        finally:
            self._lock.release()
        if reply.header.flags & MessageFlag.ERROR:
            _close_all(reply.fds)
            code = reply.header.error
            raise ProtocolError(f"{about} was refused: {protocol.errno_name(code)}", code)
        return reply.payload, reply.fds

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are, for tests and experiments."""
        self._take_turn("raw bytes")
        try:
            self._send(data, fds, "raw bytes")
        finally:
            self._lock.release()

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message, whatever it is. Raises ProtocolError on time-out and at the end."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        self._take_turn("a message")
        try:
            return self._receive(deadline, "a message")
        finally:
            self._lock.release()

    # ---- the device's commands while nothing is asked

    def serve_in_background(self) -> None:
        """Answer the device's commands on a thread, from now until close()."""
        if self._servant is None:
            self._servant = threading.Thread(target=self._serve, name=f"guest of {self.path}", daemon=True)
            self._servant.start()

    def _serve(self) -> None:
        # Closing is an error here and the way out; the next request of the user reports it.
        with contextlib.suppress(ProtocolError, OSError, ValueError):
            while True:
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                poll.poll()
                with self._lock:  # a request in progress reads for itself
                    if self.closed:
                        return
                    if poll.poll(0):
                        message = self._receive(time.monotonic() + self.timeout, "a command")
                        self._answer_or_break(message)

    def _answer_or_break(self, message: Message) -> None:
        _close_all(message.fds)
        if message.header.flags & 0xF == MessageFlag.REPLY:
            raise self._broken(f"the server sent a reply that nobody asked for: id {message.header.id}")
        self._answer(message)

    # ---- below: the lock is held

    def _take_turn(self, about: str) -> None:
        if not self._lock.acquire(timeout=self.timeout):
            text = f"{about}: another request takes longer than {self.timeout} s"
            raise ProtocolError(text, errno.ETIMEDOUT)
        if self.closed:
            self._lock.release()
            raise ProtocolError(f"{about}: the connection is closed", errno.ENOTCONN)

    def _broken(self, text: str, code: int = 0) -> ProtocolError:
        # The servant may be the one who notices, so it cannot be joined here; it ends by itself.
        self._hang_up()
        self._socket.close()
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

    def _reply(self, number: int, command: int, about: str) -> Message:
        deadline = time.monotonic() + self.timeout
        while True:
            message = self._receive(deadline, about)
            header = message.header
            if header.flags & 0xF == MessageFlag.REPLY:
                break
            _close_all(message.fds)
            self._answer(message)
        if (header.id, header.command) == (number, command):
            return message
        _close_all(message.fds)
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
        fds: list[int] = []
        try:
            header = Header.unpack(self._exactly(protocol.HEADER.size, deadline, fds, about))
            if not protocol.HEADER.size <= header.size <= protocol.MAX_TRANSFER + 64:
                raise self._broken(f"{about}: the server sent a message of {header.size} bytes", errno.EPROTO)
            payload = self._exactly(header.size - protocol.HEADER.size, deadline, fds, about)
        except BaseException:
            _close_all(fds)
            raise
        return Message(header, payload, tuple(fds))

    def _exactly(self, size: int, deadline: float, fds: list[int], about: str) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._piece(size - len(data), deadline, fds, about)
            if not piece:
                raise self._broken(f"{about}: the server is gone (closed the connection)", errno.ECONNRESET)
            data += piece
        return bytes(data)

    def _piece(self, size: int, deadline: float, fds: list[int], about: str) -> bytes:
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-6))
            piece, control, flags, _ = self._socket.recvmsg(size, _FD_ROOM, socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            raise self._broken(f"{about}: no answer for {self.timeout} s", errno.ETIMEDOUT) from None
        except OSError as error:
            raise self._gone(about, error) from None
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.extend(memoryview(data[: len(data) & ~3]).cast("i"))
        if flags & socket.MSG_CTRUNC:
            raise self._broken(f"{about}: the server sent more file descriptors than fit", errno.EPROTO)
        return piece


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def respond_nothing(command: int, payload: bytes) -> bytes:
    """Refuse every command of the device, as a client without memory does."""
    raise ProtocolError("not implemented", errno.ENOSYS)
