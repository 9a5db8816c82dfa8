"""Doorbell: a register whose guest writes a client may signal by eventfd instead of a message."""

from typing import Any

from .mistakes import integer
from .registers import Register

__all__ = ["Doorbell"]


class Doorbell(Register):
    """A register that is rung: written to say "look at the queue". ``mode`` is "wo" unless said otherwise.

    A client that asks for it (GET_REGION_IO_FDS of vfio-user) gets an eventfd for each element and has its
    hypervisor signal that, which costs the guest no round trip; all others write by message as ever. Either
    way the write hook runs, as a write of the guest. An eventfd carries no data: with ``match`` only writes
    of that value are signalled, and the hook sees it; without, every write is and ``access.value`` is 0.
    Several signals that come before the hook ran are one write; the record is flagged "signalled".
    """

    signalled = True

    def __init__(
        self, offset: int, width: int = 32, mode: str = "wo", *, match: int | None = None, **rest: Any
    ) -> None:
        super().__init__(offset, width, mode, **rest)
        wrong: list[str] = []
        self.match = None if match is None else integer(match, "match", wrong)
        if self.match is not None and not wrong and self.match >> self.width:
            wrong.append(f"match {self.match:#x} does not fit {self.width} bits")
        self.problems += tuple(wrong)
