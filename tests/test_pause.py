"""Pause, step, resume; and a hook that never returns answered without it."""

import contextlib
import os
import threading

import pytest

import workbench as wb
from workbench.failures import HookSkippedError


class Card(wb.Device):
    """A card that counts its reads."""

    id = wb.PciId(vendor=0x1234, device=0x0005)

    class bar0(wb.Bar, size=4096):
        COUNT = wb.Register(0)
        LOOP = wb.Register(4, reset=7)

    def __init__(self):
        super().__init__()
        self.spins = threading.Event()

    @bar0.COUNT.on_read
    def count(self):
        return self.bar0.COUNT + 1

    @bar0.LOOP.on_read
    def loop(self):
        self.spins.set()
        while True:
            pass


@pytest.fixture
def card():
    with Card() as device:
        yield device


def reader(guest, times, offset=0):
    got = []
    thread = threading.Thread(target=lambda: got.extend(guest.bar0.read32(offset) for _ in range(times)))
    thread.start()
    return thread, got


def until_waiting(card):
    while not card.server.waiting:
        threading.Event().wait(0.001)  # the gate has no event of its own


def test_a_paused_guest_waits_and_steps_let_one_access_through_each(card):
    with card.connect() as guest:
        card.server.pause()
        assert f"paused, attached to pid {os.getpid()} " in repr(card.server)
        assert card.server.state == "paused"
        thread, got = reader(guest, 3)
        until_waiting(card)
        assert got == []
        since = card.log.total
        card.server.step()
        card.log.wait(register="COUNT", kind="read", since=since)
        until_waiting(card)
        assert card.bar0.COUNT == 1
        card.server.resume()
        thread.join(10)
    assert got == [1, 2, 3]


def test_a_paused_device_still_answers_questions_and_maps(card):
    with card.connect() as guest:
        card.server.pause()
        assert guest.memory[0:4] == bytes(4)
        guest.memory.map(1 << 20, 4096)
        assert len(card.dma.regions) == 2
        card.bar0.LOOP = 3  # and the notebook works on
        card.server.resume()


def test_stopping_lets_a_waiting_guest_go(card):
    guest = card.connect()
    card.server.pause()

    def read():
        with contextlib.suppress(wb.ProtocolError):  # answered just before, or not any more
            guest.bar0.read32(0)

    thread = threading.Thread(target=read)
    thread.start()
    until_waiting(card)
    card.close()
    thread.join(10)
    assert not thread.is_alive()
    guest.disconnect()


def test_a_guest_that_would_wait_at_its_first_access_is_told_who_paused(card):
    card.serve().pause()
    with pytest.raises(wb.StateError, match=r"Card is paused.*dev\.server\.resume\(\) first"):
        card.connect()
    card.server.resume()
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 1


def test_a_server_that_was_stopped_cannot_pause_the_next_one(card):
    server = card.serve()
    server.stop()
    with pytest.raises(wb.StateError, match=r"of Card does not run: serve\(\) before pause"):
        server.pause()
    with card.connect() as guest:
        assert guest.bar0.read32(0) == 1


def test_stepping_needs_a_pause(card):
    card.serve()
    with pytest.raises(wb.StateError, match=r"pause\(\) it before step"):
        card.server.step()


def test_a_hook_that_never_returns_can_be_skipped(card):
    with card.connect() as guest:
        thread, got = reader(guest, 1, offset=4)
        assert card.spins.wait(10)
        assert card.hooks.stalls.running.key == "bar0.LOOP.on_read"
        assert card.hooks.skip() == "bar0.LOOP.on_read"
        thread.join(10)
    assert got == [7]
    assert isinstance(card.hooks.failures[0].error, HookSkippedError)
    assert card.hooks.stalls.running is None


def test_who_pauses_while_a_class_is_taken_over_stays_paused(card, monkeypatch):
    server = card.serve()
    redescribe = type(card.hooks).redescribe
    pressed = threading.Thread(target=server.pause)

    def slowly(hooks, *rest):
        pressed.start()
        pressed.join(0.05)  # it waits for the end; once it did not, and its pause was lost
        redescribe(hooks, *rest)

    monkeypatch.setattr(type(card.hooks), "redescribe", slowly)
    with card.connect() as guest:
        card.swap(Card)
        pressed.join()
        assert server.state == "paused"
        thread, _ = reader(guest, 1)
        until_waiting(card)
        server.resume()
        thread.join()


def test_steps_that_wait_for_the_guest_are_still_there_after_a_class_was_taken_over(card):
    with card.connect() as guest:
        card.server.pause()
        card.server.step(2)
        card.swap(Card)
        assert card.server.state == "paused"
        thread, got = reader(guest, 3)
        until_waiting(card)
        assert got == [1, 2]
        card.server.resume()
        thread.join(10)
    assert got == [1, 2, 3]
