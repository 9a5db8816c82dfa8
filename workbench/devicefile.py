"""A device in a file of its own: load it, and take edits of the file over while it is served.

The file is run again when it was saved; defining the class again is what swaps it, as in a notebook
(``takeover.py``). A mistake in it is told as Python would, with file and line, and changes nothing.
"""

import os
import sys
import traceback
import types
import warnings
from pathlib import Path

from .device import Device
from .errors import StateError, WorkbenchError
from .takeover import WAY_OUT

__all__ = ["DeviceFile", "DeviceFileError"]

RESTART = "Close the VM, restart `workbench serve` and start the VM again"
PACKAGE = str(Path(__file__).parent) + os.sep


class DeviceFileError(WorkbenchError):
    """A device's file cannot be read or raises; the message has the traceback."""


def _python_error(error: BaseException) -> str:
    """Return the traceback as Python prints it, without the frames of this package."""
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if not frame.filename.startswith(PACKAGE)]
    )
    return "".join(told.format()).rstrip()


class DeviceFile:
    """``FILE.py`` or ``FILE.py:Class``. Raises StateError when there is no such file."""

    def __init__(self, wanted: str) -> None:
        head, colon, tail = wanted.rpartition(":")
        named = colon and tail.isidentifier() and not os.path.exists(wanted)
        self.path, self._class = Path(head if named else wanted), tail if named else ""
        if not os.path.isfile(self.path):  # Path.is_file() may raise
            raise StateError(f"there is no file {self.path}: give FILE.py or FILE.py:Class")
        self._name = f"workbench served {self.path.stem}"  # collides with no module
        self._stamp = self._look()

    def make(self, name: str | None = None) -> Device:
        """Return an instance of the file's device, called ``name`` if given.

        Raises DeviceFileError with what the file itself raised, StateError when it is not clear which class.
        """
        # What lies beside the file can be imported, as when Python runs it.
        sys.path.insert(0, str(self.path.resolve().parent))
        chosen = self._choose(self._run())
        try:
            return chosen() if name is None else chosen(name)
        except Exception as error:
            raise DeviceFileError(f"{self._class}() raised:\n{_python_error(error)}") from error

    def news(self, device: Device) -> str:
        """Run the file again if it was saved; return what became of that, "" when it was not."""
        stamp = self._look()
        if stamp in (self._stamp, ()):
            return ""
        self._stamp, before = stamp, type(device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            problem = ""
            try:
                module = self._run()
            except DeviceFileError as error:
                problem = str(error)
            else:
                if not hasattr(module, self._class):
                    problem = f"{self.path.name} has no class {self._class} any more"
        said = [str(warning.message).replace(WAY_OUT, RESTART) for warning in caught]
        kept = "goes on as it was" if type(device) is before else "was taken over nevertheless"
        if problem or type(device) is before:
            return "\n".join(["--", *said, *filter(None, [problem]), f"-- {self._class} {kept}"])
        return "\n".join([*said, f"-- {self.path.name} was saved: {self._class} is taken over in place"])

    def _look(self) -> tuple[int, ...]:
        """Return what changes when the file is saved; () while an editor has moved it away."""
        try:
            status = self.path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _run(self) -> types.ModuleType:
        # Not through the import system: its caches know the time of a change by the second.
        module = types.ModuleType(self._name)
        module.__file__ = str(self.path)
        before = sys.modules.get(self._name)
        sys.modules[self._name] = module
        try:
            exec(compile(self.path.read_bytes(), str(self.path), "exec"), module.__dict__)
        except Exception as error:
            if before is not None:
                sys.modules[self._name] = before
            raise DeviceFileError(f"{self.path.name} raised:\n{_python_error(error)}") from error
        return module

    def _choose(self, module: types.ModuleType) -> type[Device]:
        found = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Device) and value is not Device
        }
        own = {name: value for name, value in found.items() if value.__module__ == self._name}
        if not self._class and len(own or found) == 1:
            self._class = next(iter(own or found))
        if not found:
            raise StateError(f"{self.path.name} describes no device: a class of wb.Device is one")
        if self._class not in found:
            names = ", ".join(own or found)
            raise StateError(
                f"{self.path.name}: say which device, as {self.path.name}:Class; its devices: {names}"
            )
        return found[self._class]
