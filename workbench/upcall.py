"""The short way from the engine into a hook: an access by a guest of all of one register that has one hook.

Nearly every access is like that, so what is known of it beforehand is put into a slot once, and C calls the
function itself (``wb_python.h``, ``trampoline.h``). Whatever is out of the ordinary, ``Hooks.run`` does.
"""

import operator
from typing import Any

from .engine import ffi, lib, words_of
from .hook import Access, Hook, Touch
from .mistakes import shown

__all__ = ["ORIGINS", "ShortWay", "access_number", "fitting"]

ORIGINS = words_of("wb_origin", "WB_")


def access_number(access: Any) -> int:
    """Return what tells one kind of access from others: which bytes, read or written. As in trampoline.h."""
    where = access.offset << 10 | access.region << 6
    return int(where | access.write << 3 | access.size - 1)


def fitting(hook: Hook, result: Any) -> int:
    """Return a hook's result as a number that fits the register; TypeError, ValueError."""
    try:
        value = operator.index(result)
    except TypeError:
        raise TypeError(f"{hook.key} returned {shown(result)}: return a whole number, or None") from None
    if not 0 <= value < 1 << 8 * hook.register.size:
        raise ValueError(f"{hook.key} returned {value:#x}, which does not fit {hook.register.width} bits")
    return value


class ShortWay:
    """The slots of one device's hooks. ``now`` (``wb_short``) says which thread is a hook, and how deep."""

    def __init__(self, handle: Any) -> None:
        self.now = ffi.new("wb_short *")
        self.now.generation, self.now.handle = 1, handle
        self._kept: list[tuple[Any, ...] | None] = [None] * lib.WB_SLOTS

    def lead(self, hooks: Any) -> None:
        """Lead to these hooks."""
        now, lock = self.now, hooks.lock
        #: C has their addresses alone.
        self._called = (lock.acquire, lock.release, Access, ORIGINS[lib.WB_GUEST])
        self._told = (fitting, hooks.failed, hooks.stalls.waited, hooks.settle)
        now.take, now.give, now.access, now.origin = map(_address, self._called)
        now.answer, now.failed, now.waited, now.settle = map(_address, self._told)

    @property
    def running(self) -> Hook | None:
        """The hook that runs now and went the short way; ``now.since`` is when it began."""
        number = self.now.running  # looked at once: it may have returned since
        kept = self._kept[number - 1] if number else None
        return kept[0] if kept is not None else None

    def close(self) -> None:
        """Let no access go the short way that is there now: a hook was set or removed."""
        self.now.generation += 1

    def open(self, generation: int, device: Any, hook: Hook, access: Any) -> None:
        """Let such an access go the short way, if it may, while ``generation`` is that of now.

        Not in the place of the hook that runs now: ``running`` names it.
        """
        size = hook.register.size
        if (
            hook.native
            or access.origin != lib.WB_GUEST
            or (access.offset, access.size) != (hook.offset, size)
        ):
            return
        number, most = access_number(access), (1 << 8 * size) - 1
        touch = Touch(hook.register, hook.index, bool(access.write), hook.offset, size, most)
        kept = (hook, hook.function, device, touch if hook.takes == 2 else None, hook.counts)
        index = number % lib.WB_SLOTS
        if index + 1 == self.now.running:
            return
        slot = self.now.slots[index]
        slot.generation = 0  # another thread may look at it any time
        self._kept[index] = kept
        slot.keep = _address(kept)
        slot.hook, slot.function, slot.device, slot.touch = map(_address, kept[:4])
        slot.calls = hook.counts
        slot.key, slot.whole, slot.revision = number, most, hook.revision
        slot.generation = generation


def _address(value: object) -> Any:
    return ffi.cast("void *", id(value))
