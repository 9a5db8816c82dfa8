"""``@unseen``: a special method that works on instances and that the class does not seem to have.

IPython's completer asks the class whether ``__getattr__`` or ``__getitem__`` is its own, and if so completes
nothing behind it: they might run code on a device. Ours only explain mistakes, so they may stay unseen.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, cast

__all__ = ["unseen"]

Function = TypeVar("Function", bound=Callable[..., Any])


class _Unseen:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:  # what the bases have, AttributeError if they have none
            return getattr(super(self._owner, owner), self._name)
        return MethodType(self._function, instance)


def unseen(function: Function) -> Function:
    """Decorate ``__getattr__`` or ``__getitem__``: seen from the class, only the bases' exist."""
    return cast(Function, _Unseen(function))
