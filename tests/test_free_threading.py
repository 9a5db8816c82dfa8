"""Without a GIL (3.14t) nothing of ours brings one back, and hooks run beside a cell that computes."""

import subprocess
import sys
import sysconfig
import threading
import time

import pytest

import workbench as wb
from workbench.engine.build import STABLE_ABI

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python is not free-threaded"
)

WRITES = 200
WAIT = 20.0  # seconds


class Card(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0009)
    ran = 0

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0)

    @bar0.CTRL.on_write
    def count(self, access):
        self.ran += 1


@pytest.mark.slow
def test_importing_all_of_it_leaves_the_gil_off():
    code = (
        "import sys, workbench, workbench.views.widget, workbench.views.timeline, workbench.devices.nvme;"
        "print(sys._is_gil_enabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert not STABLE_ABI


@pytest.mark.slow
def test_a_python_hook_runs_while_a_cell_computes_and_lets_nobody_have_a_turn():
    interval, ended = sys.getswitchinterval(), threading.Event()
    with Card() as card:
        card.serve(switch_interval=None)
        guest = card.connect()

        def drive():
            for number in range(WRITES):
                guest.bar0.write32(0, number)
            ended.set()

        thread = threading.Thread(target=drive)
        try:
            sys.setswitchinterval(2 * WAIT)  # with the GIL the loop below would keep it
            thread.start()
            until = time.monotonic() + WAIT
            while not ended.is_set() and time.monotonic() < until:
                pass
            assert ended.is_set()
        finally:
            sys.setswitchinterval(interval)
            thread.join(WAIT)
            guest.disconnect()
        assert card.ran == WRITES
