"""Which notebook cell: where a function was defined, and what the kernel is running now.

Works without IPython: then a function is named by file and line, and no cell is running.
"""

import inspect
import linecache
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["ELSEWHERE", "Place", "place_of", "place_of_text", "running_cell", "source_of"]

ELSEWHERE = "C source of "  #: how a place begins where the text does not stand as it is


class Place(NamedTuple):
    """Where a text stands: in which cell or file, from which line on, and in the body of what."""

    name: str  #: "In[5]" or "file.py:12"
    line: int
    file: str
    module: str
    body: str  #: the class whose body it is in, "" outside


def _shell() -> Any:
    interactive = sys.modules.get("IPython.core.interactiveshell")
    return interactive.InteractiveShell._instance if interactive is not None else None


def running_cell() -> str:
    """Return "In[5]" while that cell runs (or ran last), "" outside IPython."""
    shell = _shell()
    # Not execution_count: newer IPythons count before a cell runs, older ones after it.
    return f"In[{len(shell.history_manager.input_hist_raw) - 1}]" if shell is not None else ""


def _cell_of(file: str) -> str:
    """Return "In[5]" for the file name that IPython gave to that cell's code, "" for any other."""
    shell = _shell()
    named = shell.compile.format_code_name(file) if shell is not None else None
    return str(named[1]) if named else ""


def place_of(function: Callable[..., Any]) -> str:
    """Return where a function was defined: "In[5]" when that is a cell, else "file.py:12"."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return type(function).__name__
    name: str = code.co_filename
    return _cell_of(name) or f"{name.rpartition('/')[2]}:{code.co_firstlineno}"


def source_of(function: Callable[..., Any]) -> str:
    """Return the text of a function; "" when it cannot be had."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def place_of_text(text: str) -> Place:
    """Return where a text stands that a cell or file hands to us, if it stands there as it is.

    Otherwise lines count from 1, and the name says so.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    file, body = frame.f_code.co_filename, frame.f_locals.get("__qualname__", "")
    cell = _cell_of(file)
    name = cell or file.rpartition("/")[2]
    lines = linecache.getlines(file)
    whole, here = "".join(lines), len("".join(lines[: frame.f_lineno - 1]))
    at = max(whole.find(text, here), whole.find(text)) if text else -1  # from the call on, or before it
    line = whole[:at].count("\n") + 1 if at >= 0 else frame.f_lineno
    if text and at < 0:
        name, line = f"{ELSEWHERE}{name}" if cell else f"{ELSEWHERE}{name}:{frame.f_lineno}", 1
    return Place(name, line, file, frame.f_globals.get("__name__", ""), body)


def _ours(module: str) -> bool:
    return module.startswith("workbench.") and not module.startswith("workbench.devices.")
