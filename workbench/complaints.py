"""Complaints: what is told of clients that were cut off or sent away, once for each reason."""

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import Server

__all__ = ["Complaints"]

MOST_TOLD, LONGEST_TOLD = 20, 200  # reasons, letters: a client may send what it likes
#: Why a conversation that we ended was ended, by what wb_serve() returns.
ENDS = {
    -errno.EPROTO: "broke the protocol and was cut off: the log's last 'error' record says by which message",
    -errno.EMFILE: "was cut off: no file descriptors are left here to take those it sent (ulimit -n)",
}


class Complaints:
    """Warnings to the logger of a server's device; one that comes again is not to fill the page."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._told: set[str] = set()

    def tell(self, what: str, *words: object) -> None:
        """Tell of the client that is attached, or of one that wanted to be."""
        reason = (what % words)[:LONGEST_TOLD]
        if reason and reason not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(reason)
            device, client = self._server.device, self._server.client or "a client"
            device.logger.warning("%s: %s %s", device.name, client, reason)

    def ended(self, result: int) -> None:
        """Tell why a conversation was ended by us, if it was: what wb_serve() returned."""
        self.tell(ENDS.get(result, ""))

    def short(self, error: OSError) -> None:
        """Tell of a client that there is no room for."""
        self.tell("cannot be served yet: %s; it waits until there is room", error.strerror)

    def stranger(self, who: str) -> None:
        """Tell of a client that was sent away."""
        self.tell("(%s) was sent away: serve(users=[...]) names those who may connect", who)
