"""How often something happens: a count, looked at again and again, over the last second."""

from collections import deque

__all__ = ["Rate"]

WINDOW = 1.0  #: seconds over which a rate is taken


class Rate:
    """The rate of one counter."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, now: float, count: int) -> int:
        """Return how much a second the counter grew lately; ``now`` in seconds."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        (begin, before), passed = self._seen[0], now - self._seen[0][0]
        return round((count - before) / passed) if passed > 0 and begin else 0
