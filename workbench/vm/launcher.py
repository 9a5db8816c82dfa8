"""Child processes that die with this one, also when it is killed by SIGKILL.

The kernel's parent-death signal follows the *thread* that made the child, so children are started from one
daemon thread that never ends. A tiny wrapper sets the signal between fork and exec, because ``preexec_fn`` is
unsafe in a process with threads. The child gets a session of its own: Ctrl-C in the terminal misses it.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import IO

#: Sets PR_SET_PDEATHSIG (1) to SIGKILL, gives up if the parent is gone already, becomes the program.
WRAPPER = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1,9,0,0,0)\n"
    "os.getppid()==int(sys.argv[1]) or os._exit(1)\n"
    "os.execvp(sys.argv[2],sys.argv[2:])\n"
)

Job = tuple[Future["subprocess.Popen[bytes]"], list[str], tuple[int, ...], int, int]


class _Launcher(threading.Thread):
    """The permanent thread. One per process: a forked child makes its own."""

    def __init__(self) -> None:
        super().__init__(name="wb-launcher", daemon=True)
        self.pid = os.getpid()
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            future, command, fds, out, err = self.jobs.get()
            try:
                future.set_result(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        pass_fds=fds,
                        start_new_session=True,
                    )
                )
            except BaseException as error:
                future.set_exception(error)
            del future


_lock = threading.Lock()
_launcher: _Launcher | None = None


def spawn(
    command: Sequence[str],
    fds: Sequence[int] = (),
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start ``command`` with the file descriptors ``fds`` open in it. Raises OSError if that fails."""
    global _launcher
    with _lock:
        if _launcher is None or _launcher.pid != os.getpid():
            _launcher = _Launcher()
    wrapped = [sys.executable, "-I", "-S", "-c", WRAPPER, str(os.getpid()), *command]
    future: Future[subprocess.Popen[bytes]] = Future()
    out, err = (stream if isinstance(stream, int) else stream.fileno() for stream in (stdout, stderr))
    _launcher.jobs.put((future, wrapped, tuple(fds), out, err))
    try:
        return future.result()
    except BaseException:  # Ctrl-C: the child may be there, and nobody else will ever know of it
        future.add_done_callback(_end)
        raise


def _end(future: Future["subprocess.Popen[bytes]"]) -> None:
    if future.exception() is None:
        future.result().kill()
        future.result().wait()
