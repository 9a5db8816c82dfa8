"""Polling: several devices answered by one thread, and a thread that looks for messages before it sleeps."""

import contextlib
import errno
import threading
import time
from pathlib import Path

import pytest
from interrupts import sleeps

import workbench as wb
from workbench.engine import lib


class Card(wb.Device):
    """A card that tells which thread it was asked on."""

    id = wb.PciId(vendor=0x1234, device=0x0006)
    irq = wb.Interrupts(intx=True)

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0)
        WHERE = wb.Register(4)
        CALL = wb.Register(8)

    def __init__(self, name=None, **keywords):
        super().__init__(name, **keywords)
        self.where = set()
        self.call = lambda: None

    @bar0.WHERE.on_write
    def tell(self):
        self.where.add(threading.current_thread().name)

    @bar0.CALL.on_write
    def do(self):
        self.call()


@pytest.fixture
def poller():
    made = wb.Poller()
    yield made
    assert made.devices == []
    assert "workbench poller" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def cards(poller):
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(Card(f"card{n}")) for n in range(3)]
        for card in made:
            card.serve(poller=poller)
        yield made


@pytest.fixture
def guests(cards):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(card.connect()) for card in cards]


def until_waiting(card):
    while not card.server.waiting:
        threading.Event().wait(0.001)  # the gate has no event of its own


def thread_of(name):
    return next(thread for thread in threading.enumerate() if thread.name == name)


def until_asleep(thread):
    stat = Path(f"/proc/self/task/{thread.native_id}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "S":
        threading.Event().wait(0.001)


# ---- several devices, one thread ----


def test_one_thread_runs_the_hooks_of_all(poller, cards, guests):
    for number, guest in enumerate(guests):
        guest.bar0.write32(0, number)
        guest.bar0.write32(4, 1)
    assert [guest.bar0.read32(0) for guest in guests] == [0, 1, 2]
    assert [card.where for card in cards] == [{"workbench poller"}] * 3
    assert poller.devices == ["card0", "card1", "card2"]
    assert "card0, card1, card2" in repr(poller)


def test_clients_come_and_go_and_the_others_stay(cards, guests):
    for round_ in range(3):
        guests[1].disconnect()
        cards[1].server.wait_listening()
        guests[0].bar0.write32(0, round_)
        with cards[1].connect() as again:
            again.bar0.write32(0, round_)
        assert guests[0].bar0.read32(0) == cards[1].bar0.PLAIN.value == round_


def test_a_client_that_breaks_the_protocol_is_dropped_alone(cards, guests):
    guests[1].send_raw(b"\xff" * 16)
    cards[1].server.wait_listening()
    guests[0].bar0.write32(0, 7)
    assert guests[0].bar0.read32(0) == 7


def test_a_paused_device_holds_up_nobody(cards, guests):
    cards[1].server.pause()
    waiting = threading.Thread(target=guests[1].bar0.write32, args=(0, 5))
    waiting.start()
    until_waiting(cards[1])
    guests[0].bar0.write32(0, 6)
    assert guests[0].bar0.read32(0) == 6
    assert cards[1].bar0.PLAIN.value == 0
    cards[1].server.step()
    waiting.join(10)
    assert cards[1].bar0.PLAIN.value == 5
    assert not cards[1].server.waiting


def test_a_paused_device_that_goes_on_waits_no_more_and_its_timers_follow_the_replies(cards, guests):
    cards[1].server.pause()
    waiting = threading.Thread(target=guests[1].bar0.write32, args=(0, 5))
    waiting.start()
    until_waiting(cards[1])
    cards[1].server.resume()
    waiting.join(10)
    assert not cards[1].server.waiting
    turns = []
    cards[1].call = lambda: turns.append(lib.wb_turn_now(cards[1]._core.handle))
    guests[1].bar0.write32(8, 1)
    assert turns[0] > 0


def test_a_paused_device_is_stopped_while_its_guest_waits(cards, guests):
    cards[1].server.pause()

    def write():
        with contextlib.suppress(wb.ProtocolError):  # answered just before, or not any more
            guests[1].bar0.write32(0, 5)

    waiting = threading.Thread(target=write)
    waiting.start()
    until_waiting(cards[1])
    cards[1].server.stop()
    waiting.join(10)
    assert not waiting.is_alive()
    guests[0].bar0.write32(0, 6)


def test_a_class_is_taken_over_in_place(cards, guests, poller):
    guests[0].bar0.write32(0, 3)
    with Card("card0") as newer:
        newer.serve()
        assert newer.server.poller is poller
        assert guests[0].bar0.read32(0) == 3
        guests[0].bar0.write32(4, 1)
        assert newer.where == {"workbench poller"}
        guests[0].disconnect()


def test_interrupts_and_guest_memory_work(cards, guests):
    guests[2].enable()
    guests[2].arm()
    guests[2].memory.map(0x10000, 4096)
    cards[2].dma.write(0x10000, b"mapped")
    assert guests[2].memory[0x10000:0x10006] == b"mapped"
    cards[2].call = cards[2].irq.trigger
    guests[2].bar0.write32(8, 1)
    assert guests[2].wait_irq() == 1
    guests[2].unmask_irq()
    cards[2].log.wait(kind="unmask", since=0)


def test_memory_that_needs_messages_is_refused_in_a_hook_of_any_of_its_devices(cards):
    near, far = cards[0].connect(), cards[1].connect()
    with near, far:
        far.enable()
        far.memory.map(1 << 20, 4096, shared=False)
        seen = []

        def copy():
            with pytest.raises(wb.DmaError) as raised:
                cards[1].dma.read(1 << 20, 4)
            seen.append(raised.value.errno)
            cards[1].defer(lambda: seen.append(cards[1].dma.read(1 << 20, 4)))
            cards[1].defer(done.set)

        done = threading.Event()
        cards[0].call = copy
        near.bar0.write32(8, 1)
        assert done.wait(10)
    assert seen == [errno.EDEADLK, bytes(4)]


def test_a_hook_may_stop_its_own_server_or_another_one(cards, guests):
    cards[0].call = lambda: (cards[1].server.stop(), cards[0].server.stop())
    with contextlib.suppress(wb.ProtocolError):
        guests[0].bar0.write32(8, 1)
    for card in cards[:2]:
        card.server.stop()
        assert card.server.state == "stopped"
    guests[2].bar0.write32(4, 1)
    assert cards[2].where == {"workbench poller"}


def test_a_hook_that_connects_to_a_device_of_its_own_thread_is_told_at_once(cards, guests, caplog):
    guests[1].close()
    cards[0].call = cards[1].connect
    guests[0].bar0.write32(8, 1)
    (failure,) = cards[0].hooks.failures
    assert "StateError: card1 answers on this thread" in failure.text
    with cards[1].connect() as guest:
        assert guest.bar0.read32(0) == 0


def test_a_hook_that_never_returns_is_named_when_another_device_stops(cards, guests, poller):
    running, go_on = threading.Event(), threading.Event()
    cards[0].call = lambda: (running.set(), go_on.wait(10))
    waiting = threading.Thread(target=guests[0].bar0.write32, args=(8, 1))
    waiting.start()
    assert running.wait(10)
    with pytest.raises(wb.StateError, match=r"card1: a hook of another device of <Poller: .*card0"):
        cards[1].server.stop(timeout=0.01)
    go_on.set()
    waiting.join(10)
    cards[1].server.stop()


def test_a_timer_runs_after_the_reply(cards, guests):
    cards[0].call = lambda: cards[0].defer(cards[0].irq.trigger)
    guests[0].arm()
    guests[0].bar0.write32(8, 1)
    assert guests[0].wait_irq() == 1


def test_the_thread_ends_with_the_last_device_and_comes_again(poller):
    with Card() as card:
        for _ in range(2):
            with card.serve(poller=poller):
                assert thread_of("workbench poller").is_alive()
            assert poller.devices == []


# ---- asking for it ----


def test_a_stopped_server_starts_again_as_it_was_served(poller):
    with Card() as card:
        card.serve(poller=poller).stop()
        with card.connect() as guest:
            guest.bar0.write32(4, 1)
        assert card.where == {"workbench poller"}
    with Card() as card:
        card.serve(poll_us=70).stop()
        card.connect().disconnect()
        assert card.server.poll_us == 70


def test_a_running_server_does_not_move_to_another_thread(poller):
    with Card() as card:
        card.serve()
        with pytest.raises(wb.StateError, match=r"served by another thread: dev\.server\.stop\(\) first"):
            card.serve(poller=poller)
        assert card.serve(poll_us=20).poll_us == 20
    with Card() as card:
        card.serve(poller=poller)
        assert card.serve(poller=poller) is card.serve() is card.server
        with pytest.raises(wb.StateError, match="says for how long it polls"):
            card.serve(poll_us=20)


@pytest.mark.parametrize("microseconds", [-1, 1_000_001])
def test_a_time_to_poll_is_up_to_a_second(microseconds):
    with pytest.raises(ValueError, match="poll_us is 0 to 1000000 µs"):
        wb.Poller(microseconds)
    with Card() as card, pytest.raises(ValueError, match="poll_us is 0 to 1000000 µs"):
        card.serve(poll_us=microseconds)


def test_a_pollers_time_is_the_one_it_was_made_with(poller):
    with pytest.raises(AttributeError):
        poller.poll_us = -5
    assert poller.poll_us == 50


def test_what_is_no_poller_is_refused(poller):
    with Card() as card:
        with pytest.raises(TypeError, match=r"poller is a wb\.Poller or None, not 'fast'"):
            card.serve(poller="fast")
        with pytest.raises(ValueError, match="leave poll_us away"):
            card.serve(poller=poller, poll_us=5)
        assert card.server is None


def test_a_poller_that_is_full_says_so(poller, monkeypatch):
    monkeypatch.setattr("workbench.poller.MOST", 1)
    with Card("one") as one, Card("two") as two:
        one.serve(poller=poller)
        with pytest.raises(wb.StateError, match="a poller serves 1 devices at most"):
            two.serve(poller=poller)
        assert two.server is None
        assert poller.devices == ["one"]


# ---- looking before sleeping ----


@pytest.fixture(params=["own thread", "poller"])
def polled(request):
    """Yield a card that looks for messages for so many µs, its guest, and the thread that answers."""

    @contextlib.contextmanager
    def serve(microseconds):
        with Card("polled") as card:
            if request.param == "poller":
                card.serve(poller=wb.Poller(microseconds))
            else:
                card.serve(poll_us=microseconds)
            with card.connect() as guest:
                yield (
                    card,
                    guest,
                    thread_of("workbench poller" if request.param == "poller" else "workbench polled"),
                )

    return serve


def test_a_thread_that_polls_does_not_sleep_between_messages(polled):
    with polled(1_000_000) as (_, guest, thread):
        guest.bar0.read32(0)
        before = sleeps(thread)
        for _ in range(50):
            guest.bar0.read32(0)
        assert sleeps(thread) == before
    with polled(0) as (_, guest, thread):
        before = sleeps(thread)
        for _ in range(50):
            guest.bar0.read32(0)
        assert sleeps(thread) > before


def test_a_thread_that_polled_in_vain_sleeps_and_costs_nothing(polled):
    with polled(1000) as (card, guest, thread):
        clock = time.pthread_getcpuclockid(thread.ident)
        guest.bar0.read32(0)
        until_asleep(thread)
        before = time.clock_gettime_ns(clock)
        with pytest.raises(TimeoutError):
            card.log.wait(kind="read", timeout=0.1)
        assert time.clock_gettime_ns(clock) == before
        assert guest.bar0.read32(0) == 0  # and wakes up
