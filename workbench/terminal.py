"""A live view of a device's log for a terminal: one line a record, state, rate and drops in a line below.

Where the output is no terminal it is plain lines: every record, and a line when the state changes. A
terminal that cannot keep up is shown the newest records, and how many were left out; none is lost in the
log by that.
"""

import logging
import shutil
import time
from collections.abc import Iterable
from typing import TextIO

from .device import Device
from .log import LogView

__all__ = ["Terminal"]

NEWEST = 40  # records a step, at most, on a terminal
PACE = 0.1  # seconds between two steps on a terminal
CHUNK = 4096  # records a step, at most, elsewhere
CLEAR, REVERSE, PLAIN = "\r\x1b[K", "\x1b[7m", "\x1b[0m"


class Terminal(logging.Handler):
    """Shows one device on ``out``. It is also a logging handler, so that what hooks raised is shown in place.

    ``trace=True`` shows the vfio-user messages too, and takes them out of ``dev.server.trace``.
    """

    def __init__(self, device: Device, out: TextIO, *, trace: bool = False) -> None:
        super().__init__()
        self.device = device
        self.out = out
        self._live = out.isatty()
        self._trace = trace
        self._seen = device.log.first
        self._state = ""
        self._told: list[str] = []
        self._rates = [(time.monotonic(), device.log.total)]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of the device's logger for the next step; called on the server's thread."""
        self._told.append(self.format(record).rstrip())

    def say(self, text: str) -> None:
        """Show a text of one or more lines with the next step."""
        self._told.append(text)

    def step(self, timeout: float = 0.25) -> None:
        """Wait up to so many seconds for something new, and show it. Raises OSError when nobody listens."""
        begun = time.monotonic()
        try:
            self.device.log.wait(since=self._seen, timeout=timeout)
        except TimeoutError:
            pass
        else:
            if self._live:
                time.sleep(max(0.0, begun + PACE - time.monotonic()))
        self._show([*self._changed(), *self._lines(), *self._taken()])

    def end(self) -> None:
        """Show what is left, and leave the line below standing."""
        end = self.device.log.first + self.device.log.total
        self._show([*self._lines(), *self._taken()])
        while self._seen < end:
            self._show(self._lines())
        self.out.write("\n" if self._live else f"{self.header()}\n")
        self.out.flush()

    def header(self) -> str:
        """Return state, client, rate, and the counts of the log in a line."""
        server, log = self.device.server, self.device.log
        standing = server.standing if server is not None else "not served"
        return f"{self.device.name}: {standing}, {self._rate():,.0f} records/s, {log.summary()}"

    def _show(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            text = f"{CLEAR}{text}{REVERSE}{self.header()[:width]}{PLAIN}"
        if text:
            self.out.write(text)
            self.out.flush()

    def _changed(self) -> list[str]:
        """Return the header when the state changed, where it does not stand below anyway."""
        server = self.device.server
        state = server.standing if server is not None else ""
        if self._live or state == self._state:
            return []
        self._state = state
        return [f"-- {self.header()}"]

    def _lines(self) -> list[str]:
        """Return the records since the last step, wire messages between them, in order of time."""
        log = self.device.log
        end = log.first + log.total
        begin = max(self._seen, end - NEWEST) if self._live else self._seen
        records = log.since(begin, NEWEST if self._live else CHUNK)
        rows = [(record.time, str(record)) for record in LogView(records, log.names, log.epoch)]
        first = int(records["seq"][0]) if len(records) else begin
        missed, self._seen = first - self._seen, first + len(records)
        lost = [f"... {missed:,} records not shown"] if missed else []
        return lost + [text for _, text in sorted(rows + self._wire(), key=lambda row: row[0])]

    def _wire(self) -> list[tuple[int, str]]:
        server = self.device.server
        if not self._trace or server is None:
            return []
        epoch = self.device.log.epoch
        return [
            (at, f"{max(0, at - (epoch or at)) / 1e6:>12.6f} ms  wire      {message}")
            for at, message in server.trace.take()
        ]

    def _taken(self) -> list[str]:
        return [self._told.pop(0) for _ in range(len(self._told))]  # other threads add to it meanwhile

    def _rate(self) -> float:
        """Return records a second over about the last second."""
        now, total = time.monotonic(), self.device.log.total
        self._rates = [*(pair for pair in self._rates[-50:] if now - pair[0] < 1.5), (now, total)]
        before, then = self._rates[0]
        return (total - then) / (now - before) if now > before else 0.0
