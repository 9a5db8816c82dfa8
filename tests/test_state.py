"""dev.snapshot() and dev.restore(): whole, while a guest is at it, and put back without side effects."""

import threading
import time

import pytest
from sample import stuck_hook
from state_kit import Stateful

import workbench as wb

WAIT = 10


@pytest.fixture
def device():
    with Stateful() as stateful:
        yield stateful


def test_registers_of_every_mode_come_back(device):
    device.bar0.COUNT.value = 9
    device.bar0.KEY.write(0xABCD)
    device.bar0.LOCK.write(0x55)
    device.bar0.FAR.value = 4
    before = device.snapshot()
    device.reset()
    assert device.bar0.KEY.value == 0
    device.restore(before)
    assert device.diff(before) == []
    assert [getattr(device.bar0, name).value for name in ("COUNT", "KEY", "LOCK", "FAR")] == [
        9,
        0xABCD,
        0x55,
        4,
    ]
    device.bar0.LOCK.write(0x77)
    assert device.bar0.LOCK.value == 0x55  # it was written once, and that came back too


def test_what_was_zero_is_zero_again(device):
    empty = device.snapshot()
    device.bar0.FAR.value = 1
    device.bar2.array()[:] = 0xEE
    device.restore(empty)
    assert device.bar0.FAR.value == 0
    assert not device.bar2.array().any()
    assert device.diff(empty) == []


def test_mapped_pages_come_back_where_the_guest_sees_them(device):
    with device.connect() as guest, guest.map_region(2) as memory:
        memory[5000:5003] = b"old"
        before = device.snapshot()
        memory[5000:5003] = b"new"
        memory[90000] = 1
        device.restore(before)
        assert memory[5000:5003] == b"old"
        assert memory[90000] == 0


def test_restoring_runs_no_hooks_and_leaves_one_record(device):
    before = device.snapshot()
    device.bar0.CTRL.write(1)
    count = device.log.total
    device.restore(before)
    records = device.log[count:]
    assert [(one.kind, one.origin, one.text) for one in records] == [
        ("state", "notebook", "a snapshot was put back")
    ]
    assert records[0].register == "reset"


def test_state_beside_registers_is_kept_as_json_and_given_back(device):
    device.bar0.CTRL.write(1)
    before = wb.Snapshot.from_bytes(device.snapshot().to_bytes())
    device.bar0.CTRL.write(2)
    assert device.steps == 2
    device.restore(before)
    assert device.steps == 1
    assert device.restored == [{"steps": 1}]
    device.restored[0]["steps"] = 77  # a copy of its own
    device.restore(before)
    assert device.restored[1] == {"steps": 1}


def test_state_beside_registers_may_be_bytes(device):
    device.on_snapshot = lambda: bytearray(b"\0\1")
    device.on_restore = device.restored.append
    device.restore(device.snapshot())
    assert device.restored == [b"\0\1"]


@pytest.mark.parametrize("state", [{1, 2}, object(), float("nan"), {"a": b"bytes"}])
def test_state_that_is_neither_is_the_devices_mistake(device, state):
    device.on_snapshot = lambda: state
    with pytest.raises(TypeError, match=r"on_snapshot\(\) returns bytes or what JSON can say"):
        device.snapshot()
    device.bar0.FAR.write(1)  # and nothing is held any more
    with device.connect() as guest:
        assert guest.bar0.read32(0x1000) == 1


def test_what_on_restore_raises_is_raised_and_the_values_are_there(device):
    device.bar0.FAR.value = 5
    before = device.snapshot()
    device.reset()

    def broken(state):
        raise ValueError("not today")

    device.on_restore = broken
    with pytest.raises(ValueError, match="not today"):
        device.restore(before)
    assert device.bar0.FAR.value == 5
    with device.connect() as guest:
        device.irq.assert_()
        assert guest.wait_irq() == 1  # interrupts are not held either


def test_a_device_without_registers_has_a_state_too():
    class Bare(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B18, class_code=0xFF0000)

    with Bare() as bare:
        before = bare.snapshot()
        bare.config.COMMAND = 4
        bare.restore(before)
        assert bare.config.COMMAND == 0


def test_a_rom_is_part_of_the_description_not_of_the_state():
    class Rom(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B19, class_code=0xFF0000)
        rom = b"\x55\xaa" + bytes(2046)

    with Rom() as device:
        assert {region for region, _ in device.snapshot().pages} == {"config"}


# ---- another layout


def test_a_snapshot_of_another_layout_is_refused_and_says_what_differs(device):
    class Other(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B18, class_code=0xFF0000)
        irq = wb.Interrupts(intx=True)

        class bar0(wb.Bar, size=4096):
            CTRL = wb.Register(0)

    with Other() as other:
        snapshot = other.snapshot()
    device.bar0.FAR.value = 5
    said = "Stateful: the snapshot of Other has another layout: bar0: 0x1000 → 0x2000 bytes; bar2 is new"
    with pytest.raises(wb.StateError, match=said) as caught:
        device.restore(snapshot)
    assert "MSI-X: 0 → 4 vectors" in str(caught.value)
    assert "config.DEVICE_ID: 0xb18 → 0xb17" in str(caught.value)
    assert device.bar0.FAR.value == 5
    with pytest.raises(wb.StateError, match="another layout"):
        device.diff(snapshot)


def test_what_is_no_snapshot_is_a_type_error(device):
    with pytest.raises(TypeError, match=r"takes a wb\.Snapshot"):
        device.restore(b"bytes")
    with pytest.raises(TypeError, match=r"takes a wb\.Snapshot"):
        device.diff(None)


# ---- interrupts


def test_the_line_comes_back_and_is_signalled_again(device):
    with device.connect() as guest:
        device.irq.assert_()
        assert guest.wait_irq() == 1
        up = device.snapshot()
        device.irq.deassert()
        guest.unmask_irq()
        device.restore(up)
        assert guest.wait_irq() == 1
        assert device.irq.asserted
        assert device.config.STATUS.INTERRUPT_STATUS == 1
        device.irq.deassert()
        assert not device.irq.asserted


def test_a_line_that_was_down_goes_down(device):
    with device.connect() as guest:
        down = device.snapshot()
        device.irq.assert_()
        assert guest.wait_irq() == 1
        device.restore(down)
        guest.unmask_irq()
        assert guest.irq_count() == 0
        assert device.config.STATUS.INTERRUPT_STATUS == 0


def test_pending_bits_come_back_and_are_delivered_once(device):
    with device.connect() as guest:
        guest.enable_msix()
        guest.msix.mask(2)
        assert device.irq.msix[2].trigger() == wb.IrqOutcome.MASKED
        before = device.snapshot()
        guest.msix.unmask(2)
        assert guest.wait_irq(2) == 1
        guest.msix.mask(2)
        device.restore(before)
        assert guest.msix.pending(2)
        assert guest.irq_count(2) == 0
        guest.msix.unmask(2)
        assert guest.wait_irq(2) == 1
        assert not guest.msix.pending(2)


def test_a_mask_that_comes_back_counts_before_the_pending_bit_does(device):
    """Bytes come back one after another; no interrupt may slip through in between."""
    with device.connect() as guest:
        guest.enable_msix()
        guest.msix.mask(1)
        device.irq.msix[1].trigger()
        before = device.snapshot()
        guest.msix.unmask(1)
        assert guest.wait_irq(1) == 1
        for _ in range(50):
            device.restore(before)
        assert guest.irq_count(1) == 0


# ---- while a guest is at it


class Pair(wb.Device):
    """A hook copies A to B: whoever sees them differ looked into the middle of an access."""

    id = wb.PciId(vendor=0x1234, device=0x0B1A, class_code=0xFF0000)

    class bar0(wb.Bar, size=4096):
        A = wb.Register(0)
        B = wb.Register(4)

    @bar0.A.on_write
    def copy(self, access):
        time.sleep(0)  # lets other threads run
        self.bar0.B = access.value


def test_a_snapshot_is_never_taken_in_the_middle_of_an_access():
    over = threading.Event()

    def drive(guest):
        number = 0
        while not over.is_set():
            number += 1
            guest.bar0.write32(0, number)

    with Pair() as device, device.connect() as guest:
        thread = threading.Thread(target=drive, args=(guest,))
        thread.start()
        try:
            taken = []
            for _ in range(60):
                device.log.wait(kind="write")  # the guest has its turn
                taken.append(device.snapshot())
        finally:
            over.set()
            thread.join(WAIT)
    values = [(one.read("bar0", 0, 4), one.read("bar0", 4, 4)) for one in taken]
    assert all(a == b for a, b in values)
    assert len(set(values)) > 1


def test_the_guest_goes_on_afterwards_and_a_paused_one_stays_paused(device):
    with device.connect() as guest:
        device.server.pause()
        device.snapshot()
        guest.bar0.write32(0x1000, 5, posted=True)
        assert device.server.paused
        device.restore(device.snapshot())
        device.server.resume()
        assert guest.bar0.read32(0x1000) == 5


def test_a_hook_may_take_one_and_put_it_back(device):
    taken = []

    @device.bar0.FAR.on_write
    def take(dev, access):
        taken.append(dev.snapshot())
        dev.restore(taken[-1])

    with device.connect() as guest:
        guest.bar0.write32(0x1000, 3)
        assert guest.bar0.read32(0x1000) == 3
    device.bar0.FAR.write(4)
    assert [one.read("bar0", 0x1000, 1) for one in taken] == [b"\3", b"\4"]
    assert not device.hooks.failures


def test_a_hook_that_does_not_return_is_named(device, monkeypatch):
    monkeypatch.setattr("workbench.state.PATIENCE", 50)
    with (
        device.connect() as guest,
        stuck_hook(device.bar0.FAR, lambda: guest.bar0.write32(0x1000, 1, posted=True)),
        pytest.raises(wb.StateError, match=r"bar0\.FAR\.on_write has not returned"),
    ):
        device.snapshot()
    with device.connect() as guest:
        assert guest.bar0.read32(0x1000) == 1


def test_timers_of_the_state_before_are_cancelled(device):
    ran = threading.Event()
    before = device.snapshot()
    timer = device.after(3_600_000, ran.set)
    kept = device.after(3_600_000, ran.set, keep=True)
    device.restore(before)
    assert (timer.active, kept.active) == (False, True)


def test_a_closed_device_still_has_its_state(device):
    device.bar0.FAR.value = 3
    device.bar2.array()[0] = 1
    device.close()
    snapshot = device.snapshot()
    assert snapshot.read("bar0", 0x1000, 1) + snapshot.read("bar2", 0, 1) == b"\3\1"


def test_the_power_state_comes_back_with_its_register():
    class Sleeper(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B1B, class_code=0xFF0000)
        capabilities = (wb.PowerManagement(),)

        class bar0(wb.Bar, size=4096):
            A = wb.Register(0, reset=5)

    with Sleeper() as device, device.connect() as guest:
        [(_, power)] = [found for found in guest.capabilities() if found[0] == 1]
        awake = device.snapshot()
        guest.config.write16(power + 4, 3)
        asleep = device.snapshot()
        device.restore(awake)
        assert guest.bar0.read32(0) == 5
        device.restore(asleep)
        assert guest.bar0.read32(0) == 0xFFFFFFFF
