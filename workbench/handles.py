"""Bars, registers and fields seen through one device: handles that read like numbers.

Two pairs of verbs, never mixed. ``read``/``write`` are what the guest does: rules apply, hooks run,
side effects happen. ``peek``/``poke`` are what the workbench does: no rules, no hooks. ``.value``,
``int()``, comparison, ``repr`` and completion peek; assignment (``dev.bar0.CTRL = 1``,
``dev.bar0.CTRL.ENABLE = 1``) pokes. Handles are plain instance attributes, so completing a name
never runs code on the device.
"""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from enum import IntEnum
from operator import index
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from .engine import check, ffi, lib
from .fields import Field, spell
from .hook import Hook
from .number import Number
from .region import Region
from .registers import Block, Register
from .unseen import unseen
from .watch import Watch

__all__ = ["BlockHandle", "FieldHandle", "RegisterArray", "RegisterHandle"]

Function = TypeVar("Function", bound=Callable[..., Any])


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
        if isinstance(enum, type) and issubclass(enum, IntEnum) and number in set(enum):
            return enum(number)
        return number

    @value.setter
    def value(self, value: int | str) -> None:
        field = self.description
        if isinstance(value, str):
            value = field.number_of(value)
        self.register.poke(field.insert(0, index(value)), field.mask)

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
        raise AttributeError(f"{self.name} has no field {name!r}; fields: {known}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value":
            self.poke(index(value))
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
        if not 0 <= value <= whole:
            raise ValueError(f"{self.name} is {self.description.width} bits wide: {value:#x} does not fit")
        mask = whole if mask is None else mask & whole
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
        size = size or self.description.size
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{self.name}: {value:#x} does not fit a write of {size} bytes")
        self._region.write(self.offset, index(value).to_bytes(size, "little"))

    def reset(self) -> None:
        """Poke the reset value."""
        self.poke(self.description.reset)

    def on_read(self, function: Function) -> Function:
        """Decorate: ``function(device, access)`` runs before each guest read; a result is poked."""
        self.set_hook("read", function)
        return function

    def on_write(self, function: Function) -> Function:
        """Decorate: ``function(device, access)`` runs after each guest write was stored."""
        self.set_hook("write", function)
        return function

    def hook(self, slot: str) -> Hook | None:
        """Return the hook in slot "read" or "write", or None."""
        return self._region.hooks.get(self._region.index, self.description, self.index, _slot(slot))

    def unhook(self, slot: str) -> None:
        """Remove the hook in slot "read" or "write"; the C rules answer alone again."""
        self._region.hooks.remove(self._region.index, self.description, self.index, _slot(slot))

    def set_hook(self, slot: str, function: Callable[..., Any]) -> None:
        """Put a function in slot "read" or "write"; the decorators are short for it."""
        self._region.hooks.set(self._region.index, self.description, self.index, _slot(slot), function)

    def __repr__(self) -> str:
        value, register = self.value, self.description
        fields = f" {register.spell(value)}" if register.fields else ""
        place = f"{self._region.block.name}+{self.offset:#x}"
        digits = 2 + register.width // 4
        return f"<Register {self.name} @ {place} {register.modes} {value:#0{digits}x}{fields}>"


def _slot(name: str) -> str:
    """Return "read" or "write" for either spelling; ValueError for anything else."""
    slot = str(name).removeprefix("on_")
    if slot not in ("read", "write"):
        raise ValueError(f'a register has the hooks "on_read" and "on_write", not {name!r}')
    return slot


class RegisterArray(tuple[RegisterHandle, ...]):
    """An array of registers: ``dev.bar0.DB[2]``; iterates over its elements.

    A tuple, because completers look into those: ``dev.bar0.DB[2].<TAB>`` offers the element's fields. The
    tuple itself is empty: an element is made when it is asked for, and kept. There may be a million.
    """

    description: Register
    name: str
    _region: Region
    _elements: dict[int, RegisterHandle]

    def __new__(cls, region: Region, description: Register) -> Self:  # noqa: D102
        self = super().__new__(cls)
        self.description = description
        self.name = f"{region.block.name}.{description.name}"
        self._region, self._elements = region, {}
        return self

    if not TYPE_CHECKING:

        @unseen
        def __getitem__(self, place):
            try:
                found = range(len(self))[place]
            except IndexError:
                raise IndexError(f"{self.name} has elements 0 to {len(self) - 1}, not {place}") from None
            return tuple(map(self._element, found)) if isinstance(found, range) else self._element(found)

    def _element(self, number: int) -> RegisterHandle:
        made = self._elements.get(number)
        if made is None:  # of two threads the first one's stays
            made = self._elements.setdefault(number, RegisterHandle(self._region, self.description, number))
        return made

    def __len__(self) -> int:
        return self.description.count

    def __iter__(self) -> Iterator[RegisterHandle]:
        return map(self._element, range(len(self)))

    # What a tuple does in C with the elements inside it.
    __contains__, count = Sequence.__contains__, Sequence.count
    index = Sequence.index  # type: ignore[assignment]

    def __add__(self, other: Any) -> tuple[Any, ...]:
        return (*self, *other)

    def __radd__(self, other: Any) -> tuple[Any, ...]:
        return (*other, *self)

    def __setitem__(self, place: int, value: int) -> None:
        self[place].poke(index(value))

    def __eq__(self, other: object) -> bool:
        return self is other  # comparing elements would peek

    __hash__ = object.__hash__

    def on_read(self, function: Function) -> Function:
        """Decorate: hook each element; ``access.index`` says which one was read."""
        for element in self:
            element.on_read(function)
        return function

    def on_write(self, function: Function) -> Function:
        """Decorate: hook each element; ``access.index`` says which one was written."""
        for element in self:
            element.on_write(function)
        return function

    def __repr__(self) -> str:
        from .views.html import array_text

        return array_text(self)

    def _repr_html_(self) -> str:
        from .views.html import array_card

        return array_card(self)


# jedi reads the source of a class that it finds by this name, and there an array has no elements with
# fields; a class that it does not find it asks at run time. ``__qualname__`` stays.
RegisterArray.__name__ = "Array"


class BlockHandle:
    """A BAR (or the config space) of one device; its registers are attributes.

    ``read(offset, n)``/``write(offset, data)`` act as the guest, ``peek``/``poke`` as the workbench;
    offsets and sizes in bytes. OSError (EINVAL) outside the block.
    """

    def __init__(self, region: Region) -> None:
        block = region.block
        handles: dict[str, RegisterHandle | RegisterArray] = {}
        for name, register in block.registers.items():
            make = RegisterArray if register.is_array else RegisterHandle
            handles[name] = make(region, register)
        vars(self).update(handles, description=block, _region=region, _handles=handles)

    description: Block
    _region: Region
    _handles: dict[str, RegisterHandle | RegisterArray]

    @unseen
    def __getattr__(self, name: str) -> Any:
        block = vars(self).get("description")
        if block is None:
            raise AttributeError(name)
        near = get_close_matches(name, block.registers, 3) or list(block.registers)[:8]
        raise AttributeError(f"{block.name} has no register {name!r}; there are {', '.join(near)}")

    def __setattr__(self, name: str, value: Any) -> None:
        handle = self._handles.get(name)
        if handle is None:
            self.__getattr__(name)
        if not isinstance(handle, RegisterHandle):
            raise AttributeError(f"{self.description.name}: assign to an element of the array {name}")
        handle.poke(index(value))

    def registers(self) -> Iterator[RegisterHandle]:
        """Iterate over every register, array elements one by one, in order of offset."""
        for handle in self._handles.values():
            yield from [handle] if isinstance(handle, RegisterHandle) else handle

    def __iter__(self) -> Iterator[RegisterHandle]:
        return self.registers()

    @property
    def size(self) -> int:
        """Bytes."""
        return self.description.size

    def view(self, kind: str = "registers") -> Any:
        """Return a live view of the block: of its "registers", or as "memory"."""
        from .views.doors import view_of

        return view_of(self._region.hooks.owner, kind, block=self.description.name)

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """The mapped pages as a writable array of bytes, shared with the guest: see ``array()``."""
        return self.array()

    def array(
        self, dtype: npt.DTypeLike = np.uint8, offset: int | None = None, count: int | None = None
    ) -> npt.NDArray[Any]:
        """Return mapped pages as a writable NumPy array: no rules, no log, the guest sees each store.

        ``offset`` in bytes (default: the only mapped area's start), ``count`` elements (default: to the
        area's end). It stays valid when the device is gone. Raises StateError when nothing, or not one
        thing, is mapped; ValueError when it would reach outside.
        """
        return self._region.array(dtype, offset, count)

    def watch(self, offset: int | None = None, size: int | None = None, period: float = 0.01) -> Watch:
        """Log what the guest changes in mapped pages, sampled every ``period`` seconds: see Watch.

        ``offset`` and ``size`` in bytes (default: the only mapped area). Raises StateError, ValueError.
        """
        return self._region.watch(offset, size, period)

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes as the guest would."""
        return self._region.read(offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` as the guest would."""
        self._region.write(offset, bytes(memoryview(data)))  # an int is no data

    def peek(self, offset: int, size: int) -> bytes:
        """Return ``size`` stored bytes: no rules, no hooks."""
        into = ffi.new("uint8_t[]", max(size, 1))
        result = lib.wb_region_get(self._region.handle, self._region.index, lib.WB_VALUE, offset, into, size)
        check(result, self._region.where(offset, size))
        return bytes(ffi.buffer(into, size))

    def poke(self, offset: int, data: bytes) -> None:
        """Store ``data``, all of it or, past the end, nothing: no rules, no hooks; logged by 8 bytes."""
        data = bytes(memoryview(data))
        self.peek(offset, len(data))
        for start in range(0, len(data), 8):
            part = data[start : start + 8]
            value = int.from_bytes(part, "little")
            self._region.poke(offset + start, len(part), value, (1 << 8 * len(part)) - 1)

    def __repr__(self) -> str:
        from .views.html import block_text

        return block_text(self)

    def _repr_html_(self) -> str:
        from .views.html import block_card

        return block_card(self)
