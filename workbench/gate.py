"""Gate: where the guest's accesses wait while its device is paused, and pass one by one."""

import contextlib
import threading
from collections.abc import Iterator
from operator import index
from typing import Any

from .engine import lib
from .errors import StateError

__all__ = ["Gated"]


class Gated:
    """The part of a Server that lets the guest wait."""

    device: Any
    paused: bool
    running: Any
    ending: Any
    state: Any
    _lock: Any
    _changed: threading.Condition

    def pause(self) -> None:
        """Let the guest wait at its next register access. Its vCPU stands still meanwhile.

        QEMU gives up on a device after 5 s (``x-msg-timeout``); machines of ``wb.VM`` wait for a day.
        Raises StateError when the server does not run: the gate is the device's, and the next server's.
        """
        self._gate(True)

    def resume(self) -> None:
        """Let the guest go on."""
        self._gate(False)

    def step(self, accesses: int = 1) -> None:
        """Let so many accesses pass while paused. Raises StateError when the server is not paused."""
        if not self.paused:
            raise StateError(f"{self.device.name} is {self.state}: pause() it before step()")
        if not 0 < index(accesses) < 1 << 32:
            raise ValueError(f"step() lets 1 access or more pass, not {accesses}")
        lib.wb_gate_step(self.device._core.handle, accesses)

    @property
    def waiting(self) -> bool:
        """Whether an access of the guest waits at the gate now."""
        return bool(lib.wb_gate_waiting(self.device._core.handle))

    def _gate(self, closed: bool) -> None:
        with self._lock:
            if closed and (not self.running or self.ending):
                raise StateError(f"the server of {self.device.name} does not run: serve() before pause()")
            lib.wb_gate_pause(self.device._core.handle, int(closed))
            self.paused = closed
            self._changed.notify_all()

    @contextlib.contextmanager
    def gate_closed(self) -> Iterator[None]:
        """Let the guest's next access wait while the block runs, whoever pauses or steps meanwhile."""
        handle = self.device._core.handle
        lib.wb_gate_hold(handle, 0)
        try:
            yield
        finally:
            lib.wb_gate_release(handle)
