"""Hooks: Python that runs because the guest touched a register.

A hook never answers. ``on_read`` runs before the ordinary read path and may return a fresh value;
``on_write`` runs after the ordinary write path stored the value. Setting a hook is one atomic exchange
in a table keyed (region, register, slot): running a cell again replaces, never adds, and each access is
answered by exactly one revision, which its log record names. A hook that raises never hurts the
guest: the stored value is answered, the record is flagged, the traceback is logged once and counted.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from types import TracebackType
from typing import Any

from .engine import ffi, lib
from .errors import DescriptionError, StateError
from .failures import Failures, HookSkippedError
from .hook import Access, Hook, Touch
from .native import NativeCode
from .nativehook import NativeHook, Natives
from .pages import unhookable
from .registers import Block, Register
from .skip import Skip
from .stalls import Stalls
from .upcall import ORIGINS, ShortWay, access_number, fitting

__all__ = ["Access", "Hook", "Hooks"]

READ, WRITE = "read", "write"
BITS = {READ: lib.WB_HOOK_READ, WRITE: lib.WB_HOOK_WRITE}
DEPTH_LIMIT = 32  # of hooks that touch hooked registers; well before Python's own limit
CACHE_LIMIT = 4096  # distinct (offset, size) pairs remembered before starting afresh
HISTORY = 50  # revisions kept of a slot

Key = tuple[int, str, str]  # region, register (an element's name), slot


class Hooks:
    """The hooks of one device: set, replaced, removed and run; iterates over those in force.

    ``failures`` is what they raised, ``stalls`` how long guests waited for Python. One re-entrant lock lets
    one hook run at a time, whichever thread touches the device, and lets a hook touch its own device.
    """

    def __init__(
        self, device: Any, handle: Any, short: ShortWay, blocks: Mapping[int, Block], logger: logging.Logger
    ) -> None:
        self.device = device
        self.owner: Callable[[], Any] = lambda: None  #: the core it belongs to
        self.handle = handle
        self._blocks = blocks
        self._table: dict[Key, Hook] = {}
        self._history: dict[Key, list[Hook]] = {}
        self._plans: dict[int, tuple[Hook, ...]] = {}
        self.lock = threading.RLock()  # held by whoever is a hook now
        self._swapping = threading.Lock()  # apart, so that a hook that never returns can be replaced
        self.failures = Failures(logger)
        self.failures.gather = self._gather
        self._natives = Natives(handle)
        self.stalls = Stalls()
        self.short = self.stalls.short = short
        self._now = short.now
        self._skip = Skip(short.now)
        self.settle = self._skip.settle
        short.lead(self)
        self.interrupted = 0  # the thread in whose hook Ctrl-C was pressed, until it is raised there
        self.on_change: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Hook]:
        return iter(list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no hooks>"

    @property
    def in_python(self) -> int:
        """How many need the interpreter."""
        return len(self) - len(self._natives)

    @property
    def running(self) -> Hook | None:
        """The hook that runs now, or None."""
        return self.stalls.running or self._natives.running()

    @property
    def doing(self) -> str:
        """What runs now: "bar0.CTRL.on_write", "after(blink)", "on_reset" ...; "" when nothing does."""
        hook = self.running
        return hook.key if hook is not None else self.stalls.event

    @property
    def running_here(self) -> bool:
        """Whether the calling thread is inside a hook of this device."""
        return bool(self._now.thread == threading.get_ident())

    def origin(self) -> int:
        """Who acts now, as enum wb_origin: the device while one of its hooks runs here, else the notebook."""
        return int(lib.WB_DEVICE if self.running_here else lib.WB_NOTEBOOK)

    def view(self) -> Any:
        """Return a live view of the hooks: calls, times, errors, revisions."""
        from .views.doors import view_of

        return view_of(self.owner, "hooks")

    # -- the table --

    def set(
        self,
        region: int,
        register: Register,
        index: int,
        slot: str,
        function: Callable[..., Any] | NativeCode,
        described: bool = False,
    ) -> Hook:
        """Put a function, or native code, in a slot ("read" or "write"); return the Hook, with its revision.

        Logged as a swap, unless it is part of the class (``described``) and the slot was never used.
        Raises DescriptionError when the function cannot be called with (device) or (device, access), or
        when the register lies in a page that the guest maps.
        """
        block = self._blocks[region]
        if block.mapped_area(register.element_offset(index)):
            why = unhookable(register.element_offset(index))
            raise DescriptionError(f"{block.name}.{register.element_name(index)}", [why])
        hook = _hook(block.name, region, register, index, slot, function)
        hook.described = described
        return self._install(hook)

    def set_again(self, was: Hook, enabled: bool = True) -> Hook:
        """Put the function of an earlier hook back into its slot; return the Hook with its new revision."""
        name = self._blocks[was.region].name
        hook = _hook(name, was.region, was.register, was.index, was.slot, was.function)
        hook.described, hook.enabled = was.described, enabled
        if isinstance(hook, NativeHook):
            hook.resume(was)
        hook.cell, hook.source = was.cell, was.source  # it was defined there, not here
        return self._install(hook)

    def _install(self, hook: Hook) -> Hook:
        key = (hook.region, hook.register.element_name(hook.index), hook.slot)
        with self._swapping:
            history = self._history.setdefault(key, [])
            hook.revision = min(history[-1].revision + 1, 0xFFFF) if history else 1
            if isinstance(hook, NativeHook):
                hook.follow(history[-1] if history else None)
            history.append(hook)
            del history[:-HISTORY]
            self._put(key, hook, logged=not hook.described or hook.revision > 1)
        return hook

    def remove(self, region: int, register: Register, index: int, slot: str) -> None:
        """Take the function out of a slot; no error when there is none."""
        key = (region, register.element_name(index), slot)
        with self._swapping:
            if key in self._table:
                self._put(key, None)

    def get(self, region: int, register: Register, index: int, slot: str) -> Hook | None:
        """Return the Hook in force in a slot, or None."""
        return self._table.get((region, register.element_name(index), slot))

    def _put(self, key: Key, hook: Hook | None, logged: bool = True) -> None:
        region, _, slot = key
        described = hook or self._table[key]
        offset = described.offset
        if hook is None:
            del self._table[key]
        else:
            self._table[key] = hook
        self._plans = {}
        self.short.close()
        on, size = int(hook is not None and hook.enabled), described.register.size
        shared = self._blocks[region].at(offset, size)
        if not self._natives.exchange(described, len(shared) == 1, bool(on)):
            lib.wb_region_hook(self.handle, region, offset, size, BITS[slot], on)
        # Registers may share bytes, and so hook bits.
        for register, index in () if on else shared:
            other = self.get(region, register, index, slot)
            if other is not None and other.enabled and other not in self._natives:
                lib.wb_region_hook(self.handle, region, other.offset, other.register.size, BITS[slot], 1)
        if logged:
            record = {
                "kind": lib.WB_KIND_SWAP, "origin": lib.WB_NOTEBOOK, "region": region, "offset": offset,
                "size": size, "revision": described.revision if on else 0, "value": BITS[slot],
            }  # fmt: skip
            lib.wb_log_add(self.handle, ffi.new("wb_record *", record))
        self.on_change()

    def keep_described(self, slots: Container[Key]) -> None:
        """Remove hooks that came from a class and are not in ``slots`` any more."""
        with self._swapping:
            for key, hook in list(self._table.items()):
                if hook.described and key not in slots:
                    self._put(key, None)

    def redescribe(self, device: Any, blocks: Mapping[int, Block]) -> None:
        """Belong to ``device`` with other registers; hooks of registers that are gone are removed."""
        with self._swapping:
            self.device, self._blocks, self._plans = device, blocks, {}
            self.short.close()
            for key, hook in list(self._table.items()):
                wanted = (hook.offset, hook.register.size, key[1])
                for register, index in blocks[key[0]].at(hook.offset, 1):
                    found = (register.element_offset(index), register.size, register.element_name(index))
                    if found == wanted:
                        hook.register = register
                        break
                else:  # under another name it would be listed and never run
                    self._put(key, None)

    # -- history, by the name of a slot: "bar0.CTRL.on_write" --

    def _find(self, name: str) -> Key:
        for key, history in self._history.items():
            if history[-1].key == name:
                return key
        known = ", ".join(history[-1].key for history in self._history.values()) or "none"
        raise StateError(f"there never was a hook {name!r}; hooks: {known}")

    def revisions(self, name: str) -> list[Hook]:
        """Return the last 50 revisions of a slot such as "bar0.CTRL.on_write", oldest first."""
        return list(self._history[self._find(name)])

    def _revision(self, name: str, number: int) -> Hook:
        for hook in self.revisions(name):
            if hook.revision == number:
                return hook
        raise StateError(f"{name} has no revision {number} (any more)")

    def revert(self, name: str, revision: int | None = None) -> Hook:
        """Set an earlier function again (default: the one before), as a new revision; return it."""
        if revision is None:
            old = self.revisions(name)
            if len(old) < 2:
                raise StateError(f"{name} has one revision only")
            revision = old[-2].revision
        return self.set_again(self._revision(name, revision))

    def disable(self, name: str) -> None:
        """Let the C rules answer alone; the hook stays in the table for ``enable()``."""
        self._switch(name, False)

    def enable(self, name: str) -> None:
        """Run a disabled hook again."""
        self._switch(name, True)

    def _switch(self, name: str, on: bool) -> None:
        key = self._find(name)
        with self._swapping:
            hook = self._table.get(key)
            if hook is None:
                raise StateError(f"{name} was removed: set it again, or revert it")
            hook.enabled = on
            self._put(key, hook)

    def diff(self, name: str, old: int, new: int) -> str:
        """Return what changed between two revisions as a unified diff; "" if nothing did."""
        one, two = self._revision(name, old), self._revision(name, new)
        titles = (f"rev {old} {one.cell}", f"rev {new} {two.cell}")
        import difflib

        lines = difflib.unified_diff(one.source.splitlines(), two.source.splitlines(), *titles, lineterm="")
        return "\n".join(lines)

    # -- running --

    def run(self, access: Any) -> None:
        """Run the hooks of every register that a ``wb_access`` touches, in ascending order.

        Called by the engine on the thread of the access; never raises, says in ``flags`` what happened.
        The engine has set WB_HOOK_FAILED there: it stays unless all goes well.
        """
        flags = 0
        try:
            self.stalls.waited(time.monotonic_ns() - access.time)
            with self.here():
                generation = self._now.generation  # of before the table is looked at
                plan = self._plan(access)
                if len(plan) == 1:
                    self.short.open(generation, self.device, plan[0], access)
                for hook in plan:
                    flags |= lib.WB_HOOK_RAN
                    access.revision = hook.revision
                    if not self._call(hook, access):
                        flags |= lib.WB_HOOK_FAILED
            access.flags = flags
        except BaseException as error:  # Ctrl-C while waiting for another hook, out of stack or memory ...
            access.flags = flags | lib.WB_HOOK_FAILED
            self.failed_outside(error)

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Act as the device on this thread, while no hook runs on another."""
        now = self._now
        with self.lock:
            outer, now.thread = now.thread, threading.get_ident()
            now.depth += 1
            try:
                yield
            finally:
                now.thread = outer
                now.depth -= 1

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Let hooks run on other threads while a hook or timer on this one waits for the guest.

        Without, a guest that waits for a hook and a timer that waits for the guest would wait for each other.
        """
        now = self._now
        thread, depth = now.thread, now.depth if self.running_here else 0
        if depth:
            now.thread = now.depth = 0
        for _ in range(depth):
            self.lock.release()
        try:
            yield
        finally:
            for _ in range(depth):
                self.lock.acquire()
            if depth:
                now.thread, now.depth = thread, depth

    def _plan(self, access: Any) -> tuple[Hook, ...]:
        plans = self._plans  # of before the table is looked at: a swap makes new ones
        number = access_number(access)
        plan = plans.get(number)
        if plan is None:
            slot = WRITE if access.write else READ
            touched = self._blocks[access.region].at(access.offset, access.size)
            # Of registers that share bytes, the write-only one is not read, nor the read-only one written.
            mask = "written_mask" if access.write else "stored_mask"
            meant = [found for found in touched if getattr(found.register, mask)] or touched
            keys = ((access.region, register.element_name(index), slot) for register, index in meant)
            found = (self._table.get(key) for key in keys)
            plan = tuple(hook for hook in found if hook is not None and hook.enabled)
            if len(plans) >= CACHE_LIMIT:
                plans.clear()
            plans[number] = plan
        return plan

    def _call(self, hook: Hook, access: Any) -> bool:
        if isinstance(hook, NativeHook):
            return hook.run(self.handle, access)
        stalls, start = self.stalls, time.monotonic_ns()
        failed: BaseException | None = None
        nested = stalls.running is not None
        outer, stalls.called, stalls.called_at = (stalls.called, stalls.called_at), hook, start
        try:
            self._check_depth(nested)
            seen = self._describe(hook, access)
            result = hook.function(self.device) if hook.takes == 1 else hook.function(self.device, seen)
            if result is not None and hook.slot == READ:
                self._store(hook, access.region, result)
        except BaseException as error:
            failed = error
        stalls.called, stalls.called_at = outer
        self.settle()
        hook.ran(time.monotonic_ns() - start)
        if failed is not None:
            self.failed(hook, failed)
        return failed is None

    def _check_depth(self, nested: bool) -> None:
        """Refuse a hook too deep inside others, and all others until the first one has returned.

        A hook that touches its own register twice would otherwise run two to the power of the limit times.
        """
        if not nested:
            self._now.too_deep = 0
        elif self._now.too_deep or self._now.depth > DEPTH_LIMIT:
            self._now.too_deep = 1
            raise RecursionError(f"hooks touch registers that have hooks, {DEPTH_LIMIT} deep")

    def event(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Run ``on_reset``, or what the outside makes a device do, as a hook: one by one, never raising."""
        stalls, start = self.stalls, time.monotonic_ns()
        failed: BaseException | None = None
        with self.here():
            outer, stalls.event, stalls.event_since = (stalls.event, stalls.event_since), name, start
            try:
                self._check_depth(nested=self._now.depth > 2)
                function(*arguments)
            except BaseException as error:
                failed = error
            stalls.event, stalls.event_since = outer
            try:
                self.settle()
            except HookSkippedError as error:  # on the way in: a timer's thread must not end by it
                failed = failed or error
            if failed is not None:
                self._fail(name, failed)

    def _gather(self) -> None:
        """Add what native hooks failed with, which nobody told Python."""
        for history in list(self._history.values()):
            for hook in list(history):
                if isinstance(hook, NativeHook):
                    count, error = hook.untold()
                    if count:
                        self.failures.add(hook.key, error, hook.revision, count)

    def failed(self, hook: Hook, error: BaseException) -> None:
        """Count what a hook raised."""
        hook.errors += 1
        self._fail(hook.key, error, hook.revision)

    def failed_outside(self, error: BaseException) -> None:
        """Count what was raised beside every hook."""
        self._fail("hooks", error)

    def _fail(self, name: str, error: BaseException, revision: int = 0) -> None:
        if isinstance(error, KeyboardInterrupt):  # the user's Ctrl-C: the caller raises it again
            self.interrupted = threading.get_ident()
        with contextlib.suppress(Exception):  # a log handler, or the exception itself, may be broken
            self.failures.add(name, error, revision)

    def skip(self) -> str:
        """Answer the guest without the hook that runs now: raise HookSkippedError inside it; return its key.

        Also ends the function of a timer, or an ``on_reset``. What waits in C (``time.sleep``, a lock)
        notices when that returns. StateError when none runs.
        """
        return self._skip.ask(self._running_now)

    def _running_now(self) -> tuple[str, int]:
        (name, _), thread = self.stalls.now, self._now.thread
        if name and thread:
            return name, thread
        return f"{name} waits for an answer of the guest, and not for long" if name else "no hook runs now", 0

    def expect_end(self, seconds: float) -> None:
        """Return when what runs on another thread, if anything, has ended.

        Raises StateError naming it when that takes longer.
        """
        begun, end = self.stalls.now, time.monotonic() + seconds
        while self._now.thread not in (0, threading.get_ident()) and self.stalls.now == begun:
            if time.monotonic() > end:
                way_out = "hooks.skip() ends it"
                raise StateError(f"{begun[0] or 'a hook'} has not returned for {seconds:g} s: {way_out}")
            time.sleep(0.005)

    def _describe(self, hook: Hook, access: Any) -> Access:
        size = hook.register.size
        shift = 8 * (access.offset - hook.offset)
        whole = (1 << 8 * size) - 1
        mask = _shift((1 << 8 * access.size) - 1, shift) & whole
        value, old = _shift(access.value, shift) & whole, _shift(access.old, shift) & whole
        if mask != whole:  # a partial access: the rest of the register is as it is stored
            old |= lib.wb_region_word(self.handle, access.region, lib.WB_VALUE, hook.offset, size) & ~mask
        touch = Touch(hook.register, hook.index, bool(access.write), access.offset, access.size, mask)
        return Access(touch, ORIGINS[access.origin], value, old)

    def _store(self, hook: Hook, region: int, result: Any) -> None:
        # Not a poke of its own in the log: the read's record shows the value.
        data = fitting(hook, result).to_bytes(hook.register.size, "little")
        lib.wb_region_set(self.handle, region, lib.WB_VALUE, hook.offset, data, len(data))


def _hook(
    block: str,
    region: int,
    register: Register,
    index: int,
    slot: str,
    function: Callable[..., Any] | NativeCode,
) -> Hook:
    if isinstance(function, NativeCode):
        return NativeHook(block, region, register, index, slot, function)
    return Hook(block, region, register, index, slot, function)


def _shift(value: int, bits: int) -> int:
    return value << bits if bits >= 0 else value >> -bits


def _never_began(kind: object, error: BaseException, trace: TracebackType | None) -> None:
    """Take note of what came in the upcall itself, before the hook: Ctrl-C."""
    if trace is not None:
        ffi.from_handle(trace.tb_frame.f_locals["context"]).hooks.failed_outside(error)


@ffi.def_extern(onerror=_never_began)
def wb_python_hook(context: Any, access: Any) -> None:
    """Engine upcall: a guest touched bytes with a hook bit, and the short way is not for it."""
    ffi.from_handle(context).hooks.run(access)
