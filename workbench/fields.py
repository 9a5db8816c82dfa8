"""Field: some bits of a register, as data.

A Field alone never raises: the Register that adopts it finds its mistakes, and the Bar reports them.
"""

import enum as enums
from collections.abc import Mapping

from .mistakes import flag, integer, shown, text

__all__ = ["Field", "spell"]


def spell(number: int, field: "Field | None" = None) -> str:
    """Return a number as cards and logs show it: the field's name for it, else 7 or 0x80."""
    name = field.name_of(number) if field else None
    return name or (str(int(number)) if 0 <= number < 10 else f"{number:#x}")


class Field:
    """``width`` bits of a register from bit ``lsb`` up.

    ``mode``, ``reset`` and ``sticky`` default to the register's. ``enum`` names numbers: an IntEnum class
    or a dict name -> number. ``sticky`` bits keep their value over every reset but a power cycle (see
    Register). ``mode`` is what the guest's accesses do, in the datasheet's spelling too (``"RW1C"``):

    ``ro`` read only, ``rw`` read and write, ``wo`` write only; ``const`` never changes;
    ``w1c`` ``w1s`` ``w1t`` writing 1 clears, sets, toggles; ``w0c`` ``w0s`` ``w0t`` writing 0 does;
    ``wclr`` ``wset`` any write clears, sets; ``rc`` ``rs`` reading clears, sets (``"rw rc"``: and writable);
    ``rw1`` ``w1`` writable once after a reset, the latter reads as 0; ``pulse`` 1 is seen by hooks, then 0;
    ``rsvd`` reserved; ``ignore`` takes writes without remark and changes nothing.
    """

    def __init__(
        self,
        lsb: int,
        width: int = 1,
        mode: str | None = None,
        *,
        reset: int | None = None,
        enum: type[enums.IntEnum] | Mapping[str, int] | None = None,
        sticky: bool | None = None,
        doc: str = "",
    ) -> None:
        problems: list[str] = []
        self.name = ""
        self.lsb = integer(lsb, "lsb", problems)
        self.width = integer(width, "width", problems, 1)
        self.mode = mode
        self.reset = None if reset is None else _number(reset, "reset", problems)
        self.enum = enum
        self.sticky = None if sticky is None else flag(sticky, "sticky", problems)
        self.doc = text(doc, "doc", problems)
        #: Every name that ``enum`` gives, with its number.
        self.names: dict[str, int] = _names(enum, problems)
        self._spoken = {value: name for name, value in reversed(self.names.items())}
        #: Wrong types, one line each; the Bar reports them under the field's name.
        self.problems: tuple[str, ...] = tuple(problems)

    @property
    def msb(self) -> int:
        """The highest bit."""
        return self.lsb + self.width - 1

    @property
    def mask(self) -> int:
        """The field's bits, as they lie in the register."""
        return ((1 << max(self.width, 0)) - 1) << max(self.lsb, 0)

    def extract(self, value: int) -> int:
        """Return the field's number in a register value."""
        return (value & self.mask) >> self.lsb

    def insert(self, value: int, field_value: int) -> int:
        """Return the register value with the field replaced; ValueError if the number does not fit."""
        limit = (1 << self.width) - 1
        if not 0 <= field_value <= limit:
            raise ValueError(
                f"{self.name}: {field_value:#x} does not fit {self.width} bits (0 to {limit:#x})"
            )
        return value & ~self.mask | field_value << self.lsb

    def name_of(self, number: int) -> str | None:
        """Return the enum's name for a number, or None."""
        return self._spoken.get(number)

    def number_of(self, name: str) -> int:
        """Return the number of an enum name; ValueError lists the names there are."""
        if name not in self.names:
            raise ValueError(
                f"{self.name} has no value named {name!r}; names: {', '.join(self.names) or 'none'}"
            )
        return self.names[name]

    def __repr__(self) -> str:
        return f"<Field {self.name} [{self.msb}:{self.lsb}] {self.mode}>"


def _number(value: object, what: str, problems: list[str]) -> int:
    # True and False are how a flag's value reads.
    return int(value) if isinstance(value, bool) else integer(value, what, problems)


def _names(enum: object, problems: list[str]) -> dict[str, int]:
    """Return the names and numbers of an ``enum`` argument."""
    if enum is None:
        return {}
    members = enum.__members__ if isinstance(enum, enums.EnumMeta) else enum
    if not isinstance(members, Mapping):
        problems.append(f"enum {shown(enum)}, expected an IntEnum class or a dict of names and numbers")
        return {}
    problems += [f"enum name {shown(name)}, expected text" for name in members if not isinstance(name, str)]
    return {str(name): _number(value, f"enum value {name!s} =", problems) for name, value in members.items()}
