"""A hand-written vfio-user server that misbehaves on order, for the client's tests.

It answers the start of a conversation like a small device and takes over when ``on`` names a command:
the function gets (server, header, payload, fds) and sends whatever it likes.
"""

import os
import socket
import threading
from collections.abc import Callable

from workbench import protocol
from workbench.protocol import Command, Header

Misbehave = Callable[["FakeServer", Header, bytes, list[int]], None]

SIZES = {0: 4096, 7: 256}


class FakeServer:
    """Serves one client on ``path`` on its own thread; ``on`` maps a command to what to do instead."""

    def __init__(
        self, path: str, on: dict[int, Misbehave] | None = None, capabilities: dict | None = None
    ) -> None:
        self.path, self.on = path, on or {}
        usual = {"max_msg_fds": 16, "write_multiple": True}
        self.capabilities = usual if capabilities is None else capabilities
        self.config = bytearray(256)
        self.config[:4] = bytes.fromhex("34120b11")
        self.seen: list[Header] = []
        self.error: BaseException | None = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self._run, name="fake server")
        self.thread.start()

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_) -> None:
        self.listener.close()
        if not self.thread.join(5) and hasattr(self, "socket"):
            self.socket.close()
        os.unlink(self.path)
        if self.error:
            raise self.error

    def _run(self) -> None:
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(5)
        try:
            with self.socket:
                while self._one():
                    pass
        except OSError:
            pass  # the client has gone, which some tests are about
        except BaseException as error:
            self.error = error

    def _one(self) -> bool:
        message = self.receive()
        if message is None:
            return False
        header, payload, fds = message
        self.seen.append(header)
        try:
            answer = self.on.get(header.command)
            if answer:
                answer(self, header, payload, fds)
            else:
                self.reply(header, self.payload_for(header.command, payload))
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def receive(self) -> tuple[Header, bytes, list[int]] | None:
        data, fds, _, _ = socket.recv_fds(self.socket, 16, 16)
        if not data:
            return None
        header = Header.unpack(data)
        payload = b""
        while len(payload) < header.size - 16:
            piece = self.socket.recv(header.size - 16 - len(payload))
            if not piece:
                return None
            payload += piece
        return header, payload, fds

    def reply(self, header: Header, payload: bytes = b"", fds=(), **changed) -> None:
        """Send the reply; ``changed`` replaces id, command, flags or error."""
        values = {"id": header.id, "command": header.command, "flags": 1, "error": 0} | changed
        number = values.pop("id")
        message = protocol.pack_message(number, payload=payload, **values)
        socket.send_fds(self.socket, [message], list(fds))

    def payload_for(self, command: int, payload: bytes) -> bytes:
        if command == Command.VERSION:
            return protocol.pack_version(0, self.capabilities)
        if command == Command.DEVICE_GET_INFO:
            return protocol.DEVICE_INFO.pack(16, 3, 9, 5)
        if command == Command.DEVICE_GET_REGION_INFO:
            index = protocol.REGION_INFO.unpack(payload)[2]
            return protocol.REGION_INFO.pack(32, 3, index, 0, SIZES.get(index, 0), 0)
        if command == Command.DEVICE_GET_IRQ_INFO:
            index = protocol.IRQ_INFO.unpack(payload)[2]
            return protocol.IRQ_INFO.pack(16, 1, index, 3 if index < 3 else 0)
        if command == Command.REGION_READ:
            offset, _, count = protocol.REGION_ACCESS.unpack(payload)
            return payload + bytes(self.config[offset : offset + count])
        if command == Command.REGION_WRITE:
            return payload[:16]
        return payload[:24] if command == Command.DMA_UNMAP else b""
