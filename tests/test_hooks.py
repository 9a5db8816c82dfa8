"""Hooks: what they are told, how they are swapped, what happens when they raise."""

import logging
import threading

import pytest
from interrupts import interrupted_when, waiting
from sample import stuck_hook

import workbench as wb
from workbench.engine import lib


class Pair(wb.Device):
    """Two 8-bit registers and a 32-bit one; class hooks record what they are told."""

    id = wb.PciId(vendor=0x1234, device=0x0001)

    class bar0(wb.Bar, size=64):
        A = wb.Register(0, 8)
        B = wb.Register(1, 8)
        WIDE = wb.Register(4, 32, reset=0x11223344)
        DB = wb.Register(16, 32, count=4)

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []

    @bar0.A.on_write
    @bar0.B.on_write
    def note(self, access):
        self.seen.append((access.register.name, access.value, access.old))


@pytest.fixture
def pair():
    with Pair() as device:
        yield device


def test_an_access_across_two_registers_runs_both_hooks_once_in_order(pair):
    pair.bar0.write(0, b"\x12\x34")
    assert pair.seen == [("A", 0x12, 0), ("B", 0x34, 0)]


def test_a_partial_write_is_shown_as_the_whole_register_would_show_it(pair):
    @pair.bar0.WIDE.on_write
    def wide(device, access):
        device.seen.append((access.value, access.old, access.mask, access.offset, access.size))

    pair.bar0.write(5, b"\xaa")
    assert pair.seen == [(0xAA00, 0x11223344, 0xFF00, 5, 1)]
    assert pair.bar0.WIDE == 0x1122AA44


def test_on_read_may_return_a_number_which_is_answered_by_the_ordinary_path(pair):
    @pair.bar0.WIDE.on_read
    def fresh(device):
        return 0xCAFE

    assert pair.bar0.WIDE.read() == 0xCAFE
    assert pair.bar0.WIDE.value == 0xCAFE
    assert [r.kind for r in pair.log][-2:] == ["swap", "read"]  # the answer is no poke of its own


def test_setting_again_replaces_and_the_record_names_the_revision(pair):
    for number in (1, 2, 3):

        @pair.bar0.A.on_write
        def hook(device, access, number=number):
            device.seen.append(number)

        pair.bar0.A.write(0)
    assert pair.seen == [1, 2, 3]
    assert [r.revision for r in pair.log.filter(kind="write")] == [2, 3, 4]  # 1 was the class's
    assert len(list(pair.hooks)) == 2


def test_unhook_gives_the_register_back_to_c(pair):
    pair.bar0.A.unhook("write")
    pair.bar0.A.write(5)
    assert (pair.seen, pair.bar0.A.value, pair.log[-1].revision) == ([], 5, 0)
    assert pair.bar0.A.hook("write") is None
    assert pair.bar0.B.hook("write").revision == 1


def test_an_array_hook_is_told_the_index(pair):
    @pair.bar0.DB.on_write
    def ring(device, access):
        device.seen.append((access.index, access.value))

    pair.bar0.DB[3].write(7)
    assert pair.seen == [(3, 7)]


def test_a_hook_that_raises_leaves_the_stored_value_and_is_shown_once(pair, caplog):
    @pair.bar0.WIDE.on_read
    def broken(device, access):
        raise RuntimeError("no such luck")

    with caplog.at_level(logging.ERROR):
        assert [pair.bar0.WIDE.read() for _ in range(3)] == [0x11223344] * 3
    assert len(caplog.records) == 1
    assert "no such luck" in caplog.text
    assert "bar0.WIDE.on_read" in caplog.text
    (failure,) = pair.hooks.failures
    assert (failure.name, failure.count) == ("bar0.WIDE.on_read", 3)
    shown = "<HookFailure bar0.WIDE.on_read rev 1 raised RuntimeError('no such luck'), 3 times>"
    assert repr(pair.hooks.failures) == repr(failure) == shown
    pair.hooks.failures.clear()
    assert repr(pair.hooks.failures) == "<no hook raised>"
    assert "hook raised" in str(pair.log[-1])


def test_what_is_no_number_is_refused_as_an_answer_in_words(pair):
    pair.bar0.A.on_read(lambda device: "x")
    assert pair.bar0.A.read() == 0
    with pytest.raises(wb.HookError, match=r"bar0.A.on_read returned 'x': return a whole number, or None"):
        pair.hooks.failures.check()


def test_failures_belong_to_a_revision_and_the_latest_is_last(pair, caplog):
    def broken(device, access):
        raise ValueError("as ever")

    pair.bar0.A.on_write(broken)
    pair.bar0.A.write(1)
    pair.bar0.A.on_write(broken)
    pair.bar0.A.write(1)
    pair.hooks.revert("bar0.A.on_write", 2)
    assert [(one.revision, one.count) for one in pair.hooks.failures] == [(2, 1), (3, 1)]  # 1: the class's
    pair.bar0.WIDE.on_read(lambda device: 1 // 0)
    pair.bar0.WIDE.read()
    pair.bar0.A.write(1)
    pair.bar0.A.write(1)
    assert [(one.name, one.revision, one.count) for one in pair.hooks.failures] == [
        ("bar0.A.on_write", 2, 1),
        ("bar0.A.on_write", 3, 1),
        ("bar0.WIDE.on_read", 1, 1),
        ("bar0.A.on_write", 4, 2),
    ]
    assert len(caplog.records) == 4


@pytest.mark.parametrize("result", [-1, 1 << 32, "text", 1.5])
def test_a_hook_that_returns_what_does_not_fit_is_an_error_of_the_hook(pair, result, caplog):
    pair.bar0.WIDE.on_read(lambda device: result)
    assert pair.bar0.WIDE.read() == 0x11223344
    assert pair.hooks.failures[0].count == 1


def test_strict_raises_at_the_end_of_the_with():
    with pytest.raises(wb.HookError, match=r"bar0\.A\.on_write") as caught, Pair(strict=True) as device:
        device.bar0.A.on_write(lambda device, access: 1 // 0)
        device.bar0.A.write(1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_hook_may_touch_its_own_device_and_even_recurse_without_end(pair, caplog):
    @pair.bar0.A.on_write
    def again(device, access):
        device.bar0.A.write(access.value)

    pair.bar0.A.write(9)
    assert pair.bar0.A == 9
    assert isinstance(pair.hooks.failures[0].error, RecursionError)


def test_pokes_in_a_hook_are_the_devices_own(pair):
    @pair.bar0.A.on_write
    def copy(device, access):
        device.bar0.B = access.value

    pair.bar0.A.write(3)
    pair.bar0.B = 4
    assert [r.origin for r in pair.log.filter(kind="poke")] == ["device", "notebook"]


def test_ctrl_c_in_a_hook_reaches_the_cell(pair):
    @pair.bar0.A.on_write
    def interrupted(device, access):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair.bar0.A.write(1)
    pair.bar0.B.write(1)  # and only once


@pytest.mark.parametrize("function", [lambda: 0, lambda a, b, c: 0, "text", None])
def test_what_cannot_be_a_hook_is_refused_when_it_is_set(pair, function):
    with pytest.raises(wb.DescriptionError, match=r"bar0\.A"):
        pair.bar0.A.on_write(function)
    pair.bar0.A.write(1)
    assert pair.seen == [("A", 1, 0)]


@pytest.mark.parametrize("function", [lambda access: 0, lambda access, device: 0])
def test_a_hook_that_would_be_given_the_device_as_its_access_is_refused(pair, function):
    with pytest.raises(wb.DescriptionError, match=r"given the device first: write \(device, access\)"):
        pair.bar0.A.on_write(function)


def test_a_hook_that_never_returns_can_be_replaced(pair):
    thread = threading.Thread(target=pair.bar0.WIDE.write, args=(1,))
    with stuck_hook(pair.bar0.WIDE, thread.start):
        pair.bar0.WIDE.on_write(lambda device, access: None)
        assert pair.bar0.WIDE.hook("write").revision == 2
        assert thread.is_alive()
    thread.join()


def test_every_access_is_answered_by_exactly_one_revision_while_hooks_are_swapped(pair):
    answers, done = [], threading.Event()

    def read():
        while not done.is_set():
            answers.append(pair.bar0.WIDE.read())

    pair.bar0.WIDE.on_read(lambda device: 1)
    thread = threading.Thread(target=read)
    thread.start()
    for revision in range(2, 500):
        pair.bar0.WIDE.on_read(lambda device, value=revision: value)
    done.set()
    thread.join()
    records = list(pair.log.filter(kind="read"))
    assert [record.value for record in records] == answers
    assert [record.revision for record in records] == answers
    assert sorted(answers) == answers


def test_events_are_guarded_too(caplog):
    class Grumpy(Pair):
        def on_reset(self, kind):
            raise OSError("not now")

    with Grumpy() as device:
        device.reset()
        assert device.hooks.failures[0].name == "on_reset"


class Shared(wb.Device):
    """A wide read-only register and a narrow write-only one in the same bytes."""

    id = wb.PciId(vendor=0x1234, device=0x0006)

    class bar0(wb.Bar, size=64):
        RO = wb.Register(0, 32, "ro", reset=0x11223344)
        WO = wb.Register(1, 8, "wo")


def test_registers_that_share_bytes_have_hooks_of_their_own():
    with Shared() as device:
        seen = []
        device.bar0.RO.on_write(lambda device: seen.append("ro"))
        device.bar0.WO.on_write(lambda device, access: seen.append((access.value, access.old)))
        device.bar0.WO.write(5)
        device.bar0.RO.unhook("on_write")
        device.bar0.WO.write(7)
        assert seen == [(5, 0), (7, 5)]
        assert [(r.old, r.now) for r in device.log.filter(kind="write")] == [(0, 5), (5, 7)]
        assert device.bar0.RO.value == 0x11223344


def test_a_hook_that_goes_concerns_those_that_share_its_bytes_and_no_other(pair, monkeypatch):
    calls = []

    class Engine:
        def __getattr__(self, name):
            calls.append(name)
            return getattr(lib, name)

    pair.bar0.DB.on_read(lambda device: None)
    monkeypatch.setattr("workbench.hooks.lib", Engine())
    pair.bar0.DB[1].unhook("read")  # of an array of thousands it took seconds
    assert calls.count("wb_region_hook") == 1


@pytest.mark.parametrize("slot", ["wirte", 3, None])
def test_a_slot_that_does_not_exist_is_an_error(pair, slot):
    with pytest.raises(ValueError, match="on_read"):
        pair.bar0.A.unhook(slot)


def test_one_exception_raised_again_and_again_costs_no_more_each_time(pair):
    error = ValueError("the same")

    def broken(device):
        raise error

    pair.bar0.WIDE.on_read(broken)
    for _ in range(500):
        pair.bar0.WIDE.read()
    (failure,) = pair.hooks.failures
    assert failure.count == 500
    assert len(failure.text) < 2000


def test_a_log_handler_that_raises_does_not_hide_the_failure(pair):
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("no log today")

    handler = Broken()
    logging.getLogger("workbench").addHandler(handler)
    try:
        pair.bar0.WIDE.on_read(lambda device: 1 // 0)
        pair.bar0.WIDE.read()
    finally:
        logging.getLogger("workbench").removeHandler(handler)
    assert "hook_failed" in pair.log[-1].flags


def test_ctrl_c_while_a_cell_waits_for_the_hook_of_a_guest_reaches_the_cell(pair):
    thread = threading.Thread(target=pair.bar0.WIDE.write, args=(1,))
    with stuck_hook(pair.bar0.WIDE, thread.start):
        main = threading.main_thread()
        with pytest.raises(KeyboardInterrupt), interrupted_when(lambda: waiting(main), KeyboardInterrupt):
            pair.bar0.A.write(1)
    thread.join()
    assert pair.bar0.A == 1


def test_an_exception_that_cannot_be_shown_is_told_by_its_name():
    class Silent(Exception):
        def __repr__(self):
            raise RuntimeError

        __str__ = __repr__

    with (
        pytest.raises(wb.HookError, match=r"bar0\.A\.on_write raised Silent \(1 time\)"),
        Pair(strict=True) as device,
    ):

        @device.bar0.A.on_write
        def fail(device):
            raise Silent

        device.bar0.A.write(1)
