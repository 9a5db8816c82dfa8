"""Watch: finds what a guest wrote to mapped pages, from a thread of its own, and puts it into the log."""

import threading
import weakref
from typing import Any

from .engine import check, ffi, lib

__all__ = ["Watch"]

MOST = 256  #: changed words of one sample that get a record each
SHORTEST, LONGEST = 1e-4, 3600.0  #: seconds between two samples


class _Sampler:
    """The engine's watch and what its thread and the others share; the thread keeps nothing else alive."""

    def __init__(self, handle: Any, watch: Any) -> None:
        self.handle = handle  # the watch is in it
        self.watch = watch
        self.lock = threading.Lock()
        self.counts = ffi.new("wb_watch_counts *")

    def run(self) -> None:
        lib.wb_watch_run(self.watch)
        with self.lock:
            lib.wb_watch_get(self.watch, self.counts)
            lib.wb_watch_free(self.watch)
            self.watch = None

    def stop(self) -> None:
        with self.lock:
            if self.watch is not None:
                lib.wb_watch_stop(self.watch)

    def count(self) -> Any:
        with self.lock:
            if self.watch is not None:
                lib.wb_watch_get(self.watch, self.counts)
        return self.counts


class Watch:
    """Samples mapped pages every ``period`` seconds; made by ``dev.bar0.watch()``, ended by ``stop()``.

    The guest's stores to mapped pages reach nobody, so a C thread (without the GIL) compares the pages with
    what they held before. Each changed word becomes a record of kind "mmap" in the log, with old and new
    value; its ``latency`` says within how many ns before its ``time`` it changed. Of one sample 256 words at
    most get their own record; one more, flagged "more", counts the rest. Values that come and go between
    two samples are not seen. Writes through ``memory`` look like the guest's; pokes are not told twice.
    """

    def __init__(self, region: Any, offset: int, size: int, period: float) -> None:
        if not SHORTEST <= period <= LONGEST:
            raise ValueError(f"period {period!r}: expected {SHORTEST:g} to {LONGEST:g} seconds")
        name = region.block.name
        self.name = f"{name}+{offset:#x}, {size:#x} bytes every {period:g} s"
        made, nanoseconds = ffi.new("wb_watch **"), int(period * 1e9)
        first, end = offset & ~7, (offset + size + 7) & ~7
        result = lib.wb_watch_new(region.handle, region.index, first, end - first, nanoseconds, MOST, made)
        check(result, f"watch {region.where(offset, size)}")
        self._sampler = _Sampler(region.handle, made[0])
        self._thread = threading.Thread(
            target=self._sampler.run, name=f"workbench watch {name}+{offset:#x}", daemon=True
        )
        try:
            self._thread.start()
        except BaseException:
            lib.wb_watch_free(made[0])
            raise
        # Who forgets the device without closing it is not left with a thread.
        core = region.hooks.owner()
        self._finalizer = weakref.finalize(self if core is None else core, self._sampler.stop)

    @property
    def running(self) -> bool:
        """Whether it samples."""
        return self._thread.is_alive()

    @property
    def samples(self) -> int:
        """Samples taken."""
        return int(self._sampler.count().samples)

    @property
    def changes(self) -> int:
        """Words found changed."""
        return int(self._sampler.count().changes)

    @property
    def unlogged(self) -> int:
        """Those of the changes that have no record of their own."""
        return int(self._sampler.count().unlogged)

    def stop(self) -> None:
        """Take a last sample and end; again is no error."""
        self._sampler.stop()
        self._finalizer.detach()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *rest: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<Watch {self.name}: {state}, {self.changes} changes in {self.samples} samples>"
