"""Native hooks: C from a text, a cffi pointer, numba; swapped, counted and refused as Python's are."""

import contextlib
import gc
import logging
import sys
import threading

import numpy as np
import pytest
from cffi import FFI

import workbench as wb
from workbench.engine import lib
from workbench.views.feeds.hooks import HooksFeed
from workbench.views.feeds.registers import ENTRY, NATIVE, RegistersFeed
from workbench.views.feeds.source import Source
from workbench.views.history import History
from workbench.views.table import RegisterTable

ADD = """
int hook(const wb_native *wb, wb_touch *access)
{
    return wb->poke(wb, 0, 0x08, access->value + access->old, 4);
}
"""
TICK = """
int hook(const wb_native *wb, wb_touch *access)
{
    uint64_t *ticks = wb->state;
    access->value = ++*ticks;
    return 0;
}
"""
FAIL = "int hook(const wb_native *wb, wb_touch *access) { access->value = 99; return -22; }"


class Card(wb.Device):
    """Registers of several sizes; one has a native hook of the class."""

    id = wb.PciId(vendor=0x1234, device=0x0031)
    irq = wb.Interrupts(intx=True)

    class bar0(wb.Bar, size=4096):
        A = wb.Register(0x00)
        B = wb.Register(0x04)
        SUM = wb.Register(0x08)
        DB = wb.Register(0x10, 8, count=4)
        RO = wb.Register(0x20, 32, "ro", reset=0x11223344)
        WO = wb.Register(0x21, 8, "wo")

    add = bar0.B.on_write.native(ADD)


@pytest.fixture
def card():
    with Card() as device:
        yield device


# -- what runs --


def test_c_source_in_a_class_body_is_a_hook_of_every_instance(card):
    card.bar0.B.write(3)
    card.bar0.B.write(4)
    assert card.bar0.SUM == 7
    with Card("other") as other:
        other.bar0.B.write(5)
        assert (other.bar0.SUM, card.bar0.SUM) == (5, 7)
    assert [r.origin for r in card.log.filter(kind="poke")] == ["device", "device"]
    assert [(r.revision, r.flags) for r in card.log.filter(kind="write")] == [(1, {"hook_ran"})] * 2


def test_a_read_answers_what_the_hook_leaves_in_value_and_its_memory_is_an_array(card):
    hook = card.bar0.A.on_read.native(TICK, state=8)
    assert [card.bar0.A.read() for _ in range(3)] == [1, 2, 3]
    assert hook.state.tolist() == [3]
    hook.state[0] = 40
    assert card.bar0.A.read() == card.bar0.A.value == 41
    assert card.log[-1].kind == "read"  # the answer is no poke of its own


def test_a_partial_access_is_shown_as_the_whole_register_would_show_it(card):
    told = np.zeros(4, "<u8")
    card.bar0.A = 0x11223344
    card.bar0.A.on_write.native(
        """
        int hook(const wb_native *wb, wb_touch *access)
        {
            uint64_t *told = wb->state;
            told[0] = access->value; told[1] = access->old; told[2] = access->mask; told[3] = access->offset;
            return 0;
        }
        """,
        state=told,
    )
    card.bar0.write(1, b"\xaa")
    assert told.tolist() == [0xAA00, 0x11223344, 0xFF00, 1]


def test_an_array_is_told_its_index_and_each_element_has_memory_of_its_own(card):
    count = "{ *(uint64_t *)wb->state += access->index; return 0; }"
    code = f"int hook(const wb_native *wb, wb_touch *access) {count}"
    card.bar0.DB.on_write.native(code, state=8)
    card.bar0.write(0x10, bytes(4))
    card.bar0.DB[3].write(0)
    assert [int(card.bar0.DB[n].hook("write").state[0]) for n in range(4)] == [0, 1, 2, 6]


@pytest.mark.slow
def test_a_function_is_compiled_by_numba(card):
    @card.bar0.A.on_write.native(state=16)
    def note(wb, access):
        wb.state[0] += access.value
        wb.state[1] = wb.now()
        wb.poke(0, 0x08, wb.peek(0, 0x04, 4) * 2, access.size)

    card.bar0.B = 21
    card.bar0.A.write(5)
    assert card.bar0.SUM == 42
    assert (note.state[0], note.function_name) == (5, "note (numba)")
    assert 0 < note.state[1] <= lib.wb_clock()


@pytest.mark.slow
def test_numba_copies_guest_memory_and_interrupts(card):
    @card.bar0.A.on_write.native
    def echo(wb, access):
        data = np.zeros(4, np.uint8)
        wb.dma_read(access.value, data)
        for place in range(4):
            data[place] += 1
        wb.dma_write(access.value + 4, data)
        wb.trigger(0)

    with card.connect() as guest:
        guest.enable()
        guest.memory[0x1000:0x1004] = b"HAL "
        guest.bar0.write32(0, 0x1000)
        assert bytes(guest.memory[0x1004:0x1008]) == b"IBM!"
        assert guest.wait_irq() == 1
    assert not len(card.hooks.failures)


@pytest.mark.slow
def test_a_numba_cfunc_with_our_signature_is_taken_and_another_is_refused(card):
    import numba

    @card.bar0.A.on_read.native
    @numba.cfunc(wb.native.signature)
    def fresh(wb, access):
        access.value = 7
        return 0

    assert card.bar0.A.read() == 7
    other = numba.cfunc("float64(float64)")(lambda x: x)
    with pytest.raises(wb.DescriptionError, match=r"numba\.cfunc\(wb\.native\.signature\)"):
        card.bar0.A.on_read.native(other)


def test_a_cffi_function_pointer_is_taken(card):
    ffi = FFI()

    @ffi.callback("int(void *, uint64_t *)")
    def hook(_, touch):
        touch[1] = 0x77  # value
        return 0

    card.bar0.A.on_read.native(hook)
    assert card.bar0.A.read() == 0x77
    assert card.bar0.A.hook("read").function_name == "pointer (cffi)"


# -- failing --


def test_a_hook_that_returns_something_else_has_failed_and_the_stored_value_is_answered(card, caplog):
    card.bar0.A = 5
    hook = card.bar0.A.on_read.native(FAIL)
    assert [card.bar0.A.read() for _ in range(3)] == [5, 5, 5]
    assert "hook_failed" in card.log[-1].flags
    assert (hook.calls, hook.errors) == (3, 3)
    with caplog.at_level(logging.ERROR):
        (failure,) = card.hooks.failures
        card.bar0.A.read()
        (failure,) = card.hooks.failures
    assert (failure.name, failure.revision, failure.count) == ("bar0.A.on_read", 1, 4)
    assert "returned -22 (Invalid argument)" in failure.text
    assert len(caplog.records) == 1
    card.hooks.failures.clear()
    assert not len(card.hooks.failures)


@pytest.mark.slow
def test_what_raises_in_numba_has_failed(card):
    @card.bar0.A.on_write.native
    def broken(wb, access):
        if access.value > 1:
            raise ValueError("too much")

    card.bar0.A.write(1)
    card.bar0.A.write(2)
    assert (broken.calls, broken.errors) == (2, 1)
    assert "raised" in card.hooks.failures[0].text


def test_strict_raises_at_the_end_of_the_with():
    with pytest.raises(wb.HookError, match=r"bar0\.A\.on_write"), Card(strict=True) as device:
        device.bar0.A.on_write.native(FAIL)
        device.bar0.A.write(1)


# -- swapping --


def test_python_and_native_replace_each_other_in_one_slot(card):
    card.bar0.A.on_read(lambda device: 1)
    card.bar0.A.on_read.native(TICK, state=8)
    first = card.bar0.A.read()
    card.bar0.A.on_read(lambda device: 33)
    second = card.bar0.A.read()
    card.hooks.revert("bar0.A.on_read", 2)
    third = card.bar0.A.read()
    card.bar0.A.unhook("read")
    card.bar0.A.read()
    assert (first, second, third) == (1, 33, 2)  # with the memory it had
    assert [r.revision for r in card.log.filter(kind="read")] == [2, 3, 4, 0]
    assert [r.kind for r in card.log.filter(register="A")].count("swap") == 5


@pytest.mark.slow
def test_disable_enable_diff_and_memory_over_revisions(card):
    card.bar0.A.on_read.native(TICK, state=8)
    card.bar0.A.read()
    again = card.bar0.A.on_read.native(TICK.replace("++*ticks", "*ticks += 10"), state=8)
    assert card.bar0.A.read() == 11
    assert "+    access->value = *ticks += 10;" in card.hooks.diff("bar0.A.on_read", 1, 2)
    card.hooks.disable("bar0.A.on_read")
    assert (card.bar0.A.read(), card.log[-1].revision) == (11, 0)
    card.hooks.enable("bar0.A.on_read")
    assert (card.bar0.A.read(), card.log[-1].revision) == (21, 2)
    assert again.state.tolist() == [21]
    assert again.source.startswith("\nint hook")
    assert again.cell.startswith("test_native_hooks.py:")


def test_override_takes_native_code_and_puts_back_what_was_there(card):
    card.bar0.A.on_read(lambda device: 3)
    with card.override(card.bar0.A, read=wb.native.code(TICK, 8)):
        assert card.bar0.A.read() == 1
    assert card.bar0.A.read() == 3


def test_a_newer_instance_goes_on_with_the_memory(card):
    card.bar0.A.on_read.native(TICK, state=8)
    card.serve()
    card.bar0.A.read()
    with Card() as newer:
        hook = newer.bar0.A.on_read.native(TICK, state=8)
        newer.serve()
        assert newer.bar0.A.read() == 2
        newer.bar0.B.write(6)
        assert newer.bar0.SUM == 6
        assert hook.state.tolist() == [2]


def test_an_access_over_python_and_native_hooks_runs_each_once_in_order(card):
    seen = []
    card.bar0.DB[0].on_write(lambda device: seen.append(0))
    code = "int hook(const wb_native *wb, wb_touch *access) { return wb->poke(wb, 0, 0, access->value, 1); }"
    native = card.bar0.DB[1].on_write.native(code)
    card.bar0.DB[2].on_write(lambda device: seen.append(int(device.bar0.A)))
    card.bar0.write(0x10, b"\1\2\3\4")
    assert (seen, native.calls, card.log[-1].revision) == ([0, 2], 1, 1)


def test_of_registers_that_share_bytes_only_the_one_meant_is_asked(card):
    one = card.bar0.RO.on_write.native("int hook(const wb_native *wb, wb_touch *access) { return 0; }")
    two = card.bar0.WO.on_write.native("int hook(const wb_native *wb, wb_touch *access) { return 0; }")
    card.bar0.WO.write(5)
    assert (one.calls, two.calls) == (0, 1)
    card.bar0.WO.unhook("write")
    card.bar0.RO.write(1)
    assert (one.calls, two.calls) == (0, 1)


def test_a_hook_that_python_has_to_choose_may_call_all_that_others_may(card):
    for hook in (card.bar0.WO.on_write, card.bar0.RO.on_write):
        hook.native(ADD)
    card.bar0.WO.write(5)
    card.bar0.WO.write(7)
    assert card.bar0.SUM == 12


def test_only_python_hooks_need_the_interpreter(card):
    assert (len(card.hooks), card.hooks.in_python) == (1, 0)
    card.bar0.A.on_write(lambda device: None)
    assert (len(card.hooks), card.hooks.in_python) == (2, 1)


def test_a_device_with_native_hooks_alone_leaves_the_switch_interval_as_it_is(card):
    before = sys.getswitchinterval()
    card.serve()
    assert sys.getswitchinterval() == before
    card.bar0.A.on_write(lambda device: None)
    assert sys.getswitchinterval() < before


SPIN = """
int hook(const wb_native *wb, wb_touch *access)
{
    volatile uint64_t *state = wb->state;
    state[0] = 1;
    while (!state[1])
        ;
    return 0;
}
"""


def test_a_hook_that_does_not_return_is_named_and_can_be_replaced_and_its_memory_stays(card):
    stuck = card.bar0.A.on_write.native(SPIN, state=16)
    state, entry = stuck.state, stuck.entry
    server, guest = card.serve(), card.connect()

    def write():
        with contextlib.suppress(wb.ProtocolError):  # the server is stopped before it answers
            guest.bar0.write32(0, 1)

    thread = threading.Thread(target=write)
    thread.start()
    while not state[0]:
        pass
    for _ in range(60):  # more than the history keeps
        card.bar0.A.on_write.native(ADD)
    assert card.hooks.running is stuck
    del stuck
    gc.collect()
    with pytest.raises(wb.StateError, match=r"bar0\.A\.on_write has not returned for 0\.05 s"):
        server.stop(timeout=0.05)
    assert entry.running == 1
    state[1] = 1
    server.stop()
    thread.join()
    guest.disconnect()
    assert (entry.running, entry.calls, card.hooks.running) == (0, 1, None)


@pytest.mark.slow
def test_every_read_is_answered_by_one_revision_while_native_hooks_are_swapped(card):
    state = [np.full(1, number, "<u8") for number in range(1, 400)]
    answer = (
        "int hook(const wb_native *w, wb_touch *access) { access->value = *(uint64_t *)w->state; return 0; }"
    )
    answers, done = [], threading.Event()

    def read():
        while not done.is_set():
            answers.append(card.bar0.A.read())

    card.bar0.A.on_read.native(answer, state=state[0])
    thread = threading.Thread(target=read)
    thread.start()
    for number, memory in enumerate(state[1:], 2):
        if number % 5:
            card.bar0.A.on_read.native(answer, state=memory)
        else:
            card.bar0.A.on_read(lambda device, value=number: value)
    done.set()
    thread.join()
    records = list(card.log.filter(kind="read"))
    assert [record.value for record in records] == answers
    assert [record.revision for record in records] == answers
    assert sorted(answers) == answers


# -- shown --


def test_the_views_say_that_it_is_native(card):
    table = RegisterTable(card)
    source = Source(card, table, History(table), 1.0)
    card.bar0.B.write(1)
    (row,) = HooksFeed({}).poll(source).json["rows"]
    assert (row["function"], row["calls"], row["revisions"]) == ("hook (C)", 1, [1])
    entries = np.frombuffer(RegistersFeed({"block": "bar0"}).poll(source).buffers[0], ENTRY)
    assert entries["answers"].tolist() == [0, NATIVE, 0, 0, 0, 0, 0, 0, 0]
    assert "1 native, C answers the rest" in repr(card)
