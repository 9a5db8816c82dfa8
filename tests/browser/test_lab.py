"""Notebooks in a real JupyterLab: the first one's pictures, and kernels that restart or die."""

import glob
import json
import os
import shutil
from pathlib import Path

import pytest

from lab import OUT, ROOT, Lab, alive, command_lines, until

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
    return glob.glob(f"{lab.root}/runtime/workbench/{pid}-*/*")


@pytest.mark.parametrize("how", ["restart", "restart while busy", "kill", "kill while busy"])
def test_a_kernel_that_goes_leaves_nothing_and_the_next_serves(lab, notebook, how):
    book = notebook(CELLS, f"{how.replace(' ', '-')}.ipynb")
    book.run(0, 1)
    pid, path = book.pid, book.output_text(0).strip()
    assert sockets(lab, pid) == [path]
    if "busy" in how:
        book.start(2)
    if "kill" in how:
        os.kill(pid, 9)
        book.wait("wb.kernel().status !== 'busy'")
    else:
        book.restart_kernel()
    until(lambda: not alive(pid), 10, "the old kernel to end")
    book.wait("wb.kernel().status === 'idle' && wb.kernel().connectionStatus === 'connected'", 30)
    book.page.evaluate("wb.watch()")
    assert command_lines(path) == []
    book.run(0, 1, 3)
    assert book.output_text(1) == "1\n"
    assert book.pid != pid
    assert book.output_text(3) == f"{book.pid} ['workbench Lamp']\n"
    assert not Path(path).exists()  # removed by its end or, after SIGKILL, by the next serve()
    assert sockets(lab, book.pid) == [book.output_text(0).strip()]


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
            image = book.page.locator(".jp-OutputArea img").first
            image.wait_for()
            width = image.evaluate("img => img.naturalWidth && img.getBoundingClientRect().width")
            assert width > 400
            book.picture(f"notebook-01-cell-{n}")
        assert book.foreign == []
        assert (OUT / f"notebook-01-cell-{pictures[0]}.png").stat().st_size > 20_000
        assert len(book.save().read_bytes()) < 1_000_000
    finally:
        book.close()
