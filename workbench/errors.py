"""Every exception of the package; each says whose fault it is.

::

    WorkbenchError
    ├─ DescriptionError (ValueError)    a device is described wrongly; lists every mistake at once
    ├─ StateError (RuntimeError)        a call does not fit the state: closed, already serving ...
    ├─ ProtocolError (ConnectionError)  a vfio-user peer broke the protocol or refused a message
    ├─ DmaError (OSError)               guest memory cannot be reached at that address
    ├─ HookError (RuntimeError)         a hook raised; its own exception is the cause
    └─ VmError (RuntimeError)           QEMU or the guest failed; carries the console's tail

A guest's mistake never raises in a cell: it becomes an error reply and a log record.
"""

import errno
from collections.abc import Sequence

__all__ = [
    "DMA_REASONS",
    "DescriptionError",
    "DmaError",
    "HookError",
    "ProtocolError",
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


class StateError(WorkbenchError, RuntimeError):
    """The call does not fit the present state; the message names both."""


class ProtocolError(WorkbenchError, ConnectionError):
    """The peer broke the vfio-user protocol or answered with an error; ``code`` is its errno or 0."""

    def __init__(self, message: str, code: int = 0) -> None:
        self.code = code
        super().__init__(message)


class DmaError(WorkbenchError, OSError):
    """Guest memory cannot be reached: not mapped, read-only, without a file, or bus master is off."""


#: Why guest memory cannot be reached, by the engine's errno: in a line of the log, and at length.
DMA_REASONS = {
    errno.EACCES: ("bus master is off", "the guest has not enabled bus mastering (COMMAND bit 2)"),
    errno.EFAULT: ("not mapped", "the guest has mapped no memory there"),
    errno.EPERM: ("mapped read-only", "the guest mapped that range read-only"),
    errno.ENXIO: (
        "mapped without a file",
        "that range came without a file descriptor: start QEMU with shared memory "
        "(-object memory-backend-memfd,share=on; see dev.qemu_args())",
    ),
    errno.EIO: ("its file was truncated", "the file behind it was truncated by its owner"),
    errno.EOPNOTSUPP: (
        "its file refuses",
        "the file behind it refuses that: one that is sealed, or of huge pages (hugetlb=on), takes no writes",
    ),
}


class HookError(WorkbenchError, RuntimeError):
    """A hook raised while the guest (or a cell) touched its register; see ``__cause__``."""


class VmError(WorkbenchError, RuntimeError):
    """QEMU or the guest failed: did not start, did not boot in time, or died."""
