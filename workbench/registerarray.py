"""Arrays of registers seen through one device: ``dev.bar0.DB[2]``."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .handles import RegisterHandle, whole_number
from .hookslot import HookSlot
from .region import Region
from .registers import Register
from .unseen import unseen

__all__ = ["RegisterArray"]


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

    def __getnewargs__(self) -> tuple[Region, Register]:
        return self._region, self.description  # what a copy is made of

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

    def __setitem__(self, place: int | slice, value: Any) -> None:
        found: Any = self[place]
        if isinstance(found, RegisterHandle):
            found.poke(value)
        else:
            self._poke_each(found, value)

    def _poke_each(self, elements: Sequence[RegisterHandle], values: Any) -> None:
        if not isinstance(values, Iterable):
            text = f"a slice takes a value for each element, such as [{values!r}] * {len(elements)}"
            raise TypeError(f"{self.name}: {text}")
        numbers = [whole_number(self.name, number) for number in values]
        if len(numbers) != len(elements):
            raise ValueError(f"{self.name}: {len(numbers)} values for {len(elements)} elements")
        for element, number in zip(elements, numbers, strict=True):
            element.poke(number)

    def __eq__(self, other: object) -> bool:
        return self is other  # comparing elements would peek

    __hash__ = object.__hash__

    @property
    def on_read(self) -> HookSlot:
        """Decorate: hook each element; ``access.index`` says which one was read."""
        return HookSlot(partial(self._set_hooks, "read"))

    @property
    def on_write(self) -> HookSlot:
        """Decorate: hook each element; ``access.index`` says which one was written."""
        return HookSlot(partial(self._set_hooks, "write"))

    def _set_hooks(self, slot: str, function: Any) -> None:
        for element in self:
            element.set_hook(slot, function)

    def __repr__(self) -> str:
        from .views.html import array_text

        return array_text(self)

    def _repr_html_(self) -> str:
        from .views.html import array_card

        return array_card(self)


# jedi reads the source of a class that it finds by this name, and there an array has no elements with
# fields; a class that it does not find it asks at run time. ``__qualname__`` stays.
RegisterArray.__name__ = "Array"
