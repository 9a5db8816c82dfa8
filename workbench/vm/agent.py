"""The command agent behind the guest's second serial port: our end of a socket pair.

See ``guest/agent.sh`` for the few lines that travel on it.
"""

import base64
import select
import socket
import time
from collections.abc import Callable

#: Bytes of base64 in one line to the agent, well below the 4096 that a terminal line of Linux holds.
CHUNK = 2400


class Hung(Exception):
    """The agent did not say the next thing in time."""


class Gone(Exception):
    """QEMU closed the port: it ended."""


class Restarted(Exception):
    """The agent began anew while it owed an answer: the guest rebooted."""


class Agent:
    """Our end of the second serial port."""

    def __init__(self) -> None:
        self.sock, self.far = socket.socketpair()
        self.failed_modules: list[str] = []
        self.boots = 0  #: how often the guest came up
        self._buffer = bytearray()
        self._number = 0
        self._owed = 0

    def close(self) -> None:
        """Close both ends that are ours."""
        self.sock.close()
        self.far.close()

    def _fill(self, deadline: float) -> None:
        """Read more from the port; raise `Hung` at ``deadline`` (monotonic seconds)."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            raise Hung
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            raise Gone
        self._buffer += data

    def _line(self, deadline: float) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(deadline)
        line = self._buffer[:end].decode(errors="replace")
        del self._buffer[: end + 1]
        return line

    def _bytes(self, count: int, deadline: float) -> bytes:
        while len(self._buffer) < count:
            self._fill(deadline)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _send(self, line: str) -> None:
        try:
            self.sock.sendall(line.encode() + b"\n")
        except OSError as error:
            raise Gone from error

    def wait_ready(self, deadline: float, tell: Callable[[str], object], check: Callable[[], object]) -> None:
        """Wait for the agent after a boot; ``tell`` hears the steps, ``check`` is called often, may raise."""
        self.failed_modules = []
        while True:
            try:
                line = self._line(min(deadline, time.monotonic() + 0.2))
            except Hung:
                if time.monotonic() >= deadline:
                    raise
                check()
                continue
            self._owed = 0
            if line.startswith("! "):
                self.failed_modules.append(line[2:])
            elif line.startswith("= ready"):
                self.boots += 1
                return
            elif line.startswith(": "):
                tell(line[2:])

    def _answer(self, mark: str, deadline: float) -> str:
        """Return the next line that starts with ``mark``; late answers to earlier commands are skipped."""
        while True:
            line = self._line(deadline)
            if line.startswith("= ready"):
                self.boots += 1
                raise Restarted
            if line.startswith(". "):
                number, _, out, err = map(int, line[2:].split())
                if mark != f". {number} ":
                    self._bytes(out + err, deadline)
                    continue
            if line.startswith(mark):
                return line

    def run(self, command: bytes, seconds: float, grace: float) -> tuple[int, bytes, bytes, float]:
        """Run ``command`` in the guest's shell; return status, output, errors and the seconds it took.

        The agent kills it after ``seconds``. Raises `Hung` when nothing is heard for ``grace`` seconds more.
        """
        limit = max(1, -int(-seconds // 1))
        text = base64.b64encode(command).decode()
        deadline = time.monotonic() + grace + self._owed
        for start in range(0, len(text), CHUNK):
            self._send("w " + text[start : start + CHUNK])
            self._answer("+", deadline)
        self._number += 1
        started = time.monotonic()
        self._send(f"r {self._number} {limit}")
        deadline, self._owed = started + limit + grace, limit
        _, _, status, out, err = self._answer(f". {self._number} ", deadline).split()
        took, self._owed = time.monotonic() - started, 0
        deadline += (int(out) + int(err)) / 50_000  # a serial port in software moves 100 kB/s or more
        return int(status), self._bytes(int(out), deadline), self._bytes(int(err), deadline), took

    def order(self, verb: str) -> None:
        """Send a command that has no answer: ``b`` reboots, ``p`` powers off."""
        self._send(verb)
