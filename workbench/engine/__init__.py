"""The only door to the C engine: ``ffi``, ``lib``, ``check`` for its return codes, its enums as words.

Who may import it is in ``tests/test_layers.py``. The C interface is described in ``wb.h`` and ``wb_serve.h``,
which are also what cffi reads.
"""

import os

from ._engine import ffi, lib

__all__ = ["check", "ffi", "lib", "words_of"]


def check(result: int, what: str) -> int:
    """Return a non-negative result of a ``wb_`` function.

    Raises OSError with the engine's errno and ``what`` was being done when it is negative.
    """
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


def words_of(enum: str, prefix: str) -> dict[int, str]:
    """Return number -> lower-case name of a C enum, without the prefix and the counting member (WB_KINDS)."""
    elements: dict[int, str] = ffi.typeof(f"enum {enum}").elements
    counter = f"{enum}s".upper()
    return {n: text.removeprefix(prefix).lower() for n, text in sorted(elements.items()) if text != counter}
