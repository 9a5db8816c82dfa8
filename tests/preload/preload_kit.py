"""The fake QEMU: a C program that attaches a device with VFIO calls, run with the library preloaded."""

import contextlib
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from native_kit import skip_where_it_cannot_run

import workbench as wb
from workbench import preload
from workbench.compiler import find_compiler

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "workbench/preload"
#: As QEMU is built: large files by default, and fortified.
FLAGS = ("-std=gnu11", "-g", "-O2", "-D_FILE_OFFSET_BITS=64", "-D_FORTIFY_SOURCE=2", "-pthread")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
TIMEOUT = 30


class Card(wb.Device):
    """What the fake QEMU attaches: registers in BAR0, a mapped BAR1, two mapped areas in BAR2, a ROM."""

    id = wb.PciId(vendor=0x1234, device=0x0B30)
    irq = wb.Interrupts(intx=True, msi=8, msix=40)
    rom = b"\x55\xaa" + bytes(4094)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0x00)
        SCRATCH = wb.Register(0x08)
        FIRE = wb.Register(0x10)
        LINE = wb.Register(0x14)

    class bar1(wb.Bar, size=0x10000, mmap=True):
        WORD = wb.Register(0x00)

    class bar2(wb.Bar, size=0x8000, mmap=[(0x4000, 0x1000), (0x1000, 0x2000)]):
        PLAIN = wb.Register(0x08, width=64)
        WORDS = wb.Register(0x1000, count=2)

    @bar0.FIRE.on_write
    def fire(self, access: wb.Access) -> None:
        self.irq.trigger(access.value)

    @bar0.LINE.on_write
    def line(self, access: wb.Access) -> None:
        (self.irq.assert_ if access.value else self.irq.deassert)()


@lru_cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="workbench-preload-")


@lru_cache
def build(name: str, *arguments: str | Path) -> Path:
    """Compile a program or library of that name; a warning is an error."""
    target = Path(_directory().name) / name
    command = [*find_compiler(), *FLAGS, *WARNINGS, *map(str, arguments), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def fake_qemu() -> Path:
    """The program, without the library."""
    return build("fake_qemu", *sorted(HERE.glob("fake_*.c")))


def sanitized(sanitizer: str) -> Path:
    """The program with the library linked in, both under a sanitizer."""
    flags = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-U_FORTIFY_SOURCE", "-O1")
    files = (*sorted(HERE.glob("fake_*.c")), *sorted(SOURCES.glob("*.c")))
    return build(f"fake_qemu_{sanitizer.partition(',')[0]}", *flags, *files, "-ldl")


def environment(**settings: str) -> dict[str, str]:
    """An environment with the library in it."""
    return os.environ | {"LD_PRELOAD": str(preload.path())} | settings


class Fake:
    """The program while it runs a scenario; ``until`` a step, look, then ``go`` on."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env),
        )  # fmt: skip
        self.errors = ""

    def line(self) -> str:
        """The next line it prints; what it complained of, when there is none."""
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT)
        text = os.read(self.process.stdout.fileno(), 4096).decode() if ready else "nothing in time"
        if not text:
            self.end()
        return text.strip()

    def until(self, name: str) -> None:
        """Wait until it is at that step."""
        assert self.line() == name

    def go(self) -> None:
        """Let it go on."""
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait for its end, which has to be a good one; return what it printed meanwhile."""
        out, errors = self.process.communicate(timeout=TIMEOUT)
        self.errors = errors.decode()
        skip_where_it_cannot_run(self.errors)
        assert self.process.returncode == 0, f"status {self.process.returncode}: {self.errors}"
        return out.decode()


@contextlib.contextmanager
def running(
    scenario: str,
    path: str | Path,
    *arguments: str | Path,
    program: Path | None = None,
    under: Sequence[str] = (),
    **settings: str,
) -> Iterator[Fake]:
    """Run a scenario to its good end; a program of its own needs no library."""
    env = os.environ | settings if program else environment(**settings)
    fake = Fake([*under, program or fake_qemu(), scenario, path, *arguments], env)
    try:
        yield fake
        fake.end()
    finally:
        if fake.process.poll() is None:
            fake.process.kill()
        fake.process.communicate()


def run(scenario: str, path: str | Path, *arguments: str | Path, **settings: str) -> Fake:
    """Run a scenario that has no steps."""
    with running(scenario, path, *arguments, **settings) as fake:
        pass
    return fake
