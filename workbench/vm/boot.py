"""Boot: one boot of the guest is waited for, its steps told, and what keeps it from coming up is found."""

import time
from collections.abc import Callable, Sequence

from ..errors import VmError
from .agent import Gone, Hung
from .devices import Servable, suspects
from .process import Process
from .progress import Telling

__all__ = ["Boot", "BootFailed", "KvmBroken"]

#: Seconds within which a guest under KVM must print something; a healthy one takes less than one.
KVM_PATIENCE = 12.0
#: Seconds of a boot after which it is said what may keep it waiting.
SUSPECT_AFTER = 5.0


class KvmBroken(VmError):
    """KVM is there and does not work: TCG may."""


class BootFailed(Exception):
    """The guest did not come up, or never will; the text says so in a line."""


class Boot:
    """A boot under way in ``process``; ``since``: where it begins in the console."""

    def __init__(
        self,
        process: Process,
        accel: str | None,
        devices: Callable[[], Sequence[Servable]],
        progress: Telling,
        since: int,
    ) -> None:
        self._process, self._accel, self._devices = process, accel, devices
        self._progress, self._since = progress, since
        self._started = time.monotonic()

    def wait(self, what: str, timeout: float) -> None:
        """Wait for the agent, which did not ``what`` in ``timeout`` seconds. Raises BootFailed, KvmBroken."""
        agent = self._process.agent
        try:
            agent.wait_ready(self._started + timeout, self._tell, self._check)
        except Gone:
            raise BootFailed("QEMU ended") from None
        except Hung:
            raise BootFailed(f"the guest did not {what} within {timeout} s") from None
        for problem in agent.failed_modules:
            self._progress.note(f"guest: module {problem}")
        self._progress.done(f"guest is up after {self._seconds():.1f} s ({self._accel})")

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _tell(self, step: str) -> None:
        self._progress("booting the guest: " + ("kernel is up" if step == "up" else f"loading {step}"), None)

    def _check(self) -> None:
        """Raise if this boot cannot succeed any more; else say how long it takes, and perhaps why."""
        _, console = self._process.console.log.since(self._since)
        seconds = self._seconds()
        if self._accel == "kvm":
            if problem := self._process.kvm_problem():
                raise KvmBroken(problem)
            if not console and seconds > KVM_PATIENCE:
                raise KvmBroken(f"the guest's kernel said nothing for {KVM_PATIENCE:.0f} s")
        if "Kernel panic" in console:
            raise BootFailed("the guest's kernel panicked")
        why = suspects(self._devices(), self._process.pid)[:1] if seconds > SUSPECT_AFTER else []
        self._progress(f"booting the guest: {seconds:.0f} s" + "".join(f", {each}" for each in why), None)
