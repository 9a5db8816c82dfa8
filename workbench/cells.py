"""Which notebook cell: where a function was defined, and what the kernel is running now.

Works without IPython: then a function is named by file and line, and no cell is running.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["place_of", "running_cell", "source_of"]


def _shell() -> Any:
    interactive = sys.modules.get("IPython.core.interactiveshell")
    return interactive.InteractiveShell._instance if interactive is not None else None


def running_cell() -> str:
    """Return "In[5]" while that cell runs (or ran last), "" outside IPython."""
    shell = _shell()
    return f"In[{shell.execution_count}]" if shell is not None else ""


def place_of(function: Callable[..., Any]) -> str:
    """Return where a function was defined: "In[5]" when it is in the running cell, else "file.py:12"."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return type(function).__name__
    name: str = code.co_filename
    if "ipykernel_" in name or name.startswith("<ipython"):
        return running_cell()
    return f"{name.rpartition('/')[2]}:{code.co_firstlineno}"


def source_of(function: Callable[..., Any]) -> str:
    """Return the text of a function; "" when it cannot be had."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""
