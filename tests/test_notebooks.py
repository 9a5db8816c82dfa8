"""The notebooks run: headless, twice in one kernel and in another order, and leave nothing behind."""

import asyncio
import glob
import os
import random
import select
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_core.utils import ensure_event_loop, run_sync
from leaks import sockets
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
FIRST = ROOT / "notebooks" / "01-first-device.ipynb"
TOGGLE = "0 0 0 1 1 1 0 0 0 1 1 1"
PROBE = """
import gc, os, threading
gc.collect()
print(len(os.listdir("/proc/self/fd")), len(threading.enumerate()))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def event_loop() -> Iterator[None]:
    """Make the event loop that nbclient would leave behind, and close it in the end."""
    loop = ensure_event_loop()
    yield
    loop.close()
    asyncio.set_event_loop(None)


class Kernel:
    """A notebook and the kernel it runs in."""

    def __init__(self, path: Path, **env: str) -> None:
        self.notebook = nbformat.read(path, 4)
        self.client = NotebookClient(self.notebook, timeout=180, resources={"metadata": {"path": str(ROOT)}})
        self.vm = False  #: whether a virtual machine can be had
        self.env = {**os.environ, "PYTHONWARNINGS": "default", **env}

    def __enter__(self) -> "Kernel":
        self.client.create_kernel_manager()
        self.client.start_new_kernel(env=self.env)
        self.client.start_new_kernel_client()
        return self

    def __exit__(self, *_: object) -> None:
        self.client._cleanup_kernel()

    @property
    def pid(self) -> int:
        return int(self.client.km.provisioner.pid)

    def run(self, cells: list[int]) -> dict[int, Any]:
        """Execute cells by number; return their outputs. Raises CellExecutionError."""
        return {n: self.client.execute_cell(self.notebook.cells[n], n).outputs for n in cells}

    def ask(self, source: str) -> str:
        cells = self.notebook.cells
        cells.append(nbformat.v4.new_code_cell(source))
        try:
            return text(self.client.execute_cell(cells[-1], len(cells) - 1).outputs)
        finally:
            cells.pop()

    @property
    def code(self) -> list[int]:
        return [n for n, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"]

    def find(self, words: str) -> int:
        """Return the number of the cell that contains the words."""
        return next(n for n in self.code if words in self.notebook.cells[n].source)


def text(outputs: Any) -> str:
    return "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stdout")


def users(word: str) -> list[int]:
    """Return the processes that have the word in their command line."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            line = Path(path).read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if word.encode() in line:
            found.append(int(path.split("/")[2]))
    return found


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment in which no virtual machine can be had: no programs but a compiler's, an empty cache."""
    for name in ("cc", "gcc", "as", "ld"):
        if found := shutil.which(name):
            (tmp_path / name).symlink_to(found)
    return {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}


@pytest.fixture(params=["software guest", pytest.param("virtual machine", marks=pytest.mark.vm)])
def kernel(request: pytest.FixtureRequest, nowhere: dict[str, str]) -> Iterator[Kernel]:
    vm = request.param == "virtual machine"
    with Kernel(FIRST, **({} if vm else nowhere)) as kernel:
        kernel.vm = vm
        yield kernel


def check_outputs(kernel: Kernel, outputs: dict[int, Any]) -> None:
    assert TOGGLE in text(outputs[kernel.find("def twelve_reads")])
    assert "after:  0x5a" in text(outputs[kernel.find('print("after: ')])
    told = text(outputs[kernel.find("wb.VM(")])
    assert TOGGLE in told
    if kernel.vm:
        assert "494f:0dc8" in told
        assert "loopback: " + " ".join("1" * 12) in told
    else:
        assert told.startswith("No VM, so the software guest reads: ")
    for words in ("last=600", "max_lanes"):
        assert "image/png" in outputs[kernel.find(words)][-1].data
    shown = outputs[kernel.find("dev.serve()")][-1].data
    assert "listening on" in shown["text/plain"]
    assert "494f:0dc8" in shown["text/html"]


def test_a_notebook_runs_twice_in_one_kernel_then_in_any_order(kernel: Kernel) -> None:
    check_outputs(kernel, kernel.run(kernel.code))
    check_outputs(kernel, kernel.run(kernel.code))
    before = kernel.ask(PROBE)
    assert len(nbformat.writes(kernel.notebook)) < 1_000_000
    shuffled = [n for n in kernel.code if not kernel.vm or "wb.VM(" not in kernel.notebook.cells[n].source]
    random.Random(1).shuffle(shuffled)
    kernel.run([*shuffled, kernel.find("dev = Gpio()")])
    assert kernel.ask(PROBE) == before


#: What the other notebooks of the course must show, by words of the cell.
SHOWN = {
    "00-tour": {
        "Counter(record": "} COUNT ",
        "guest.wait_irq()": "delivered\n1 interrupt\n",
        "guest.bar0.read32": "0x3\n",
    },
    "02-hot-swap": {"access.old + 1": " by rev ", "hooks.diff": "\n+", "read=lambda": "0x55 by rev "},
    "03-debugging-a-driver": {
        "delivered(guest)\nprint": "LOAD is 0 and the interrupt line is up",
        "record.changes": "[(), (), ()]",
        "irq_count": "0 more interrupts, 0 flagged",
        "dev.server.pause()": "DONE 1→0",
        "trace=True": "REGION_WRITE at=bar0+0x8",
    },
    "04-interrupts-and-dma": {
        "asked += 1": "3628800 after asking ",
        "0x20, 0x80)\n    guest": "1 interrupt, cause 0x1 <INTx asserted ",
        "guest.enable_msi()": "3 messages, MSI and the line is <INTx idle",
        "guest.msix.mask(2)": "delivered masked masked | pending bits 0b100\nvector 1: 1 vector 2: 1 <MSI-X",
        "0xFFF8": "rw messages without fd>\nb'across two kinds'\nb'written by the device'\n",
        "0b111": "in the device: b'hello, device'\nand back: b'hello, device' 1 interrupt\n",
        "0x0BAD0000": "0xbad0000: the guest has mapped no memory there",
        "wb.VM(": "1 interrupt\nb'hello from here!'\n",
    },
    "05-serial-port": {
        'b"hello': "'hello\\n'\n",
        "0123456789": "16 in the FIFO, 4 outside: 0123456789abcdefghij",
        "dev.baud": "DIVISOR=0>\n150 baud",
        '"defgh"': "3 bytes: ['TIMEOUT']\n8 bytes: ['DATA']\n",
        "guest.wait_irq()": "1 interrupt, <INTA asserted",
    },
    "06-screen": {
        "colours.tobytes()": "(200, 320, 3) [0 0 0] [255   0   0] [255 255   0]\n",
        "0xFFFFFF\n": "4800 pixels changed\n",
        "row 50 comes first": "row 50 comes first: [64  0  0] [64  0  0]\n",
        "vm is None": "(768, 1024, 3) and 688128 pixels are not black\n",
        "different ones": "48 rows of 128 letters, 8 different ones\n",
        "print(watch)": "stopped, 32 changes",
    },
    "07-disk": {
        "*dev.submissions": "EN=1 ",
        "run(start(guest), 6, 1)": "status 0x0\n[b'Nvme', b'workbench', b'NVMe']\n",
        "the disk itself": "status 0x0 b'written by a driver'\nstatus 0x0 b'changed by the disk itself'\n",
        '"opcode", (0x7F,)': "block 0x80\nopcode 0x1\nmemory 0x4\n",
        "for kind in Worn": "Worn block 63: 0x0 block 64: 0x281\nNvme block 63: 0x0 block 64: 0x0\n",
        "work(vm)": "It was a dark and stormy night\n",
        "at block": " b'It was a dark and stormy night'\n",
    },
    "08-three-gears": {
        'gear("declared"': "declared: bit 0 of CAUSE is 0. ",
        'gear("Python"': "Python: bit 0 of ACK is 0. ",
        'gear("C"': "C: bit 0 of ACK is 0. ",
        'gear("numba"': "numba: bit 0 of ACK is 0. ",
        "before = hook": "True 0\n",
        "include_path": "int (*poke)(const wb_native *wb, ",
        "wb.CompileError": ":4: 'wb_native' has no member named 'pok'; did you mean 'poke'?\n",
        "fails = ": "it returned -5 (Input/output error)\n",
    },
}
SETTLE = """
import gc, threading
gc.collect()
for thread in threading.enumerate():
    if "software" in thread.name or "blink" in thread.name or thread.name.endswith(" time"):
        thread.join(10)
"""


def check_shown(name: str, kernel: Kernel, outputs: dict[int, Any]) -> None:
    for words, said in SHOWN[name].items():
        assert said in text(outputs[kernel.find(words)]), words


def run_course(name: str, kernel: Kernel, shuffled: bool) -> None:
    for _ in range(2):
        check_shown(name, kernel, kernel.run(kernel.code))
    before = kernel.ask(SETTLE + PROBE)
    assert len(nbformat.writes(kernel.notebook)) < 1_000_000
    if shuffled:
        cells = list(kernel.code)
        random.Random(2).shuffle(cells)
        kernel.run([*cells, kernel.code[-1]])
        assert kernel.ask(SETTLE + PROBE) == before


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_course_runs_twice_in_one_kernel_then_in_any_order(name: str, nowhere: dict[str, str]) -> None:
    with Kernel(ROOT / f"notebooks/{name}.ipynb", **nowhere) as kernel:
        run_course(name, kernel, True)


@pytest.mark.vm
def test_hooks_are_swapped_under_linux_own_driver() -> None:
    with Kernel(ROOT / "notebooks/02-hot-swap.ipynb") as kernel:
        run_course("02-hot-swap", kernel, False)
        assert "qemu" in kernel.ask("print(dev.server.client)")
        kernel.ask("vm.close()")


@pytest.mark.vm
def test_a_program_in_linux_waits_for_an_interrupt_and_lets_the_edu_fetch_its_bytes() -> None:
    with Kernel(ROOT / "notebooks/04-interrupts-and-dma.ipynb") as kernel:
        outputs = kernel.run(kernel.code)
        told = text(outputs[kernel.find("wb.VM(")])
        assert "0x010000ED\n          1\n0x00375F00\n" in told
        assert "b'hello from Linux'\n" in told
        assert "IOVA 0x4000000, 16 bytes" in str(outputs[kernel.find('origin="device")[-6:]')])


@pytest.mark.vm
def test_a_shell_of_linux_is_talked_to_through_the_serial_port() -> None:
    with Kernel(ROOT / "notebooks/05-serial-port.ipynb") as kernel:
        told = text(kernel.run(kernel.code)[kernel.find("wb.VM(")])
        assert "→ 42\n" in told
        assert "uart:16550A" in told
        assert "→ QUIETLY\n" in told
        kernel.run([n for n in reversed(kernel.code) if "wb.VM(" not in kernel.notebook.cells[n].source])


@pytest.mark.vm
def test_linux_shows_its_console_on_the_screen_of_the_notebook() -> None:
    with Kernel(ROOT / "notebooks/06-screen.ipynb") as kernel:
        for _ in range(2):
            outputs = kernel.run(kernel.code)
            assert "1024x768\n800x600\n640x480\n48 128" in text(outputs[kernel.find("wb.VM(")])
            read = text(outputs[kernel.find("different ones")])
            assert 40 < int(read.split()[-3]) < 130, read  # and 6,144 if a row were a byte off
        kernel.ask("vm.close()")


@pytest.mark.vm
def test_a_file_that_linux_writes_to_the_disk_is_read_by_a_second_machine() -> None:
    with Kernel(ROOT / "notebooks/07-disk.ipynb") as kernel:
        for _ in range(2):
            outputs = kernel.run(kernel.code)
            check_shown("07-disk", kernel, outputs)
            told = text(outputs[kernel.find("work(vm)")])
            assert "1/0/0 default/read/poll queues" in told
            assert "critical medium error, dev nvme0n1, sector 64" in told
            assert "nvme0q1" in told


@pytest.mark.vm
def test_gears_are_changed_under_a_program_in_linux() -> None:
    with Kernel(ROOT / "notebooks/08-three-gears.ipynb") as kernel:
        check_shown("08-three-gears", kernel, kernel.run(kernel.code))
        assert "qemu" in kernel.ask("print(dev.server.client)")
        kernel.ask("vm.close()")


def test_a_kernel_that_ends_leaves_no_socket(nowhere: dict[str, str]) -> None:
    with Kernel(FIRST, **nowhere) as kernel:
        kernel.run(kernel.code[:3])
        pid = kernel.pid
        assert len(sockets(pid)) == 1
    assert sockets(pid) == []
    assert not Path(f"/proc/{pid}").exists()


def test_a_kernel_that_restarts_leaves_no_socket(nowhere: dict[str, str]) -> None:
    with Kernel(FIRST, **nowhere) as kernel:
        kernel.run(kernel.code[:3])
        old = kernel.pid
        run_sync(kernel.client.km.restart_kernel)(now=False)
        run_sync(kernel.client.kc.wait_for_ready)(timeout=30)
        assert sockets(old) == []
        kernel.run(kernel.code[:4])
        assert len(sockets(kernel.pid)) == 1


def test_what_a_killed_kernel_left_is_removed_by_the_next(nowhere: dict[str, str]) -> None:
    with Kernel(FIRST, **nowhere) as kernel:
        kernel.run(kernel.code[:3])
        killed = kernel.pid
        os.kill(killed, signal.SIGKILL)
    with Kernel(FIRST, **nowhere) as kernel:
        kernel.run(kernel.code[:4])
        assert sockets(killed) == []


@pytest.mark.vm
def test_a_killed_kernel_takes_its_virtual_machine_along() -> None:
    with Kernel(FIRST) as kernel:
        kernel.run(kernel.code[:3])
        kernel.ask("vm = wb.VM(dev).start()")
        socket = sockets(kernel.pid)[0]
        machines = users(socket)
        assert machines
        ends = [os.pidfd_open(pid) for pid in machines]
        os.kill(kernel.pid, signal.SIGKILL)
    for end in ends:
        assert select.select([end], [], [], 10)[0], "QEMU outlives its kernel"
        os.close(end)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_committed_without_outputs_in_short_cells(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) <= 8
