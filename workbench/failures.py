"""What hooks raised: counted by revision and place, the traceback logged the first time only."""

import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .errors import HookError
from .lock import Lock

__all__ = ["Failures", "HookFailure", "HookSkippedError"]

FRAMES = 20  #: of a traceback
KEPT = 200  #: failures; the one that happened longest ago goes first


class HookSkippedError(BaseException):
    """Raised inside a hook that runs, to answer the guest without it; ``except Exception`` lets it pass."""


@dataclass(frozen=True, repr=False)
class HookFailure:
    """The last exception raised in one place of one revision of a hook, and how often."""

    name: str  #: "bar0.CTRL.on_write", "on_reset"
    revision: int  #: of the hook; 0 for what has none
    error: BaseException
    text: str  #: the traceback
    count: int

    def __repr__(self) -> str:
        revision = f" rev {self.revision}" if self.revision else ""
        return f"<HookFailure {self.name}{revision} raised {_shown(self.error)}, {_times(self.count)}>"


def _place(error: BaseException) -> str:
    """Return where an exception was raised: file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""


class Failures:
    """The failures of one device's hooks, by revision, exception and place; the latest last."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        #: Adds what is known elsewhere, before they are looked at.
        self.gather: Callable[[], None] = lambda: None
        self._kept: dict[tuple[str, int, str, str], HookFailure] = {}
        self._lock = Lock()  # re-entrant: what is forgotten may have a __del__

    def __iter__(self) -> Iterator[HookFailure]:
        self.gather()
        return iter(list(self._kept.values()))

    def __len__(self) -> int:
        self.gather()
        return len(self._kept)

    def __getitem__(self, index: int) -> HookFailure:
        return list(self)[index]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no hook raised>"

    def add(self, name: str, error: BaseException, revision: int = 0, times: int = 1) -> None:
        """Count what a hook raised; log its traceback the first time this revision raises it there."""
        key = (name, revision, type(error).__name__, _place(error))
        if self._counted(key, times):
            error.__traceback__ = None
            return
        text = "".join(traceback.format_exception(error, limit=FRAMES))
        with self._lock:
            if self._counted(key, times):  # by another thread meanwhile
                return
            self._kept[key] = HookFailure(name, revision, error, text, times)
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        if not isinstance(error, KeyboardInterrupt):  # Ctrl-C reaches the user by itself
            self._logger.error("%s raised; %s\n%s", name, _unharmed(name), text)

    def _counted(self, key: tuple[str, int, str, str], times: int) -> bool:
        """Only count what is known: a guest may make a hook raise as often as it likes."""
        with self._lock:
            known = self._kept.pop(key, None)
            if known is not None:
                self._kept[key] = replace(known, count=known.count + times)
            return known is not None

    def clear(self) -> None:
        """Forget them."""
        self.gather()
        with self._lock:
            self._kept.clear()

    def check(self) -> None:
        """Raise HookError for the latest failure, its own exception as the cause; nothing if none."""
        self.gather()
        if kept := list(self._kept.values()):
            failure = kept[-1]
            said = f"{failure.name} raised {_shown(failure.error)} ({_times(failure.count)})"
            raise HookError(said) from failure.error


def _shown(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # it is the user's own class
        return type(error).__name__


def _times(count: int) -> str:
    return f"{count} time{'s' if count > 1 else ''}"


def _unharmed(name: str) -> str:
    """Say what holds although the hook of this name raised."""
    if name.endswith(".on_write"):
        return "the write is stored"
    return "the guest got the stored value" if "." in name else "the device goes on"
