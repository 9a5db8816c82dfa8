"""One run of QEMU: its process, and all that connects it to us.

The console and the agent are socket pairs, its messages and its trace files in memory, QMP is opened when it
is first used. QEMU is killed when this object is closed or forgotten, and dies with this process.
"""

import re
import socket
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .agent import Agent
from .command import Wiring
from .console import Capture, Console
from .launcher import spawn

if TYPE_CHECKING:
    from .qmp import Qmp


def _reap(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


class Process:
    """A QEMU that runs ``command(wiring)`` with ``initrd`` in memory. Raises OSError when it cannot start."""

    def __init__(self, command: Callable[[Wiring], Sequence[str]], initrd: bytes) -> None:
        self.console, self.agent = Console(), Agent()
        self._errors, self._trace = Capture("stderr"), Capture("trace")
        self._texts: dict[str, str] = {}
        self._near, far = socket.socketpair()
        self._qmp: Qmp | None = None
        self._qmp_lock, self._close_lock = threading.Lock(), threading.Lock()
        self._closed = False
        image = Capture("initrd")
        fds = [each.fileno() for each in (self.console.far, self.agent.far, far)]
        try:
            image.write(initrd)
            wiring = Wiring(fds[0], image.path, self._trace.path, fds[1], fds[2])
            inherited = [*fds, image.fd, self._trace.fd]
            self._process = spawn(command(wiring), inherited, self._errors.fd, self._errors.fd)
        except BaseException:
            self._give_back()
            raise
        finally:
            for end in (far, image, self.agent.far, self.console.far):
                end.close()
        self._kill = weakref.finalize(self, _reap, self._process)

    @property
    def alive(self) -> bool:
        """True while QEMU runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, which may be over."""
        return self._process.pid

    def output(self) -> str:
        """Return what QEMU itself has printed."""
        return self._texts.get("output") or self._errors.text()

    def trace(self) -> str:
        """Return QEMU's own trace."""
        return self._texts.get("trace") or self._trace.text()

    def kvm_problem(self) -> str | None:
        """Return what QEMU says of a KVM that does not work, or None."""
        found = re.search(r"KVM internal error|.*failed to initialize kvm.*", self.output())
        return None if found is None else found[0].strip()

    def qmp(self, command: str, arguments: Mapping[str, object]) -> Any:
        """Execute a QMP command, see `qmp.Qmp`; it works while the agent runs something."""
        with self._qmp_lock:
            if self._qmp is None:
                from .qmp import Qmp  # asyncio is slow to import

                self._qmp = Qmp(self._near)
        return self._qmp.execute(command, arguments)

    def wait(self, timeout: float) -> None:
        """Wait for QEMU to end by itself, for at most ``timeout`` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def kill(self) -> None:
        """End QEMU with SIGKILL and wait for that; the rest stays open until `close`."""
        self._kill()

    def close(self) -> None:
        """End QEMU and give everything back; console, output and trace stay readable."""
        with self._close_lock:
            if not self._closed:
                self._closed = True
                self._kill()
                self._give_back()

    def _give_back(self) -> None:
        if self._qmp is not None:
            self._qmp.close()
        self._near.close()
        self.agent.close()
        self.console.close()
        self._texts = {"output": self._errors.text(), "trace": self._trace.text()}
        self._errors.close()
        self._trace.close()
