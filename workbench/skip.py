"""Skip: ends the hook or timer that runs now by an exception raised inside it, from another thread.

The interpreter raises it between two steps of the code, which may be over by then. So whoever has run a
hook calls ``settle()``, and what was not raised yet is taken back: it must not end the thread itself.
"""

import threading
from collections.abc import Callable
from typing import Any

from .errors import StateError
from .failures import HookSkippedError
from .lock import Lock

__all__ = ["Skip"]

ASKING = -1  # somebody looks what runs; no thread has this number


class Skip:
    """Skips of one device; ``now.asked`` is the thread that one is meant for, 0 when there is none."""

    def __init__(self, now: Any) -> None:
        self._now = now
        self._lock = Lock()

    def ask(self, running: Callable[[], tuple[str, int]]) -> str:
        """Raise HookSkippedError in what runs: its name and thread, 0 when none; return the name.

        Raises StateError when none runs.
        """
        with self._lock:
            self._now.asked = ASKING  # before looking: who ends meanwhile waits for us in settle()
            with threading.Lock():  # a barrier: without the GIL the processor may look first
                pass
            name, thread = running()
            self._now.asked = thread
            if not thread:
                raise StateError(name)
            _raise_in(thread, HookSkippedError)
            return name

    def settle(self) -> None:
        """Take back what was asked of the calling thread, if it has not been raised yet."""
        if self._now.asked:
            try:
                self._take_back()
            except HookSkippedError:  # it came just now, and comes once
                self._take_back()

    def _take_back(self) -> None:
        here = threading.get_ident()
        if self._now.asked in (ASKING, here):
            with self._lock:
                if self._now.asked == here:
                    _raise_in(here, None)
                    self._now.asked = 0


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise it at the next step of a thread; None: what was to be raised there is not."""
    import ctypes  # here, because importing the package should be quick

    what = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
