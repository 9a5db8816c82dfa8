"""The guest's serial console: a socket pair to QEMU, read by a thread, kept as text; and files in memory.

What the guest prints is read at once, whoever looks at it, because QEMU drops what nobody takes. The last
4 MB are kept; positions count characters since the start, so they stay valid when the oldest are dropped.
"""

import codecs
import contextlib
import os
import socket
import threading
import time

#: Characters kept of a console; the oldest go first.
KEPT = 4 << 20
#: Bytes that may wait for a reader: a thread that computes keeps ours from reading for a while.
ROOM = 1 << 20
#: "Where is the cursor?", which busybox's shell asks before each line: no part of the text.
ASKED = "\x1b[6n"


class Capture:
    """A file in memory that a child process writes and we read. ``path`` is how the child names it."""

    def __init__(self, name: str) -> None:
        self.fd = os.memfd_create(f"wb-{name}")
        self.path = f"/dev/fd/{self.fd}"

    def text(self) -> str:
        """Return what was written so far as text, line ends and undecodable bytes made harmless."""
        data = b"" if self.fd < 0 else os.pread(self.fd, os.fstat(self.fd).st_size, 0)
        return data.decode(errors="replace").replace("\r\n", "\n").replace("\0", "")

    def write(self, data: bytes) -> None:
        """Append ``data``: for files that the child reads."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def close(self) -> None:
        """Give the memory back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Transcript:
    """Text that grows at its end and is forgotten at its beginning; any thread may read it."""

    def __init__(self, kept: int = KEPT) -> None:
        self.ended = False
        self._kept, self._dropped = kept, 0
        self._text = ""
        self._new: list[str] = []  # joined when somebody looks, so that adding costs no copy
        self._waiting = 0
        self._changed = threading.Condition()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._carry = ""

    def add(self, data: bytes) -> None:
        """Append what arrived; no bytes mean the end. Line ends become one character."""
        text = self._carry + self._decode(data, not data)
        self._carry = _half(text) if data else ""
        text = text[: len(text) - len(self._carry)]
        text = text.replace("\r\n", "\n").replace("\0", "").replace(ASKED, "")
        with self._changed:
            self._new.append(text)
            self._waiting += len(text)
            self.ended = not data
            if self._waiting > self._kept:
                self._join()
            self._changed.notify_all()

    def _join(self) -> str:
        text = self._text + "".join(self._new)
        self._new, self._waiting = [], 0
        self._text = text[-self._kept :]
        self._dropped += len(text) - len(self._text)
        return self._text

    def text(self) -> str:
        """Return what is kept."""
        with self._changed:
            return self._join()

    def since(self, position: int) -> tuple[int, str]:
        """Return the position of the end, and the text from ``position`` on as far as it is kept."""
        with self._changed:
            text = self._join()
            return self._dropped + len(text), text[max(0, position - self._dropped) :]

    def wait(self, wanted: str, timeout: float, since: int) -> str | None:
        """Wait for ``wanted`` after ``since``; return the text up to its end, None at the end or time-out."""
        deadline, seen, found = time.monotonic() + timeout, since, -1
        with self._changed:
            while True:
                text = self._join()
                found = text.find(wanted, max(0, seen - self._dropped))
                if found >= 0:
                    return text[max(0, since - self._dropped) : found + len(wanted)]
                seen = max(since, self._dropped + len(text) - len(wanted) + 1)
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    return None
                self._changed.wait(left)


def _half(text: str) -> str:
    """Return the end of ``text`` that may be the beginning of a line end or of what is left out."""
    return next((part for part in (ASKED[:3], ASKED[:2], ASKED[0], "\r") if text.endswith(part)), "")


class Console:
    """Our end of the first serial port. QEMU has ``far``, which is closed here once QEMU runs."""

    def __init__(self) -> None:
        self._sock, self.far = socket.socketpair()
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        self.log = Transcript()
        self._thread = threading.Thread(
            target=_read, args=(self._sock, self.log), name="wb-console", daemon=True
        )
        self._thread.start()

    def send(self, data: bytes) -> int:
        """Send input as far as there is room for it; return how many bytes went."""
        try:
            return self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """End; what QEMU wrote before it ended is read first."""
        self.far.close()
        self._thread.join(2)
        with contextlib.suppress(OSError):  # not connected any more, as it should be
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def _read(sock: socket.socket, log: Transcript) -> None:
    while not log.ended:
        try:
            log.add(sock.recv(1 << 16))
        except OSError:
            log.add(b"")
