"""A native hook in its slot, and the exchange of native hooks in the engine.

Whatever a slot leads to (code, state) must stay until its last call is over, so what was taken out is kept
until the engine says that it is idle.
"""

import os
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from .engine import check, ffi, lib
from .errors import HookError
from .hook import Hook
from .native import RAISED, NativeCode

__all__ = ["NativeHook", "Natives"]


class NativeHook(Hook):
    """Native code in one slot of one register. ``state`` is its memory, or None; calls are counted in C.

    Of its calls the first and every 16th are timed: ``median`` and ``longest`` are of those.
    The state is in no snapshot: ``on_snapshot()`` adds what belongs there.
    """

    native = True

    def __init__(
        self, block: str, region: int, register: Any, index: int, slot: str, code: NativeCode
    ) -> None:
        super().__init__(block, region, register, index, slot, code)
        self.code = code
        self.state: Any = code.state
        if isinstance(code.state, int):
            self.state = np.zeros(code.state // 8, "<u8") if code.state else None
        self.entry = ffi.new("wb_native_slot *")
        self.entry.hook = ffi.cast("wb_native_hook", code.address)
        self.entry.offset, self.entry.size, self.entry.index = self.offset, register.size, index
        self.entry.region, self.entry.write = region, int(slot == "write")
        self._told = 0  # errors that were told
        self._resumed = False
        self._lead()

    def _learn(self, name: str, function: Any) -> None:
        self.takes, self.cell, self.source = 2, function.cell, function.source

    def _lead(self) -> None:
        self._memory = (
            None if self.state is None else ffi.from_buffer("uint8_t[]", self.state, require_writable=True)
        )
        if self._memory is not None:
            self.entry.wb.state = self._memory
            self.entry.wb.state_size = len(self._memory)

    def resume(self, was: Hook) -> None:
        """Be ``was`` again: with its state."""
        if isinstance(was, NativeHook):
            self.state, self._resumed = was.state, True
            self._lead()

    def follow(self, older: Hook | None) -> None:
        """Become the revision after ``older``: go on with its state when it asked for as much."""
        self.entry.revision = self.revision
        if not isinstance(older, NativeHook) or older.state is None or not isinstance(self.code.state, int):
            return
        if older.code.state != self.code.state or older.state is self.state:
            return
        if self._resumed:  # on another device, of which somebody may hold the state
            self.state[:] = older.state
        else:
            self.state = older.state
            self._lead()

    @property
    def calls(self) -> int:
        """How often it was called."""
        return int(self.entry.calls)

    @property
    def errors(self) -> int:  # type: ignore[override]
        """How often it returned something else than 0."""
        return int(self.entry.errors)

    @property
    def longest(self) -> int:
        """The longest of the calls that were timed, ns."""
        return int(self.entry.longest)

    @property
    def median(self) -> float:
        """Median of the last 64 calls that were timed, ns; 0 before the first."""
        count = min((self.calls + lib.WB_NATIVE_SAMPLED - 1) // lib.WB_NATIVE_SAMPLED, lib.WB_NATIVE_TIMES)
        times = sorted(self.entry.times[0:count]) if count else []
        return float(times[len(times) // 2]) if times else 0.0

    @property
    def running(self) -> bool:
        """Whether a call is under way."""
        return bool(self.entry.running)

    def run(self, handle: Any, access: Any) -> bool:
        """Call it for an access that Python was asked about as well; return whether all went well."""
        return not lib.wb_native_call(handle, self.entry, access)

    def untold(self) -> tuple[int, HookError]:
        """Return how many more calls have failed than were told before, and what the last one returned."""
        errors, result = self.errors, int(self.entry.result)
        more, self._told = errors - self._told, errors
        why = f" ({os.strerror(-result)})" if -200 < result < 0 else ""
        return more, HookError("it raised" if result == RAISED else f"it returned {result}{why}")


class Natives:
    """The native hooks that the engine calls by itself, of one device."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._in: dict[Hashable, NativeHook] = {}
        self._out: list[NativeHook] = []

    def __len__(self) -> int:
        return len(self._in)

    def __contains__(self, hook: Hook) -> bool:
        return self._in.get(_key(hook)) is hook

    def exchange(self, hook: Hook, alone: bool, on: bool) -> bool:
        """Let the engine call a slot's ``hook``, or Python, or with ``on`` False nobody.

        Returns False when no native hook is concerned, and nothing was done.
        ``alone``: no other register has its bytes. Otherwise Python decides whose hook is meant.
        """
        key = _key(hook)
        before = self._in.get(key)
        after = hook if on and alone and isinstance(hook, NativeHook) else None
        if before is None and after is None:
            return False
        out = before.entry if before is not None else ffi.NULL
        into = after.entry if after is not None else ffi.NULL
        check(lib.wb_native_swap(self._handle, out, into, int(on and after is None)), hook.key)
        if after is not None:
            self._in[key] = after
        else:
            del self._in[key]
        self._out = [one for one in self._out if lib.wb_native_busy(self._handle, one.entry)]
        if before is not None and before is not after:
            self._out.append(before)
        return True

    def running(self) -> NativeHook | None:
        """Return one that runs now, or None."""
        return next((hook for hook in _all(self._in.values(), self._out) if hook.running), None)


def _all(*groups: Iterable[NativeHook]) -> Iterable[NativeHook]:
    return [hook for group in groups for hook in list(group)]


def _key(hook: Hook) -> Hashable:
    return hook.region, hook.offset, hook.register.element_name(hook.index), hook.slot
