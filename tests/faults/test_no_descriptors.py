"""No file descriptors are left: at each point it is said, nothing is lost, and it works once there are."""

import gc
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from after import still_fine, until
from leaks import open_files, room_for
from sample import TRIGGER_EVENTFD, Sample, eventfds, irq_payload, map_payload, memory_file, open_link

import workbench as wb
from workbench import protocol
from workbench.protocol import Command


class Frame(wb.Device):
    """Memory that the guest maps, and a doorbell."""

    id = wb.PciId(vendor=0x1234, device=0x0006)

    class bar0(wb.Bar, size=8192, mmap=[(4096, 4096)]):
        BELL = wb.Doorbell(0x10, count=2)


def tried(action: Callable[[], Any], after: Callable[[], None] = lambda: None) -> tuple[Any, list[Exception]]:
    """Do it with 0, 1, 2 ... descriptors left until it works; return what it gave and what it raised before.

    ``after`` is done after each failure. No descriptor stays open that a failure opened.
    """
    raised: list[Exception] = []
    for more in range(20):
        before = open_files()
        try:
            with room_for(more):
                return action(), raised
        except (OSError, wb.WorkbenchError) as error:
            raised.append(error.with_traceback(None))
        after()
        end = time.monotonic() + 10  # the server may be taking the connection of a client that gave up
        while left := {fd: name for fd, name in open_files().items() if fd not in before}:
            assert time.monotonic() < end, (more, raised[-1], left)
            gc.collect()
    raise AssertionError(raised)


@pytest.fixture
def card() -> Iterator[wb.Device]:
    with Sample() as device:
        device.serve()  # all is imported that has to be
        with device.connect():
            pass
        yield device


@pytest.mark.slow
def test_at_serve(card):
    card.server.stop()
    server, raised = tried(card.serve)
    assert raised
    for error in raised:
        assert isinstance(error, wb.StateError)
        assert str(error).startswith("cannot listen at ")
        assert str(error).endswith("Too many open files")
    assert card.server is server
    with still_fine(card):
        pass


def test_at_accept(card, caplog):
    """The client waits, and it is told why, once."""
    told = "cannot be served yet: Too many open files; it waits until there is room"
    with still_fine(card):
        with room_for(1):
            with pytest.raises(wb.ProtocolError, match="VERSION: no answer"):
                card.connect(timeout=0.15)
            until(lambda: told in caplog.text)
        card.server.wait_listening()
    assert caplog.text.count(told) == 1


@pytest.fixture
def many_open() -> Iterator[None]:
    """1,024 descriptors are open, and those after them are none that select() takes."""
    limits, full = resource.getrlimit(resource.RLIMIT_NOFILE), []
    most = min(limits[1], 4096) if limits[1] > 0 else 4096
    if most < 1100:
        pytest.skip(f"no process may have that many here (ulimit -Hn: {most})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    while not full or full[-1] < 1024:
        full.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    yield
    for fd in full:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_at_accept_in_a_process_that_has_many(many_open):
    with Sample() as card, still_fine(card):
        with room_for(1), pytest.raises(wb.ProtocolError, match="VERSION: no answer"):
            card.connect(timeout=0.15)
        card.server.wait_listening()


@pytest.mark.slow
def test_at_connect_and_arm(card):
    def settle():
        until(lambda: card.server.state == "listening")

    with still_fine(card):
        guest, raised = tried(lambda: card.connect(timeout=0.15), settle)
        with guest:
            assert all("Too many open files" in str(error) or error.code for error in raised)
            guest.disarm()
            with room_for(0), pytest.raises(OSError, match="Too many open files"):
                guest.arm(0)
            guest.arm(0)
            assert str(card.irq.trigger()) == "delivered"
            assert guest.wait_irq() == 1


@pytest.mark.parametrize("command", [Command.DMA_MAP, Command.DEVICE_SET_IRQS])
def test_for_those_that_a_client_sends(card, caplog, command):
    """The kernel drops them: the client is cut off, and it is not its fault."""
    with still_fine(card), memory_file() as memory, eventfds(1) as (event,):
        payload = map_payload() if command == Command.DMA_MAP else irq_payload(TRIGGER_EVENTFD)
        with open_link(card) as link:
            with room_for(0):
                link.send_raw(protocol.pack_message(7, command, payload), [memory, event][command == 8 :][:1])
                with pytest.raises(wb.ProtocolError, match="gone"):
                    link.receive()
            card.server.wait_listening()
        last = card.log.filter(kind="detach")[-1]
        assert "no file descriptors were left here to take its own (EMFILE)" in str(last)
        assert "no file descriptors are left here to take those it sent (ulimit -n)" in caplog.text
        assert "protocol" not in caplog.text


def test_for_memory_that_the_guest_maps():
    device, raised = tried(Frame)
    assert "mmap of bar0: Too many open files" in str(raised[0])
    with device, still_fine(device), device.connect() as guest:
        assert guest.map_region(0).close() is None


def test_for_eventfds_of_doorbells():
    with Frame() as device:
        with device.connect():
            pass
        with still_fine(device), device.connect() as guest:
            ask = protocol.IO_FDS.pack(protocol.IO_FDS.size + 2 * protocol.IO_EVENTFD.size, 0, 0, 0)

            def bells():
                return guest.request(Command.DEVICE_GET_REGION_IO_FDS, ask)

            with room_for(0), pytest.raises(wb.ProtocolError, match="refused: EMFILE"):
                bells()
            assert "DEVICE_GET_REGION_IO_FDS: EMFILE" in str(device.log.filter(kind="error")[-1])
            _, fds = bells()
            assert len(fds) == 2
            for fd in fds:
                os.close(fd)


def test_for_those_that_the_server_sends():
    with Frame() as device:
        with device.connect():
            pass
        with still_fine(device), device.connect() as guest:
            with (
                room_for(0),
                pytest.raises(wb.ProtocolError, match="left here to take those"),
            ):
                guest.map_region(0)
            guest.reconnect()
            guest.map_region(0).close()


@pytest.mark.slow
def test_for_what_is_saved(card, tmp_path):
    snapshot = card.snapshot()
    with still_fine(card):
        for action in (lambda: snapshot.save(tmp_path / "s"), lambda: card.log.to_csv(tmp_path / "l.csv")):
            _, raised = tried(action)
            assert "Too many open files" in str(raised[0])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "s"]
        assert wb.Snapshot.load(tmp_path / "s") == snapshot


def test_a_server_that_got_no_thread_can_be_stopped_and_its_device_served_again(monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Sample() as card:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="new thread"):
                card.serve()
            card.server.stop()
        assert card.server.state == "failed"
        with still_fine(card):
            pass
