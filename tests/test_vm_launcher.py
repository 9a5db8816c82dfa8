import queue
import subprocess
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from workbench.vm import launcher


class Interrupted(Future):  # type: ignore[type-arg]
    """A job during which Ctrl-C is pressed, once."""

    pressed = False

    def result(self, timeout: float | None = None) -> "subprocess.Popen[bytes]":
        if not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt
        return super().result(timeout)


def test_a_child_that_is_born_during_ctrl_c_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: queue.SimpleQueue[launcher.Job] = queue.SimpleQueue()
    monkeypatch.setattr(launcher, "_launcher", SimpleNamespace(pid=launcher.os.getpid(), jobs=jobs))
    monkeypatch.setattr(launcher, "Future", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        launcher.spawn(["sleep", "1000"])
    child = subprocess.Popen(["sleep", "1000"])
    jobs.get()[0].set_result(child)
    assert child.returncode == -9


def test_a_child_that_cannot_be_started_is_an_error() -> None:
    with pytest.raises(OSError, match="descriptor"):
        launcher.spawn(["true"], fds=[9999])
