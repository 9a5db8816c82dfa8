"""What the guest's kernel says of its own faults on the console, each told once, as a Python warning.

A driver that crashes often does so in a thread of its own: the command that woke it succeeds, and only the
console knows. Under load a machine without KVM may look locked up to its guest; that is no fault of a driver.
"""

import re
import threading
import warnings

from .console import Transcript

__all__ = ["GuestKernelWarning", "Trouble"]

#: The lines of Linux's ``die()`` (numbered, [#1]), ``WARN()``, ``panic()``, its genirq and khungtaskd.
SIGNS = re.compile(
    r"^(?:\[ *[\d.]+\] )?(?P<said>.*?(?:\bBUG: (?!soft lockup)|WARNING: CPU: |\[#\d+\]|: nobody cared"
    r"|Kernel panic - |blocked for more than \d+ seconds).*)$",
    re.MULTILINE,
)

#: What to do about the one that a device of the workbench can bring about.
UNSEEN = (
    "(if it is INTx: no driver found it to be its own, as with a pulse, dev.irq.trigger(), that STATUS does"
    " not show; dev.irq.assert_() holds the line until deassert())"
)


class GuestKernelWarning(UserWarning):
    """The guest's kernel crashed, warned of itself or gave an interrupt up."""


class Trouble:
    """What was found so far in ``log``, the console of a VM."""

    def __init__(self, log: Transcript) -> None:
        self._log, self._seen, self._told = log, 0, 0
        self._lines: list[str] = []
        self._lock = threading.Lock()

    @property
    def lines(self) -> tuple[str, ...]:
        """All there are so far."""
        with self._lock:
            self._look()
            return tuple(self._lines)

    def _look(self) -> None:
        end, text = self._log.since(self._seen)
        whole = text[: text.rfind("\n") + 1]
        self._seen = end - len(text) + len(whole)
        self._lines += [found["said"] for found in SIGNS.finditer(whole)]

    def warn(self, depth: int) -> None:
        """Warn of what was not told yet, in the name of the caller ``depth`` frames up."""
        with self._lock:
            self._look()
            new, self._told = self._lines[self._told :], len(self._lines)
        if new:
            said = "the guest's kernel says, and more in vm.console:\n" + "\n".join(new)
            if any("nobody cared" in line for line in new):
                said += f"\n{UNSEEN}"
            warnings.warn(said, GuestKernelWarning, stacklevel=depth + 1)
