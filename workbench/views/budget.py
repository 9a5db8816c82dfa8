"""How much may be sent: messages a second over all views of a device, and to one slow view."""

from collections import deque

__all__ = ["Budget", "Pace"]

MESSAGES = 24  #: in any second, over all views of a device
FRAMES = 20  #: of those, frames at most: the rest is kept for answers
ANSWERS = 12  #: and answers at most: somebody who floods the kernel with clicks still sees frames
PERIOD = 0.05  #: seconds between two frames of one view
LATE = 2.0  #: seconds after which a frame that is not acknowledged counts as late
SLOW_PERIOD = 0.5  #: seconds between frames to a view that is late
IN_FLIGHT = 12  #: frames not acknowledged yet, at most, before waiting for one


class Budget:
    """The messages of the last second: frames and answers."""

    def __init__(self) -> None:
        self._frames: deque[float] = deque()
        self._answers: deque[float] = deque()

    def delay(self, now: float, frame: bool) -> float:
        """Return the seconds until one more may be sent; 0: at once."""
        for sent in (self._frames, self._answers):
            while sent and sent[0] <= now - 1:
                sent.popleft()
        mine, most = (self._frames, FRAMES) if frame else (self._answers, ANSWERS)
        waits = [mine[0] + 1 - now] if len(mine) >= most else []
        if len(self._frames) + len(self._answers) >= MESSAGES:
            waits.append(min(sent[0] for sent in (self._frames, self._answers) if sent) + 1 - now)
        return max(waits, default=0.0)

    def spend(self, now: float, frame: bool) -> None:
        """Count one that is sent now."""
        (self._frames if frame else self._answers).append(now)


class Pace:
    """The frames of one view: numbered, acknowledged, and fewer when that comes late."""

    def __init__(self) -> None:
        self.seq = 0  #: of the last frame
        self._open: deque[tuple[int, float]] = deque()
        self._last = -1e9

    def sent(self, now: float) -> int:
        """Count a frame that is about to be sent; return its number."""
        self.seq += 1
        self._last = now
        self._open.append((self.seq, now))
        while len(self._open) > IN_FLIGHT:  # the oldest says since when it is late
            del self._open[1]
        return self.seq

    def acknowledged(self, seq: int) -> None:
        """Forget the frames up to ``seq``; numbers that were never sent are no acknowledgement."""
        if seq <= self.seq:
            while self._open and self._open[0][0] <= seq:
                self._open.popleft()

    def anew(self) -> None:
        """Forget what is open: the browser begins again."""
        self._open.clear()
        self._last = -1e9

    def late(self, now: float) -> bool:
        """Whether a frame has waited for its acknowledgement too long."""
        return bool(self._open) and now - self._open[0][1] >= LATE

    def delay(self, now: float) -> float:
        """Return the seconds until the view may be sent the next frame; 0: at once."""
        if self.late(now):
            return max(0.0, self._last + SLOW_PERIOD - now)
        if len(self._open) >= IN_FLIGHT:
            return self._open[0][1] + LATE - now
        return max(0.0, self._last + PERIOD - now)
