"""Does the guest see the memory files it handed over? ``dev.dma.check()`` compares file and guest.

QEMU sends a file descriptor for private memory too (``share=off``), though what the guest writes
never reaches the file. A few bytes read from the file and asked for by DMA_READ tell the difference.
"""

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable

from .errors import DmaError

__all__ = ["PRIVATE", "Sharing", "differs", "in_time"]

#: What to say about memory that the guest keeps to itself.
PRIVATE = (
    "guest memory is private to QEMU, its file has other bytes than the guest sees: start QEMU with shared "
    "memory (-object memory-backend-memfd,share=on; see dev.qemu_args())"
)

SAMPLE = 4096  # bytes compared at a place
PLACES = 32  # of a range
TRIES = 3  # at a place: the guest may write between two looks
LONGEST = 3.0  # seconds, in which the last question is asked

Reader = Callable[[int, int], bytes]


def in_time(ask: Reader, seconds: float = LONGEST, clock: Callable[[], float] = time.monotonic) -> Reader:
    """Return ``ask`` that raises DmaError (ETIMEDOUT) once ``seconds`` have passed, however quick it is.

    A client may have 65,535 ranges, and answer each of some hundred questions about each just in time.
    """
    until = clock() + seconds

    def asked(iova: int, size: int) -> bytes:
        if clock() > until:
            raise DmaError(errno.ETIMEDOUT, f"the guest took {seconds:g} s to show what memory it shares")
        return ask(iova, size)

    return asked


def differs(iova: int, size: int, look: Reader, ask: Reader) -> bool | None:
    """Compare a range as its file has it (``look``) with what the client says (``ask``).

    None: wherever we looked, there were zeros only, or bytes that changed all the time.
    """
    step = max(size // PLACES // SAMPLE, 1) * SAMPLE
    for at in range(iova, iova + size, step):
        for _ in range(TRIES):
            before, told, after = look(at, SAMPLE), ask(at, SAMPLE), look(at, SAMPLE)
            if told in (before, after):
                if any(told):
                    return False
                break
        else:
            if before == after:
                return True
    return None


class Sharing:
    """Asks once in a conversation with a QEMU whether its memory is shared, at the first copy.

    ``check`` does the comparison; in a hook it cannot, and a short-lived thread does it afterwards.
    """

    def __init__(self, check: Callable[[], Iterable[object]]) -> None:
        self._check = check
        self._doubt = False
        self.logger: logging.Logger | None = None

    def begin(self, client: str | None) -> None:
        """A conversation begins. Other clients than QEMU may not answer DMA_READ: they are not asked."""
        self._doubt = client is not None and "qemu" in client

    @property
    def doubtful(self) -> bool:
        """Whether nobody has looked yet."""
        return self._doubt

    def look(self) -> None:
        """Compare now, or soon if the calling thread is the one that takes the answers."""
        try:
            self._report()
        except DmaError as error:
            if error.errno == errno.EDEADLK:
                threading.Thread(target=self._report_later, name="workbench sharing", daemon=True).start()
            elif error.errno == errno.EACCES:
                return  # bus mastering is off: at another copy
        self._doubt = False

    def _report(self) -> None:
        if any(True for _ in self._check()) and self.logger is not None:
            self.logger.warning("%s. Until then every copy asks QEMU", PRIVATE)

    def _report_later(self) -> None:
        with contextlib.suppress(DmaError):  # the client does not answer, or is gone: a copy will say so
            self._report()
