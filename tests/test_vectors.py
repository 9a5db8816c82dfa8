"""MSI-X and MSI with a software guest: every message of QEMU's, masks, pending bits, outcomes, modes."""

import os
import queue
import select
import threading
from collections.abc import Iterator

import pytest
from leaks import open_fds
from sample import DISABLE, TRIGGER_EVENTFD, eventfds, irq_payload

import workbench as wb
from workbench.protocol import Command, IrqFlag, IrqSet

SET = Command.DEVICE_SET_IRQS
MSI, MSIX = 1, 2
VECTORS = 40  # more than fit one message


class Card(wb.Device):
    """All three kinds; the MSI-X table lies behind one register."""

    id = wb.PciId(vendor=0x1234, device=0x0B12)
    irq = wb.Interrupts(intx=True, msi=8, msix=VECTORS)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0x00)


@pytest.fixture
def card() -> Iterator[Card]:
    with Card(strict=True) as device:
        yield device


@pytest.fixture
def guest(card: Card) -> Iterator[wb.Client]:
    with card.connect() as guest:
        yield guest


def sets(guest: wb.Client, flags: int, index: int = MSIX, start: int = 0, count: int = 1, fds=()) -> None:
    assert guest.request(SET, irq_payload(flags, index, start, count), fds) == (b"", ())


def enable(guest: wb.Client, on: bool = True) -> None:
    """Only the enable bit: nothing is armed."""
    at = guest.msix.at + 2
    guest.config.write16(at, 0x8000 if on else 0)


def outcomes(card: Card) -> list[str]:
    return [record.text for record in card.log.filter(kind="irq")]


# -- what the guest is told --


def test_the_counts_are_exact_and_msix_may_grow(guest: wb.Client) -> None:
    assert [irq.count for irq in guest.irqs] == [1, 8, VECTORS, 0, 0]
    assert guest.irqs[MSI].flags == IrqFlag.EVENTFD | IrqFlag.NORESIZE
    assert guest.irqs[MSIX].flags == IrqFlag.EVENTFD


def test_the_capabilities_read_as_the_specification_has_them(card: Card, guest: wb.Client) -> None:
    assert [cap_id for cap_id, _ in guest.capabilities()] == [0x05, 0x11]
    assert guest.config.read16(guest.msi.at + 2) == 0x0180 | 3 << 1
    assert guest.config.read16(guest.msix.at + 2) == VECTORS - 1
    assert card.bar0.MSIX_VECTOR_CONTROL[VECTORS - 1].MASK == 1
    guest.config.write(guest.msix.at, b"\xff" * 12)
    assert guest.config.read16(guest.msix.at + 2) == 0xC000 | VECTORS - 1
    assert card.lint() == []


# -- a driver's life --


def test_every_vector_reaches_its_own_eventfd(card: Card, guest: wb.Client) -> None:
    assert guest.enable_msix() == VECTORS  # in messages of 16 eventfds
    assert card.irq.mode == "MSI-X"
    for vector in (0, 15, 16, 31, 32, VECTORS - 1):
        assert card.irq[vector].trigger() == "delivered"
        assert guest.wait_irq(vector) == 1
    assert [guest.irq_count(vector) for vector in range(VECTORS)] == [0] * VECTORS
    assert outcomes(card)[-1] == f"MSI-X[{VECTORS - 1}] delivered"
    assert card.irq.msix[16].status == card.irq[16].status
    assert (card.irq[16].count, card.irq[16].status.name) == (1, "MSI-X[16]")


def test_a_driver_may_take_fewer_vectors(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(3)
    assert [card.irq[n].trigger() for n in range(4)] == ["delivered"] * 3 + ["pending"]
    assert repr(card.irq) == f"<MSI-X: 3 of {VECTORS} vectors armed, 1 pending, signalled 3×>"


def test_msi_reaches_its_vectors_and_more_numbers_share_them(card: Card, guest: wb.Client) -> None:
    assert guest.enable_msi(3) == 4
    assert card.irq.mode == "MSI"
    assert card.irq[6].trigger() == "delivered"
    assert guest.wait_irq(2) == 1
    assert card.irq.msi[6].trigger() == "nobody listens"


def test_without_messages_all_vectors_share_the_line(card: Card, guest: wb.Client) -> None:
    assert card.irq[VECTORS - 1].trigger() == "delivered"
    assert guest.wait_irq() == 1
    assert card.irq[3].status.name == "INTx"
    assert card.irq.msix[3].trigger() == card.irq.msi[3].trigger() == "disabled"


@pytest.mark.parametrize("kind", ["msi", "msix"])
def test_intx_is_silent_while_messages_are_enabled(card: Card, guest: wb.Client, kind: str) -> None:
    guest.arm(0)
    getattr(guest, kind).enable(1)
    assert card.irq.intx.trigger() == "disabled"
    assert not card.irq.intx.status.enabled
    guest.arm(0)  # a monitor that leaves INTx armed
    assert card.irq.intx.trigger() == "disabled"
    getattr(guest, kind).disable()
    assert guest.irq_count(index=0) == 0  # pulses that nobody could see are lost
    assert card.irq.intx.trigger() == "delivered"


def test_a_line_that_stays_up_is_signalled_when_messages_are_disabled(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(1)
    assert card.irq.assert_() == "delivered"
    assert guest.wait_irq(0) == 1
    guest.msix.disable()
    assert guest.wait_irq(0, index=0) == 1


def test_nobody_listens_when_the_guest_is_gone(card: Card) -> None:
    with card.connect() as guest:
        guest.enable_msix(2)
        guest.msix.mask(1)
        assert card.irq[1].trigger() == "masked"
    card.server.wait_listening()
    assert [card.irq[n].trigger() for n in range(3)] == ["nobody listens"] * 3
    assert not card.irq[1].pending
    with card.connect() as guest:
        enable(guest)
        guest.arm(MSIX)
        assert guest.irq_count(1) == 0


# -- the level, as messages --


def test_an_assertion_sends_one_message_on_the_rising_edge(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(4)
    assert [card.irq.assert_(2), card.irq.assert_(2)] == ["delivered", "pending"]
    assert card.irq[2].status.asserted
    assert card.irq.deassert(2) == "released"
    assert card.irq.assert_(2) == "delivered"
    assert guest.wait_irq(2) == 2


def test_the_line_is_up_while_one_source_is(card: Card, guest: wb.Client) -> None:
    card.irq.assert_(1)
    card.irq.assert_(5)
    card.irq.deassert(1)
    assert (card.irq.asserted, guest.config.read16(6) & 8) == (True, 8)
    card.irq.deassert(5)
    assert (card.irq.asserted, guest.config.read16(6) & 8) == (False, 0)


# -- masks and pending bits --


def test_a_vector_masked_in_the_table_is_delivered_once_on_unmask(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(4)
    guest.msix.mask(3)
    assert [card.irq[3].trigger() for _ in range(3)] == ["masked"] * 3
    assert (card.irq[3].masked, card.irq[3].pending, guest.msix.pending(3)) == (True, True, True)
    assert guest.irq_count(3) == 0
    guest.msix.unmask(3)
    assert (guest.wait_irq(3), guest.irq_count(3), guest.msix.pending(3)) == (1, 0, False)
    assert outcomes(card)[-1] == "MSI-X[3] delivered"


def test_the_function_mask_holds_every_vector_back(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(VECTORS)
    guest.msix.mask_all()
    assert {str(one.trigger()) for one in card.irq} == {"masked"}
    assert card.bar0.MSIX_PENDING.value == (1 << VECTORS) - 1
    guest.msix.mask(7)
    guest.msix.mask_all(False)
    assert [guest.irq_count(n) for n in range(VECTORS)] == [int(n != 7) for n in range(VECTORS)]
    assert card.bar0.MSIX_PENDING.value == 1 << 7


def test_a_mask_of_the_table_counts_only_once_the_client_wrote_it(card: Card, guest: wb.Client) -> None:
    """QEMU keeps the table to itself: the bytes here say "masked" for ever."""
    enable(guest)
    guest.arm(MSIX)
    assert card.bar0.MSIX_VECTOR_CONTROL[1].MASK == 1
    assert card.irq[1].trigger() == "delivered"
    card.bar0.MSIX_VECTOR_CONTROL[1].poke(1)  # a look at the table by hand is no driver's write
    assert card.irq[1].trigger() == "delivered"
    guest.msix.mask(1)
    assert card.irq[1].trigger() == "masked"
    card.reset()
    enable(guest)
    assert card.irq[1].trigger() == "delivered"


def test_one_wide_write_unmasks_many_vectors(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(4)
    for vector in range(4):
        guest.msix.mask(vector)
        card.irq[vector].trigger()
    table = guest.config.read32(guest.msix.at + 4) & ~7
    guest.bar0.write(table + 12, bytes(16 * 3))  # the masks of 0, 1, 2; of vector 3 address and data only
    assert [guest.irq_count(n) for n in range(4)] == [1, 1, 1, 0]


def test_msi_masks_and_pending_bits_are_in_the_capability(card: Card, guest: wb.Client) -> None:
    guest.enable_msi()
    guest.msi.mask(5)
    assert card.irq[5].trigger() == card.irq[5].trigger() == "masked"
    assert guest.msi.pending(5)
    assert card.config.MSI_PENDING.value == 1 << 5
    guest.msi.unmask(5)
    assert (guest.wait_irq(5), guest.msi.pending(5)) == (1, False)


def test_pending_bits_are_the_devices_whoever_writes_them(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(2)
    guest.msix.mask(1)
    card.irq[1].trigger()
    offset = guest.config.read32(guest.msix.at + 8) & ~7
    guest.bar0.write64(offset, 0)
    card.bar0.MSIX_PENDING.poke(0xFF)
    assert card.bar0.MSIX_PENDING.value == 2


def test_a_mask_by_message_is_a_mask_too(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(2)
    guest.mask_irq(MSIX, 1)
    assert card.irq[1].trigger() == "masked"
    guest.unmask_irq(MSIX, 1)
    assert guest.wait_irq(1) == 1


# -- what is pending, and until when --


def test_an_enabled_vector_keeps_what_is_pending_until_its_eventfd_comes(
    card: Card, guest: wb.Client
) -> None:
    enable(guest)
    assert [card.irq[1].trigger(), card.irq[1].trigger()] == ["pending", "pending"]
    with eventfds(1) as (fd,):
        sets(guest, TRIGGER_EVENTFD, start=1, fds=[fd])
        assert os.eventfd_read(fd) == 1
        assert not card.irq[1].pending


def test_a_run_without_eventfds_takes_them_away_and_keeps_what_is_pending(
    card: Card, guest: wb.Client
) -> None:
    guest.enable_msix(4)
    guest.msix.mask(2)
    card.irq[2].trigger()
    before = open_fds()
    sets(guest, TRIGGER_EVENTFD, start=1, count=2)
    assert open_fds() == before - 2
    assert [card.irq[n].status.armed for n in range(4)] == [True, False, False, True]
    assert [card.irq[n].trigger() for n in range(4)] == ["delivered", "pending", "masked", "delivered"]
    guest.msix.unmask(2)
    with eventfds(2) as fds:
        sets(guest, TRIGGER_EVENTFD, start=1, count=2, fds=fds)
        assert [os.eventfd_read(fd) for fd in fds] == [1, 1]


def test_dropping_all_vectors_to_send_more_loses_nothing(card: Card, guest: wb.Client) -> None:
    """What QEMU does to a device that says NORESIZE: count 0, then all of them again."""
    guest.enable_msix(2)
    sets(guest, DISABLE, count=0)
    assert card.irq[1].trigger() == "pending"
    guest.arm(MSIX)
    assert guest.wait_irq(1) == 1


def test_disabling_forgets_what_is_pending(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(2)
    guest.msix.mask(1)
    card.irq[1].trigger()
    guest.msix.disable()
    assert (card.irq.msix[1].pending, card.bar0.MSIX_PENDING.value) == (False, 0)
    guest.enable_msix(2)
    assert guest.irq_count(1) == 0


def test_disabling_forgets_what_waits_for_an_eventfd(card: Card, guest: wb.Client) -> None:
    enable(guest)
    card.irq[1].trigger()
    enable(guest, False)
    assert (card.irq.msix[1].pending, card.bar0.MSIX_PENDING.value) == (False, 0)


def test_reset_forgets_what_is_pending_and_keeps_the_eventfds(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(2)
    guest.msix.mask(1)
    card.irq[1].trigger()
    guest.reset()
    assert (card.irq.mode, card.irq.msix[1].pending, card.bar0.MSIX_PENDING.value) == ("INTx", False, 0)
    assert card.irq.msix[1].trigger() == "delivered"  # an armed vector is never silent


# -- every row of protocol.md, section 3 --


def test_qemu_enables_msix_with_no_vector_unmasked(card: Card, guest: wb.Client) -> None:
    guest.disarm(0)
    enable(guest)
    sets(guest, TRIGGER_EVENTFD)  # start 0, count 1, no fd
    assert card.irq[0].trigger() == "pending"


def test_a_vector_is_unmasked_later_beyond_the_present_ones(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(2)
    with eventfds(1) as (fd,):
        sets(guest, TRIGGER_EVENTFD, start=VECTORS - 1, fds=[fd])
        assert card.irq[VECTORS - 1].trigger() == "delivered"
        assert os.eventfd_read(fd) == 1


def test_msi_is_enabled_and_disabled_as_a_whole(card: Card, guest: wb.Client) -> None:
    before = open_fds()
    guest.enable_msi(8)
    assert {str(one.trigger()) for one in card.irq} == {"delivered"}
    guest.msi.disable()
    assert open_fds() == before
    assert card.irq.msi[0].trigger() == "disabled"
    assert card.irq.intx.trigger() == "delivered"


def test_msi_that_is_enabled_but_not_armed_has_no_listener(card: Card, guest: wb.Client) -> None:
    guest.disarm(0)
    guest.config.write16(guest.msi.at + 2, 1)
    assert card.irq.msi[0].trigger() == "nobody listens"


def test_msix_is_disabled_vector_by_vector_then_as_a_whole(card: Card, guest: wb.Client) -> None:
    before = open_fds()
    guest.enable_msix(20)
    enable(guest, False)
    for vector in range(20):
        sets(guest, TRIGGER_EVENTFD, start=vector)
    guest.disarm(MSIX)
    guest.arm(0)
    assert open_fds() == before
    assert card.irq.trigger() == "delivered"


@pytest.mark.parametrize(
    ("start", "count"), [(VECTORS, 1), (VECTORS - 1, 2), (0, VECTORS + 1), (1, 0xFFFFFFFF), (0xFFFFFFFF, 1)]
)
def test_ranges_beyond_the_table_are_refused(guest: wb.Client, start: int, count: int) -> None:
    with pytest.raises(wb.ProtocolError):
        guest.request(SET, irq_payload(TRIGGER_EVENTFD, MSIX, start, count))


def test_a_client_can_trigger_a_range(guest: wb.Client) -> None:
    guest.enable_msix(8)
    sets(guest, IrqSet.DATA_NONE | IrqSet.TRIGGER, start=2, count=3)
    assert [guest.irq_count(n) for n in range(8)] == [0, 0, 1, 1, 1, 0, 0, 0]


# -- against a thread that triggers --


class Trigger(threading.Thread):
    """Triggers vector 0 until it is told to stop; ``fired`` is how often."""

    def __init__(self, card: Card, rounds: int) -> None:
        super().__init__(name="triggers")
        self.card, self.rounds, self.fired = card, rounds, 0

    def run(self) -> None:
        for _ in range(self.rounds):
            self.card.irq.msix[0].trigger()
            self.fired += 1


def test_eventfds_are_swapped_under_a_triggering_thread_without_loss(card: Card, guest: wb.Client) -> None:
    guest.enable_msix(1)
    with eventfds(2) as fds:
        sets(guest, TRIGGER_EVENTFD, fds=fds[:1])
        thread = Trigger(card, 3000)
        thread.start()
        for swap in range(300):
            sets(guest, TRIGGER_EVENTFD, fds=[fds[swap % 2]])
        thread.join(30)
        sets(guest, DISABLE, count=0)
        assert sum(read(fd) for fd in fds) == thread.fired == 3000


def read(fd: int) -> int:
    return os.eventfd_read(fd) if select.select([fd], [], [], 0)[0] else 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["table", "function"])
def test_ten_thousand_rounds_of_masking_lose_and_double_none(card: Card, guest: wb.Client, how: str) -> None:
    """A trigger is delivered, or it is kept and merged into one delivery at the unmask."""
    guest.enable_msix(2)
    mask = guest.msix.mask if how == "table" else lambda vector, on=True: guest.msix.mask_all(on)
    said: list[str] = []
    more, done = (
        queue.SimpleQueue[None](),
        queue.SimpleQueue[None](),
    )

    def fire() -> None:
        for _ in range(10_000):
            more.get()
            said.append(card.irq[0].trigger())
            done.put(None)

    thread = threading.Thread(target=fire, name="fires")
    thread.start()
    for number in range(10_000):
        more.put(None)  # it fires somewhere in the next lines
        mask(0, True)
        if number % 3 == 0:
            done.get(timeout=30)
            fired = read_all(guest)  # masked: only what came before may be here
            assert fired == (said[-1] == "delivered"), number
            mask(0, False)
            assert read_all(guest) == (said[-1] == "masked"), number
        else:
            mask(0, False)
            done.get(timeout=30)
            assert read_all(guest) == 1, number
        assert not card.irq[0].pending
    thread.join(30)
    assert len(said) == 10_000
    assert card.irq[0].count == 10_000
    assert card.irq[1].count == 0


def read_all(guest: wb.Client) -> int:
    return guest.irq_count(0)
