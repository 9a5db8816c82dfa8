"""Ctrl-C at a moment that is known by what it finds, and not by the time: a busy machine has its own."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Interrupted", "interrupted_when", "sleeps", "waiting"]


class Interrupted(BaseException):
    """What Ctrl-C raises, without being mistaken for somebody's real Ctrl-C."""


@contextlib.contextmanager
def interrupted_when(true: Callable[[], object], raised: type[BaseException] = Interrupted) -> Iterator[None]:
    """Raise something in this thread, the main one, as soon as ``true()``, which another looks for."""
    main, over, hit = threading.get_ident(), threading.Event(), threading.Event()
    number = signal.SIGINT if raised is KeyboardInterrupt else signal.SIGUSR1

    def interrupt(*_: object) -> None:
        if not hit.is_set():
            hit.set()
            raise raised

    def watch() -> None:
        while not (over.wait(0.001) or true()):
            pass
        while not (over.is_set() or hit.wait(0.01)):  # again: it may have come just before a wait in C
            signal.pthread_kill(main, number)

    before, watcher = signal.signal(number, interrupt), threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(number, before)


def sleeps(thread: threading.Thread) -> int:
    """Return how often a thread has gone to sleep."""
    lines = Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def waiting(thread: threading.Thread) -> bool:
    """Whether a thread sleeps, and still does after longer than it waits for the interpreter."""
    stat, before = Path(f"/proc/self/task/{thread.native_id}/stat"), sleeps(thread)
    threading.Event().wait(0.03)
    return stat.read_text().rpartition(")")[2].split()[0] == "S" and sleeps(thread) == before
