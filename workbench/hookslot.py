"""HookSlot: ``reg.on_write`` and ``reg.on_read``, a decorator for Python and a door for native code."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["HookSlot"]

Function = TypeVar("Function", bound=Callable[..., Any])


class HookSlot:
    """Decorate with it: ``function(device, access)`` runs when the guest touched the register.

    ``on_read`` hooks run before each guest read, and a number they return is poked; ``on_write`` hooks run
    after each guest write was stored. ``native`` takes machine code instead: it needs no interpreter.
    """

    __slots__ = ("_put",)

    def __init__(self, put: Callable[[Any], Any]) -> None:
        self._put = put

    def __call__(self, function: Function) -> Function:
        """Set the hook."""
        self._put(function)
        return function

    def native(self, code: Any = None, *, state: Any = 0) -> Any:
        """Hook with C source, a function that numba compiles, a ``numba.cfunc``, or a cffi function pointer.

        C source defines ``int hook(const wb_native *wb, wb_touch *access)``; ``engine/wb_native.h`` says what
        it is told and may call. ``state``: bytes of memory of its own, or a buffer. Returns the hook, whose
        ``state`` Python sees. Raises CompileError for what does not compile; see ``wb.native.code``.
        """
        if code is None:
            return partial(self.native, state=state)
        from . import native

        made = native.code(code, state)
        return self._put(made) or made

    def __repr__(self) -> str:
        return "<HookSlot: decorate a function with it, or call its native(...)>"
