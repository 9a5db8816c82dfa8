"""Running hooks: one at a time on a device, whoever touches it, and never raising into the engine.

What the engine asks for comes here (``Running.run``) unless it goes the short way (``upcall.py``).
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from .engine import ffi, lib
from .errors import StateError
from .failures import Failures, HookSkippedError
from .hook import Access, Hook, Touch
from .lock import Lock
from .nativehook import NativeHook
from .skip import Skip
from .stalls import Stalls
from .upcall import ORIGINS, ShortWay, fitting

__all__ = ["Running"]

Result = TypeVar("Result")
DEPTH_LIMIT = 32  # of hooks that touch hooked registers; well before Python's own limit


class Running:
    """What runs on one device: hooks, timers' functions, ``on_reset`` and the like.

    One re-entrant lock lets one of them run at a time, whichever thread touches the device, and lets a hook
    touch its own device. ``failures`` is what they raised, ``stalls`` how long guests waited for Python.
    """

    def __init__(self, device: Any, handle: Any, short: ShortWay, logger: logging.Logger) -> None:
        self.device = device
        self.handle = handle
        self.lock = Lock()
        self.failures = Failures(logger)
        self.stalls = Stalls()
        self.short = self.stalls.short = short
        self._now = short.now
        self._skip = Skip(short.now)
        self.settle = self._skip.settle
        self.interrupted = 0  # the thread in whose hook Ctrl-C was pressed, until it is raised there
        short.lead(self)

    def plan(self, access: Any) -> tuple[Hook, ...]:
        """Return the hooks of the registers that a ``wb_access`` touches, in ascending order."""
        raise NotImplementedError

    @property
    def running_here(self) -> bool:
        """Whether the calling thread is inside a hook of this device."""
        return bool(self._now.thread == threading.get_ident())

    def origin(self) -> int:
        """Who acts now, as enum wb_origin: the device while one of its hooks runs here, else the notebook."""
        return int(lib.WB_DEVICE if self.running_here else lib.WB_NOTEBOOK)

    def run(self, access: Any) -> None:
        """Run the hooks of every register that a ``wb_access`` touches, in ascending order.

        Called by the engine on the thread of the access; never raises, says in ``flags`` what happened.
        The engine has set WB_HOOK_FAILED there: it stays unless all goes well.
        """
        flags = lib.WB_HOOK_FAILED
        try:
            self.stalls.waited(time.monotonic_ns() - access.time)
            flags = self.inside(self._run, access)
        except BaseException as error:  # Ctrl-C while waiting for another hook, out of stack or memory ...
            flags |= access.flags
            self.failed_outside(error)
        access.flags = flags

    def _run(self, access: Any) -> int:
        flags, generation = 0, self._now.generation  # of before the table is looked at
        plan = self.plan(access)
        if len(plan) == 1:
            self.short.open(generation, self.device, plan[0], access)
        for hook in plan:
            flags |= lib.WB_HOOK_RAN
            access.flags, access.revision = flags | lib.WB_HOOK_FAILED, hook.revision
            if not self._call(hook, access):
                flags |= lib.WB_HOOK_FAILED
        return flags

    def inside(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function as the device, while no hook runs on another thread; return what it returns.

        No context manager: one in Python keeps the lock when a skip comes while it is entered or left.
        """
        now, here = self._now, threading.get_ident()
        with self.lock:
            outer, now.thread = now.thread, here
            now.depth += 1
            try:
                return function(*arguments)
            finally:
                now.thread = outer
                now.depth -= 1

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """``inside()`` for the body of a ``with``, which no hook is to be skipped in."""
        now, here = self._now, threading.get_ident()
        with self.lock:
            outer, now.thread = now.thread, here
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
            if result is not None and not access.write:
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
        self.inside(self._event, name, function, arguments)

    def _event(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        stalls, start = self.stalls, time.monotonic_ns()
        failed: BaseException | None = None
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
