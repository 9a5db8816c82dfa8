"""One updating line for long steps: downloads, unpacking, booting.

On a terminal and in a notebook the line is rewritten when it changes; into a file, a pipe, or a notebook that
nobody looks at while it runs, each step is one plain line; under pytest nothing is shown.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

BAR = 24
#: Seconds between two rewrites of the line; a notebook keeps each until it is saved.
INTERVAL, NOTEBOOK_INTERVAL = 0.1, 0.5


class Telling(Protocol):
    """What long steps are told to: a Progress, or a caller's own."""

    def __call__(self, text: str, fraction: float | None = None) -> object:
        """Show that the step ``text`` is at ``fraction``."""

    def note(self, text: str) -> object:
        """Show one line that stays."""

    def done(self, text: str = "") -> object:
        """End the step."""


class Progress:
    """``progress(text, fraction)`` shows a step; ``progress.done(text)`` ends the line.

    ``fraction`` is 0..1 or None when nobody knows. What stands before the first colon of ``text`` names the
    step.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        notebook = "ipykernel.kernelapp" in sys.modules  # which shows stderr as if something were wrong
        self.stream = stream or (sys.stdout if notebook else sys.stderr)
        self.live = _attended() if notebook else self.stream.isatty()
        self._interval = NOTEBOOK_INTERVAL if notebook else INTERVAL
        self.quiet = stream is None and "PYTEST_CURRENT_TEST" in os.environ
        self._step = self._shown = ""
        self._next = 0.0

    def __call__(self, text: str, fraction: float | None = None) -> None:
        """Show that the step ``text`` is at ``fraction``."""
        step, now = text.partition(":")[0], time.monotonic()
        if self.quiet or (step == self._step and (not self.live or now < self._next)):
            return
        self._step, self._next = step, now + self._interval
        if self.live:
            self._rewrite(text if fraction is None else f"{_bar(fraction)} {text}")
        else:
            print(f"  {step}", file=self.stream, flush=True)

    def note(self, text: str) -> None:
        """Show one line that stays."""
        if self.quiet:
            return
        if self.live:
            self._rewrite(text)
            self.stream.write("\n")
            self._shown = ""
        else:
            self.stream.write(f"  {text}\n")
        self.stream.flush()
        self._step = ""

    def done(self, text: str = "") -> None:
        """End the updating line, with ``text`` in its place if there is any."""
        if text:
            self.note(text)
        elif self.live and self._shown:
            self._rewrite("")
        self._step = ""

    def _rewrite(self, text: str) -> None:
        text = text[:110]
        if text != self._shown:
            self.stream.write("\r" + text.ljust(len(self._shown)) + ("" if text else "\r"))
            self.stream.flush()
            self._shown = text


class _Function:
    """A function as a Progress: it is told notes as steps, and no end."""

    def __init__(self, show: Callable[[str, float | None], object]) -> None:
        self._show = show

    def __call__(self, text: str, fraction: float | None = None) -> None:
        self._show(text, fraction)

    def note(self, text: str) -> None:
        self._show(text, None)

    def done(self, text: str = "") -> None:
        pass


def telling(progress: Callable[[str, float | None], object]) -> Telling:
    """Return ``progress`` with ``note`` and ``done``, which a plain function has not."""
    return progress if isinstance(progress, Progress) else _Function(progress)


def _attended() -> bool:
    """Say whether a person may sit at the notebook: nbclient and the like allow no questions to them."""
    try:
        kernel = sys.modules["IPython"].get_ipython().kernel
        return bool(kernel.get_parent()["content"]["allow_stdin"])
    except (AttributeError, KeyError, LookupError):
        return True


def _bar(fraction: float) -> str:
    full = round(BAR * min(1.0, max(0.0, fraction)))
    return "█" * full + "░" * (BAR - full)
