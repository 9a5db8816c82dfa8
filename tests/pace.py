"""How long work takes, against other work in the same run: a slow or busy machine fails no test."""

import gc
import time
from collections.abc import Callable


def cost(*works: Callable[[], object], rounds: int = 3) -> list[float]:
    """Return the least processor time of each, in seconds; they take turns, the collector off."""
    found: list[list[float]] = [[] for _ in works]
    gc.disable()
    try:
        for _ in range(rounds):
            for times, work in zip(found, works, strict=True):
                began = time.process_time()
                work()
                times.append(time.process_time() - began)
    finally:
        gc.enable()
    return [min(times) for times in found]
