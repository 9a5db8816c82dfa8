"""Lock: a re-entrant lock that ``with`` cannot lose, for what a hook may be inside when it is skipped.

CPython 3.14 calls a lock's ``__enter__`` as any other function, and after a call it raises what comes from
outside (a skip, Ctrl-C): the lock is taken then and its block not entered. Here no call is the last step.
"""

from _thread import RLock

__all__ = ["Lock"]

_ONCE = (True,)


class Lock(RLock):  # type: ignore[misc]
    """``threading.RLock``, safely entered; left by its own ``__exit__``, which is C and one step."""

    def __enter__(self) -> bool:  # type: ignore[override]
        (_,) = map(self.acquire, _ONCE)
        return True
