"""Native code for hooks: C compiled from a text, a cffi function pointer, or what numba makes of a function.

``dev.bar0.CTRL.on_write.native(...)`` takes any of them; ``code(...)`` makes one without setting it. It runs
on the thread of the access and needs no interpreter, so it answers as fast while a cell computes. What it is
told and may call is in ``engine/wb_native.h``. ``signature`` is what ``numba.cfunc`` wants to know.
"""

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from .buffers import refuse_objects
from .cells import ELSEWHERE, Place, place_of, place_of_text, source_of
from .engine import ffi
from .errors import DescriptionError
from .mistakes import shown

__all__ = ["NativeCode", "code", "include_path", "signature"]

TAKEN = (
    "C source with int hook(const wb_native *wb, wb_touch *access), a function for numba,"
    " a numba.cfunc, or a cffi function pointer"
)
MOST_STATE = 1 << 30  #: bytes
RAISED = -(1 << 31)  #: returned by what numba compiled when it raised

signature: Any  #: the arguments of a ``numba.cfunc``: int32(wb, access)


def __getattr__(name: str) -> Any:
    if name != "signature":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .nopython import signature

    return signature()


def include_path() -> str:
    """Return the directory of ``wb_native.h`` (after ``wb_libc.h``), for a compiler of your own."""
    from .compiler import HEADERS

    return str(HEADERS)


class NativeCode:
    """A function in machine code that can be a hook, and where it came from.

    ``kind`` is "C", "numba" or "cffi", ``source`` its text if there is one, ``cell`` where that stands,
    ``state`` what was asked for. It stays loaded as long as it may run.
    """

    workbench_native = True  #: what a class body looks for

    def __init__(self, kind: str, name: str, address: int, keep: object, source: str, place: Place) -> None:
        self.kind = kind
        self.address = address
        self.source = source
        said = place.name.removeprefix(ELSEWHERE)
        whole = said.startswith("In[") or said != place.name
        self.cell = said if whole else f"{said}:{place.line}"
        self.state: Any = 0
        self.workbench_hooks: list[Any] = []  #: registers and slots, when it is the hook of a class
        self.where = (place.file, place.line)
        self.__name__ = f"{name} ({kind})"
        self.__module__, self.__qualname__ = place.module, f"{place.body}.{name}"
        self._keep = keep

    def __repr__(self) -> str:
        return f"<NativeCode {self.__name__} {self.cell}>"


def code(given: Any, state: Any = 0) -> NativeCode:
    """Return native code made of a C source, a function, a ``numba.cfunc`` or a cffi function pointer.

    ``state`` is how many bytes of memory each of its hooks gets (zeros; rounded up to 8), or an array or
    other writable buffer that all of them share. Raises CompileError for what does not compile, StateError
    without a compiler, ImportError without numba, DescriptionError for anything else.
    """
    place = place_of_text(given if isinstance(given, str) else "")
    made = _made(given, place)
    made.state = _checked_state(state, made)
    return made


def _made(given: Any, place: Place) -> NativeCode:
    if isinstance(given, NativeCode):
        again = NativeCode.__new__(NativeCode)
        vars(again).update(vars(given), workbench_hooks=[])
        return again
    if isinstance(given, str):
        from .compiler import compile_c

        library, address = compile_c(given, place)
        return NativeCode("C", "hook", address, library, given, place)
    if isinstance(given, type(ffi.NULL)):
        name = _checked_pointer(given)
        return NativeCode("cffi", name, int(ffi.cast("uintptr_t", given)), given, "", place)
    if type(given).__name__ == "CFunc" and hasattr(given, "address"):
        return _numba(given, place)
    if isinstance(given, FunctionType):
        from .nopython import compile_function

        return _numba(
            compile_function(given),
            place._replace(name=place_of(given).partition(":")[0], line=given.__code__.co_firstlineno),
            given,
        )
    raise DescriptionError("a native hook", [f"it is {_told(given)}, not {shown(given)}"])


def _told(given: object) -> str:
    if type(given).__name__ == "builtin_function_or_method":
        return 'the address of a function, as in ffi.addressof(lib, "hook")'
    if isinstance(given, MethodType):
        return "a function (wb, access) outside of any class, or a static one"
    if hasattr(given, "py_func"):
        return "the function itself, without numba.njit"
    return TAKEN


def _checked_pointer(given: Any) -> str:
    kind = ffi.typeof(given)
    fits = kind.kind == "function" and [one.kind for one in kind.args] == ["pointer"] * 2
    if not fits or kind.result.cname not in ("int", "int32_t"):
        wanted = "int (*)(const wb_native *, wb_touch *)"
        raise DescriptionError(
            "a native hook", [f"it is a pointer to a function, {wanted}, not {kind.cname}"]
        )
    if given == ffi.NULL:
        raise DescriptionError("a native hook", ["the pointer is NULL"])
    return "pointer"


def _numba(given: Any, place: Place, function: Callable[..., Any] | None = None) -> NativeCode:
    from .nopython import check_cfunc

    check_cfunc(given)
    python = function or given.__wrapped__
    source = source_of(python)
    return NativeCode("numba", python.__name__, given.address, given, source, place)


def _checked_state(state: Any, made: NativeCode) -> Any:
    state = int(state) if isinstance(state, np.integer) else state
    if isinstance(state, bool) or (isinstance(state, int) and not 0 <= state <= MOST_STATE):
        what = f"a number of bytes, up to 1 GiB, not {shown(state)}"
        raise DescriptionError(made.__name__, [f"state is {what}"])
    if isinstance(state, int):
        return (state + 7) & ~7
    try:
        view = memoryview(state)
        refuse_objects(view)
    except TypeError:
        view = None
    if view is None or view.readonly or not view.c_contiguous:
        what = "a number of bytes, or a contiguous buffer that can be written"
        raise DescriptionError(made.__name__, [f"state is {what}, not {shown(state)}"])
    return state
