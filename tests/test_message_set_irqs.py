"""SET_IRQS: every form that a client sends, every form that is refused, and INTx as it behaves."""

import errno
import os

import pytest
from leaks import open_fds
from sample import DISABLE, TRIGGER_EVENTFD, eventfds, irq_payload, memory_file, refusal

from workbench import IrqOutcome, protocol
from workbench.protocol import Command, IrqSet

SET = Command.DEVICE_SET_IRQS
NONE, BOOL, EVENTFD = IrqSet.DATA_NONE, IrqSet.DATA_BOOL, IrqSet.DATA_EVENTFD
MASK, UNMASK, TRIGGER = IrqSet.MASK, IrqSet.UNMASK, IrqSet.TRIGGER


def sets(guest, flags, fds=(), **payload) -> None:
    assert guest.request(SET, irq_payload(flags, **payload), fds) == (b"", ())


@pytest.mark.parametrize(
    ("payload", "nfds"),
    [
        pytest.param(irq_payload(DISABLE)[:19], 0, id="short"),
        pytest.param(irq_payload(DISABLE, argsz=19), 0, id="argsz"),
        pytest.param(irq_payload(DISABLE, argsz=0), 0, id="no argsz"),
        pytest.param(irq_payload(DISABLE, 5, count=0), 0, id="index"),
        pytest.param(irq_payload(DISABLE, 0xFFFFFFFF, count=0), 0, id="big index"),
        pytest.param(irq_payload(TRIGGER), 0, id="no data"),
        pytest.param(irq_payload(NONE), 0, id="no action"),
        pytest.param(irq_payload(0), 0, id="nothing"),
        pytest.param(irq_payload(NONE | BOOL | TRIGGER, data=b"\1"), 0, id="two kinds of data"),
        pytest.param(irq_payload(NONE | TRIGGER | MASK), 0, id="two actions"),
        pytest.param(irq_payload(NONE | TRIGGER | 0x40), 0, id="unknown flag"),
        pytest.param(irq_payload(NONE | TRIGGER | 0x80000000), 0, id="high flag"),
        pytest.param(irq_payload(NONE | TRIGGER, start=1), 0, id="start"),
        pytest.param(irq_payload(NONE | TRIGGER, start=1, count=0), 0, id="start of none"),
        pytest.param(irq_payload(NONE | TRIGGER, count=2), 0, id="count"),
        pytest.param(irq_payload(NONE | TRIGGER, start=0xFFFFFFFF, count=1), 0, id="big start"),
        pytest.param(irq_payload(NONE | TRIGGER, start=1, count=0xFFFFFFFF), 0, id="overflow"),
        pytest.param(irq_payload(NONE | MASK, count=0), 0, id="mask none"),
        pytest.param(irq_payload(NONE | UNMASK, count=0), 0, id="unmask none"),
        pytest.param(irq_payload(BOOL | TRIGGER, count=0), 0, id="bool none"),
        pytest.param(irq_payload(EVENTFD | TRIGGER, count=0), 0, id="eventfd none"),
        pytest.param(irq_payload(BOOL | TRIGGER), 0, id="bool without data"),
        pytest.param(irq_payload(BOOL | TRIGGER, data=b"\1\1"), 0, id="bool with too much"),
        pytest.param(irq_payload(NONE | TRIGGER), 1, id="fd without eventfd"),
        pytest.param(irq_payload(BOOL | TRIGGER, data=b"\1"), 1, id="fd with bool"),
        pytest.param(irq_payload(NONE | TRIGGER, count=0), 1, id="fd to disable"),
        pytest.param(irq_payload(EVENTFD | TRIGGER), 2, id="too many fds"),
        pytest.param(irq_payload(EVENTFD | TRIGGER, count=0), 1, id="fd for none"),
        pytest.param(irq_payload(EVENTFD | TRIGGER, 1), 1, id="MSI that is not there"),
        pytest.param(irq_payload(EVENTFD | TRIGGER, 2), 1, id="MSI-X that is not there"),
        pytest.param(irq_payload(NONE | MASK, 3), 0, id="mask ERR"),
        pytest.param(irq_payload(NONE | UNMASK, 4), 0, id="unmask REQ"),
        pytest.param(irq_payload(EVENTFD | TRIGGER, 3, count=2), 2, id="two ERR"),
    ],
)
def test_a_bad_message_is_refused_and_its_fds_closed(guest, payload, nfds):
    with eventfds(nfds) as fds:
        before = open_fds()
        assert refusal(guest, SET, payload, fds) == errno.EINVAL
        assert open_fds() == before


def test_a_file_is_no_eventfd(guest):
    with memory_file() as fd:
        before = open_fds()
        assert refusal(guest, SET, irq_payload(TRIGGER_EVENTFD), [fd]) == errno.EINVAL
        assert open_fds() == before


@pytest.mark.parametrize("action", [MASK, UNMASK])
def test_an_eventfd_that_cannot_be_kept_is_not_leaked(guest, action):
    with eventfds(1) as fds:
        before = open_fds()
        if action == MASK:
            assert refusal(guest, SET, irq_payload(EVENTFD | MASK), fds) in (errno.EINVAL, errno.ENOTSUP)
        else:
            sets(guest, EVENTFD | UNMASK, fds)
            assert open_fds() == before + 1
            sets(guest, EVENTFD | UNMASK)
        assert open_fds() == before


@pytest.mark.parametrize("index", range(5))
def test_disabling_an_index_without_vectors_is_a_success(guest, index):
    sets(guest, DISABLE, index=index, count=0)


def test_the_reply_is_a_bare_header(guest):
    guest.send_raw(protocol.pack_message(1, SET, irq_payload(DISABLE, count=0)))
    assert guest.receive().header == protocol.Header(1, SET, 16, 1)


def test_a_trigger_reaches_the_eventfd_and_masks_the_line(device, guest):
    assert device.irq.trigger() == IrqOutcome.DELIVERED
    assert guest.wait_irq() == 1
    assert device.irq.trigger() == IrqOutcome.PENDING
    assert guest.irq_count() == 0
    guest.unmask_irq()
    assert guest.wait_irq() == 1
    guest.unmask_irq()
    assert guest.irq_count() == 0


def test_an_asserted_line_is_signalled_again_at_each_unmask(device, guest):
    assert device.irq.assert_() == IrqOutcome.DELIVERED
    for _ in range(3):
        assert guest.wait_irq() == 1
        guest.unmask_irq()
    assert guest.wait_irq() == 1
    device.irq.deassert()
    guest.unmask_irq()
    assert guest.irq_count() == 0


def test_status_shows_the_line(device, guest):
    assert guest.config.read16(6) & 8 == 0
    device.irq.assert_()
    assert guest.config.read16(6) & 8
    device.irq.deassert()
    assert guest.config.read16(6) & 8 == 0


def test_interrupt_disable_holds_the_line_back_until_it_is_cleared(device, guest):
    guest.enable(intx=False)
    assert device.irq.assert_() == IrqOutcome.DISABLED
    assert guest.config.read16(6) & 8
    assert guest.irq_count() == 0
    guest.enable(intx=True)
    assert guest.wait_irq() == 1


def test_a_masked_line_is_kept_until_the_client_unmasks(device, guest):
    guest.mask_irq()
    assert device.irq.trigger() == IrqOutcome.MASKED
    assert guest.irq_count() == 0
    guest.unmask_irq()
    assert guest.wait_irq() == 1


def test_the_unmask_eventfd_unmasks_as_kvm_does(device):
    from workbench import Client

    server = device.serve()
    with Client(server.path, resample=True) as guest:
        device.irq.assert_()
        for _ in range(5):
            assert guest.wait_irq() == 1
            guest.unmask_irq()
        assert guest.wait_irq() == 1
        device.irq.deassert()
        guest.unmask_irq()
        guest.disarm()


def test_a_new_unmask_eventfd_replaces_the_old(device, guest):
    with eventfds(2) as (old, new):
        before = open_fds()
        sets(guest, EVENTFD | UNMASK, [old])
        sets(guest, EVENTFD | UNMASK, [new])
        assert open_fds() == before + 1
        device.irq.assert_()
        assert guest.wait_irq() == 1
        os.eventfd_write(new, 1)
        assert guest.wait_irq() == 1
        sets(guest, DISABLE, count=0)
        assert open_fds() <= before


def test_a_new_eventfd_replaces_the_old(device, guest):
    with eventfds(1) as (fd,):
        before = open_fds()
        guest.arm(0, [fd])
        assert open_fds() == before
        assert device.irq.trigger() == IrqOutcome.DELIVERED
        assert os.eventfd_read(fd) == 1


def test_arming_while_the_line_is_up_signals_at_once(device, guest):
    guest.disarm()
    assert device.irq.assert_() == IrqOutcome.NOBODY
    guest.arm()
    assert guest.wait_irq() == 1


def test_an_eventfd_message_without_fds_takes_them_away(device, guest):
    before = open_fds()
    sets(guest, TRIGGER_EVENTFD)
    assert open_fds() == before - 1
    assert device.irq.trigger() == IrqOutcome.NOBODY


def test_disabling_takes_the_eventfd_away(device, guest):
    guest.disarm()
    assert device.irq.trigger() == IrqOutcome.NOBODY
    assert not device.irq.status.armed


@pytest.mark.parametrize(("flags", "data"), [(NONE | TRIGGER, b""), (BOOL | TRIGGER, b"\1")])
def test_a_client_can_trigger_its_own_interrupt(guest, flags, data):
    sets(guest, flags, data=data)
    assert guest.wait_irq() == 1


def test_a_bool_of_zero_does_nothing(device, guest):
    for action in (TRIGGER, MASK, UNMASK):
        sets(guest, BOOL | action, data=b"\0")
    assert guest.irq_count() == 0
    assert device.irq.trigger() == IrqOutcome.DELIVERED


def test_mask_and_unmask_by_bool(device, guest):
    sets(guest, BOOL | MASK, data=b"\1")
    assert device.irq.trigger() == IrqOutcome.MASKED
    sets(guest, BOOL | UNMASK, data=b"\1")
    assert guest.wait_irq() == 1


def test_eventfds_of_a_client_that_left_are_closed(device):
    with device.connect():
        before = open_fds()
    device.server.wait_listening()
    assert device.irq.trigger() == IrqOutcome.NOBODY
    with device.connect() as guest:
        assert open_fds() == before
        assert guest.irq_count() == 0
        assert device.irq.trigger() == IrqOutcome.DELIVERED


def test_the_guest_is_told_when_no_interrupt_comes(guest):
    with pytest.raises(TimeoutError, match="INTx vector 0"):
        guest.wait_irq(timeout=0.01)
