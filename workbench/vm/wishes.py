"""What `VM()` is asked for, checked before anything starts: QEMU would end with words of its own."""

import os
import re
from collections.abc import Iterable, Mapping

__all__ = ["check_wishes", "words_of"]

#: As ``-m`` and ``memory-backend-memfd`` both take it; without a unit one means MiB and the other bytes.
MEMORY = re.compile(r"0*[1-9]\d{0,8}[KMGT]", re.ASCII | re.IGNORECASE)
YEAR = 365 * 86_400.0


def words_of(given: object, what: str, example: str) -> tuple[str, ...]:
    """Return one word or several as a tuple. TypeError when they are none, ValueError for an empty one."""
    words = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else None
    if words is None or isinstance(given, bytes | Mapping) or not all(isinstance(one, str) for one in words):
        raise TypeError(f"{what} is a text or several, such as {example}, not {given!r:.80}")
    for word in words:
        if not word.strip() or not word.isprintable():
            raise ValueError(f"{what} has {word!r:.80}: expected such as {example}")
    return words


def _check_timeout(timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout is in seconds, such as 120, not {timeout!r:.80}")
    if not 0 < timeout <= YEAR:
        raise ValueError(f"timeout is in seconds above 0, at most a year, not {timeout!r}")


def check_wishes(
    memory: object, timeout: object, append: object, files: object, paths: Mapping[str, object]
) -> None:
    """Raise TypeError or ValueError that says which argument is wrong, and what it should be.

    ``paths``: arguments that are None or a path, by name.
    """
    example = 'memory is a number and a unit, such as "256M" or "1G"'
    if not isinstance(memory, str):
        raise TypeError(f"{example}, not {memory!r:.80}")
    if not MEMORY.fullmatch(memory):
        raise ValueError(f"{example}, not {memory!r:.80}")
    _check_timeout(timeout)
    if not isinstance(append, str):
        raise TypeError(f"append is more of the kernel's command line, a text, not {append!r:.80}")
    if files is not None and not isinstance(files, Mapping):
        raise TypeError(f"files says what is in each path of the guest, path → bytes, not {files!r:.80}")
    for path, data in (files or {}).items():
        if not isinstance(path, str) or not isinstance(data, bytes | bytearray):
            raise TypeError(f"files is path → bytes, not {path!r:.80} → {type(data).__name__}")
    for name, path in paths.items():
        if path is not None and not isinstance(path, str | os.PathLike):
            raise TypeError(f"{name} is a path, or None for what is found or fetched, not {path!r:.80}")
        if path is not None and (not (text := os.fspath(path)) or "\0" in str(text)):
            raise ValueError(f"{name} is the path of a file, not {path!r:.80}")
