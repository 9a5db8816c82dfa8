"""Hooks: Python that runs because the guest touched a register.

A hook never answers. ``on_read`` runs before the ordinary read path and may return a fresh value,
which is poked; ``on_write`` runs after the ordinary write path stored the value. Setting a hook is
one atomic exchange in a table keyed (region, offset, slot): running a cell again replaces, never
adds, and each access is answered by exactly one revision, which its log record names. A hook that
raises never hurts the guest: the stored value is answered, the record is flagged, the traceback is
logged once per place and then counted.
"""

import contextlib
import inspect
import logging
import operator
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .engine import ffi, lib
from .errors import DescriptionError, HookError
from .registers import Block, Register

__all__ = ["Access", "Hook", "Hooks"]

READ, WRITE = "read", "write"
BITS = {READ: lib.WB_HOOK_READ, WRITE: lib.WB_HOOK_WRITE}
ORIGINS = ("guest", "notebook", "device")
DEPTH_LIMIT = 32  # of hooks that touch hooked registers; well before Python's own limit
CACHE_LIMIT = 4096  # distinct (offset, size) pairs remembered before starting afresh


class Access:
    """What a hook is told of the access that made it run.

    ``value`` is the data written and ``old`` what was stored before, both as the whole register
    would show them; ``mask`` has a one for each bit the access touched. ``offset`` and ``size``
    (bytes) are the guest's own, ``index`` the element of a register array, ``origin`` "guest",
    "notebook" or "device". In ``on_read`` there is no data: ``value`` is 0.
    """

    __slots__ = ("index", "mask", "offset", "old", "origin", "register", "size", "value", "write")

    def __init__(
        self, register: Register, index: int, write: bool, origin: str, offset: int, size: int
    ) -> None:
        self.register = register
        self.index = index
        self.write = write
        self.origin = origin
        self.offset = offset
        self.size = size
        self.value = self.old = self.mask = 0

    def __repr__(self) -> str:
        verb = f"write {self.value:#x} (was {self.old:#x})" if self.write else "read"
        name = self.register.element_name(self.index)
        return f"<Access {self.origin} {verb} {name} at {self.offset:#x}, {self.size} bytes>"


class Hook:
    """One function in one slot of one register: its revision, and how it fares."""

    __slots__ = (
        "calls",
        "errors",
        "function",
        "index",
        "name",
        "offset",
        "register",
        "revision",
        "slot",
        "takes",
    )

    def __init__(
        self, name: str, register: Register, index: int, slot: str, function: Callable[..., Any]
    ) -> None:
        self.name = name
        self.register = register
        self.index = index
        self.offset = register.element_offset(index)
        self.slot = slot
        self.function = function
        self.takes = accepted_arguments(name, function)
        self.revision = 0
        self.calls = 0
        self.errors = 0

    def __repr__(self) -> str:
        where = getattr(self.function, "__name__", repr(self.function))
        fares = f"rev {self.revision}, {self.calls} calls, {self.errors} errors"
        return f"<Hook {self.name}.on_{self.slot} = {where} {fares}>"


@dataclass(frozen=True)
class HookFailure:
    """The last exception raised in one place of one hook, and how often."""

    name: str  # "bar0.CTRL.on_write", "on_reset"
    error: BaseException
    text: str
    count: int


def accepted_arguments(name: str, function: Callable[..., Any]) -> int:
    """Return how many of (device, access) the function takes: 1 or 2; DescriptionError otherwise.

    Parameters with defaults are the user's own, as in ``lambda device, n=n: n``.
    """
    if not callable(function):
        raise DescriptionError(name, [f"a hook must be a function, not {function!r}"])
    signature = inspect.signature(function)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    for count in (2, 1) if variadic else (1, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise DescriptionError(name, [f"a hook takes (device, access) or (device), not {signature}"])


class Hooks:
    """The hooks of one device: set, replaced, removed and run; iterates over those in force.

    ``failures`` lists what they raised. One re-entrant lock lets one hook run at a time, whichever
    thread touches the device, and lets a hook touch its own device.
    """

    def __init__(self, device: Any, handle: Any, blocks: Mapping[int, Block], logger: logging.Logger) -> None:
        self._device = device
        self._handle = handle
        self._blocks = blocks
        self._logger = logger
        self._table: dict[tuple[int, int, str], Hook] = {}
        self._revisions: Counter[tuple[int, int, str]] = Counter()
        self._plans: dict[tuple[int, int, int, int], tuple[Hook, ...]] = {}
        self._failures: dict[tuple[str, str, str], HookFailure] = {}
        self._running = threading.RLock()
        self._swapping = threading.Lock()  # apart, so that a hook that never returns can be replaced
        self._thread = 0
        self._depth = 0
        self.interrupted = False
        self.on_change: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Hook]:
        return iter(list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no hooks>"

    @property
    def failures(self) -> list[HookFailure]:
        """What hooks raised, one entry a place, with its count."""
        return list(self._failures.values())

    @property
    def running_here(self) -> bool:
        """Whether the calling thread is inside a hook of this device."""
        return self._thread == threading.get_ident()

    def set(
        self,
        region: int,
        register: Register,
        index: int,
        slot: str,
        function: Callable[..., Any],
        logged: bool = True,
    ) -> Hook:
        """Put ``function`` in a slot ("read" or "write") and return the Hook with its new revision.

        Logged as a swap, unless it is only part of the description (``logged=False``).
        Raises DescriptionError when the function cannot be called with (device) or (device, access).
        """
        name = f"{self._blocks[region].name}.{register.element_name(index)}"
        hook = Hook(name, register, index, slot, function)
        key = (region, hook.offset, slot)
        with self._swapping:
            self._revisions[key] += 1
            hook.revision = min(self._revisions[key], 0xFFFF)
            self._table[key] = hook
            self._changed(region, hook, 1, logged)
        return hook

    def remove(self, region: int, register: Register, index: int, slot: str) -> None:
        """Take the function out of a slot; no error when there is none."""
        with self._swapping:
            hook = self._table.pop((region, register.element_offset(index), slot), None)
            if hook is not None:
                self._changed(region, hook, 0, True)

    def get(self, region: int, register: Register, index: int, slot: str) -> Hook | None:
        """Return the Hook in force in a slot, or None."""
        return self._table.get((region, register.element_offset(index), slot))

    def _changed(self, region: int, hook: Hook, on: int, logged: bool) -> None:
        size = hook.register.size
        self._plans = {}
        lib.wb_region_hook(self._handle, region, hook.offset, size, BITS[hook.slot], on)
        record = {
            "kind": lib.WB_KIND_SWAP, "origin": lib.WB_NOTEBOOK, "region": region, "offset": hook.offset,
            "size": size, "revision": hook.revision if on else 0, "value": BITS[hook.slot],
        }  # fmt: skip
        if logged:
            lib.wb_log_add(self._handle, ffi.new("wb_record *", record))
        self.on_change()

    def run(self, access: Any) -> None:
        """Run the hooks of every register that a ``wb_access`` touches, in ascending order.

        Called by the engine on the thread of the access; never raises, says in ``flags`` what happened.
        """
        with self._here():
            for hook in self._plan(access):
                access.flags |= lib.WB_HOOK_RAN
                access.revision = hook.revision
                if not self._call(hook, access):
                    access.flags |= lib.WB_HOOK_FAILED

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        with self._running:
            outer, self._thread = self._thread, threading.get_ident()
            self._depth += 1
            try:
                yield
            finally:
                self._thread = outer
                self._depth -= 1

    def _plan(self, access: Any) -> tuple[Hook, ...]:
        plans = self._plans
        key = (access.region, access.offset, access.size, access.write)
        plan = plans.get(key)
        if plan is None:
            slot = WRITE if access.write else READ
            touched = self._blocks[access.region].at(access.offset, access.size)
            keys = ((access.region, register.element_offset(index), slot) for register, index in touched)
            found = (self._table.get(key) for key in keys)
            # Registers that share an offset share the hook's key as well: run it once.
            plan = tuple(dict.fromkeys(hook for hook in found if hook is not None))
            if len(plans) >= CACHE_LIMIT:
                plans.clear()
            plans[key] = plan
        return plan

    def _call(self, hook: Hook, access: Any) -> bool:
        hook.calls += 1
        try:
            if self._depth > DEPTH_LIMIT:
                raise RecursionError(f"hooks touch registers that have hooks, {DEPTH_LIMIT} deep")
            seen = self._describe(hook, access)
            result = hook.function(self._device) if hook.takes == 1 else hook.function(self._device, seen)
            if result is not None and hook.slot == READ:
                self._store(hook, access.region, result)
        except BaseException as error:
            hook.errors += 1
            self.fail(f"{hook.name}.on_{hook.slot}", error)
            return False
        return True

    def event(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Run ``on_reset``, ``on_attach`` or ``on_detach`` as a hook: one at a time, never raising."""
        with self._here():
            try:
                function(*arguments)
            except BaseException as error:
                self.fail(name, error)

    def _describe(self, hook: Hook, access: Any) -> Access:
        size = hook.register.size
        seen = Access(
            hook.register, hook.index, bool(access.write), ORIGINS[access.origin], access.offset, access.size
        )
        shift = 8 * (access.offset - hook.offset)
        whole = (1 << 8 * size) - 1
        seen.mask = _shift((1 << 8 * access.size) - 1, shift) & whole
        seen.value = _shift(access.value, shift) & whole
        seen.old = _shift(access.old, shift) & whole
        if seen.mask != whole:  # a partial access: the rest of the register is as it is stored
            stored = ffi.new("uint64_t *")
            into = ffi.cast("uint8_t *", stored)
            lib.wb_region_get(self._handle, access.region, lib.WB_VALUE, hook.offset, into, size)
            seen.old |= stored[0] & ~seen.mask
        return seen

    def _store(self, hook: Hook, region: int, result: Any) -> None:
        value, whole = operator.index(result), (1 << 8 * hook.register.size) - 1
        if not 0 <= value <= whole:
            raise ValueError(
                f"{hook.name}.on_read returned {value:#x}, which does not fit {hook.register.width} bits"
            )
        # Not a poke of its own in the log: the read's record shows the value.
        data = value.to_bytes(hook.register.size, "little")
        lib.wb_region_set(self._handle, region, lib.WB_VALUE, hook.offset, data, len(data))

    def fail(self, name: str, error: BaseException) -> None:
        """Count what a hook raised; log its traceback the first time it happens in that place."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        key = (name, type(error).__name__, place)
        known = self._failures.get(key)
        text = "".join(traceback.format_exception(error))
        self._failures[key] = HookFailure(name, error, text, known.count + 1 if known else 1)
        if isinstance(error, KeyboardInterrupt):  # the user's Ctrl-C: the caller raises it again
            self.interrupted = True
        elif not known:
            self._logger.error("%s raised; the guest got the stored value\n%s", name, text)

    def check(self) -> None:
        """Raise HookError for the latest failure, its own exception as the cause; nothing if none."""
        if self._failures:
            failure = list(self._failures.values())[-1]
            times = f"{failure.count} time{'s' if failure.count > 1 else ''}"
            raise HookError(f"{failure.name} raised {failure.error!r} ({times})") from failure.error


def _shift(value: int, bits: int) -> int:
    return value << bits if bits >= 0 else value >> -bits


@ffi.def_extern()
def wb_python_hook(context: Any, access: Any) -> None:
    """Engine upcall: a guest touched bytes with a hook bit."""
    ffi.from_handle(context).hooks.run(access)
