"""What of Python's buffers is bytes, and what addresses of the interpreter's own objects."""

import re

__all__ = ["refuse_objects"]


def refuse_objects(view: memoryview) -> None:
    """Raise TypeError for a buffer of Python objects: who stores bytes there ends the interpreter."""
    if "O" in re.sub(":[^:]*:", "", view.format):  # names of fields stand between colons
        raise TypeError(f"a buffer of Python objects ({view.format!r}) is no bytes of memory")
