"""What a log's filter means: the words, times and registers it is given, as tests of records.

A register may be a name, a description (``Card.bar0.CTRL``), or a bound register, element, field or
block of a device, which are known by their names.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .mistakes import shown
from .records import Names, Record, Records, Touch
from .registers import Block, Field, Register

__all__ = [
    "codes_of", "fitting", "flag_of", "moment_of", "newest_seconds", "seconds_of", "sequence_of", "touching",
]  # fmt: skip


def codes_of(wanted: object, table: Mapping[int, str], what: str) -> list[int]:
    """Return the numbers of names in a table such as KINDS.

    Raises ValueError for a name it has not, TypeError for what is neither a name nor several.
    """
    known = ", ".join(table.values())
    if not isinstance(wanted, Iterable) or isinstance(wanted, bytes):
        raise TypeError(f"{what} is a name or several of {known}; not {shown(wanted)}")
    words = [wanted] if isinstance(wanted, str) else list(wanted)
    unknown = [word for word in words if word not in table.values()]
    if unknown:
        raise ValueError(f"no {what} is called {', '.join(map(shown, unknown))}; there are {known}")
    return [number for number, name in table.items() if name in words]


def moment_of(moment: object, what: str = "since") -> int:
    """Return the ns of a time or of a record's time, never below 0. TypeError for what is neither."""
    if isinstance(moment, Record):
        return moment.time
    try:
        return min(max(0, int(_number(moment))), (1 << 64) - 1)
    except (TypeError, ValueError, OverflowError):
        text = "is a time in ns, as record.time, or a record"
        raise TypeError(f"{what} {text}, not {shown(moment)}") from None


def newest_seconds(times: npt.NDArray[np.uint64], last: object) -> npt.NDArray[np.bool_]:
    """Return which times are at most ``last`` seconds before the newest. ValueError below 0, TypeError."""
    try:
        seconds = float(_number(last))
    except (TypeError, OverflowError):
        text = "last is how many seconds before the newest record"
        raise TypeError(f"{text}, not {shown(last)}") from None
    if not seconds >= 0:
        raise ValueError(f"last is how many seconds before the newest record, not {last!r}")
    newest = int(times.max()) if len(times) else 0
    earliest = newest - int(seconds * 1e9) if seconds * 1e9 < newest else 0
    return np.asarray(times >= np.uint64(earliest))


def seconds_of(timeout: object) -> float:
    """Return a time-out in seconds. Raises TypeError for what is no number."""
    try:
        return float(_number(timeout))
    except (TypeError, OverflowError):
        raise TypeError(f"timeout is a number of seconds, not {shown(timeout)}") from None


def sequence_of(since: object) -> int:
    """Return a sequence number, that of a record too. Raises TypeError for what is neither."""
    if isinstance(since, Record):
        return since.seq
    if isinstance(since, bool) or not isinstance(since, int | np.integer):
        raise TypeError(f"since is the sequence number of the first record that counts, not {shown(since)}")
    return max(0, int(since))


def flag_of(flagged: object) -> bool:
    """Return True or False. Raises TypeError for anything else."""
    if not isinstance(flagged, bool | np.bool_):
        raise TypeError(f"flagged is True, False or None, not {shown(flagged)}")
    return bool(flagged)


def _number(value: object) -> Any:
    """Return a number as it is, NumPy's too. TypeError for text, booleans and all that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError
    return value


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
    raise TypeError(f"a register is a name, dev.bar0.CTRL, dev.bar0 or several of them, not {shown(wanted)}")
