"""The feed ``hooks``: what is set, since which revision, how often it ran and how long it took."""

from collections.abc import Mapping
from typing import Any

from .source import Part, Source

__all__ = ["HooksFeed"]


class HooksFeed:
    """The table of hooks."""

    interval = 0.25

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._last: list[dict[str, Any]] | None = None

    def poll(self, source: Source) -> Part | None:
        """Return every row, if one changed."""
        found = source.device.hooks.failures
        failures = {(failure.name, failure.revision): failure for failure in found}
        rows = [_row(source.device.hooks, hook, failures) for hook in source.device.hooks]
        if rows == self._last:
            return None
        self._last = rows
        return Part({"rows": rows})


def _row(hooks: Any, hook: Any, failures: Mapping[tuple[str, int], Any]) -> dict[str, Any]:
    failure = failures.get((hook.key, hook.revision))
    return {
        "key": hook.key,
        "function": hook.function_name,
        "cell": hook.cell,
        "revision": hook.revision,
        "calls": hook.calls,
        "median_us": round(hook.median / 1e3, 1),
        "max_us": round(hook.longest / 1e3, 1),
        "error": f"{type(failure.error).__name__}: {failure.error} ({failure.count}x)" if failure else "",
        "enabled": hook.enabled,
        "revisions": [one.revision for one in hooks.revisions(hook.key)],
    }
