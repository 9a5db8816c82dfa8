"""Migration: the state machine, and a device's state that moves to another while a driver is at it."""

import errno
import itertools
import threading
import time

import pytest
from sample import access, irq_payload, map_payload, refusal, unmap_payload
from state_kit import Stateful

import workbench as wb
from workbench import protocol
from workbench.migration import ARCS, Migration, path
from workbench.protocol import Command, MigrationFlag, MigrationState
from workbench.refused import Refused

ERROR, STOP, RUNNING = MigrationState.ERROR, MigrationState.STOP, MigrationState.RUNNING
STOP_COPY, RESUMING, PRE_COPY = MigrationState.STOP_COPY, MigrationState.RESUMING, MigrationState.PRE_COPY
VALID = [state for state in MigrationState if state != ERROR]

# ---- the state machine

#: every way, as the specification's rules give it
PATHS = {
    (RUNNING, STOP): [STOP],
    (RUNNING, STOP_COPY): [STOP, STOP_COPY],
    (RUNNING, RESUMING): [STOP, RESUMING],
    (RUNNING, PRE_COPY): [PRE_COPY],
    (STOP, RUNNING): [RUNNING],
    (STOP, STOP_COPY): [STOP_COPY],
    (STOP, RESUMING): [RESUMING],
    (STOP, PRE_COPY): [RUNNING, PRE_COPY],
    (STOP_COPY, STOP): [STOP],
    (STOP_COPY, RUNNING): [STOP, RUNNING],
    (STOP_COPY, RESUMING): [STOP, RESUMING],
    (STOP_COPY, PRE_COPY): [],
    (RESUMING, STOP): [STOP],
    (RESUMING, RUNNING): [STOP, RUNNING],
    (RESUMING, STOP_COPY): [STOP, STOP_COPY],
    (RESUMING, PRE_COPY): [STOP, RUNNING, PRE_COPY],
    (PRE_COPY, RUNNING): [RUNNING],
    (PRE_COPY, STOP_COPY): [STOP_COPY],
    (PRE_COPY, STOP): [RUNNING, STOP],
    (PRE_COPY, RESUMING): [RUNNING, STOP, RESUMING],
}


@pytest.mark.parametrize(("start", "end"), list(itertools.permutations(VALID, 2)))
def test_the_way_from_each_state_to_each_other(start, end):
    assert path(start, end) == PATHS[start, end]


def test_nothing_leads_to_the_error_state_or_out_of_it():
    assert not any(ERROR in arc for arc in ARCS)
    assert all(path(state, ERROR) == [] == path(ERROR, state) for state in VALID)


class Fake:
    """A device that notes what is asked of it."""

    def __init__(self):
        self.asked, self.broken = [], ""

    def __getattr__(self, name):
        def note(*arguments, **keywords):
            self.asked.append((name, *arguments, *keywords.values()))
            if name == self.broken:
                raise wb.SnapshotError("broken")
            return ("base", b"state") if name == "save" else 0

        return note


def test_what_is_done_on_each_arc_in_its_order():
    device = Fake()
    migration = Migration(lambda: device)
    migration.go(STOP_COPY)
    migration.go(RUNNING)
    assert device.asked == [
        ("halt", True, True), ("log", STOP), ("save", None), ("log", STOP_COPY), ("log", STOP),
        ("halt", False), ("log", RUNNING),
    ]  # fmt: skip


@pytest.mark.parametrize("state", [0, 5, 7, 8, -1, 0xFFFFFFFF])
def test_no_other_state_can_be_asked_for(state):
    migration = Migration(Fake)
    with pytest.raises(Refused):
        migration.go(state)
    assert migration.state == RUNNING


def test_the_present_state_is_no_change():
    device = Fake()
    Migration(lambda: device).go(RUNNING)
    assert device.asked == []


def test_saving_that_fails_leaves_a_stopped_device_that_can_run_on():
    device = Fake()
    device.broken = "save"
    migration = Migration(lambda: device)
    with pytest.raises(Refused):
        migration.go(STOP_COPY)
    assert migration.state == STOP
    with pytest.raises(Refused):
        migration.go(PRE_COPY)
    assert migration.state == RUNNING


# ---- a device moves


@pytest.fixture
def two():
    with (
        Stateful("here") as here,
        Stateful("there") as there,
        here.connect() as source,
        there.connect() as target,
    ):
        yield here, source, there, target


def test_a_running_device_moves_and_its_driver_goes_on(two):
    here, source, there, target = two
    for guest in (source, target):
        guest.enable()
        guest.enable_msix()
    source.bar0.write32(0, 0x21)
    source.bar0.write32(0x0C, 0x55)
    source.msix.mask(3)
    here.irq.msix[3].trigger()
    memory = here.bar2.array()
    memory[7777] = 77
    target.migrate_in(source.migrate_out())
    assert there.diff(here.snapshot()) == []
    assert there.bar2.array()[7777] == 77
    assert there.steps == 1
    target.bar0.write32(0x0C, 0x99)
    assert there.bar0.LOCK.value == 0x55  # written once, and it knows
    assert target.irq_count(3) == 0
    target.msix.unmask(3)
    assert target.wait_irq(3) == 1
    target.bar0.write32(0, 1)
    assert there.steps == 2


def test_a_line_that_is_up_is_signalled_where_it_arrives(two):
    here, source, there, target = two
    here.irq.assert_()
    target.migrate_in(source.migrate_out())
    assert target.wait_irq() == 1
    assert there.irq.asserted
    there.irq.deassert()
    target.unmask_irq()
    assert target.irq_count() == 0


def test_what_was_read_before_the_stop_is_not_sent_again(two):
    here, source, there, target = two
    here.bar2.array()[:] = 0x5A
    source.migration.state = PRE_COPY
    first = source.migration.read_all(4096)
    assert source.migration.read() == b""
    source.bar0.write32(0x1000, 9)
    here.bar2.array()[0:4096] = 0
    source.migration.state = STOP_COPY
    second = source.migration.read_all()
    assert len(second) < len(first)
    target.migrate_in(first + second)
    assert there.diff(here.snapshot()) == []
    assert target.bar0.read32(0x1000) == 9


def test_what_was_not_read_before_the_stop_comes_then(two):
    here, source, there, target = two
    source.bar0.write32(0x1000, 9)
    source.migration.state = PRE_COPY
    data = source.migration.read(100)
    source.migration.state = STOP_COPY
    data += source.migration.read_all(333)
    target.migrate_in(data)
    assert there.diff(here.snapshot()) == []


def test_without_pre_copy_and_in_pieces_of_every_size(two):
    here, source, there, target = two
    source.bar0.write32(0x1000, 9)
    data = source.migrate_out(precopy=False)
    target.migration.state = RESUMING
    target.migration.write(data, 17)
    target.migration.state = RUNNING
    assert there.diff(here.snapshot()) == []


def test_a_migration_that_is_called_off_leaves_a_running_device(two):
    here, source, _, _ = two
    for way in (
        [PRE_COPY, RUNNING],
        [STOP_COPY, RUNNING],
        [PRE_COPY, STOP_COPY, STOP, RUNNING],
        [STOP, PRE_COPY, STOP],
    ):
        for state in way:
            source.migration.state = state
            assert source.migration.state == state
    source.migration.state = RUNNING
    source.bar0.write32(0, 1)
    here.irq.trigger()
    assert source.wait_irq() == 1
    assert source.migrate_out()


def test_the_log_tells_of_each_state(two):
    here, source, there, target = two
    target.migrate_in(source.migrate_out(precopy=False))
    told = [record.text for record in here.log.filter(kind="state")]
    assert told == ["migration: STOP", "migration: STOP_COPY", "migration: STOP"]
    told = [record.text for record in there.log.filter(kind="state")]
    assert told == [
        "migration: STOP", "migration: RESUMING", "a snapshot was put back", "migration: STOP",
        "migration: RUNNING",
    ]  # fmt: skip


# ---- a stopped device


@pytest.fixture
def device():
    with Stateful() as stateful:
        yield stateful


@pytest.fixture
def guest(device):
    with device.connect() as client:
        client.enable()
        client.memory[0:4] = b"ram!"
        yield client


def test_a_stopped_device_does_no_dma(device, guest):
    guest.migration.state = STOP
    with pytest.raises(wb.DmaError, match="stopped the device, to migrate it") as caught:
        device.dma.write(0, b"x")
    assert caught.value.errno == errno.ESHUTDOWN
    with pytest.raises(wb.DmaError):
        device.dma.read(0, 1)
    guest.migration.state = RUNNING
    device.dma.write(0, b"x")
    assert guest.memory[0:4] == b"xam!"


@pytest.mark.parametrize("messages", [False, True])
def test_a_stopped_device_raises_no_interrupts_and_makes_up_for_it(device, guest, messages):
    if messages:
        guest.enable_msix()
    guest.migration.state = STOP
    assert device.irq[1].trigger() == wb.IrqOutcome.PENDING
    device.irq.assert_(2)
    number = 1 if messages else 0
    assert guest.irq_count(number) == 0
    guest.migration.state = RUNNING
    assert guest.wait_irq(number) == 1
    if messages:
        assert guest.wait_irq(2) == 1


def test_a_stopped_device_runs_no_timers(device, guest):
    ran = threading.Event()
    guest.migration.state = STOP
    device.after(0, ran.set)
    assert not ran.wait(0.02)
    guest.migration.state = RUNNING
    assert ran.wait(10)


def test_a_client_that_leaves_a_stopped_device_lets_it_go_although_a_hook_hangs(device, guest, monkeypatch):
    monkeypatch.setattr("workbench.state.PATIENCE", 20)
    begun, over, ran = threading.Event(), threading.Event(), threading.Event()

    @device.bar0.CTRL.on_write
    def hang(device):
        begun.set()
        over.wait(10)

    guest.migration.state = STOP
    device.after(0, ran.set)
    cell = threading.Thread(target=device.bar0.CTRL.write, args=(1,))
    cell.start()
    try:
        assert begun.wait(10)
        with pytest.raises(wb.ProtocolError):
            guest.migration.state = RESUMING
        guest.disconnect()
        end = time.monotonic() + 10
        while device._core.timers._held:
            assert time.monotonic() < end
            threading.Event().wait(0.001)
    finally:
        over.set()
        cell.join(10)
    device.server.wait_listening()
    assert ran.wait(10)


def test_its_registers_can_be_read_and_written(device, guest):
    guest.migration.state = STOP_COPY
    guest.bar0.write32(0x1000, 3)
    assert guest.bar0.read32(0x1000) == 3


@pytest.mark.parametrize("state", [STOP, STOP_COPY])
@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (Command.DMA_MAP, map_payload(1 << 32)),
        (Command.DMA_UNMAP, unmap_payload(0, 1 << 20)),
        (Command.DEVICE_SET_IRQS, irq_payload(0x21, count=0)),
        (Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0)),
        (Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 0, 0, 0, 0, 0)),
        (Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, 0, 0)),
        (Command.MIG_DATA_WRITE, protocol.MIGRATION_DATA.pack(12, 4) + b"data"),
    ],
)
def test_everything_else_is_refused(guest, state, command, payload):
    guest.migration.state = state
    assert refusal(guest, command, payload) == errno.EINVAL
    assert guest.request(Command.REGION_READ, access(0, 4))[0]
    guest.migration.state = RUNNING
    if command != Command.MIG_DATA_WRITE:
        guest.request(command, payload)


def test_a_device_that_is_loading_can_be_set_up(guest):
    guest.migration.state = RESUMING
    guest.memory.map(1 << 32, 4096)
    guest.arm()
    guest.migration.state = RESUMING
    assert refusal(guest, Command.MIG_DATA_READ, protocol.MIGRATION_DATA.pack(8, 0)) == errno.EINVAL


def test_a_reset_ends_it_in_every_state(device, guest):
    for state in VALID:
        guest.migration.state = state
        guest.bar0.write32(0x1000, 5)
        guest.reset()
        assert guest.migration.state == RUNNING
        assert guest.bar0.read32(0x1000) == 0
        device.irq.trigger()
        assert guest.wait_irq() == 1
        guest.unmask_irq()


def test_a_client_that_goes_away_ends_it_too(device):
    ran = threading.Event()
    for state in VALID:
        with device.connect() as guest:
            guest.migration.state = state
        device.server.wait_listening()
    device.after(0, ran.set)
    assert ran.wait(10)
    with device.connect() as guest:
        assert guest.migration.state == RUNNING
        device.irq.trigger()
        assert guest.wait_irq() == 1


def test_a_copy_under_way_ends_before_the_stop(device, guest):
    """The state is STOP when nothing is written any more: as many bytes as were told were written."""
    guest.memory.map(1 << 32, 1 << 20)
    data, done = bytes([7]) * (1 << 20), []

    def copy():
        try:
            for number in range(10_000):
                device.dma.write(1 << 32, bytes([number % 251 + 1]) * len(data))
                done.append(number)
        except wb.DmaError:
            pass

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        for _ in range(3):
            guest.memory[0]  # some round trips
            guest.bar0.read32(0)
        guest.migration.state = STOP
        seen = guest.memory[1 << 32 : (1 << 32) + (1 << 20)]
        assert len(set(seen)) == 1
    finally:
        thread.join(10)
    assert guest.memory[1 << 32 : (1 << 32) + (1 << 20)] == seen
    assert not done or seen[0] == done[-1] % 251 + 1


# ---- data that is none


def broken(data):
    yield b""
    yield b"part"
    yield data[:-1]
    yield data + b"x"
    yield data[:12] + b"\xff" * 20 + data[32:]
    yield b"trap" + data[4:]
    yield protocol.MIGRATION_DATA.pack(1, 2) * 100
    yield data * 3  # each part may unpack to all the memory of the device


def test_broken_data_is_an_error_that_only_a_reset_leaves(device, guest, caplog):
    data = guest.migrate_out()
    guest.migration.state = RUNNING
    for wrong in broken(data):
        guest.reset()
        guest.bar0.write32(0x1000, 5)
        guest.migration.state = RESUMING
        guest.migration.write(wrong)
        with pytest.raises(wb.ProtocolError) as caught:
            guest.migration.state = STOP
        assert caught.value.code == errno.EINVAL
        assert guest.migration.state == ERROR
        for state in VALID:
            with pytest.raises(wb.ProtocolError):
                guest.migration.state = state
        assert guest.bar0.read32(0x1000) == 5  # nothing was put back
    assert "loading a state failed" in caplog.text
    guest.reset()
    assert guest.migration.state == RUNNING
    guest.migrate_in(data)


def test_the_state_of_another_device_is_refused(device, guest):
    class Other(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B18, class_code=0xFF0000)

    with Other() as other, other.connect() as source:
        data = source.migrate_out()
    with pytest.raises(wb.ProtocolError):
        guest.migrate_in(data)
    assert guest.migration.state == ERROR


def test_what_on_restore_raises_is_an_error_and_shown(device, guest):
    data = guest.migrate_out()
    guest.migration.state = RUNNING

    def wrong(state):
        raise KeyError("steps")

    device.on_restore = wrong
    with pytest.raises(wb.ProtocolError) as caught:
        guest.migrate_in(data)
    assert caught.value.code == errno.EIO
    assert guest.migration.state == ERROR
    assert device.hooks.failures
    guest.reset()


def test_what_on_snapshot_raises_is_shown_and_the_device_runs_on(device, guest):
    def wrong():
        raise KeyError("steps")

    device.on_snapshot = wrong
    for state in (PRE_COPY, STOP_COPY):
        with pytest.raises(wb.ProtocolError):
            guest.migration.state = state
    assert device.hooks.failures
    guest.migration.state = RUNNING
    device.irq.trigger()
    assert guest.wait_irq() == 1


def test_the_device_says_what_it_can(guest):
    assert guest.migration.flags == MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY


def test_more_data_than_the_device_could_have_is_refused(device, guest, monkeypatch):
    monkeypatch.setattr("workbench.state.OWN_STATE", 1 << 20)
    limit = 2 * (3 * (8192 + (1 << 20) + 256) + (1 << 20))
    guest.migration.state = RESUMING
    guest.migration.write(bytes(limit - limit % (1 << 18)))
    with pytest.raises(wb.ProtocolError) as caught:
        guest.migration.write(bytes(1 << 19))
    assert caught.value.code == errno.EFBIG
