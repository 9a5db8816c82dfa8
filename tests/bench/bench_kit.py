"""Who takes part in a benchmark: a C client, our server, the peer's, a bare echo; how they are compared.

A row is a function of a ``Bench``. It starts what it needs (``ours(code)``, ``peer()``, ``floor()``) and
gives ``compare`` functions that measure: they take turns, each figure is the median of its rounds. All
programs run on the core ``bench.core`` unless told otherwise; all end with the row.
"""

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from workbench.compiler import find_compiler

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENGINE = ROOT / "workbench/engine"
#: A directory with libvfio-user.so and include/, built by hand; "": the rows beside it are skipped.
PEER = os.environ.get("PEER", "")

#: A card with a register that C answers: what most rows serve.
CARD = """
class Card(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0005)

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0, LOW=wb.Field(0, 8), HIGH=wb.Field(8, 24, mode="w1c"))
        STATUS = wb.Register(4, mode="ro")
        COUNT = wb.Register(8, mode="rc")

device = Card()
device.serve(path)
"""


class Absent(Exception):
    """A row cannot be measured here; says why."""


def alone(cores: set[int], thread: int = 0) -> None:
    """Pin a thread (0: this process), and let nothing else on its cores go first, if that is allowed."""
    os.sched_setaffinity(thread, cores)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, thread, -20)


@contextlib.contextmanager
def foremost(group: Path = Path("/proc/self/autogroup")) -> Iterator[None]:
    """Let no other session go first meanwhile, if that is allowed.

    Under autogroups (sched(7)) niceness counts inside a session alone. ``group`` is empty for a process
    that is still in the session of the machine's first one.
    """
    before = ""
    with contextlib.suppress(OSError):
        before = group.read_text().rpartition(" ")[2].strip()  # "/autogroup-25 nice 0"
        if before:
            group.write_text("-20")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if before:
                group.write_text(before)


class Program:
    """A process that answers each line with a line, pinned to ``cores``."""

    def __init__(self, command: Sequence[str | Path], cores: set[int]) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: alone(cores),
        )

    def tell(self, line: str) -> None:
        """Send a line; ``hear`` gets its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Return the next line it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args}: ended with {self.process.wait()}")
        return line.strip()

    def ask(self, line: str) -> str:
        """Send a line and return the answer."""
        self.tell(line)
        return self.hear()

    def close(self) -> None:
        """End it."""
        with self.process:
            self.process.terminate()


class Client(Program):
    """The C client (client.c) at a server's socket: ``client.measure("read 0 0 4 20000")`` is ns."""

    def measure(self, order: str) -> float:
        """Return the one figure that the order answers."""
        return float(self.ask(order))

    def figures(self, order: str) -> list[float]:
        """Return the figures that the order answers."""
        return [float(word) for word in self.ask(order).split()]


class Served(Program):
    """Our server in a Python process: ``run(code)`` in its main thread; ``answer`` comes back."""

    def start(self, code: str) -> None:
        """Begin to run code; ``finish`` returns its answer."""
        self.tell(json.dumps(code))

    def finish(self) -> Any:
        """Return the answer of what was started."""
        return json.loads(self.hear())

    def run(self, code: str) -> Any:
        """Run code and return its answer."""
        self.start(code)
        return self.finish()


@cache
def directory() -> Path:
    """Return the directory of this run: programs and sockets."""
    kept = tempfile.TemporaryDirectory(prefix="bench-")
    keep.enter_context(kept)
    return Path(kept.name)


keep = contextlib.ExitStack()
numbers = itertools.count()


@cache
def compiled(*sources: str, extra: tuple[str, ...] = ()) -> Path:
    """Compile C files of this directory (or by absolute path) to a program; return its path."""
    program = directory() / f"{Path(sources[0]).stem}-{next(numbers)}"
    files = [str(HERE / source) for source in sources]
    subprocess.run(
        [*find_compiler(), "-std=gnu11", "-O2", "-pthread", *files, *extra, "-o", str(program)], check=True
    )
    return program


class Bench:
    """What a row is given."""

    def __init__(self, peer: str = "", effort: float = 1.0, rounds: int = 15) -> None:
        self.peer_path = peer and str(Path(peer).resolve())
        self.effort = effort  # of a round: 1 for figures, less to see that it works
        self.rounds = rounds
        self.cores = sorted(os.sched_getaffinity(0))
        self.core = self.cores[-1]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def count(self, times: int) -> int:
        """Return how often to do what is done so many times at full effort."""
        return max(64, int(times * self.effort))

    def path(self) -> Path:
        """Return a new socket's path."""
        return directory() / f"{next(numbers)}.sock"

    def keep(self, program: Any) -> Any:
        """End a Program with the row."""
        self._stack.callback(program.close)
        return program

    def client(self, path: str | Path, *words: str, core: int | None = None) -> Client:
        """Connect the C client."""
        client = self.keep(
            Client([compiled("client.c"), path, *words], {self.core if core is None else core})
        )
        assert client.hear() == "ready"
        return client

    def ours(self, code: str = CARD, core: int | None = None) -> tuple[Served, Client]:
        """Serve what the code makes, connect the client; both on one core unless the server's is given."""
        path = self.path()
        server = self.serve(path, code, core)
        return server, self.client(path)

    def serve(self, path: Path, code: str, core: int | None = None) -> Served:
        """Start a process that runs the code, which serves at the path."""
        program = Served([sys.executable, HERE / "served.py", path], {self.core if core is None else core})
        self.keep(program).run(code)
        return program

    def library(self) -> tuple[str, ...]:
        """Return the compiler's arguments for libvfio-user; raises Absent without one."""
        if not self.peer_path:
            raise Absent("no PEER=: the directory of a libvfio-user built by hand")
        return (
            f"-I{self.peer_path}/include",
            f"{self.peer_path}/libvfio-user.so",
            f"-Wl,-rpath,{self.peer_path}",
        )

    def peer(self, core: int | None = None) -> Client:
        """Start the peer's server and connect the client; raises Absent without a peer."""
        return self.client(self.peer_server(core))

    def peer_server(self, core: int | None = None) -> Path:
        """Start the peer's server and return its socket; raises Absent without a peer."""
        return self._other(compiled("peer.c", extra=self.library()), core)

    def floor(self, core: int | None = None) -> Client:
        """Start the bare echo and connect the client, which knows nothing but `echo` then."""
        return self.client(self._other(compiled("echo.c"), core), "raw")

    def _other(self, program: Path, core: int | None) -> Path:
        path = self.path()
        server = self.keep(Program([program, path], {self.core if core is None else core}))
        assert server.hear() == "ready"
        return path

    def compare(self, *ways: Callable[[], float]) -> list[float]:
        """Let the ways take turns, the first of a round changing; return the median of each."""
        times: list[list[float]] = [[] for _ in ways]
        for round_ in range(-1, self.rounds):
            for way in range(len(ways)):
                which = (way + round_) % len(ways)
                figure = ways[which]()
                if round_ >= 0:
                    times[which].append(figure)
        return [statistics.median(one) for one in times]
