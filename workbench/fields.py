"""Field: some bits of a register, as data.

A Field alone never raises: the Register that adopts it finds its mistakes, and the Bar reports them.
"""

import enum as enums
from collections.abc import Mapping

__all__ = ["Field"]


class Field:
    """``width`` bits of a register from bit ``lsb`` up.

    ``mode`` and ``reset`` default to the register's. ``enum`` names numbers: an IntEnum class or a
    dict name -> number. ``mode``: any spelling that ``modes.MODES`` explains.
    """

    def __init__(
        self,
        lsb: int,
        width: int = 1,
        mode: str | None = None,
        *,
        reset: int | None = None,
        enum: type[enums.IntEnum] | Mapping[str, int] | None = None,
        doc: str = "",
    ) -> None:
        self.name = ""
        self.lsb = lsb
        self.width = width
        self.mode = mode
        self.reset = None if reset is None else int(reset)
        self.enum = enum
        self.doc = doc
        members = enum.__members__ if isinstance(enum, type) else enum or {}
        #: Every name that ``enum`` gives, with its number.
        self.names: dict[str, int] = {name: int(value) for name, value in members.items()}
        self._spoken = {value: name for name, value in reversed(self.names.items())}

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
