"""One hook: what it is told (Access), where it came from and how it fares (Hook)."""

import inspect
from collections.abc import Callable
from typing import Any

from .cells import place_of, source_of
from .engine import ffi, lib
from .errors import DescriptionError
from .mistakes import call_problem, shown
from .registers import Register

__all__ = ["Access", "Hook", "Touch", "accepted_arguments"]

WRITE_IT = "(device, access), in a class (self, access)"


class Touch:
    """What many accesses have in common: which bits of which register they touch, and how."""

    __slots__ = ("index", "mask", "offset", "register", "size", "write")

    def __init__(
        self, register: Register, index: int, write: bool, offset: int, size: int, mask: int
    ) -> None:
        self.register = register
        self.index = index
        self.write = write
        self.offset = offset
        self.size = size
        self.mask = mask


class Access:
    """What a hook is told of the access that made it run.

    ``value`` is the data written and ``old`` what was stored before, both as the whole register
    would show them; ``mask`` has a one for each bit the access touched. ``offset`` and ``size``
    (bytes) are the guest's own, ``index`` the element of a register array, ``origin`` "guest",
    "notebook" or "device". In ``on_read`` there is no data: ``value`` is 0.
    """

    __slots__ = ("_touch", "old", "origin", "value")

    def __init__(self, touch: Touch, origin: str, value: int, old: int) -> None:
        self._touch = touch
        self.origin = origin
        self.value = value
        self.old = old

    @property
    def register(self) -> Register:
        """The register that was touched."""
        return self._touch.register

    @property
    def index(self) -> int:
        """The element of a register array; else 0."""
        return self._touch.index

    @property
    def write(self) -> bool:
        """Whether it was a write."""
        return self._touch.write

    @property
    def offset(self) -> int:
        """Where the guest's access begins, bytes."""
        return self._touch.offset

    @property
    def size(self) -> int:
        """Bytes of it."""
        return self._touch.size

    @property
    def mask(self) -> int:
        """A one for each bit it touched."""
        return self._touch.mask

    def __repr__(self) -> str:
        verb = f"write {self.value:#x} (was {self.old:#x})" if self.write else "read"
        name = self.register.element_name(self.index)
        return f"<Access {self.origin} {verb} {name} at {self.offset:#x}, {self.size} bytes>"


class Hook:
    """One function in one slot of one register: its revision, where it came from, how it fares.

    ``key`` names the slot ("bar0.CTRL.on_write"), ``cell`` where the function was defined, ``source`` its
    text. ``described`` is True for a method of the device's class, ``enabled`` False while switched off.
    """

    errors = 0
    native = False  #: it needs no interpreter

    def __init__(
        self, block: str, region: int, register: Register, index: int, slot: str, function: Any
    ) -> None:
        name = f"{block}.{register.element_name(index)}"
        self.name = name
        self.region = region
        self.key = f"{name}.on_{slot}"
        self.register = register
        self.index = index
        self.offset = register.element_offset(index)
        self.slot = slot
        self.function = function
        self._learn(name, function)
        self.described = False
        self.enabled = True
        self.revision = 0
        self.counts = ffi.new("wb_calls *")

    def _learn(self, name: str, function: Callable[..., Any]) -> None:
        self.takes = accepted_arguments(name, function)
        self.cell = place_of(function)
        self.source = source_of(function)

    def ran(self, ns: int) -> None:
        """Count a call that took so long."""
        counts = self.counts
        counts.times[counts.calls % lib.WB_TIMES] = min(ns, 0xFFFFFFFF)
        counts.calls += 1
        counts.longest = max(counts.longest, ns)

    @property
    def calls(self) -> int:
        """How often it ran."""
        return int(self.counts.calls)

    @property
    def longest(self) -> int:
        """Duration of the longest call, ns."""
        return int(self.counts.longest)

    @property
    def median(self) -> float:
        """Median duration of the last 256 calls, ns; 0 before the first."""
        times = sorted(self.counts.times[0 : min(self.calls, lib.WB_TIMES)])
        return float(times[len(times) // 2]) if times else 0.0

    @property
    def function_name(self) -> str:
        """The function's own name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def __repr__(self) -> str:
        fares = f"rev {self.revision}, {self.calls} calls, {self.errors} errors"
        off = "" if self.enabled else ", disabled"
        return f"<Hook {self.key} = {self.function_name} {self.cell} {fares}{off}>"


def accepted_arguments(name: str, function: Callable[..., Any]) -> int:
    """Return how many of (device, access) the function takes: 1 or 2; DescriptionError otherwise.

    Parameters with defaults are the user's own, as in ``lambda device, n=n: n``.
    """
    if problem := call_problem(function):
        raise DescriptionError(name, [problem])
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        raise DescriptionError(
            name, [f"{shown(function)} does not say its arguments: call it from a function of your own"]
        ) from None
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    for count in (2, 1) if variadic else (1, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        if next(iter(signature.parameters)) == "access":
            raise DescriptionError(name, [f"a hook is given the device first: write {WRITE_IT}"])
        return count
    raise DescriptionError(name, [f"a hook takes (device, access) or (device), not {signature}"])
