"""Interrupts on real eventfds: MSI-X, the INTx line and its masks, every form of SET_IRQS."""

import os
import socket
from collections.abc import Iterator

import pytest
from engine_kit import Engine, irqs
from leaks import open_fds

from workbench.engine import ffi, lib

NONE, BOOL, FD = 1, 2, 4
MASK, UNMASK, TRIGGER = 8, 0x10, 0x20
DELIVERED, PENDING, MASKED, DISABLED, NOBODY = range(5)
NO_INTX = b"\x00\x04"


class Irqs:
    """An engine with INTx, 4 MSI-X vectors and ERR, and eventfds that can be read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.fds: list[int] = []
        engine.region(lib.WB_CONFIG, 256)
        for plane in ("READABLE", "WRITABLE", "KNOWN"):
            engine.set(lib.WB_CONFIG, plane, 4, b"\xff" * 4)
        for index, count in ((lib.WB_INTX, 1), (lib.WB_MSIX, 4), (lib.WB_ERR, 1)):
            assert lib.wb_irq_add(engine.device, index, count) == 0

    def fd(self, flags: int = os.EFD_NONBLOCK, start: int = 0) -> int:
        self.fds.append(os.eventfd(start, flags | os.EFD_CLOEXEC))
        return self.fds[-1]

    def set(self, payload: bytes, fds: tuple[int, ...] = ()) -> int:
        copies = [os.dup(fd) for fd in fds]
        return lib.wb_irq_set(
            self.engine.device, payload, len(payload), ffi.new("int[]", copies), len(copies)
        )

    def arm(self, index: int, start: int = 0) -> int:
        fd = self.fd()
        assert self.set(irqs(FD | TRIGGER, index, start), (fd,)) == 0
        return fd

    def trigger(self, index: int = lib.WB_INTX, vector: int = 0) -> int:
        return lib.wb_irq_trigger(self.engine.device, index, vector, lib.WB_DEVICE)

    def level(self, level: int) -> int:
        return lib.wb_irq_level(self.engine.device, 0, level, lib.WB_DEVICE)

    def unmask(self) -> None:
        assert self.set(irqs(NONE | UNMASK, lib.WB_INTX)) == 0

    def status(self, index: int = lib.WB_INTX, vector: int = 0) -> tuple[int, int, int, int, int]:
        s = ffi.new("wb_irq_status *")
        assert lib.wb_irq_get(self.engine.device, index, vector, s) == 0
        return s.armed, s.masked, s.asserted, s.pending, s.count

    def status_bit(self) -> bool:
        return bool(self.engine.get(lib.WB_CONFIG, "VALUE", 6, 1)[0] & 8)


def seen(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


@pytest.fixture
def irq() -> Iterator[Irqs]:
    with Engine() as engine:
        handle = Irqs(engine)
        yield handle
        for fd in handle.fds:
            os.close(fd)


# ---- MSI-X ----


def test_a_vector_is_delivered_to_its_own_eventfd(irq: Irqs) -> None:
    fds = [irq.arm(lib.WB_MSIX, i) for i in range(4)]
    assert irq.trigger(lib.WB_MSIX, 2) == irq.trigger(lib.WB_MSIX, 2) == DELIVERED
    assert [seen(fd) for fd in fds] == [0, 0, 2, 0]
    assert irq.status(lib.WB_MSIX, 2) == (1, 0, 0, 0, 2)
    record = irq.engine.last()
    assert (record.kind, record.offset, record.value) == (lib.WB_KIND_IRQ, 2 << 16 | 2, DELIVERED)
    assert (record.origin, record.region) == (lib.WB_DEVICE, 255)


def test_without_an_eventfd_nobody_listens(irq: Irqs) -> None:
    assert irq.trigger(lib.WB_MSIX) == irq.trigger() == NOBODY
    assert irq.engine.last().value == NOBODY
    assert irq.trigger(lib.WB_MSIX, 4) == irq.trigger(lib.WB_MSI) == irq.trigger(9) == -22


def test_a_masked_vector_is_delivered_once_when_unmasked(irq: Irqs) -> None:
    fd = irq.arm(lib.WB_MSIX, 1)
    assert irq.set(irqs(NONE | MASK, lib.WB_MSIX, 1)) == 0
    assert irq.trigger(lib.WB_MSIX, 1) == irq.trigger(lib.WB_MSIX, 1) == MASKED
    assert (seen(fd), irq.status(lib.WB_MSIX, 1)) == (0, (1, 1, 0, 1, 0))
    assert irq.set(irqs(NONE | UNMASK, lib.WB_MSIX, 1)) == 0
    assert (seen(fd), irq.status(lib.WB_MSIX, 1)) == (1, (1, 0, 0, 0, 1))


def test_a_replaced_eventfd_is_silent_and_closed(irq: Irqs) -> None:
    before = open_fds()
    old, new = irq.arm(lib.WB_MSIX), irq.arm(lib.WB_MSIX)
    assert open_fds() == before + 3  # two of ours, one of the engine's
    irq.trigger(lib.WB_MSIX)
    assert (seen(old), seen(new)) == (0, 1)


def test_a_range_is_assigned_and_taken_away(irq: Irqs) -> None:
    fds = tuple(irq.fd() for _ in range(3))
    assert irq.set(irqs(FD | TRIGGER, lib.WB_MSIX, 1, 3), fds) == 0
    assert irq.set(irqs(FD | TRIGGER, lib.WB_MSIX, 2, 2)) == 0
    assert [irq.trigger(lib.WB_MSIX, i) for i in range(4)] == [NOBODY, DELIVERED, NOBODY, NOBODY]


def test_count_0_disables_the_index_even_one_without_vectors(irq: Irqs) -> None:
    before = open_fds()
    irq.arm(lib.WB_MSIX)
    assert irq.set(irqs(NONE | TRIGGER, lib.WB_MSIX, 0, 0)) == 0
    assert irq.set(irqs(NONE | TRIGGER, lib.WB_MSI, 0, 0)) == 0
    assert open_fds() == before + 1
    assert irq.trigger(lib.WB_MSIX) == NOBODY


def test_none_and_bool_trigger_loop_back(irq: Irqs) -> None:
    fds = [irq.arm(lib.WB_MSIX, i) for i in range(3)]
    assert irq.set(irqs(NONE | TRIGGER, lib.WB_MSIX, 0, 2)) == 0
    assert [seen(fd) for fd in fds] == [1, 1, 0]
    assert irq.set(irqs(BOOL | TRIGGER, lib.WB_MSIX, 0, 3, b"\0\0\1")) == 0
    assert [seen(fd) for fd in fds] == [0, 0, 1]
    assert irq.set(irqs(BOOL | MASK, lib.WB_MSIX, 0, 3, b"\0\1\0")) == 0
    assert [irq.status(lib.WB_MSIX, i)[1] for i in range(3)] == [0, 1, 0]


# ---- INTx ----


def test_the_line_is_signalled_once_until_it_is_unmasked(irq: Irqs) -> None:
    fd = irq.arm(lib.WB_INTX)
    assert irq.level(1) == DELIVERED
    assert irq.status_bit()
    assert irq.level(1) == PENDING
    assert (seen(fd), irq.status()) == (1, (1, 1, 1, 0, 1))
    irq.unmask()
    assert seen(fd) == 1
    irq.level(0)
    irq.unmask()
    assert (seen(fd), irq.status_bit(), irq.status()) == (0, False, (1, 0, 0, 0, 2))
    assert irq.engine.kinds().count(lib.WB_KIND_UNMASK) == 2


def test_a_pulse_while_automasked_is_delivered_once_on_unmask(irq: Irqs) -> None:
    fd = irq.arm(lib.WB_INTX)
    assert [irq.trigger() for _ in range(3)] == [DELIVERED, PENDING, PENDING]
    assert seen(fd) == 1
    irq.unmask()
    assert seen(fd) == 1
    irq.unmask()
    assert seen(fd) == 0


def test_masked_by_the_client_is_told_from_automasked(irq: Irqs) -> None:
    fd = irq.arm(lib.WB_INTX)
    assert irq.set(irqs(NONE | MASK, lib.WB_INTX)) == 0
    assert irq.trigger() == irq.level(1) == MASKED
    assert seen(fd) == 0
    irq.unmask()
    assert seen(fd) == 1


def test_interrupt_disable_holds_the_line_and_forgets_pulses(irq: Irqs) -> None:
    fd = irq.arm(lib.WB_INTX)
    irq.engine.write(lib.WB_CONFIG, 4, NO_INTX)
    assert irq.trigger() == irq.level(1) == DISABLED
    assert (seen(fd), irq.status_bit()) == (0, True)
    irq.engine.write(lib.WB_CONFIG, 5, b"\0")
    assert seen(fd) == 1
    irq.level(0)
    irq.unmask()
    assert seen(fd) == 0


def test_a_poke_of_command_moves_the_line_too(irq: Irqs) -> None:
    fd = irq.arm(lib.WB_INTX)
    irq.engine.write(lib.WB_CONFIG, 4, NO_INTX)
    irq.level(1)
    assert (
        lib.wb_region_poke(irq.engine.device, lib.WB_CONFIG, lib.WB_VALUE, 4, 0, 0xFFFF, 2, lib.WB_NOTEBOOK)
        == 0
    )
    assert seen(fd) == 1


def test_nobody_can_write_the_interrupt_status_bit(irq: Irqs) -> None:
    irq.engine.write(lib.WB_CONFIG, 4, b"\0\0\xff\0")
    assert not irq.status_bit()
    irq.level(1)
    irq.engine.write(lib.WB_CONFIG, 6, b"\0")
    assert irq.status_bit()
    assert irq.engine.read(lib.WB_CONFIG, 6, 1) == b"\x08"


def test_a_line_that_is_up_is_signalled_when_a_listener_comes(irq: Irqs) -> None:
    assert irq.level(1) == NOBODY
    assert seen(irq.arm(lib.WB_INTX)) == 1
    lib.wb_irq_clear(irq.engine.device)
    assert irq.status() == (0, 0, 1, 0, 1)
    assert seen(irq.arm(lib.WB_INTX)) == 1


def test_reset_takes_the_line_down(irq: Irqs) -> None:
    fd = irq.arm(lib.WB_INTX)
    assert [irq.level(1), irq.trigger(), seen(fd)] == [DELIVERED, PENDING, 1]
    lib.wb_device_reset(irq.engine.device, lib.WB_RESET_DEVICE)
    irq.unmask()
    assert (seen(fd), irq.status_bit(), irq.status()[2:4]) == (0, False, (0, 0))


# ---- hostile descriptors ----


def test_a_full_blocking_eventfd_never_blocks(irq: Irqs) -> None:
    fd = irq.fd(flags=0, start=1)
    os.eventfd_write(fd, (1 << 64) - 3)  # one short of what blocks the writer
    assert irq.set(irqs(FD | TRIGGER, lib.WB_MSIX), (fd,)) == 0
    assert [irq.trigger(lib.WB_MSIX) for _ in range(3)] == [DELIVERED] * 3
    assert os.eventfd_read(fd) >= (1 << 64) - 2
    assert (irq.trigger(lib.WB_MSIX), os.eventfd_read(fd)) == (DELIVERED, 1)


def test_only_eventfds_are_taken(irq: Irqs) -> None:
    reader, writer = os.pipe()
    left, right = socket.socketpair()
    memory = os.memfd_create("anon_inode:[eventfd]")
    null = os.open("/dev/null", os.O_RDWR)
    others = (reader, writer, left.fileno(), memory, null)
    before = open_fds()
    for fd in others:
        assert irq.set(irqs(FD | TRIGGER, lib.WB_MSIX), (fd,)) == -22
    assert irq.set(irqs(FD | TRIGGER, lib.WB_MSIX, 0, 2), (irq.fd(), writer)) == -22
    assert open_fds() == before + 1
    assert irq.trigger(lib.WB_MSIX) == NOBODY
    left.close()
    right.close()
    for fd in (reader, writer, memory, null):
        os.close(fd)


# ---- SET_IRQS that is wrong ----


@pytest.mark.parametrize(
    ("payload", "nfds", "error"),
    [
        (irqs(NONE | TRIGGER, lib.WB_MSIX)[:19], 0, 22),
        (b"", 0, 22),
        (irqs(NONE | TRIGGER, lib.WB_MSIX, argsz=19), 0, 22),
        (irqs(NONE | TRIGGER, 5), 0, 22),
        (irqs(NONE | TRIGGER, 1 << 31), 0, 22),
        (irqs(NONE | BOOL | TRIGGER, lib.WB_MSIX), 0, 22),
        (irqs(NONE | MASK | TRIGGER, lib.WB_MSIX), 0, 22),
        (irqs(NONE, lib.WB_MSIX), 0, 22),
        (irqs(TRIGGER, lib.WB_MSIX), 0, 22),
        (irqs(NONE | TRIGGER | 0x40, lib.WB_MSIX), 0, 22),
        (irqs(NONE | TRIGGER, lib.WB_MSIX, 4), 0, 22),
        (irqs(NONE | TRIGGER, lib.WB_MSIX, 3, 2), 0, 22),
        (irqs(NONE | TRIGGER, lib.WB_MSIX, 1, 0xFFFFFFFF), 0, 22),
        (irqs(NONE | TRIGGER, lib.WB_MSIX, 1, 0), 0, 22),
        (irqs(NONE | MASK, lib.WB_MSIX, 0, 0), 0, 22),
        (irqs(FD | TRIGGER, lib.WB_MSIX, 0, 0), 0, 22),
        (irqs(NONE | TRIGGER, lib.WB_MSI), 0, 22),
        (irqs(BOOL | TRIGGER, lib.WB_MSIX, 0, 2, b"\1"), 0, 22),
        (irqs(BOOL | TRIGGER, lib.WB_MSIX, 0, 2, b"\1\1\1"), 0, 22),
        (irqs(NONE | TRIGGER, lib.WB_MSIX), 1, 22),
        (irqs(BOOL | TRIGGER, lib.WB_MSIX, data=b"\1"), 1, 22),
        (irqs(FD | TRIGGER, lib.WB_MSIX, 0, 2), 1, 22),
        (irqs(FD | TRIGGER, lib.WB_MSIX, 0, 1), 2, 22),
        (irqs(NONE | MASK, lib.WB_ERR), 0, 22),
        (irqs(FD | TRIGGER, lib.WB_ERR, 0, 2), 2, 22),
        (irqs(FD | MASK, lib.WB_INTX), 1, 95),
        (irqs(FD | UNMASK, lib.WB_MSIX), 1, 95),
    ],
)
def test_a_wrong_set_is_refused_and_its_descriptors_closed(
    irq: Irqs, payload: bytes, nfds: int, error: int
) -> None:
    fds = tuple(irq.fd() for _ in range(nfds))
    before = open_fds()
    assert irq.set(payload, fds) == -error
    assert open_fds() == before
    assert irq.engine.records() == []
