"""The feed ``state``: server, counters, rate, stalls, errors."""

from collections.abc import Mapping
from typing import Any

from .rate import Rate
from .source import Part, Source

__all__ = ["StateFeed"]

_TEXT = 4000  # letters of a traceback, the last ones
_ERRORS = 20


class StateFeed:
    """The header of the panel."""

    interval = 0.25

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._rate = Rate()
        self._last: dict[str, Any] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return the state, if it changed."""
        history, log = source.history, source.device.log
        json = {
            **_server(source.device),
            "total": log.total,
            "dropped": log.dropped,
            "rate": self._rate.of(source.now, history.reads + history.writes + history.missed),
            "reads": history.reads,
            "writes": history.writes,
            "flagged": history.flagged,
            "uncounted": history.missed,
            "stall": _stall(source.device),
            "errors": _errors(source),
            "subshells": source.subshells,
            "notice": source.device.notice,
        }
        if json == self._last:
            return None
        self._last = json
        return Part(json)


def _server(device: Any) -> dict[str, str]:
    server = device.server
    if server is None or server.state == "idle":
        return {"server": "stopped" if device.closed else "not served", "client": "", "error": ""}
    error = f"{type(server.error).__name__}: {server.error}" if server.error is not None else ""
    return {"server": server.state, "client": server.client or "", "error": error, "socket": server.path}


def _stall(device: Any) -> dict[str, Any]:
    stalls = device.hooks.stalls
    name, _ = stalls.now
    return {
        "waits": stalls.waits,
        "total_ms": round(stalls.total / 1e6, 2),
        "worst_ms": round(stalls.worst / 1e6, 2),
        "worst_cell": stalls.worst_cell,
        "now": {"hook": name, "seconds": round(stalls.seconds_in_hook, 1)} if name else None,
    }


def _errors(source: Source) -> list[dict[str, Any]]:
    found = [(one.name, one.revision, one.count, one.text) for one in source.device.hooks.failures]
    found += [(f"views: {name}", 0, count, text) for name, (text, count) in source.problems.items()]
    return [
        {"name": name, "revision": revision, "count": count, "text": text[-_TEXT:]}
        for name, revision, count, text in found[-_ERRORS:]
    ]
