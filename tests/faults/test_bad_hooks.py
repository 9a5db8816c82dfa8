"""Hooks and timers that do what they should not: the guest is answered, the device goes on, it is told."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from after import still_fine, until

import workbench as wb
from workbench.failures import HookSkippedError
from workbench.protocol import Command

ROUNDS = 300  # skips at any moment


class Card(wb.Device):
    """A card with a register for each thing that may go wrong."""

    id = wb.PciId(vendor=0x1234, device=0x0005)
    irq = wb.Interrupts(intx=True)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0, reset=7)
        OTHER = wb.Register(4, reset=9)


@pytest.fixture
def card(caplog) -> Iterator[Card]:
    caplog.set_level(logging.ERROR, "workbench")
    with Card() as device:
        yield device


class Unprintable(Exception):
    """An exception that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def raiser(error: Any):
    def bad(device):
        raise error

    return bad


def exhaust(device):
    return bytearray(1 << 62)


def endless(device):
    return endless(device)


RAISED = [
    (raiser(ValueError("mine")), ValueError),
    (raiser(MemoryError), MemoryError),
    (exhaust, MemoryError),
    (raiser(SystemExit(3)), SystemExit),
    (raiser(GeneratorExit), GeneratorExit),
    (raiser(StopIteration), StopIteration),
    (raiser(Unprintable), Unprintable),
    (raiser(wb.StateError("mine")), wb.StateError),
    (endless, RecursionError),
]


@pytest.mark.parametrize(("hook", "error"), RAISED)
def test_whatever_a_hook_raises_the_guest_gets_the_stored_value_and_it_is_told_once(
    card, caplog, hook, error
):
    card.bar0.CTRL.on_read(hook)
    card.bar0.CTRL.on_write(hook)
    with still_fine(card), card.connect() as guest:
        for _ in range(3):
            guest.bar0.write32(0, 5)
            assert guest.bar0.read32(0) == 5
        told = {(one.name, type(one.error), one.count) for one in card.hooks.failures}
        assert told == {("bar0.CTRL.on_read", error, 3), ("bar0.CTRL.on_write", error, 3)}
        flagged = card.log.filter(register="CTRL", origin="guest", flagged=True)
        assert len(flagged) == 6
        assert all("hook raised" in str(record) for record in flagged)
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 2
    assert {text.splitlines()[0] for text in said} == {
        "bar0.CTRL.on_read raised; the guest got the stored value",
        "bar0.CTRL.on_write raised; the write is stored",
    }


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("text", "returned 'text': return a whole number, or None"),
        (1.5, "returned 1.5: return a whole number"),
        ([], "returned []: return a whole number"),
        (object(), "returned <object obj"),
        (-1, "does not fit 32 bits"),
        (1 << 32, "does not fit 32 bits"),
        (1 << 70, "does not fit 32 bits"),
    ],
)
def test_an_answer_that_is_none_is_told_and_the_stored_value_answered(card, caplog, answer, why):
    card.bar0.CTRL.on_read(lambda device: answer)
    with still_fine(card, same_state=True), card.connect() as guest:
        assert guest.bar0.read32(0) == 7
    assert why in caplog.text
    assert "bar0.CTRL.on_read raised" in caplog.text


def test_ctrl_c_that_a_hook_raises_itself_does_not_end_the_server(card):
    card.bar0.CTRL.on_write(raiser(KeyboardInterrupt))
    with still_fine(card), card.connect() as guest:
        guest.bar0.write32(0, 1)
        assert guest.bar0.read32(0) == 1
    assert [type(one.error) for one in card.hooks.failures] == [KeyboardInterrupt]


# ---- hooks that touch their own device


def test_a_hook_that_touches_its_own_register_is_ended_however_often_it_does_so(card, caplog):
    """Twice at each of 32 depths would be four thousand million times."""

    @card.bar0.CTRL.on_write
    def again(device, access):
        device.bar0.CTRL.write(access.value + 1)
        device.bar0.CTRL.write(access.value + 2)

    with still_fine(card), card.connect() as guest:
        guest.bar0.write32(0, 1)
        assert 1 < sum(hook.calls for hook in card.hooks) < 100
        guest.bar0.write32(4, 3)
        calls = sum(hook.calls for hook in card.hooks)
        guest.bar0.write32(0, 1)  # and may do it again the next time
        assert sum(hook.calls for hook in card.hooks) == 2 * calls
    assert "hooks touch registers that have hooks, 32 deep" in caplog.text


def test_a_timer_that_made_hooks_go_too_deep_is_served_hooks_again(card):
    @card.bar0.CTRL.on_write
    def again(device, access):
        if access.value:
            device.bar0.CTRL.write(access.value)

    @card.bar0.OTHER.on_read
    def fresh(device):
        return 11

    read: list[int] = []

    def both():
        card.bar0.CTRL.write(1)
        read.append(card.bar0.OTHER.read())

    with still_fine(card):
        card.defer(both)
        until(lambda: read)
    assert read == [11]


def close(device):
    device.close()


def stop(device):
    device.server.stop()


def reset(device):
    device.reset()


def serve(device):
    assert device.serve() is device.server


def swap(device):
    device.bar0.CTRL.on_write(lambda device: device.bar0.OTHER.poke(1))


def delete(device):
    device.bar0.CTRL.unhook("write")


def become(device):
    class Card2(Card):
        pass

    device.swap(Card2)


def restore(device):
    device.restore(device.snapshot())


def interrupt(device):
    device.irq.trigger()


def timers(device):
    device.after(0, lambda: device.defer(lambda: device.irq.trigger()))


def threads(device):
    started = [threading.Thread(target=device.bar0.OTHER.write, args=(n,)) for n in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(10)


def fork(device):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def clear(device):
    device.log.clear()


def pause(device):
    device.server.pause()
    device.server.resume()


DEEDS = [reset, serve, swap, delete, become, restore, interrupt, timers, threads, fork, clear, pause]


# A reset in on_reset calls itself, and a class that is swapped in is told by its own on_reset.
PLACES = [(who, deed) for who in ("hook", "timer") for deed in DEEDS]
PLACES += [("on_reset", deed) for deed in DEEDS if deed not in (reset, become)]


@pytest.mark.parametrize(("who", "deed"), PLACES)
def test_what_a_hook_may_do_to_its_own_device(card, who, deed):
    done = threading.Event()

    def act(*_):
        deed(card)
        done.set()

    with still_fine(card):
        with card.connect() as guest:
            if who == "hook":
                card.bar0.CTRL.on_write(lambda device: act())
                guest.bar0.write32(0, 1)
            elif who == "timer":
                card.after(0, act)
            else:
                card.on_reset = act
                guest.reset()
            assert done.wait(10)
            assert guest.bar0.read32(4) in (0, 1, 2, 3, 9)
        until(lambda: not list(card._core.timers))
    assert not card.hooks.failures, card.hooks.failures[0].text


def test_a_reset_that_resets_ends(card):
    card.on_reset = lambda kind: card.reset()
    with still_fine(card):
        card.reset()
    assert {type(one.error) for one in card.hooks.failures} == {RecursionError}


@pytest.mark.parametrize("deed", [close, stop])
@pytest.mark.parametrize("who", ["hook", "timer", "on_attach", "on_detach"])
def test_a_hook_may_end_the_service_and_the_next_serve_goes_on(card, deed, who):
    """The guest is told at once: its connection ends."""
    ended = threading.Event()

    def act(*_):
        deed(card)
        ended.set()

    if who.startswith("on_"):
        setattr(card, who, act)
    with contextlib.suppress(wb.ProtocolError), card.connect() as guest:
        if who == "hook":
            card.bar0.CTRL.on_write(lambda device: act())
            guest.bar0.write32(0, 1)
        elif who == "timer":
            card.after(0, act)
            assert ended.wait(10)
            guest.bar0.read32(0)
    assert ended.wait(10)
    server = card.server
    server._thread.join(10)
    assert (server.state, server.error) == ("stopped", None)
    assert not os.path.exists(server.path)
    assert not card.hooks.failures
    if deed is stop:
        for name in ("on_attach", "on_detach"):
            vars(card).pop(name, None)
        with card.connect() as guest:
            assert guest.bar0.read32(4) == 9
    else:
        with pytest.raises(wb.StateError, match=r"Card is closed: make a new one with Card\(\)"):
            card.serve()


def test_a_hook_that_connects_to_its_own_device_is_told_who_has_it(card, caplog):
    card.bar0.CTRL.on_write(lambda device: device.connect(timeout=0.05))
    with still_fine(card), card.connect() as guest:
        guest.bar0.write32(0, 1)
    assert "is in use by pid" in caplog.text


# ---- hooks that do not return


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr("workbench.core.PATIENCE", 0.05)
    monkeypatch.setattr("workbench.state.PATIENCE", 50)


@contextlib.contextmanager
def hanging(card: Card, who: str) -> Iterator[wb.Client]:
    """A guest whose access hangs in a hook, or a timer that hangs, until it is skipped."""
    begun = threading.Event()

    def hang(*_):
        begun.set()
        while True:
            threading.Event().wait(0.001)

    with card.connect() as guest:
        if who == "bar0.CTRL.on_write":
            card.bar0.CTRL.on_write(lambda device: hang())
            guest.bar0.write32(0, 1, posted=True)
        else:
            card.after(0, hang)
        assert begun.wait(10)
        yield guest


HANGING = ["bar0.CTRL.on_write", "after(hang)"]


@pytest.mark.parametrize("who", HANGING)
@pytest.mark.parametrize("ask", ["reset", "snapshot"])
def test_who_waits_for_what_hangs_is_told_its_name_and_can_end_it(card, impatient, who, ask):
    with still_fine(card), hanging(card, who) as guest:
        with pytest.raises(wb.StateError, match=r"has not returned for 0.05 s") as caught:
            getattr(card, ask)()
        assert who in str(caught.value)
        assert "hooks.skip() ends it" in str(caught.value)
        assert card.hooks.stalls.seconds_in_hook > 0.05
        assert card.hooks.skip() == who
        until(lambda: card.hooks.failures)
        getattr(card, ask)()
        assert guest.bar0.read32(4) == 9
        assert [(one.name, type(one.error)) for one in card.hooks.failures] == [(who, HookSkippedError)]


@pytest.mark.parametrize("who", HANGING)
def test_a_server_that_is_stopped_names_what_hangs(card, who):
    with hanging(card, who) as guest:
        if who != "bar0.CTRL.on_write":  # the guest waits for a hook, which waits for the timer
            card.bar0.CTRL.on_write(lambda device: None)
            guest.bar0.write32(0, 1, posted=True)
            guest.send_raw(b"")
            until(lambda: lib_inside(card))
        with pytest.raises(wb.StateError) as caught:
            card.server.stop(timeout=0.05)
        assert str(caught.value) == f"Card: {who} has not returned for 0.05 s; the socket is gone"
        card.hooks.skip()
    card.server._thread.join(10)
    assert card.server.state == "stopped"
    with card.connect() as guest:
        assert guest.bar0.read32(4) == 9


def lib_inside(card: Card) -> bool:
    """Whether the guest's write has arrived: it is stored before the hook is asked."""
    return card.bar0.CTRL.value == 1


@pytest.mark.slow
def test_a_skip_at_any_moment_ends_a_hook_or_a_timer_and_never_their_threads(card, caplog):
    caplog.set_level(logging.CRITICAL, "workbench")
    stop, skipped = threading.Event(), [0]

    def skip():
        while not stop.is_set():
            with contextlib.suppress(wb.StateError):
                card.hooks.skip()
                skipped[0] += 1

    def work(*_):
        for _ in range(20_000):  # plain code: what a skip interrupts in Python's own locks ends as it may
            pass

    card.bar0.CTRL.on_write(work)
    timer, thread = card.every(0.5, work), threading.Thread(target=skip)
    with still_fine(card), card.connect() as guest:
        thread.start()
        for number in range(ROUNDS):
            guest.bar0.write32(0, number)
        stop.set()
        thread.join()
        assert guest.bar0.read32(0) == ROUNDS - 1
        calls = timer.calls
        until(lambda: timer.calls > calls + 2)
        timer.cancel()
        until(lambda: not list(card._core.timers))
    assert skipped[0] > 10
    assert {type(one.error) for one in card.hooks.failures} == {HookSkippedError}


def test_what_waits_for_the_guest_is_not_skipped_and_it_is_said_why(card):
    with card.connect() as guest:
        guest.enable()
        asked, answer = threading.Event(), threading.Event()
        real = guest._link._respond

        def late(command, payload):
            if command == Command.DMA_READ:
                asked.set()
                assert answer.wait(10)
            return real(command, payload)

        guest._link._respond = late
        guest.memory.map(1 << 20, 4096, shared=False)
        card.defer(lambda: card.dma.read(1 << 20, 4))
        assert asked.wait(10)
        with pytest.raises(wb.StateError, match="waits for an answer of the guest"):
            card.hooks.skip()
        answer.set()
        until(lambda: not list(card._core.timers))
    with pytest.raises(wb.StateError, match="no hook runs now"):
        card.hooks.skip()
    assert not card.hooks.failures
