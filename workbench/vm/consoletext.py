"""What ``vm.console`` is: the text so far, and when called a live view of it."""

import weakref
from typing import Any

from ..errors import StateError

__all__ = ["ConsoleText"]


class ConsoleText(str):
    """The console's text; calling it gives a live view. It keeps no VM alive."""

    _machine: "weakref.ref[Any]"
    __slots__ = ("_machine",)

    def __new__(cls, text: str, machine: Any) -> "ConsoleText":
        """Return the text, remembering whose console it is."""
        self = super().__new__(cls, text)
        self._machine = weakref.ref(machine)
        return self

    def __call__(self) -> Any:
        """Return a live view of the console, in a device that is plugged in or was.

        Raises StateError when the VM never had one, or it is another VM's now.
        """
        from ..views.machines import devices_of

        devices = devices_of(self._machine())
        if not devices:
            raise StateError("the console is shown in the views of a device, and this VM has none")
        from ..views.widget import live  # anywidget is slow to import

        return live(devices[0], "console")
