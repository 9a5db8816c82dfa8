"""The engine on its own: power states, function-level reset, sticky bits, and waiting for a reply."""

import errno
import os
import threading

import pytest
from engine_kit import Engine, Wire, access, irqs, message

from workbench.engine import ffi, lib

PMC, PMCSR, CONTROL = 0x42, 0x44, 0x58
D1_AND_D2 = 3 << 9
RESET = 0x0008  # PMCSR: No_Soft_Reset


@pytest.fixture
def engine():
    with Engine() as engine:
        engine.memory(0, 64)
        engine.memory(lib.WB_CONFIG, 256)
        engine.set(lib.WB_CONFIG, "RESET", PMC, D1_AND_D2.to_bytes(2, "little"))
        lib.wb_device_reset(engine.device, lib.WB_RESET_NOTEBOOK)
        assert lib.wb_function_add(engine.device, PMCSR, CONTROL) == 0
        yield engine


def set_state(engine: Engine, state: int, bits: int = RESET) -> int:
    """Write PMCSR and return the state that the function is in then."""
    engine.write(lib.WB_CONFIG, PMCSR, bytes([state | bits]))
    return engine.read(lib.WB_CONFIG, PMCSR, 1)[0] & 3


@pytest.mark.parametrize("state", [1, 2, 3])
def test_asleep_only_config_space_answers(engine, state):
    engine.write(0, 0, b"kept")
    assert set_state(engine, state) == state
    assert engine.read(0, 0, 4) == b"\xff" * 4
    assert engine.last().flags == lib.WB_ASLEEP
    engine.write(0, 0, b"lost")
    assert engine.last().flags == lib.WB_ASLEEP
    assert engine.read(0, 0, 64) == b"\xff" * 64
    assert engine.read(lib.WB_CONFIG, PMC, 2) == D1_AND_D2.to_bytes(2, "little")
    assert engine.get(0, "VALUE", 0, 4) == b"kept"
    assert set_state(engine, 0) == 0
    assert engine.read(0, 0, 4) == b"kept"


def test_no_hook_runs_while_the_function_sleeps(engine):
    assert lib.wb_region_hook(engine.device, 0, 0, 4, lib.WB_HOOK_READ | lib.WB_HOOK_WRITE, 1) == 0
    ran = []
    engine.hook = lambda access: ran.append(access.write)
    set_state(engine, 3)
    engine.read(0, 0, 4)
    engine.write(0, 0, b"\1")
    assert ran == []
    set_state(engine, 0)
    engine.write(0, 0, b"\1")
    assert ran == [1]


@pytest.mark.parametrize(
    ("states", "ends"), [([2, 1], 2), ([3, 1], 3), ([3, 2], 3), ([1, 2], 2), ([1, 2, 3], 3), ([3, 0, 1], 1)]
)
def test_states_only_go_down_or_to_d0(engine, states, ends):
    assert [set_state(engine, state) for state in states][-1] == ends


def test_a_state_that_is_not_there_is_not_entered(engine):
    engine.set(lib.WB_CONFIG, "VALUE", PMC, b"\0\0")
    assert [set_state(engine, state) for state in (1, 2)] == [0, 0]
    assert engine.read(0, 0, 4) == bytes(4)
    assert set_state(engine, 3) == 3


def test_from_d3hot_to_d0_resets_unless_told_otherwise(engine):
    engine.write(0, 0, b"data")
    set_state(engine, 3)
    set_state(engine, 0)
    assert engine.read(0, 0, 4) == b"data"
    set_state(engine, 3, 0)
    engine.write(lib.WB_CONFIG, 0x3C, b"\x0b")
    set_state(engine, 0, 0)
    assert engine.last().kind == lib.WB_KIND_READ
    assert lib.WB_KIND_RESET in engine.kinds()
    assert engine.read(0, 0, 4) == bytes(4)
    assert engine.read(lib.WB_CONFIG, 0x3C, 1) == b"\0"


def test_waking_from_d1_or_d2_never_resets(engine):
    engine.write(0, 0, b"data")
    for state in (1, 2):
        set_state(engine, state, 0)
        set_state(engine, 0, 0)
    assert engine.read(0, 0, 4) == b"data"


@pytest.mark.parametrize(
    ("offset", "data"), [(CONTROL, b"\0\x80"), (CONTROL + 1, b"\x80"), (CONTROL - 2, b"\0" * 3 + b"\xa0")]
)
def test_initiate_flr_resets_and_reads_0(engine, offset, data):
    engine.write(0, 0, b"data")
    engine.write(lib.WB_CONFIG, offset, data)
    assert engine.read(0, 0, 4) == bytes(4)
    assert engine.read(lib.WB_CONFIG, CONTROL, 2) == b"\0\0"
    [reset] = [record for record in engine.records() if record.kind == lib.WB_KIND_RESET][1:]
    assert (reset.value, reset.origin) == (lib.WB_RESET_FLR, lib.WB_GUEST)


def test_flr_wakes_a_function_that_sleeps(engine):
    set_state(engine, 3)
    engine.write(lib.WB_CONFIG, CONTROL, b"\0\x80")
    assert engine.read(0, 0, 4) == bytes(4)
    assert engine.read(lib.WB_CONFIG, PMCSR, 1) == b"\0"


def test_a_poke_changes_the_state_and_resets_nothing(engine):
    engine.write(0, 0, b"data")
    poke = lambda at, value: lib.wb_region_poke(  # noqa: E731
        engine.device, lib.WB_CONFIG, lib.WB_VALUE, at, value, 0xFFFF, 2, lib.WB_NOTEBOOK
    )
    assert poke(PMCSR, 3) == 0
    assert engine.read(0, 0, 4) == b"\xff" * 4
    assert poke(PMCSR, 0) == 0
    assert poke(CONTROL, 0x8000) == 0
    assert engine.read(0, 0, 4) == b"data"
    assert engine.read(lib.WB_CONFIG, CONTROL, 2) == b"\0\0"


def test_sticky_bits_outlive_every_reset_but_a_power_cycle(engine):
    engine.set(0, "STICKY", 0, b"\xff\x0f")
    engine.set(0, "RESET", 0, b"\0\x51\x11")
    for kind in (lib.WB_RESET_DEVICE, lib.WB_RESET_FLR, lib.WB_RESET_D3HOT):
        engine.write(0, 0, b"\xaa\xbb\xcc")
        lib.wb_device_reset(engine.device, kind)
        assert engine.read(0, 0, 3) == b"\xaa\x5b\x11"
    for kind in (lib.WB_RESET_NOTEBOOK, lib.WB_RESET_DETACH):
        engine.write(0, 0, b"\xaa\xbb\xcc")
        lib.wb_device_reset(engine.device, kind)
        assert engine.read(0, 0, 3) == b"\0\x51\x11"


def arm(engine: Engine, index: int) -> int:
    """Register an eventfd for vector 0 of an interrupt; return ours."""
    assert lib.wb_irq_add(engine.device, index, 1) == 0
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    payload = irqs(0x24, index)
    assert lib.wb_irq_set(engine.device, payload, len(payload), ffi.new("int[]", [os.dup(fd)]), 1) == 0
    return fd


def test_asleep_there_is_no_dma(engine):
    engine.write(lib.WB_CONFIG, 4, b"\x04")
    set_state(engine, 3)
    byte = ffi.new("uint8_t[]", 1)
    assert lib.wb_dma_read(engine.device, 0, byte, 1, lib.WB_DEVICE) == -errno.EHOSTDOWN
    assert lib.wb_dma_peek(engine.device, 0, byte, 1) == -errno.EFAULT


def test_asleep_the_line_is_silent_and_heard_when_the_function_wakes(engine):
    fd = arm(engine, lib.WB_INTX)
    set_state(engine, 3)
    assert lib.wb_irq_level(engine.device, 0, 1, lib.WB_DEVICE) == lib.WB_IRQ_DISABLED
    with pytest.raises(BlockingIOError):
        os.eventfd_read(fd)
    set_state(engine, 0)
    assert os.eventfd_read(fd) == 1
    os.close(fd)


def test_asleep_a_message_is_lost_and_one_that_is_masked_is_kept(engine):
    fd = arm(engine, lib.WB_MSIX)
    trigger = lambda: lib.wb_irq_trigger(engine.device, lib.WB_MSIX, 0, lib.WB_DEVICE)  # noqa: E731
    set_state(engine, 3)
    assert trigger() == lib.WB_IRQ_DISABLED
    mask, unmask = irqs(0x09, lib.WB_MSIX), irqs(0x11, lib.WB_MSIX)
    assert lib.wb_irq_set(engine.device, mask, len(mask), ffi.NULL, 0) == 0
    assert trigger() == lib.WB_IRQ_MASKED
    assert lib.wb_irq_set(engine.device, unmask, len(unmask), ffi.NULL, 0) == 0
    with pytest.raises(BlockingIOError):
        os.eventfd_read(fd)
    set_state(engine, 0)
    assert os.eventfd_read(fd) == 1
    os.close(fd)


@pytest.mark.parametrize("place", [(1, 0), (0, 255), (0, 0xFFFFFFFF), (7, 7)])
def test_controls_outside_of_config_space_are_refused(place):
    with Engine() as engine:
        assert lib.wb_function_add(engine.device, 0x44, 0) == -errno.EINVAL
        engine.memory(lib.WB_CONFIG, 256)
        assert lib.wb_function_add(engine.device, *place) == -errno.EINVAL


def test_a_turn_is_the_request_under_way_and_ends_with_its_reply(engine):
    turns, waited = [], threading.Event()

    def wait():
        lib.wb_turn_wait(engine.device, turns[0])
        waited.set()

    waiter = threading.Thread(target=wait)

    def hook(access):
        turns.append(lib.wb_turn_now(engine.device))
        if len(turns) == 1:
            waiter.start()
            assert not waited.wait(0.02)

    engine.hook = hook
    assert lib.wb_region_hook(engine.device, 0, 0, 4, lib.WB_HOOK_READ, 1) == 0
    assert lib.wb_turn_now(engine.device) == 0
    lib.wb_turn_wait(engine.device, 0)
    with Wire(engine) as wire:
        assert wire.ask(9, access(0, 0, 4))[0] == 0
        assert waited.wait(5)
        assert turns[0] % 2 == 1
    waiter.join()
    engine.read(0, 0, 4)
    assert turns[1] == 0


def test_a_turn_ends_with_its_conversation(engine):
    begun, go, waited = threading.Event(), threading.Event(), threading.Event()
    turns = []

    def hook(access):
        turns.append(lib.wb_turn_now(engine.device))
        begun.set()
        assert go.wait(5)

    engine.hook = hook
    assert lib.wb_region_hook(engine.device, 0, 0, 4, lib.WB_HOOK_READ, 1) == 0
    wire = Wire(engine)
    wire.send(message(9, access(0, 0, 4)))
    assert begun.wait(5)
    thread = threading.Thread(target=lambda: (lib.wb_turn_wait(engine.device, turns[0]), waited.set()))
    thread.start()
    wire.socket.close()
    go.set()
    assert waited.wait(5)
    assert wire.wait() == 0
    thread.join()
