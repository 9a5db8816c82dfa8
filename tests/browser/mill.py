"""A device to hammer at, and the guest that does it as fast as it can, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import until

HERE = Path(__file__).parent
DEVICE = (
    "import workbench as wb\n"
    "if 'dev' in globals(): dev.close()\n"
    "class Mill(wb.Device):\n"
    "    id = wb.PciId(vendor=0x1234, device=0x0B12)\n"
    "    irq = wb.Interrupts(intx=True)\n"
    "    class bar0(wb.Bar, size=4096):\n"
    "        DATA = wb.Register(0x00, 32, LOW=wb.Field(0, 8), HIGH=wb.Field(8, 24))\n"
    "        R = wb.Register(0x100, 32, count=32)\n"
    "dev = Mill()\n"
    "print(dev.serve().path)"
)


class Hammer:
    """A software guest in a process of its own."""

    def __init__(self, path: str, out: Path) -> None:
        self.out = out
        with out.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "hammer.py", path],
                stdin=subprocess.PIPE,
                stdout=file,
                cwd=HERE.parents[1],
            )

    def stop(self) -> int:
        """Stop it; return the last value it wrote."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        return int(self.out.read_text().split()[-1])

    def rates(self, begin: float, end: float) -> list[float]:
        """Return accesses per window of those windows that lie in a span of time."""
        lines = [line.split() for line in self.out.read_text().splitlines() if line[0].isdigit()]
        return [float(count) for at, count in lines if begin + 0.05 < float(at) <= end]


@contextmanager
def hammering(path: str, directory: Path) -> Iterator[Hammer]:
    hammer = Hammer(path, directory / "hammer.txt")
    try:
        until(lambda: hammer.out.stat().st_size, "the guest's first accesses", 30)
        yield hammer
    finally:
        if not hammer.process.stdin.closed:
            hammer.stop()
