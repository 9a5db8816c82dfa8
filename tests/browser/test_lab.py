"""Notebooks in a real JupyterLab: the first one's pictures, and kernels that restart or die."""

import glob
import json
import shutil

import pytest
from lab import OUT, ROOT, Lab, Notebook, alive, command_lines, until
from panel import Panel

CELLS = (
    "import workbench as wb, threading, os\n"
    "class Lamp(wb.Device):\n"
    "    id = wb.PciId(vendor=0x1234, device=0x0B11)\n"
    "    irq = wb.Interrupts(intx=True)\n"
    "    class bar0(wb.Bar, size=4096):\n"
    "        CTRL = wb.Register(0x00, ON=wb.Field(0))\n"
    "dev = Lamp()\n"
    "print(dev.serve().path)",
    "guest = dev.connect()\nguest.bar0.write32(0, 1)\nprint(guest.bar0.read32(0))",
    "while True: pass",
    "threads = [t.name for t in threading.enumerate() if 'workbench' in t.name]\nprint(os.getpid(), threads)",
)


def sockets(lab: Lab, pid: int) -> list[str]:
    return glob.glob(f"{lab.root}/runtime/workbench/{pid}-*/*.sock")


def check_nothing_is_left(lab: Lab, pid: int, path: str) -> None:
    until(lambda: not alive(pid), "the old kernel to end")
    assert command_lines(path) == []


def check_next_serves(lab: Lab, book: Notebook, old: int, path: str) -> None:
    book.run(0, 1, 3)
    assert book.output_text(1) == "1\n"
    assert book.pid != old
    assert book.output_text(3) == f"{book.pid} ['workbench Lamp']\n"
    # Its end removed it or, after SIGKILL, the next serve().
    assert sockets(lab, old) == []
    assert sockets(lab, book.pid) == [book.output_text(0).strip()] != [path]


def test_a_kernel_that_goes_leaves_nothing_and_the_next_serves(lab, notebook):
    book = notebook(*CELLS)
    book.run(0, 1)
    for busy in (False, True):
        for go in (book.restart_kernel, book.kill_kernel):
            pid, path = book.pid, book.output_text(0).strip()
            if busy:
                book.start(2)
            go()
            check_nothing_is_left(lab, pid, path)
            check_next_serves(lab, book, pid, path)


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_the_first_notebooks_virtual_machine_runs_in_the_browser(lab):
    name = "01-first-device.ipynb"
    shutil.copy(ROOT / "notebooks" / name, lab.files / f"vm-{name}")
    book = lab.open(f"vm-{name}")
    try:
        sources = [cell["source"] for cell in json.loads((ROOT / "notebooks" / name).read_text())["cells"]]
        linux = next(n for n, source in enumerate(sources) if "wb.VM(" in "".join(source))
        book.run_all()
        said = book.output_text(linux)
        assert "494f:0dc8" in said
        assert "toggle:   0 0 0 1 1 1 0 0 0 1 1 1" in said
        assert "loopback: 1 1 1 1 1 1 1 1 1 1 1 1" in said
        after = "".join(book.outputs(linux + 2)[0]["data"]["text/html"])
        assert "guest" in after
        assert "OUT[0]" in after
        book.show(linux)
        book.picture("notebook-01-vm")
        panel = Panel(book)
        book.show(5)
        panel.wait().expect_value("OUT[0]", 1)
        assert book.foreign == []
        assert len(book.save().read_bytes()) < 1_000_000
    finally:
        book.close()


def test_the_first_notebook_looks_right_in_the_browser(lab):
    name = "01-first-device.ipynb"
    source = json.loads((ROOT / "notebooks" / name).read_text())
    code = [n for n, cell in enumerate(source["cells"]) if cell["cell_type"] == "code"]
    linux = [n for n in code if "wb.VM(" in "".join(source["cells"][n]["source"])]
    shutil.copy(ROOT / "notebooks" / name, lab.files / name)
    book = lab.open(name)
    try:
        book.run(*(n for n in code if n not in linux))
        pictures = [n for n in code if any("image/png" in out.get("data", {}) for out in book.outputs(n))]
        assert len(pictures) == 2
        for n in pictures:
            book.show(n)
            book.wait(f"wb.image({n})?.naturalWidth")  # a box it has before it is decoded
            assert book.page.evaluate("n => wb.image(n).getBoundingClientRect().width", n) > 400
            book.picture(f"notebook-01-cell-{n}")
        assert book.foreign == []
        assert (OUT / f"notebook-01-cell-{pictures[0]}.png").stat().st_size > 20_000
        assert len(book.save().read_bytes()) < 1_000_000
    finally:
        book.close()
