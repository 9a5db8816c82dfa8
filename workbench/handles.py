"""Registers and fields seen through one device: handles that read like numbers.

Two pairs of verbs, never mixed. ``read``/``write`` are what the guest does: rules apply, hooks run,
side effects happen. ``peek``/``poke`` are what the workbench does: no rules, no hooks. ``.value``,
``int()``, comparison, ``repr`` and completion peek; assignment (``dev.bar0.CTRL = 1``,
``dev.bar0.CTRL.ENABLE = 1``) pokes. Handles are plain instance attributes, so completing a name
never runs code on the device.
"""

from collections.abc import Callable
from difflib import get_close_matches
from enum import IntEnum
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any

from .engine import lib
from .fields import Field, spell
from .hook import Hook
from .hookslot import HookSlot
from .mistakes import shown
from .number import Number
from .region import Region
from .registers import Register
from .unseen import unseen

if TYPE_CHECKING:
    from .native import NativeCode

__all__ = ["FieldHandle", "RegisterHandle", "whole_number"]

#: What a misspelt attribute of a register may have meant, beside its fields.
VERBS = ("on_read", "on_write", "read", "write", "peek", "poke", "reset", "hook", "unhook", "value")


class FieldHandle(Number):
    """One field of one register of one device. ``value`` peeks and pokes its bits alone."""

    __slots__ = ("description", "name", "register")

    def __init__(self, register: "RegisterHandle", description: Field) -> None:
        self.register = register
        self.description = description
        self.name = f"{register.name}.{description.name}"

    @property
    def value(self) -> int:
        """The field's number, shifted down to bit 0; peeks. An enum member where it has a name."""
        number = self.description.extract(self.register.peek())
        enum = self.description.enum
        if isinstance(enum, type) and issubclass(enum, IntEnum) and self.description.name_of(number):
            return enum(number)
        return number

    @value.setter
    def value(self, value: int | str) -> None:
        field = self.description
        if isinstance(value, str):
            value = field.number_of(value)
        self.register.poke(field.insert(0, whole_number(self.name, value)), field.mask)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(self.description.number_of(other) if isinstance(other, str) else other)

    __hash__ = None

    def __repr__(self) -> str:
        number = self.value
        name = self.description.name_of(number)
        return f"<{self.name} = {spell(number)}{f' {name}' if name else ''}>"


class RegisterHandle(Number):
    """One register (or one element of an array) of one device; its fields are attributes.

    ``value`` peeks and pokes; ``read``/``write`` act as the guest; ``on_read``/``on_write`` set a hook
    when used as decorators. ``description`` is the Register it was made from.
    """

    def __init__(self, region: Region, description: Register, index: int = 0) -> None:
        latched = description.plane_mask("wo")
        vars(self).update(
            description=description,
            index=index,
            name=f"{region.block.name}.{description.element_name(index)}",
            offset=description.element_offset(index),
            fields={},
            __doc__=description.doc,
            _region=region,
            _latched=latched,
            _stored=description.stored_mask,  # a write-only register leaves its neighbour's bits alone
        )
        for name, field in description.fields.items():
            self.fields[name] = vars(self)[name] = FieldHandle(self, field)

    # What __init__ puts there, for type checkers; the fields' own names come on top.
    description: Register
    index: int
    name: str
    offset: int
    fields: dict[str, FieldHandle]
    _region: Region
    _latched: int
    _stored: int

    @unseen
    def __getattr__(self, name: str) -> Any:
        if "fields" not in vars(self):  # copied or pickled half-way
            raise AttributeError(name)
        known = ", ".join(self.fields) or "none"
        near = get_close_matches(name, [*self.fields, *VERBS], 2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise AttributeError(f"{self.name} has no field {name!r}; fields: {known}{hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value":
            self.poke(value)
        elif name in self.fields:
            self.fields[name].value = value
        else:
            self.__getattr__(name)

    @property
    def value(self) -> int:
        """The stored number; peeks. Assigning pokes."""
        return self.peek()

    def peek(self) -> int:
        """Return the stored number: no rules, no hooks, not logged. Write-only bits: as last written."""
        size, latched = self.description.size, self._latched
        value = self._region.peek(self.offset, size)
        if latched:
            value = value & self._stored | self._region.peek(self.offset, size, lib.WB_LATCH) & latched
        return value

    def poke(self, value: int, mask: int | None = None) -> None:
        """Store the masked bits of ``value``: no rules, no hooks; logged as a poke.

        Raises ValueError when the value does not fit the register.
        """
        size, whole = self.description.size, (1 << self.description.width) - 1
        value = whole_number(self.name, value)
        if not 0 <= value <= whole:
            raise ValueError(f"{self.name} is {self.description.width} bits wide: {value:#x} does not fit")
        mask = whole if mask is None else index(mask) & whole
        if mask & self._stored or not mask:
            self._region.poke(self.offset, size, value, mask & self._stored)
        if mask & self._latched:
            self._region.poke(self.offset, size, value, mask & self._latched, lib.WB_LATCH)

    def read(self, size: int | None = None) -> int:
        """Read as the guest would, ``size`` bytes (default: the register's): rules, hooks, log."""
        return int.from_bytes(self._region.read(self.offset, size or self.description.size), "little")

    def write(self, value: int, size: int | None = None) -> None:
        """Write as the guest would, ``size`` bytes (default: the register's): rules, hooks, log.

        Raises ValueError when the value does not fit.
        """
        size, value = size or self.description.size, whole_number(self.name, value)
        self._region.may_hold(self.offset, size)
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{self.name}: {value:#x} does not fit a write of {size} bytes")
        self._region.write(self.offset, value.to_bytes(size, "little"))

    def reset(self) -> None:
        """Poke the reset value."""
        self.poke(self.description.reset)

    @property
    def on_read(self) -> HookSlot:
        """Decorate: ``function(device, access)`` runs before each guest read; a result is poked."""
        return HookSlot(partial(self.set_hook, "read"))

    @property
    def on_write(self) -> HookSlot:
        """Decorate: ``function(device, access)`` runs after each guest write was stored."""
        return HookSlot(partial(self.set_hook, "write"))

    def hook(self, slot: str) -> Hook | None:
        """Return the hook in slot "read" or "write", or None."""
        return self._region.hooks.get(self._region.index, self.description, self.index, _slot(slot))

    def unhook(self, slot: str) -> None:
        """Remove the hook in slot "read" or "write"; the C rules answer alone again."""
        self._region.hooks.remove(self._region.index, self.description, self.index, _slot(slot))

    def set_hook(self, slot: str, function: "Callable[..., Any] | NativeCode") -> Hook:
        """Put a function, or native code, in slot "read" or "write"; the decorators are short for it."""
        return self._region.hooks.set(self._region.index, self.description, self.index, _slot(slot), function)

    def __repr__(self) -> str:
        value, register = self.value, self.description
        fields = f" {register.spell(value)}" if register.fields else ""
        place = f"{self._region.block.name}+{self.offset:#x}"
        digits = 2 + register.width // 4
        return f"<Register {self.name} @ {place} {register.modes} {value:#0{digits}x}{fields}>"


def whole_number(name: str, value: object) -> int:
    """Return what is to be stored in ``name`` as a plain int; TypeError when it is no whole number."""
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} takes a whole number, not {shown(value)}") from None


def _slot(name: str) -> str:
    """Return "read" or "write" for either spelling; ValueError for anything else."""
    slot = str(name).removeprefix("on_")
    if slot not in ("read", "write"):
        raise ValueError(f'a register has the hooks "on_read" and "on_write", not {name!r}')
    return slot
