"""What registers and fields have in common with an int: they can be used as one."""

from operator import index
from typing import Any

__all__ = ["Number"]


class Number:
    """Arithmetic, comparison and formatting by ``value``, which subclasses give; each use peeks."""

    __slots__ = ()

    @property
    def value(self) -> int:
        """The number; peeks."""
        raise NotImplementedError

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __bool__(self) -> bool:
        return self.value != 0

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Number) else self.value == other

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> bool:
        return self.value < index(other)

    def __le__(self, other: Any) -> bool:
        return self.value <= index(other)

    def __gt__(self, other: Any) -> bool:
        return self.value > index(other)

    def __ge__(self, other: Any) -> bool:
        return self.value >= index(other)

    def __add__(self, other: Any) -> int:
        return self.value + index(other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> int:
        return self.value - index(other)

    def __rsub__(self, other: Any) -> int:
        return index(other) - self.value

    def __mul__(self, other: Any) -> int:
        # b"\0" * dev.bar0.COUNT is the other's own to say.
        return self.value * index(other) if hasattr(other, "__index__") else NotImplemented

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> int:
        return self.value // index(other)

    def __rfloordiv__(self, other: Any) -> int:
        return index(other) // self.value

    def __mod__(self, other: Any) -> int:
        return self.value % index(other)

    def __rmod__(self, other: Any) -> int:
        return index(other) % self.value

    def __and__(self, other: Any) -> int:
        return self.value & index(other)

    __rand__ = __and__

    def __or__(self, other: Any) -> int:
        return self.value | index(other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> int:
        return self.value ^ index(other)

    __rxor__ = __xor__

    def __lshift__(self, other: Any) -> int:
        return self.value << index(other)

    def __rlshift__(self, other: Any) -> int:
        return index(other) << self.value

    def __rshift__(self, other: Any) -> int:
        return self.value >> index(other)

    def __rrshift__(self, other: Any) -> int:
        return index(other) >> self.value

    def __invert__(self) -> int:
        return ~self.value
