"""The short way from the engine into a hook answers as the long one does, and gives way to it."""

import threading

import pytest

import workbench as wb
from workbench.engine import ffi, lib
from workbench.engine.build import KEPT, SHORT, builder, keeping

FAR = 4 * lib.WB_SLOTS  # bytes on: an access there has the slot of the one at 0


class Card(wb.Device):
    """Registers of several widths; two of them share a slot."""

    id = wb.PciId(vendor=0x1234, device=0x0009)

    class bar0(wb.Bar, size=4096):
        A = wb.Register(0, reset=0x11223344)
        WIDE = wb.Register(8, 64)
        SMALL = wb.Register(16, 8)
        OTHER = wb.Register(FAR)

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []


@pytest.fixture
def card():
    with Card() as device:
        yield device


@pytest.fixture
def guest(card):
    with card.connect() as guest:
        yield guest


def test_a_guests_access_is_told_alike_the_first_time_and_every_later_time(card, guest):
    @card.bar0.A.on_write
    def told(device, access):
        device.seen.append((access.value, access.old, access.mask, access.offset, access.size, access.index,
                            access.write, access.origin, access.register.name))  # fmt: skip

    for value in (1, 2, 3):
        guest.bar0.write32(0, value)
    rest = (0xFFFFFFFF, 0, 4, 0, True, "guest", "A")
    assert card.seen == [(1, 0x11223344, *rest), (2, 1, *rest), (3, 2, *rest)]
    hook = card.bar0.A.hook("write")
    assert hook.calls == 3
    assert 0 < hook.median <= hook.longest


@pytest.mark.parametrize(
    ("name", "read", "numbers"),
    [
        ("WIDE", "read64", [0, (1 << 64) - 1, 1 << 63]),
        ("SMALL", "read8", [0, 255, True]),
        ("A", "read32", [7, 0xFFFFFFFF]),
    ],
)
def test_what_a_read_hook_returns_is_answered_at_every_width(card, guest, name, read, numbers):
    register = getattr(card.bar0, name)
    for number in numbers:
        register.on_read(lambda device, number=number: number)
        assert [getattr(guest.bar0, read)(register.offset) for _ in range(3)] == [number] * 3
    assert {r.kind for r in card.log} <= {"attach", "reset", "swap", "read"}  # and is no poke
    assert card.log[-1].flags == {"hook_ran"}


@pytest.mark.parametrize("result", [-1, 1 << 32, 1 << 70, "text", 1.5])
def test_a_result_that_does_not_fit_fails_the_hook_each_time(card, guest, caplog, result):
    card.bar0.A.on_read(lambda device: result)
    assert [guest.bar0.read32(0) for _ in range(3)] == [0x11223344] * 3
    assert card.hooks.failures[0].count == 3
    assert card.bar0.A.hook("read").errors == 3
    assert "hook_failed" in card.log[-1].flags


def test_a_hook_that_raises_is_told_with_its_own_traceback(card, guest, caplog):
    @card.bar0.A.on_read
    def broken(device, access):
        raise RuntimeError("no such luck")

    for _ in range(3):
        assert guest.bar0.read32(0) == 0x11223344
    (failure,) = card.hooks.failures
    assert failure.count == 3
    assert 'raise RuntimeError("no such luck")' in failure.text
    assert len(caplog.records) == 1


def test_two_accesses_that_share_a_slot_are_answered_by_their_own_hooks(card, guest):
    card.bar0.A.on_read(lambda device: 1)
    card.bar0.OTHER.on_read(lambda device: 2)
    assert [guest.bar0.read32(place) for place in (0, FAR, 0, 0, FAR, FAR)] == [1, 2, 1, 1, 2, 2]


def test_a_hook_that_touches_hooked_registers_of_its_own_device_nests(card, guest):
    card.bar0.OTHER.on_write(lambda device, access: device.seen.append((access.origin, access.value)))
    card.bar0.A.on_write(lambda device, access: device.bar0.OTHER.write(access.value))
    for value in (1, 2, 3):
        guest.bar0.write32(0, value)
    assert card.seen == [("device", 1), ("device", 2), ("device", 3)]
    assert not card.hooks.failures
    assert not card.hooks.running_here


def test_what_runs_is_named_rightly_after_another_hook_of_the_same_slot_ran_inside_it(card, guest):
    """As when a hook waits for the guest, which then touches another register."""
    card.bar0.OTHER.on_read(lambda device: 2)
    inside = ffi.new("wb_access *", {"origin": lib.WB_GUEST, "offset": FAR, "size": 4})

    @card.bar0.A.on_read
    def outer(device):
        if device.seen:  # this one went the short way
            device._core.hooks.run(inside)
        device.seen.append((inside.flags & lib.WB_HOOK_RAN, device.hooks.stalls.now[0]))

    for _ in range(3):
        guest.bar0.read32(0)
    assert card.seen == [(ran, "bar0.A.on_read") for ran in (0, lib.WB_HOOK_RAN, lib.WB_HOOK_RAN)]
    assert [guest.bar0.read32(place) for place in (FAR, FAR, 0)] == [2, 2, 0x11223344]


def test_a_swap_and_an_unhook_hold_for_the_very_next_access(card, guest):
    for revision in range(1, 20):
        card.bar0.A.on_read(lambda device, revision=revision: revision)
        assert [guest.bar0.read32(0), guest.bar0.read32(0)] == [revision] * 2
        assert card.log[-1].revision == revision
    card.bar0.A.unhook("read")
    card.bar0.A = 5
    assert guest.bar0.read32(0) == 5


def test_a_hook_that_replaces_itself_runs_to_its_end(card, guest):
    @card.bar0.A.on_read
    def first(device):
        for _ in range(60):  # more than are kept: nothing but this call keeps what runs
            device.bar0.A.on_read(lambda device: 2)
        return 1

    del first
    assert [guest.bar0.read32(0), guest.bar0.read32(0)] == [1, 2]


def test_a_hook_that_runs_is_shown_and_keeps_others_waiting(card, guest):
    entered, leave, done = threading.Event(), threading.Event(), threading.Event()

    @card.bar0.A.on_read
    def slow(device):
        if card.seen:
            entered.set()
            leave.wait(20)
        return 1

    card.bar0.OTHER.on_write(lambda device: done.set())
    guest.bar0.read32(0)
    card.seen.append("the short way from now on")
    reader = threading.Thread(target=guest.bar0.read32, args=(0,))
    writer = threading.Thread(target=card.bar0.OTHER.write, args=(1,))
    reader.start()
    try:
        assert entered.wait(10)
        assert card.hooks.running.key == "bar0.A.on_read"
        assert card.hooks.stalls.seconds_in_hook > 0
        writer.start()
        assert not done.wait(0.05)
    finally:
        leave.set()
    assert done.wait(10)
    reader.join()
    writer.join()
    assert card.hooks.running is None


def test_ctrl_c_in_the_upcall_itself_reaches_the_cell(card, monkeypatch):
    def interrupted(access):
        raise KeyboardInterrupt

    card.bar0.A.on_write(lambda device: device.seen.append(1))
    monkeypatch.setattr(card.hooks, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        card.bar0.A.write(1)
    assert "hook_failed" in card.log[-1].flags
    monkeypatch.undo()
    card.bar0.A.write(1)
    assert card.seen == [1]


@pytest.mark.slow
def test_short_calls_of_the_engine_keep_the_interpreter(tmp_path):
    generated = tmp_path / "engine.c"
    builder().emit_c_code(str(generated))
    before, after = generated.read_text(), keeping(generated.read_text())
    for released, kept in KEPT.items():
        assert after.count(kept) == len(SHORT)
        assert before.count(released) - after.count(released) == len(SHORT)


def test_the_engines_slots_are_as_many_as_it_says():
    slots = next(field for name, field in ffi.typeof("wb_short").fields if name == "slots")
    assert slots.type.length == lib.WB_SLOTS
    times = next(field for name, field in ffi.typeof("wb_calls").fields if name == "times")
    assert times.type.length == lib.WB_TIMES
