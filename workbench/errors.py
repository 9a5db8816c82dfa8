"""Every exception of the package; each says whose fault it is.

::

    WorkbenchError
    ├─ DescriptionError (ValueError)    a device is described wrongly; lists every mistake at once
    ├─ CompileError (ValueError)        the C, or the numba, of a native hook does not compile
    ├─ StateError (RuntimeError)        a call does not fit the state: closed, already serving ...
    ├─ SnapshotError (ValueError)       bytes or a file are no snapshot, damaged, or too large
    ├─ ProtocolError (ConnectionError)  a vfio-user peer broke the protocol or refused a message
    ├─ DmaError (OSError)               guest memory cannot be reached at that address
    ├─ HookError (RuntimeError)         a hook raised; its own exception is the cause
    └─ VmError (RuntimeError)           QEMU or the guest failed; carries the console's tail

A guest's mistake never raises in a cell: it becomes an error reply and a log record.
"""

import errno
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "DMA_REASONS",
    "CompileError",
    "DescriptionError",
    "DmaError",
    "HookError",
    "Problem",
    "ProtocolError",
    "SnapshotError",
    "StateError",
    "VmError",
    "WorkbenchError",
]


class WorkbenchError(Exception):
    """Base of every error that the package raises on purpose."""


class DescriptionError(WorkbenchError, ValueError):
    """A device description is wrong. ``problems`` lists every mistake found, one line each."""

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([f"{subject} is described wrongly:", *self.problems]))

    def __reduce__(self) -> tuple[type["DescriptionError"], tuple[object, ...]]:
        return type(self), (self.subject, self.problems)


class Problem(NamedTuple):
    """What a compiler complains about: where, in which column (0: it does not say), and the line's text."""

    place: str  #: "In[5]" or "file.py"
    line: int
    column: int
    message: str
    text: str

    def __str__(self) -> str:
        lines = [f"{self.place}:{self.line}: {self.message}"]
        if self.text:
            lines.append(f"    {self.text}")
        if self.text and self.column:
            before = "".join("\t" if letter == "\t" else " " for letter in self.text[: self.column - 1])
            lines.append(f"    {before}^")
        return "\n".join(lines)


class CompileError(WorkbenchError, ValueError):
    """The source of a native hook does not compile. ``problems`` lists what the compiler complains about.

    A notebook shows it as it does a SyntaxError: the line of the cell and the complaint, no traceback.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type["CompileError"], tuple[object]]:
        return type(self), (self.problems,)

    def _render_traceback_(self) -> list[str]:
        """Say what IPython shows."""
        return [f"{type(self).__name__}: the native hook does not compile", *str(self).splitlines()]


class StateError(WorkbenchError, RuntimeError):
    """The call does not fit the present state; the message names both."""


class SnapshotError(WorkbenchError, ValueError):
    """Bytes or a file are no snapshot that can be read; the message says what is wrong with them."""


class ProtocolError(WorkbenchError, ConnectionError):
    """The peer broke the vfio-user protocol or answered with an error; ``code`` is its errno or 0."""

    def __init__(self, message: str, code: int = 0) -> None:
        self.code = code
        super().__init__(message)


class DmaError(WorkbenchError, OSError):
    """Guest memory cannot be reached: not mapped, read-only, bus master is off, or no answer; see errno."""


#: Why guest memory cannot be reached, by the engine's errno: in a line of the log, and at length.
DMA_REASONS = {
    errno.EACCES: ("bus master is off", "the guest has not enabled bus mastering (COMMAND bit 2)"),
    errno.EHOSTDOWN: ("asleep", "the guest put the function to sleep (PMCSR: D1 to D3hot)"),
    errno.EFAULT: ("not mapped", "the guest has mapped no memory there"),
    errno.EPERM: ("mapped read-only", "the guest mapped that range read-only"),
    errno.ENXIO: (
        "reached by messages",
        "the guest shared no file for that range: a display does not ask for it by messages, "
        "dev.dma.read() does",
    ),
    errno.EIO: (
        "its file was truncated",
        "the file behind it was truncated by its owner",
    ),
    errno.EDEADLK: (
        "needs messages, in a hook",
        "that range is reached by messages, which the guest cannot answer while it waits for this hook: "
        "do it in dev.defer(fn), which runs after the hook, or share the memory "
        "(-object memory-backend-memfd,share=on; see dev.qemu_args())",
    ),
    errno.ETIMEDOUT: (
        "no answer",
        "the guest has not answered in time (dev.dma.timeout): it may itself wait for a hook or be paused",
    ),
    errno.EREMOTEIO: (
        "refused by the client",
        "the client refused: QEMU does so outside of RAM, and when bus mastering is off",
    ),
    errno.EPROTO: ("malformed answer", "the client's answer does not fit the question"),
    errno.ENOTCONN: ("no client", "no client is attached that could be asked"),
    errno.ESHUTDOWN: ("stopped by the client", "the client has stopped the device, to migrate it"),
    errno.ECONNRESET: ("the client left", "the client went away instead of answering"),
    errno.EOPNOTSUPP: (
        "its file refuses",
        "the file behind it refuses that: one that is sealed, or opened to be read, takes no writes",
    ),
}


class HookError(WorkbenchError, RuntimeError):
    """A hook raised while the guest (or a cell) touched its register; see ``__cause__``."""


class VmError(WorkbenchError, RuntimeError):
    """QEMU or the guest failed: did not start, did not boot in time, or died."""
