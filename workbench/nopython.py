"""What numba has to know: the two arguments of a native hook, as types that its compiled code can use.

In such a function ``access.value`` and the other members of ``wb_touch`` are attributes; ``wb.peek(region,
offset, size)``, ``poke``, ``trigger``, ``level``, ``now()``, ``dma_read(iova, array)`` and ``dma_write(iova,
array)`` are methods, and ``wb.state`` is an array of 64-bit words: all as in ``wb_native.h``.
"""

# numba is typed in parts only.
# mypy: disable-error-code="misc, untyped-decorator"

import linecache
from collections.abc import Callable
from functools import cache
from typing import Any

from .cells import place_of
from .engine import ffi
from .errors import CompileError, DescriptionError, Problem
from .native import RAISED

try:
    import numba
except ImportError as error:
    raise ImportError(
        "a native hook from a function needs numba: pip install 'pci-workbench[native]'"
    ) from error
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.imputils import lower_getattr_generic, lower_setattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, overload_attribute, overload_method, register_model

__all__ = ["check_cfunc", "compile_function", "signature"]


class Wb(types.Type):
    """``const wb_native *``."""

    def __init__(self) -> None:
        super().__init__("wb_native")


class Touch(types.Type):
    """``wb_touch *``."""

    def __init__(self) -> None:
        super().__init__("wb_touch")


WB, TOUCH = Wb(), Touch()
register_model(Wb)(models.OpaqueModel)
register_model(Touch)(models.OpaqueModel)

FIELDS = {
    name: getattr(types, f"uint{8 * ffi.sizeof(field.type)}")
    for name, field in ffi.typeof("wb_touch").fields
    if field.type.kind == "primitive"
}

#: Where a member is, bytes.
OFFSETS = {
    (struct, name): field.offset
    for struct in ("wb_touch", "wb_native")
    for name, field in ffi.typeof(struct).fields
}


@infer_getattr
class TouchAttributes(AttributeTemplate):
    """``access.value`` and the like."""

    key = Touch

    def generic_resolve(self, _: Any, attribute: str) -> Any:
        """Return the type of a member, None for what is none."""
        return FIELDS.get(attribute)


def _member(builder: Any, struct: str, pointer: Any, name: str, kind: Any) -> Any:
    place = cgutils.gep_inbounds(builder, pointer, OFFSETS[struct, name])
    return builder.bitcast(place, kind.as_pointer())


@lower_getattr_generic(Touch)
def _get(context: Any, builder: Any, kind: Any, value: Any, attribute: str) -> Any:
    member = context.get_value_type(FIELDS[attribute])
    return builder.load(_member(builder, "wb_touch", value, attribute, member))


@lower_setattr_generic(Touch)
def _set(context: Any, builder: Any, sig: Any, args: Any, attribute: str) -> None:
    member = context.get_value_type(FIELDS[attribute])
    builder.store(args[1], _member(builder, "wb_touch", args[0], attribute, member))


def _call(name: str, returns: Any, *takes: Any) -> Any:
    """Return signature and code of a call through a function pointer of ``wb_native``."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kinds = [context.get_value_type(kind) for kind in (WB, *takes)]
        result = context.get_value_type(returns)
        pointer = ir.FunctionType(result, kinds if takes else []).as_pointer()
        function = builder.load(_member(builder, "wb_native", args[0], name, pointer))
        return builder.call(function, args if takes else [])

    return returns(WB, *takes), generate


@intrinsic
def _peek(_: Any, wb: Any, region: Any, offset: Any, size: Any) -> Any:
    return _call("peek", types.uint64, types.uint32, types.uint64, types.uint32)


@intrinsic
def _poke(_: Any, wb: Any, region: Any, offset: Any, value: Any, size: Any) -> Any:
    return _call("poke", types.int32, types.uint32, types.uint64, types.uint64, types.uint32)


@intrinsic
def _trigger(_: Any, wb: Any, vector: Any) -> Any:
    return _call("trigger", types.int32, types.uint32)


@intrinsic
def _level(_: Any, wb: Any, source: Any, up: Any) -> Any:
    return _call("level", types.int32, types.uint32, types.int32)


@intrinsic
def _dma_read(_: Any, wb: Any, iova: Any, address: Any, size: Any) -> Any:
    return _call("dma_read", types.int32, types.uint64, types.uintp, types.uint64)


@intrinsic
def _dma_write(_: Any, wb: Any, iova: Any, address: Any, size: Any) -> Any:
    return _call("dma_write", types.int32, types.uint64, types.uintp, types.uint64)


@intrinsic
def _now(_: Any, wb: Any) -> Any:
    return _call("now", types.uint64)


@intrinsic
def _state(_: Any, wb: Any) -> Any:
    return types.voidptr(WB), _load("state", types.voidptr)


@intrinsic
def _state_size(_: Any, wb: Any) -> Any:
    return types.uint64(WB), _load("state_size", types.uint64)


def _load(name: str, kind: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_member(builder, "wb_native", args[0], name, context.get_value_type(kind)))

    return generate


#: The methods of the first argument, in the words of Python.
METHODS: dict[str, Callable[..., Any]] = {
    "peek": lambda wb, region, offset, size: lambda wb, region, offset, size: _peek(wb, region, offset, size),
    "poke": lambda wb, region, offset, value, size: (
        lambda wb, region, offset, value, size: _poke(wb, region, offset, value, size)
    ),
    "trigger": lambda wb, vector: lambda wb, vector: _trigger(wb, vector),
    "level": lambda wb, source, up: lambda wb, source, up: _level(wb, source, up),
    "dma_read": lambda wb, iova, array: (
        lambda wb, iova, array: _dma_read(wb, iova, array.ctypes.data, array.nbytes)
    ),
    "dma_write": lambda wb, iova, array: (
        lambda wb, iova, array: _dma_write(wb, iova, array.ctypes.data, array.nbytes)
    ),
    "now": lambda wb: lambda wb: _now(wb),
}
for _name, _method in METHODS.items():
    overload_method(Wb, _name)(_method)
WORDS: Callable[..., Any] = lambda wb: lambda wb: numba.carray(_state(wb), _state_size(wb) // 8, np.uint64)  # noqa: E731
overload_attribute(Wb, "state")(WORDS)


@cache
def signature() -> Any:
    """Return the signature of a hook for ``numba.cfunc``."""
    return types.int32(WB, TOUCH)


def check_cfunc(given: Any) -> None:
    """Raise DescriptionError for a ``numba.cfunc`` that does not take (wb, access), or returns no int32."""
    found = given._sig
    kinds: Any = types
    pointers = (Wb, Touch, kinds.RawPointer, kinds.CPointer)
    if (
        len(found.args) != 2
        or found.return_type != types.int32
        or not all(isinstance(one, pointers) for one in found.args)
    ):
        wanted = "int32(wb, access): numba.cfunc(wb.native.signature)"
        raise DescriptionError("a native hook", [f"{given.__name__} is {found}, a hook is {wanted}"])


def compile_function(function: Callable[..., Any]) -> Any:
    """Return a ``numba.cfunc`` that calls ``function(wb, access)``; what it raises makes the hook fail.

    Raises CompileError with what numba says, in the line it means.
    """
    inner = numba.njit(function)
    try:
        inner.compile((WB, TOUCH))
    except Exception as error:  # numba's own, and what goes wrong inside of it
        raise CompileError([_problem(function, error)]) from None
    returns = inner.overloads[(WB, TOUCH)].signature.return_type
    entry = _silent(inner) if returns == types.none else _answering(inner)
    try:
        made = numba.cfunc(signature())(entry)
    except numba.core.errors.TypingError:  # there is no int() of what it returns
        line, text = function.__code__.co_firstlineno, f"a hook returns a number or None, not {returns}"
        raise CompileError([Problem(_file(function), line, 0, text, "")]) from None
    made.__name__ = function.__name__
    return made


def _silent(inner: Any) -> Callable[..., Any]:
    def entry(wb: Any, access: Any) -> int:
        try:
            inner(wb, access)
        except Exception:
            return RAISED
        return 0

    return entry


def _answering(inner: Any) -> Callable[..., Any]:
    def entry(wb: Any, access: Any) -> int:
        try:
            return int(inner(wb, access))
        except Exception:
            return RAISED

    return entry


def _file(function: Callable[..., Any]) -> str:
    return place_of(function).partition(":")[0]


def _problem(function: Callable[..., Any], error: Any) -> Problem:
    """Return what numba complains about: its first words and the line they are about."""
    place = getattr(error, "loc", None)
    line = place.line if place is not None else function.__code__.co_firstlineno
    if isinstance(error, TypeError) and not isinstance(error, numba.core.errors.NumbaError):
        error = TypeError(f"a native hook takes (wb, access): {error}")
    said = [text.strip() for text in str(error).splitlines()]
    said = [
        text for text in said if text and not text.startswith(("Failed in", "File ", "During:", "<source"))
    ]
    text = linecache.getline(function.__code__.co_filename, line).rstrip()
    return Problem(_file(function), line, 0, said[0] if said else str(error), text)
