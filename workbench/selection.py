"""What a log's filter means: the words, times and registers it is given, as tests of records.

A register may be a name, a description (``Card.bar0.CTRL``), or a bound register, element, field or
block of a device, which are known by their names.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .records import Names, Record, Records, Touch
from .registers import Block, Field, Register

__all__ = ["codes_of", "fitting", "moment_of", "newest_seconds", "touching"]


def codes_of(wanted: str | Iterable[str], table: Mapping[int, str], what: str) -> list[int]:
    """Return the numbers of names in a table such as KINDS. Raises ValueError for a name it has not."""
    words = [wanted] if isinstance(wanted, str) else list(wanted)
    unknown = [word for word in words if word not in table.values()]
    if unknown:
        known = ", ".join(table.values())
        raise ValueError(f"no {what} is called {', '.join(map(repr, unknown))}; there are {known}")
    return [number for number, name in table.items() if name in words]


def moment_of(moment: int | Record) -> int:
    """Return the ns of a time or of a record's time, never below 0."""
    return moment.time if isinstance(moment, Record) else max(0, int(moment))


def newest_seconds(times: npt.NDArray[np.uint64], last: float) -> npt.NDArray[np.bool_]:
    """Return which times are at most ``last`` seconds before the newest. Raises ValueError below 0."""
    if not last >= 0:
        raise ValueError(f"last is how many seconds before the newest record, not {last!r}")
    newest = int(times.max()) if len(times) else 0
    earliest = newest - int(last * 1e9) if last * 1e9 < newest else 0
    return np.asarray(times >= np.uint64(earliest))


def touching(records: Records, names: Names, wanted: Any) -> npt.NDArray[np.bool_]:
    """Return which records touch one of the registers: names, descriptions or bound registers.

    Raises ValueError for a name that no record can have, TypeError for what is no register.
    """
    codes, touches = names.table(records)
    return fitting(touches, names, wanted)[codes]


def fitting(touches: Iterable[Touch], names: Names, wanted: Any) -> npt.NDArray[np.bool_]:
    """Return which places are, or have, one of the registers; raises as ``touching`` does."""
    chosen = [_place(one) for one in (wanted if _several(wanted) else [wanted])]
    words = {one for one in chosen if isinstance(one, str)}
    for word in words:
        names.check(word)
    described = [one for one in chosen if isinstance(one, Register)]
    fits = [
        bool(words & touch.names) or any(found.register in described for found in touch.located)
        for touch in touches
    ]
    return np.array(fits, dtype=bool)


def _several(wanted: Any) -> bool:
    # Blocks and arrays of a device can be iterated over, but each is one thing to ask for.
    return isinstance(wanted, Iterable) and not isinstance(wanted, str) and not hasattr(wanted, "description")


def _place(wanted: Any) -> str | Register:
    """Return the name by which records know it or, for a register's description, itself."""
    description = getattr(wanted, "description", wanted)
    if isinstance(description, Field) and wanted is not description:
        return _place(wanted.register)
    if isinstance(wanted, str | Register):
        return wanted
    if isinstance(description, Register):
        return str(wanted.name)
    block = getattr(description, "block", description)  # of a Bar
    if isinstance(block, Block):
        return block.name
    raise TypeError(f"a register is a name, dev.bar0.CTRL, dev.bar0 or several of them, not {wanted!r}")
