"""Device time: functions that run later, or again and again, on a thread of the device's own.

``dev.after()``, ``dev.every()`` and ``dev.defer()`` come from here. One thread a device, started at first
use and gone a second after the last timer. A timer's function runs as a hook does: one at a time, as the
device (log records say so), and what it raises goes where the failures of hooks go. A reset and ``close()``
cancel what is waiting. The clock is CLOCK_MONOTONIC.
"""

import contextlib
import inspect
import itertools
import math
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

from .engine import lib
from .errors import StateError
from .hooks import Hooks
from .lock import Lock
from .mistakes import call_problem, shown

__all__ = ["DeviceTime", "Timer", "Timers"]

LINGER = 1.0  #: seconds that the thread waits for another timer
LONGEST = 3600.0  #: seconds of one wait
JOIN_SECONDS = 5.0
YEAR = 365 * 86_400_000.0  #: ms

NOT_A_CALL = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_numbers = itertools.count()


class Timer:
    """A function that is due; ``dev.after()`` and ``dev.every()`` return it.

    ``name`` is "after(blink)" or the like, ``calls`` how often it ran, ``active`` whether it will run.
    """

    def __init__(
        self, owner: "Timers", kind: str, function: Callable[..., Any], args: tuple[Any, ...], period: int
    ) -> None:
        called = getattr(function, "__name__", type(function).__name__)
        self.name = f"{kind}({called})"
        self.calls = 0
        self.active = True
        self.due = 0  #: ns of CLOCK_MONOTONIC
        self.period = period  #: ns; 0: it runs once
        self.keep = False  #: over a reset
        self.turn = 0  # the request whose hook made it: it runs after the reply
        self.args = args
        self._owner = owner
        self._number = next(_numbers)
        self._function = function
        device = owner.device()
        # A method is looked up again each time, so that a swapped class brings its own.
        self._method = called if inspect.ismethod(function) and function.__self__ is device else ""

    def cancel(self) -> None:
        """Do not run (again). A call that runs now ends by itself. May be repeated, from any thread."""
        self._owner.forget(self)

    @property
    def function(self) -> Callable[..., Any]:
        """What to run now: the method of the class in force, or the function that was given."""
        if not self._method:
            return self._function
        found: Callable[..., Any] = getattr(self._owner.device(), self._method, self._function)
        return found

    def moved(self, owner: "Timers") -> None:
        """Belong to the timers of the core that took its own over."""
        self._owner = owner

    def again(self) -> None:
        """Wait for the next period; those that were missed meanwhile are left out."""
        late = time.monotonic_ns() - self.due
        self.due += self.period * max(1, math.ceil(late / self.period))
        self._owner.put(self)

    def __lt__(self, other: "Timer") -> bool:
        return (self.due, self._number) < (other.due, other._number)

    def __repr__(self) -> str:
        every = f" every {self.period / 1e6:g} ms" if self.period else ""
        return f"<Timer {self.name}{every}, {self.calls} calls{'' if self.active else ', done'}>"


class Timers:
    """The timers of one device; iterates over those that will run, the one that is due or runs now first."""

    def __init__(self, handle: Any, hooks: Hooks, device: Callable[[], Any]) -> None:
        self.device = device
        self._handle = handle
        self._hooks = hooks
        self._lock = Lock()  # taken bare: a condition is left by Python, which a skip may interrupt
        self._changed = threading.Condition(self._lock)
        self._waiting: list[Timer] = []
        self._taken: Timer | None = None  # by the thread: about to run, or running
        self._thread: threading.Thread | None = None
        self._closed = False
        self._successor: Timers | None = None  # who took over what was here
        self._held = False

    def __iter__(self) -> Iterator[Timer]:
        with self._lock:
            return iter(self._all())

    def add(
        self,
        kind: str,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        delay: int = 0,
        period: int = 0,
        keep: bool = False,
    ) -> Timer:
        """Run ``function(*args)`` after ``delay`` ns, then every ``period`` ns (0: once).

        Raises TypeError when the function cannot be called so, StateError when the device is closed.
        """
        _check_call(kind, function, args)
        timer = Timer(self, kind, function, args, period)
        timer.keep, timer.due = bool(keep), time.monotonic_ns() + delay
        timer.turn = lib.wb_turn_now(self._handle)
        if not self.put(timer):
            raise StateError(f"{self.device().name} is closed: nothing will run {timer.name}")
        return timer

    def put(self, timer: Timer) -> bool:
        """Let a timer wait, unless it was cancelled; False when the device is closed."""
        with self._lock:
            if not self._closed:
                if timer.active:
                    self._start()
                    insort(self._waiting, timer)
                    self._changed.notify_all()
                return True
        # One that ran while the others were taken over comes again there.
        return self._successor is not None and self._successor.put(timer)

    def forget(self, timer: Timer) -> None:
        """Cancel one timer."""
        with self._lock:
            timer.active = False
            with contextlib.suppress(ValueError):
                self._waiting.remove(timer)
            self._changed.notify_all()

    def reset(self, everything: bool = False) -> None:
        """Cancel those that do not outlive a reset, or all."""
        with self._lock:
            for timer in self._all():
                timer.active &= timer.keep and not everything
            self._waiting = [timer for timer in self._waiting if timer.active]
            self._changed.notify_all()

    def hold(self, on: bool) -> None:
        """Let nothing run, whatever is due, until ``hold(False)``: the device is stopped."""
        with self._lock:
            self._held = on
            self._changed.notify_all()

    def take(self, other: "Timers") -> None:
        """Take over what waits at another device's timers; one of the same name replaces its forerunner."""
        running, waiting = other.let_go(self)
        mine = [*running, *waiting]
        names = {timer.name for timer in mine}
        for timer in self:
            if timer.name in names:
                timer.cancel()
        for timer in mine:
            timer.moved(self)
        for timer in waiting:
            self.put(timer)

    def let_go(self, successor: "Timers | None" = None) -> tuple[list[Timer], list[Timer]]:
        """End the thread; return what it runs now and what waits, not cancelled."""
        with self._lock:
            self._successor = successor or self._successor
            running = [self._taken] if self._taken else []
            waiting = self._waiting
            self._waiting = []
            self._closed = True
            self._changed.notify_all()
        return running, waiting

    def close(self, timeout: float = JOIN_SECONDS) -> None:
        """Cancel everything and end the thread. May be repeated, and called by a hook or a timer.

        Raises StateError naming the function that has not returned within ``timeout`` seconds.
        """
        self.reset(everything=True)
        self.let_go()
        thread = self._thread
        # A hook that waited here would keep the timer waiting that is about to run.
        if thread is None or thread is threading.current_thread() or self._hooks.running_here:
            return
        thread.join(timeout)
        if thread.is_alive():
            name = self._taken.name if self._taken else "a timer"
            raise StateError(f"{self.device().name}: {name} has not returned for {timeout:g} s")

    def _all(self) -> list[Timer]:
        return [*([self._taken] if self._taken else []), *self._waiting]

    # -- the thread --

    def _start(self) -> None:
        if self._thread is None:
            name = f"workbench {self.device().name} time"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        lib.wb_thread_hurry()
        while (timer := self._next()) is not None:
            lib.wb_turn_wait(self._handle, timer.turn)
            if self._hooks.inside(self._call, timer) and timer.period:
                timer.again()

    def _next(self) -> Timer | None:
        """Wait until a timer is due and take it out; None when there has been none for a while."""
        with self._lock:
            self._taken = None
            while not self._closed:
                if self._waiting:
                    pause = (self._waiting[0].due - time.monotonic_ns()) / 1e9
                    if self._held:
                        pause = LONGEST
                    if pause <= 0:
                        self._taken = self._waiting.pop(0)
                        return self._taken
                    self._changed.wait(min(pause, LONGEST))
                elif not self._changed.wait(LINGER) and not self._waiting:
                    break
            self._thread = None
            return None

    def _call(self, timer: Timer) -> bool:
        """Call its function, if it may still run; False when it waits again, as the device was stopped."""
        if timer.active and self._held:  # since just now
            self.put(timer)
            return False
        if not timer.active:
            return True
        timer.active = timer.period > 0
        timer.calls += 1
        timer.turn = 0
        self._hooks.event(timer.name, lambda: timer.function(*timer.args))
        return True


class DeviceTime:
    """The part of a Device that knows time."""

    _core: Any

    def after(self, ms: float, run: Callable[[], Any], *, keep: bool = False) -> Timer:
        """Run a function once, ``ms`` milliseconds from now, on the device's own thread.

        ``run`` takes no argument. A reset of the device cancels it, unless ``keep``; so does ``cancel()`` of
        the Timer that is returned. Works before ``serve()``. Raises ValueError for a time that is none,
        TypeError for what cannot be called, StateError when the device is closed.
        """
        timers: Timers = self._core.timers
        return timers.add("after", run, delay=_nanoseconds(ms, "after"), keep=keep)

    def every(self, ms: float, run: Callable[[], Any], *, keep: bool = False) -> Timer:
        """Run a function every ``ms`` milliseconds until its ``cancel()``; otherwise like ``after()``.

        Periods that pass while the function (or another) runs are left out, not made up for. A device made
        anew in a cell goes on with it: where a hook is to cancel it, hand it over, as in
        ``def on_takeover(self, older): self.timer = older.timer``.
        """
        timers: Timers = self._core.timers
        period = _nanoseconds(ms, "every")
        if not period:
            raise ValueError("every(): the period is above 0 ms")
        return timers.add("every", run, delay=period, period=period, keep=keep)

    def defer(self, run: Callable[..., Any], *args: Any) -> Timer:
        """Run ``run(*args)`` soon, on the device's own thread: in a hook, after the guest got its answer.

        What takes long, or waits for the guest, belongs here. A reset cancels what has not begun.
        """
        timers: Timers = self._core.timers
        return timers.add("defer", run, args)


def _nanoseconds(ms: object, what: str) -> int:
    number = math.nan
    if not isinstance(ms, (bool, str)):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = float(ms)  # type: ignore[arg-type]
    if not 0 <= number <= YEAR:
        raise ValueError(f"{what}(): ms={shown(ms)}, expected milliseconds from 0 to a year")
    return round(number * 1e6)


def _plainly_takes(function: Any, count: int) -> bool:
    """Whether an ordinary function takes so many arguments; inspect says more, and takes far longer."""
    if isinstance(function, MethodType):
        function, count = function.__func__, count + 1
    if type(function) is not FunctionType or function.__dict__:
        return False
    code = function.__code__
    least = code.co_argcount - len(function.__defaults__ or ())
    most = math.inf if code.co_flags & inspect.CO_VARARGS else code.co_argcount
    return least <= count <= most and not code.co_kwonlyargcount and not code.co_flags & NOT_A_CALL


def _check_call(kind: str, function: Any, args: tuple[Any, ...]) -> None:
    if _plainly_takes(function, len(args)):
        return
    if problem := call_problem(function):
        raise TypeError(f"{kind}(): {problem.replace('a hook', 'what runs', 1)}")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some built-in functions do not say
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(f"{kind}(): {shown(function)} cannot be called so: {error}") from None
