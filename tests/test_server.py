"""Server: its life, its thread, its socket, and clients that come and go."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from leaks import room_for
from sample import stuck_hook

import workbench as wb
from workbench.client import Client

CODE = """
import sys, workbench as wb
class Card(wb.Device):
    id = wb.PciId(vendor=1, device=2)
    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0, reset=5)
card = Card()
print(card.serve().path, flush=True)
{after}
"""


class Card(wb.Device):
    """A card that notes who comes and goes."""

    id = wb.PciId(vendor=0x1234, device=0x0003)
    irq = wb.Interrupts(intx=True)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0, reset=5)
        STOP = wb.Register(4)

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.events = []

    def on_attach(self):
        self.events.append("attach")

    def on_detach(self):
        self.events.append("detach")

    def on_reset(self, kind):
        self.events.append(f"reset {kind}")


@pytest.fixture
def card():
    with Card() as device:
        yield device


def test_clients_come_and_go_and_the_state_stays(card):
    with card.connect() as guest:
        guest.bar0.write32(0, 42)
        assert card.server.state == "attached"
        assert f"pid {os.getpid()}" in card.server.client
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 42
        guest.reset()
        assert guest.bar0.read32(0) == 5
    card.server.wait_listening()
    assert card.events == ["attach", "detach", "attach", "reset device", "detach"]
    kinds = [record.kind for record in card.log]
    assert [kinds.count(kind) for kind in ("attach", "detach", "reset")] == [2, 2, 1]


def test_connect_says_who_is_in_the_way(card):
    with card.connect():
        pass
    with card.connect() as guest:  # the one before has let go, so this is not refused at once
        mine = rf"in use by pid {os.getpid()} .*: a software guest in this process: guest.disconnect\(\)"
        before = time.monotonic()
        with pytest.raises(wb.StateError, match=mine):
            card.connect(timeout=60)
        assert time.monotonic() - before < 30
        assert not guest.closed
    with Client(card.server.path), pytest.raises(wb.StateError, match=mine):
        card.connect(timeout=0.05)


def test_the_socket_is_private_and_gone_afterwards(card):
    path = Path(card.serve().path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    card.close()
    assert not path.exists()


def test_a_server_can_be_stopped_and_started_again(card):
    for _ in range(3):
        with card.serve():
            assert card.server.running
        assert (card.server.state, card.server.running) == ("stopped", False)
    assert card.serve().running


def test_a_hook_may_close_its_device(card):
    @card.bar0.STOP.on_write
    def stop(device, access):
        device.close()

    guest = card.connect()
    with pytest.raises(wb.ProtocolError):
        for _ in range(1000):
            guest.bar0.write32(4, 1)
    guest.disconnect()
    card.server._thread.join(5)
    assert card.server.state == "stopped"
    assert not card.hooks.failures


def test_stopping_wakes_a_thread_that_waits_for_a_silent_client(card):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(card.serve().path)
        card.server.wait_attached()
        card.close()
    assert card.server.state == "stopped"


def test_the_switch_interval_is_lowered_while_hooks_are_served_and_restored(card):
    before = sys.getswitchinterval()
    card.serve()
    assert sys.getswitchinterval() == before
    card.bar0.CTRL.on_write(lambda device, access: None)
    assert sys.getswitchinterval() < before
    card.bar0.CTRL.unhook("write")
    assert sys.getswitchinterval() == before
    card.bar0.CTRL.on_write(lambda device, access: None)
    card.close()
    assert sys.getswitchinterval() == before


def test_the_wire_trace_is_off_and_can_be_switched_on(card):
    with card.connect() as guest:
        guest.bar0.read32(0)
    assert len(card.server.trace) == 0
    assert "trace=True" in repr(card.server.trace)
    card.serve(trace=True)
    with card.connect() as guest:
        guest.bar0.read32(0)
    text = repr(card.server.trace)
    assert "VERSION" in text
    assert "REGION_READ" in text
    assert "max_data_xfer_size" in text


def test_the_thread_is_named_and_a_daemon(card):
    card.serve()
    (thread,) = [t for t in threading.enumerate() if t.name == "workbench Card"]
    assert thread.daemon


@pytest.mark.slow
def test_an_interpreter_that_ends_removes_its_socket():
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(after="")], capture_output=True, text=True, check=True, timeout=30
    )
    assert not Path(done.stdout.strip()).exists()
    assert done.stderr == ""


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_by_the_next_start(card, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # any start removes it, that of another test too
    child = subprocess.Popen(
        [sys.executable, "-c", CODE.format(after="sys.stdin.read()")], stdin=-1, stdout=-1, text=True
    )
    path = Path(child.stdout.readline().strip())
    assert path.exists()
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=10)
    assert path.exists()
    card.serve()
    assert not path.parent.exists()


@pytest.mark.slow
def test_a_forked_child_leaves_the_server_alone(card):
    path = card.serve().path
    child = os.fork()
    if child == 0:
        status = 0 if not card.server.running else 1
        card.close()
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert Path(path).exists()
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 5


def test_a_path_of_the_users_own(card, tmp_path):
    path = tmp_path / "card.sock"
    assert card.serve(str(path)).path == str(path)
    with wb.Client(str(path)) as guest:
        assert guest.bar0.read32(0) == 5
    card.close()
    assert not path.exists()
    assert tmp_path.exists()


def test_intx_reaches_the_guest_as_a_level(card):
    with card.connect() as guest:
        guest.enable(intx=True)
        assert card.irq.assert_() == "delivered"
        assert guest.wait_irq() == 1
        assert card.irq.trigger() == "pending"
        guest.unmask_irq()
        assert guest.wait_irq() == 1  # still asserted
        card.irq.deassert()
        guest.unmask_irq()
        assert guest.irq_count() == 0
        guest.enable(intx=False)
        assert card.irq.trigger() == "disabled"
        assert card.irq.assert_() == "disabled"
        guest.enable(intx=True)
        assert guest.wait_irq() == 1


def test_dma_reaches_the_guests_memory_and_says_why_not(card):
    with card.connect() as guest:
        guest.memory[0x1000:0x1004] = b"abcd"
        with pytest.raises(wb.DmaError, match="bus mastering"):
            card.dma.read(0x1000, 4)
        guest.enable(bus_master=True)
        assert card.dma.read(0x1000, 4) == b"abcd"
        card.dma.write(0x1002, b"XY")
        assert guest.memory[0x1000:0x1004] == b"abXY"
        with pytest.raises(wb.DmaError, match="mapped no memory"):
            card.dma.read(1 << 40, 4)
        assert guest.memory.ranges
        copies = [(r.kind, r.offset, r.origin, "refused" in r.flags) for r in card.log if "dma_" in r.kind]
        assert copies == [
            ("dma_read", 0x1000, "notebook", True),
            ("dma_read", 0x1000, "notebook", False),
            ("dma_write", 0x1002, "notebook", False),
            ("dma_read", 1 << 40, "notebook", True),
        ]
        assert card.dma.peek(0x1000, 4) == b"abXY"
        assert card.log.total == len(card.log)
    card.server.wait_listening()
    assert card.dma.regions == []


def test_a_client_with_a_strange_name_is_served(card):
    name = "import ctypes, sys, workbench as wb; ctypes.CDLL(None).prctl(15, b'bad\\xff\\xfe');"
    code = f"{name} print(wb.Client(sys.argv[1]).bar0.read32(0))"
    done = subprocess.run(
        [sys.executable, "-c", code, card.serve().path], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "5\n"
    card.server.wait_listening()


def test_no_descriptors_left_for_a_client_is_waited_out(card):
    card.serve()
    with socket.socket(socket.AF_UNIX) as client:
        with room_for(0):
            client.connect(card.server.path)
            assert not select.select([client], [], [], 0.25)[0]  # nobody took it, nobody died
        card.server.wait_attached()
    card.server.wait_listening()
    assert card.server.running


@pytest.mark.parametrize("interval", [0, -1, float("nan"), 3600, "fast"])
def test_a_switch_interval_that_makes_no_sense_is_refused_before_anything_happens(card, interval):
    card.bar0.CTRL.on_write(lambda device: None)
    with pytest.raises(ValueError, match="switch_interval"):
        card.serve(switch_interval=interval)
    server = card.serve(trace=False)
    with pytest.raises(ValueError, match="switch_interval"):
        card.serve(trace=True, switch_interval=interval)
    assert not server._tracing
    card.bar0.CTRL.on_write(lambda device: None)  # asks for the interval again
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 5


@pytest.mark.parametrize("accesses", [0, -1, 1 << 32])
def test_a_number_of_steps_that_makes_no_sense_is_refused(card, accesses):
    card.serve().pause()
    with pytest.raises(ValueError, match=f"1 access or more pass, not {accesses}"):
        card.server.step(accesses)


@pytest.mark.parametrize("path", ["\0abstract", "/nonexistent/x.sock", "x" * 120, "\ud800"])
def test_a_path_that_cannot_be_leaves_the_device_as_it_was(card, path):
    with pytest.raises(wb.StateError):
        card.serve(path)
    assert card.server is None
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 5


def test_a_relative_path_is_made_absolute(card, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = card.serve("here.sock")
    assert card.serve("here.sock") is server
    monkeypatch.chdir("/")
    card.close()
    assert list(tmp_path.iterdir()) == []


def test_the_socket_of_somebody_else_at_the_same_path_stays(card, tmp_path):
    path = tmp_path / "x.sock"
    card.serve(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        card.close()
        assert path.exists()


def test_a_socket_that_somebody_removed_is_told_and_the_server_can_be_started_again(card):
    card.serve()
    shutil.rmtree(os.path.dirname(card.server.path))  # as the end of a login session does
    with pytest.raises(wb.StateError, match="was removed by somebody else"):
        card.connect()
    card.server.stop()
    assert (card.server.state, card.server.error) == ("stopped", None)
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 5


@pytest.mark.parametrize("moment", ["made", "started"])
def test_ctrl_c_while_a_server_starts_leaves_nothing_that_is_in_the_way(card, monkeypatch, moment):
    class Interrupted(threading.Thread):
        def __init__(self, **options):
            super().__init__(**options)
            if moment == "made":
                raise KeyboardInterrupt

        def start(self):
            super().start()
            started.append(self)
            raise KeyboardInterrupt

    before, started = len(os.listdir("/proc/self/fd")), []
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            card.serve()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
    assert len(os.listdir("/proc/self/fd")) == before
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 5


def test_ctrl_c_while_a_lock_is_taken_leaves_it_free(card, monkeypatch):
    server = card.serve()

    def interrupted(condition):
        taken = real(condition)
        if condition is server._changed and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return taken

    real = threading.Condition.__enter__
    with monkeypatch.context() as patch:
        patch.setattr(threading.Condition, "__enter__", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            server.pause()
        with contextlib.suppress(KeyboardInterrupt):
            server.wait_listening()
    server.resume()
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 5


def test_ctrl_c_while_a_server_stops_lets_it_be_stopped_again(card, monkeypatch):
    server = card.serve()
    with monkeypatch.context() as patch:
        patch.setattr(server._listener, "wake", lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            server.stop()
    assert server.ending
    with card.connect() as guest:  # waits for the end of the one and starts another
        assert guest.bar0.read32(0) == 5
    assert server.state == "stopped"


@pytest.mark.parametrize(
    ("one", "two"), [("a b", "a_b"), ("x" * 60, "x" * 61), ("\u5361" * 50, "\u7247" * 50)]
)
def test_devices_whose_names_look_alike_as_files_serve_side_by_side(one, two):
    with Card(one) as first, Card(two) as second:
        assert first.serve().path != second.serve().path


@pytest.mark.parametrize("name", [123, b"x", ""])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(ValueError, match="name of a device"):
        Card(name)


def test_serve_from_several_threads_gives_one_server(card):
    for _ in range(30):
        servers = []
        threads = [threading.Thread(target=lambda got=servers: got.append(card.serve())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(servers) == 4
        assert len(set(map(id, servers))) == 1
        servers[0].stop()


def test_a_hook_that_hangs_is_named_and_its_socket_is_gone(card):
    guest = card.connect()
    with stuck_hook(card.bar0.CTRL, lambda: guest.bar0.write32(0, 1, posted=True)):
        path = card.server.path
        with pytest.raises(wb.StateError, match=r"bar0\.CTRL\.on_write has not returned"):
            card.server.stop(timeout=0.05)
        assert not Path(path).exists()
    guest.disconnect()
    card.server._thread.join(10)
    assert card.server.state == "stopped"


def test_a_hook_run_by_a_cell_may_close_the_device_while_the_guest_waits_for_it(card):
    card.bar0.CTRL.on_write(lambda device: None)

    @card.bar0.STOP.on_write
    def stop(device, access):
        thread.start()
        while not guest_asked.wait(0.001):
            pass
        device.close()

    guest, guest_asked = card.connect(), threading.Event()

    def ask():
        guest_asked.set()
        with contextlib.suppress(wb.ProtocolError):
            guest.bar0.write32(0, 1)

    thread = threading.Thread(target=ask)
    card.bar0.STOP.write(1)
    thread.join(10)
    guest.disconnect()
    assert not card.hooks.failures


def test_one_long_access_over_many_hooks_can_be_stopped():
    class Many(wb.Device):
        id = wb.PciId(vendor=1, device=2)

        class bar0(wb.Bar, size=4096):
            MEM = wb.Register(0, count=1024)

    with Many() as device:
        calls, started = [], threading.Event()

        @device.bar0.MEM.on_read
        def slow(device):
            calls.append(1)
            started.set()
            threading.Event().wait(0.02)

        guest = device.connect()
        reader = threading.Thread(target=_read_all, args=(guest,))
        reader.start()
        assert started.wait(10)
        device.server.stop()
        reader.join(10)
        guest.disconnect()
        assert len(calls) < 500


def _read_all(guest):
    with contextlib.suppress(wb.ProtocolError):
        guest.bar0.read(0, 4096)
