"""Many records as columns: an array a field, and the places they touch, numbered.

Ten million records are 640 MB. They are taken in pieces that fit the processor's cache, so each is read once
and neither sorted nor held twice.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from .records import RECORD, Names, Records, Touch

__all__ = ["PIECE", "Columns", "first_of"]

PIECE = 1 << 15  #: records: 2 MiB


class Columns:
    """The fields called ``names`` of at most ``room`` records, and with ``places`` what each one touches.

    ``column["time"]`` ... are contiguous arrays of the field's type; ``codes[n]`` is the number in
    ``touches`` of the place that record n touches.
    """

    def __init__(
        self, pieces: Iterable[Records], room: int, names: Iterable[str], places: Names | None = None
    ) -> None:
        self.column = {name: np.empty(room, RECORD[name]) for name in names}
        self.codes = np.empty(room if places else 0, np.int32)
        numbered = places.numbering() if places else None
        have = 0
        for piece in pieces:
            piece = piece[: room - have]
            here = slice(have, have + len(piece))
            for name, column in self.column.items():
                column[here] = piece[name]
            if numbered:
                self.codes[here] = numbered.codes(piece)
            have += len(piece)
        self.column = {name: column[:have] for name, column in self.column.items()}
        self.codes = self.codes[:have]
        self.touches: list[Touch] = numbered.touches if numbered else []
        self._count = have

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> npt.NDArray[np.unsignedinteger]:
        return self.column[name]

    def keep(self, chosen: npt.NDArray[np.generic]) -> None:
        """Keep the records chosen by a mask, or by their numbers in a new order."""
        self.column = {name: column[chosen] for name, column in self.column.items()}
        self.codes = self.codes[chosen] if len(self.codes) else self.codes
        self._count = int(np.count_nonzero(chosen)) if chosen.dtype == bool else len(chosen)

    def by_time(self) -> None:
        """Put the records in the order in which things began; hooks' own come before what called them."""
        times = self.column["time"]
        if (times[1:] < times[:-1]).any():
            self.keep(np.argsort(times, kind="stable"))


def first_of(codes: npt.NDArray[np.integer], count: int) -> npt.NDArray[np.intp]:
    """Return for each of the numbers 0 to ``count`` - 1 where it first stands in ``codes``, or -1."""
    first = np.full(count, -1, np.intp)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of equal ones the last is stored: the first
    return first
