"""Device time: functions that run later, on the device's own thread."""

import threading
import time

import pytest

import workbench as wb

WAIT = 5.0


class Clock(wb.Device):
    """A device with a hook to call things from, PCI Express for FLR."""

    id = wb.PciId(vendor=0x1234, device=0x0B12)
    capabilities = (wb.PciExpress(),)

    class bar0(wb.Bar, size=4096):
        GO = wb.Register(0x00)
        COUNT = wb.Register(0x04)


@pytest.fixture
def clock():
    with Clock() as device:
        yield device


class Seen:
    """A function that counts its calls; wait for so many."""

    def __init__(self, *also):
        self.calls = []
        self._also = also
        self._came = threading.Condition()

    def __call__(self, *args):
        for one in self._also:
            one()
        with self._came:
            self.calls.append((args, threading.current_thread()))
            self._came.notify_all()

    def wait(self, count=1):
        with self._came:
            return self._came.wait_for(lambda: len(self.calls) >= count, WAIT)


def in_order(device):
    """Wait until everything that was deferred before has run."""
    done = threading.Event()
    device.defer(done.set)
    assert done.wait(WAIT)


def test_after_runs_once_and_not_before_its_time(clock):
    seen, start = Seen(), time.monotonic_ns()
    timer, later = clock.after(ms=2, run=seen), clock.after(ms=60_000, run=seen)
    assert later.active
    assert seen.wait()
    assert time.monotonic_ns() - start >= 2_000_000
    in_order(clock)
    assert (len(seen.calls), timer.calls, timer.active, later.calls) == (1, 1, False, 0)


def test_every_runs_until_it_is_cancelled_from_within(clock):
    def count():
        clock.bar0.COUNT += 1
        if clock.bar0.COUNT == 3:
            timer.cancel()
            done.set()

    done = threading.Event()
    timer = clock.every(1, count)
    assert done.wait(WAIT)
    in_order(clock)
    assert (clock.bar0.COUNT, timer.calls, timer.active) == (3, 3, False)


def test_timers_run_in_the_order_in_which_they_are_due(clock):
    order, done = [], threading.Event()
    timers = []

    def run(number):
        order.append(number)
        if len(order) == 4:
            done.set()

    for number, ms in enumerate((8, 4, 0, 0)):
        timers.append(clock.after(ms, lambda number=number: run(number)))
    assert done.wait(WAIT)
    assert order == sorted(range(4), key=lambda number: (timers[number].due, number))


def test_one_named_thread_serves_all_and_goes_with_close():
    device, seen = Clock("left"), Seen()
    device.after(ms=0, run=seen)
    device.defer(seen)
    device.every(ms=1, run=seen)
    assert seen.wait(4)
    threads = {thread for _, thread in seen.calls}
    assert [thread.name for thread in threads] == ["workbench left time"]
    device.close()
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(wb.StateError, match=r"left is closed: nothing will run after\(Seen\)"):
        device.after(ms=0, run=seen)


def test_the_thread_ends_when_nothing_is_left_to_do(clock, monkeypatch):
    monkeypatch.setattr("workbench.timers.LINGER", 0.01)
    for _ in range(2):
        seen = Seen()
        clock.after(ms=0, run=seen)
        assert seen.wait()
        seen.calls[0][1].join(WAIT)
        assert not seen.calls[0][1].is_alive()


def test_a_cancelled_timer_does_not_run_even_when_it_was_due(clock):
    seen = Seen()
    with clock.hooks.here():  # nothing else of the device runs
        timer = clock.after(ms=0, run=seen)
        timer.cancel()
        timer.cancel()
    in_order(clock)
    assert seen.calls == []
    assert "done" in repr(timer)


def test_what_a_timer_does_is_done_by_the_device(clock):
    done = threading.Event()
    clock.after(ms=0, run=lambda: (clock.bar0.COUNT.poke(7), done.set()))
    assert done.wait(WAIT)
    [record] = clock.log.filter(register="COUNT")
    assert (record.kind, record.origin) == ("poke", "device")


def test_what_a_timer_raises_is_a_failure_and_the_next_one_runs(clock, caplog):
    def breaks():
        raise ValueError("on time")

    clock.after(ms=0, run=breaks)
    in_order(clock)
    [failure] = clock.hooks.failures
    assert (failure.name, str(failure.error)) == ("after(breaks)", "on time")
    assert "after(breaks) raised; the device goes on" in caplog.text
    assert clock.every(ms=1, run=breaks).active
    seen = Seen()
    clock.after(ms=4, run=seen)
    assert seen.wait()
    assert len(clock.hooks.failures) == 2


def test_even_system_exit_does_not_end_the_thread(clock):
    clock.defer(exit)
    in_order(clock)
    assert isinstance(clock.hooks.failures[0].error, SystemExit)


def test_a_strict_device_tells_of_it_in_the_end():
    with (
        pytest.raises(wb.HookError, match=r"defer\(breaks\) raised ZeroDivisionError"),
        Clock(strict=True) as device,
    ):

        def breaks():
            _ = 1 / 0

        device.defer(breaks)
        in_order(device)


# -- defer --


def test_deferred_functions_run_after_the_hook_and_its_answer(clock):
    order, done = [], threading.Event()

    @clock.bar0.GO.on_read
    def go(device):
        device.defer(later, "x", 1)
        order.append("hook")

    def later(*args):
        order.append(args)
        done.set()

    with clock.connect() as guest:
        assert guest.bar0.read32(0) == 0
        assert done.wait(WAIT)
    assert order == ["hook", ("x", 1)]


def test_a_deferred_function_may_wait_for_the_guest(clock):
    """The guest answers nothing while it waits for its own read: only afterwards the function runs."""
    answered, done = threading.Event(), threading.Event()
    clock.bar0.GO.on_read(lambda device: device.defer(lambda: answered.wait(WAIT) and done.set()))
    with clock.connect() as guest:
        guest.bar0.read32(0)
        answered.set()
        assert done.wait(WAIT)


def test_a_notebooks_own_access_may_defer_too(clock):
    seen = Seen()

    @clock.bar0.GO.on_write
    def go(device, access):
        device.defer(seen, access.value)

    clock.bar0.GO.write(5)
    assert seen.wait()
    assert seen.calls[0][0] == (5,)


# -- reset --


def flr(guest):
    [(_, at)] = [found for found in guest.capabilities() if found[0] == 0x10]
    guest.config.write16(at + 8, 0x8000)


@pytest.mark.parametrize("how", ["notebook", "device", "flr"])
def test_a_reset_cancels_what_waits_unless_it_is_to_be_kept(clock, how):
    seen, kept = Seen(), Seen()
    timers = [clock.after(ms=1e6, run=seen), clock.every(ms=1e6, run=seen)]
    timers.append(clock.after(ms=1e6, run=seen, keep=None))  # as bool() says
    stays = [clock.after(ms=1, run=kept, keep=True), clock.every(ms=1, run=kept, keep=True)]
    with clock.connect() as guest:
        {"notebook": clock.reset, "device": guest.reset, "flr": lambda: flr(guest)}[how]()
    assert [timer.active for timer in timers] == [False] * 3
    assert stays[1].active
    assert kept.wait(3)
    assert seen.calls == []


def test_a_timer_that_resets_its_device_does_not_run_again(clock):
    done = threading.Event()
    timer = clock.every(ms=1, run=lambda: (clock.reset(), done.set()))
    assert done.wait(WAIT)
    in_order(clock)
    assert (timer.calls, timer.active) == (1, False)


def test_a_timer_that_waits_for_a_hook_is_cancelled_by_the_reset_that_the_hook_does(clock):
    late = Seen()

    @clock.bar0.GO.on_write
    def go(device, access):
        timer = device.after(ms=0, run=late)
        # The thread has taken it out, and waits until this hook is done.
        deadline = time.monotonic() + WAIT
        while device._core.timers._taken is not timer and time.monotonic() < deadline:
            pass
        device.reset()

    clock.bar0.GO.write(1)
    in_order(clock)
    assert late.calls == []


def test_on_reset_may_start_timers_anew():
    class Beating(Clock):
        def on_reset(self, kind):
            self.every(ms=1, run=self.beat)

        def beat(self):
            self.bar0.COUNT += 1
            beaten.set()

    beaten = threading.Event()
    with Beating() as device:
        device.reset()
        assert beaten.wait(WAIT)


# -- swap --


def test_a_swapped_class_brings_its_own_method_to_a_pending_timer():
    class Old(Clock):
        def tick(self):
            raise AssertionError("the class before")

    class New(Clock):
        def tick(self):
            seen()

    seen = Seen()
    with Old("swapped") as device:
        with device.hooks.here():  # nothing else of the device runs meanwhile
            device.after(ms=0, run=device.tick)
            device.swap(New)
        assert seen.wait()
        assert len(device.hooks.failures) == 0


def test_a_timer_that_runs_while_it_is_taken_over_comes_again():
    entered, leave, ticks = threading.Event(), threading.Event(), Seen()

    def tick():
        entered.set()
        leave.wait(WAIT)
        ticks()

    with Clock("same") as older:
        older.serve()
        newer = Clock("same")
        own = newer._core.timers
        newer.every(ms=1, run=tick)
        assert entered.wait(WAIT)
        newer.serve()  # takes the older one's core over, its own timers go along
        assert newer._core.timers is not own
        leave.set()
        assert ticks.wait(3)
        newer.close()


def test_what_is_put_back_where_all_was_taken_over_waits_there():
    with Clock("same") as older:
        older.serve()
        newer, seen = Clock("same"), Seen()
        own, timer = newer._core.timers, newer.every(ms=5, run=seen)
        assert seen.wait()
        newer.serve()
        timer.cancel()
        timer.active, timer.due = True, 0
        assert own.put(timer)  # as the thread does that has just run it
        assert seen.wait(len(seen.calls) + 2)
        newer.close()


def test_a_new_instance_takes_pending_timers_over_and_replaces_its_own():
    class Ticking(Clock):
        def __init__(self, *args):
            super().__init__(*args)
            self.ticks = Seen()
            self.every(ms=2, run=self.tick)

        def tick(self):
            self.ticks()

        def once(self):
            once(self)

    once = Seen()
    older = Ticking("same")
    older.serve()
    with older.hooks.here():  # nothing else of the device runs meanwhile
        older.after(ms=0, run=older.once)
        newer = Ticking("same")
        newer.serve()
    assert once.wait()
    assert once.calls[0][0] == (newer,)
    assert newer.ticks.wait()
    assert [timer.name for timer in newer._core.timers].count("every(tick)") <= 1
    before = len(older.ticks.calls)
    assert newer.ticks.wait(len(newer.ticks.calls) + 2)
    assert len(older.ticks.calls) == before
    older.close()  # is nobody any more
    assert newer.after(ms=0, run=Seen()).name == "after(Seen)"
    newer.close()


# -- mistakes --


@pytest.mark.parametrize("ms", [-1, float("nan"), float("inf"), "1", None, True, 1e12])
def test_times_that_are_none_are_refused(clock, ms):
    with pytest.raises(ValueError, match=r"after\(\): ms=.*, expected milliseconds from 0 to a year"):
        clock.after(ms=ms, run=print)


def test_a_period_is_above_zero(clock):
    with pytest.raises(ValueError, match="the period is above 0 ms"):
        clock.every(ms=0, run=print)


async def nothing():
    """Awaited by nobody."""


@pytest.mark.parametrize(
    ("run", "args", "message"),
    [
        (5, (), r"defer\(\): what runs must be a function, not 5"),
        (nothing, (), r"is called, not awaited: leave async out"),
        (lambda x: x, (), r"cannot be called so: missing a required argument: 'x'"),
        (lambda: 0, (1,), r"cannot be called so: too many positional arguments"),
    ],
)
def test_what_cannot_be_called_so_is_refused_at_once(clock, run, args, message):
    with pytest.raises(TypeError, match=message):
        clock.defer(run, *args)


# -- close --


def test_a_timer_may_close_its_device():
    device, closed = Clock(), threading.Event()
    device.defer(lambda: (device.close(), closed.set()))
    assert closed.wait(WAIT)


def test_close_names_the_function_that_does_not_return():
    device, begun, go = Clock("stuck"), threading.Event(), threading.Event()
    device.defer(lambda: (begun.set(), go.wait(WAIT)))
    assert begun.wait(WAIT)
    with pytest.raises(wb.StateError, match=r"stuck: defer\(<lambda>\) has not returned for 0.01 s"):
        device._core.timers.close(0.01)
    go.set()
    device.close()


def test_a_builtin_that_hides_its_arguments_may_be_deferred(clock):
    seen = Seen()
    clock.defer(max, 1, 2)
    clock.defer(seen)
    assert seen.wait()
    assert len(clock.hooks.failures) == 0
