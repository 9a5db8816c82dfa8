"""What ``vm.console`` is: the text so far, and when called a live view of it."""

from collections.abc import Sequence
from typing import Any

from ..errors import StateError

__all__ = ["ConsoleText", "plugged"]


class ConsoleText(str):
    """The console's text; calling it gives a live view. ``devices`` are the VM's."""

    devices: Sequence[Any]
    __slots__ = ("devices",)

    def __new__(cls, text: str, devices: Sequence[Any] = ()) -> "ConsoleText":
        """Return the text, remembering whose VM it is from."""
        self = super().__new__(cls, text)
        self.devices = devices
        return self

    def __call__(self) -> Any:
        """Return a live view of the console. Raises StateError when the VM has no device."""
        if not self.devices:
            raise StateError("the console is shown in the views of a device, and this VM has none")
        from ..views.widget import live

        return live(self.devices[0], "console")


def plugged(device: Any, machine: Any) -> None:
    """Tell the device's views which VM has it."""
    from ..views.machines import plugged

    plugged(device, machine)
