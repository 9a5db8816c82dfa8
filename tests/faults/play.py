"""Say to a device what a recorded client said, whole or in parts; and, run as a program, be that client.

``play.py SOCKET RECORDING BYTES`` says the first BYTES of it, prints a line and waits to be killed.
"""

import fcntl
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from recording import Recording, Said

__all__ = ["Player", "fds_of", "message", "player"]

DMA_MAP, GET_INFO, DMA_READ, DMA_WRITE = 2, 4, 11, 12  # commands
REPLY, ERROR = 1, 0x20  # flags
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
GONE = (BrokenPipeError, ConnectionResetError)


def memory_of(recording: Recording) -> int:
    """Return how large a file has to be for every DMA_MAP of a recording."""
    ends = [0]
    for said in recording.said:
        if said.command == DMA_MAP and said.nfds:
            offset, _, size = struct.unpack_from("<QQQ", said.data, 24)
            ends.append(offset + size)
    return max(ends)


class Player:
    """A client's end of the socket at ``path``, with guest memory and eventfds to send along."""

    def __init__(self, path: str, memory: int, events: Sequence[int]) -> None:
        self.memory, self.events = memory, events
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(path)

    def fds_of(self, said: Said) -> list[int]:
        """Return descriptors as the client sent them: a memory file, or an eventfd for each vector."""
        return [self.memory] * said.nfds if said.command == DMA_MAP else list(self.events[: said.nfds])

    def say(self, said: Said, most: int | None = None) -> None:
        """Send a message, or its first ``most`` bytes."""
        self.send(said.data[:most], self.fds_of(said))

    def say_all(
        self, messages: Sequence[Said], fds: Mapping[int, Sequence[int]] = MappingProxyType({})
    ) -> None:
        """Send messages, some with other descriptors than theirs; those that need none go together."""
        waiting = b""
        for place, said in enumerate(messages):
            mine = fds.get(place, self.fds_of(said))
            if mine:
                self.send(waiting)
                self.send(said.data, mine)
                waiting = b""
            else:
                waiting += said.data
        self.send(waiting)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes; it is no error that nobody listens any more."""
        with suppress(*GONE):
            if data:
                sent = socket.send_fds(self.socket, [data], list(fds))
                self.socket.sendall(data[sent:])

    def say_bytes(self, recording: Recording, most: int) -> None:
        """Send the first ``most`` bytes of a recording."""
        messages = []
        for said in recording.said:
            if most > 0:
                messages.append(replace(said, data=said.data[:most]))
            most -= len(said.data)
        self.say_all(messages)

    def sync(self) -> None:
        """Wait until all that was said is done: one more question tells, by its answer."""
        self.say(message(GET_INFO, struct.pack("<4I", 16, 0, 0, 0), number=0xFFFF))
        if not any(answer[:2] == (0xFFFF, GET_INFO) for answer in self._answers()):
            raise ConnectionResetError("the server is gone")

    def hear_out(self) -> list[tuple[int, int, int, int]]:
        """End our side; return (id, command, flags, errno) of every answer up to the end."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return list(self._answers())

    def talk(
        self, messages: Sequence[Said], fds: Mapping[int, Sequence[int]] = MappingProxyType({})
    ) -> list[tuple[int, int, int, int]]:
        """Say it all while another thread hears, as many answers would fill the socket; as ``hear_out()``."""
        answers: list[tuple[int, int, int, int]] = []
        hearing = threading.Thread(target=lambda: answers.extend(self._answers()))
        hearing.start()
        self.say_all(messages, fds)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        hearing.join()
        return answers

    def _answers(self) -> Iterator[tuple[int, int, int, int]]:
        while head := self._exactly(16):
            number, command, size, flags, error = struct.unpack("<HHIII", head)
            assert len(self._exactly(size - 16)) == size - 16
            if flags & 0xF != REPLY:  # of memory that came without a file
                assert command in (DMA_READ, DMA_WRITE)
                continue
            assert bool(flags & ERROR) == bool(error)
            yield number, command, flags, error

    def _exactly(self, size: int) -> bytes:
        data = b""
        with suppress(*GONE):
            while len(data) < size:
                piece, fds, _, _ = socket.recv_fds(self.socket, size - len(data), 32)
                for fd in fds:
                    os.close(fd)
                if not piece:
                    break
                data += piece
        return data

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def message(command: int, payload: bytes = b"", nfds: int = 0, number: int = 1) -> Said:
    """Return a message to say."""
    return Said.of(struct.pack("<HHIII", number, command, 16 + len(payload), 0, 0) + payload, nfds)


@contextmanager
def fds_of(recording: Recording, sealed: bool) -> Iterator[tuple[int, list[int]]]:
    """Make a memory file, sealed as QEMU's or not, and sixteen eventfds."""
    with ExitStack() as stack:
        memory = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        stack.callback(os.close, memory)
        os.ftruncate(memory, memory_of(recording))
        if sealed:
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        events = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(16)]
        for event in events:
            stack.callback(os.close, event)
        yield memory, events


Make = Callable[[], Player]


@contextmanager
def player(path: Callable[[], str], recording: Recording, sealed: bool = True) -> Iterator[Make]:
    """Give a function that makes players, one after another, on the socket that ``path()`` names."""
    with fds_of(recording, sealed) as (memory, events):
        yield lambda: Player(path(), memory, events)


def main() -> None:
    recording = Recording.load(Path(sys.argv[2]))
    with fds_of(recording, sealed=True) as (memory, events):
        Player(sys.argv[1], memory, events).say_bytes(recording, int(sys.argv[3]))
        print("said", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
