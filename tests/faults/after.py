"""What must be so after any fault: the server listens, the next client works, nothing is lost.

``still_fine(dev)`` works for every device, so that others can do to theirs what these tests do to ours::

    with still_fine(dev):
        ...  # the fault
"""

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator

from leaks import open_files

import workbench as wb

__all__ = ["SEED", "chance", "still_fine", "until"]

SEED = int(os.environ.get("SEED", "20261123"))  #: of everything that is chosen at random here


def chance(*what: object) -> random.Random:
    """Return random numbers that are the same each time, for one test."""
    return random.Random(repr((SEED, *what)))


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for what has no event of its own."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        threading.Event().wait(0.001)


@contextlib.contextmanager
def still_fine(dev: wb.Device, *, same_state: bool = False) -> Iterator[None]:
    """Check after the block that the device is as good as before, whatever was done to it.

    A client is served and finds the device, no file descriptor is lost, the server is not failed and no log
    record is missing. ``same_state``: registers and interrupts are as they were. Clients are to go.
    """
    files, state, seen = _with_a_client(dev), dev.snapshot(), dev.log.first + dev.log.total
    yield
    after = _with_a_client(dev)
    left = {fd: name for fd, name in after.items() if fd not in files}
    assert len(after) <= len(files), f"file descriptors are lost: {left}"
    assert dev.server is not None
    assert dev.server.error is None
    assert (dev.server.state, dev.server.client) == ("listening", None)
    assert dev.hooks.stalls.now[0] == ""
    assert dev.log.first + dev.log.total > seen
    sequence = dev.log.records()["seq"]
    assert list(sequence) == list(range(int(sequence[0]), int(sequence[0]) + len(sequence)))
    if same_state:
        assert not dev.diff(state), dev.diff(state)


def _with_a_client(dev: wb.Device) -> dict[int, str]:
    """Serve the next client; return the file descriptors while it is attached: all others are gone then."""
    with dev.connect() as guest:
        assert guest.config.read16(0) == dev.id.vendor
        assert guest.config.read16(2) == dev.id.device
        files = open_files()
    dev.server.wait_listening()
    return files
