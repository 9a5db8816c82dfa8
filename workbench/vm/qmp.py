"""QMP, QEMU's control protocol, through the ``qemu.qmp`` package on an event loop thread of its own.

So it works from any cell, also where a loop runs already.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import Any

from ..errors import StateError, VmError


class Qmp:
    """A QMP connection over ``sock``.

    Raises ImportError, naming the extra, when ``qemu.qmp`` is missing, `VmError` when QEMU does not answer.
    """

    def __init__(self, sock: socket.socket) -> None:
        try:
            from qemu.qmp import QMPClient, QMPError
        except ImportError as error:
            raise ImportError("vm.qmp() needs qemu.qmp: pip install 'pci-workbench[vm]'") from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wb-qmp", daemon=True)
        self._thread.start()
        self._client = QMPClient("workbench")
        sock.setblocking(False)
        try:
            self._wait(self._client.connect(sock), 10)
        except BaseException as error:
            self.close()  # nobody else will: there is no connection to be seen
            if isinstance(error, QMPError):
                raise VmError(f"QMP failed: {error}") from error
            raise

    def _wait(self, work: Any, timeout: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise VmError(f"QEMU did not answer on QMP within {timeout} s") from None

    def execute(self, command: str, arguments: Mapping[str, object], timeout: float = 30) -> Any:
        """Execute ``command`` and return its result. Raises `VmError` with QEMU's own words if it refuses."""
        from qemu.qmp import ExecuteError, QMPError

        if not self._thread.is_alive():
            raise StateError("the QMP connection is closed")
        try:
            return self._wait(self._client.execute(command, dict(arguments) or None), timeout)
        except ExecuteError as error:
            raise VmError(f"QEMU refused {command}: {error}") from error
        except QMPError as error:
            raise VmError(f"QMP failed at {command}: {error}") from error

    def close(self) -> None:
        """Hang up and end the loop's thread."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):  # QEMU may be gone already; that is what closing is for
            self._wait(self._client.disconnect(), 2)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2)
        self._loop.close()
