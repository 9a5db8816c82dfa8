"""The only door to the C engine: ``ffi``, ``lib``, and ``check`` for its return codes.

Who may import it is in ``tests/test_layers.py``. The C interface is described in ``wb.h``, which is also
what cffi reads.
"""

import os

from ._engine import ffi, lib

__all__ = ["check", "ffi", "lib"]


def check(result: int, what: str) -> int:
    """Return a non-negative result of a ``wb_`` function.

    Raises OSError with the engine's errno and ``what`` was being done when it is negative.
    """
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result
