"""The edu device as a driver meets it: liveness, factorial, interrupts by line and by message, DMA."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import workbench as wb
from workbench.devices.edu import Edu

ID, LIVENESS, FACTORIAL, STATUS, IRQ_STATUS = 0x00, 0x04, 0x08, 0x20, 0x24
IRQ_RAISE, IRQ_ACK = 0x60, 0x64
SOURCE, DESTINATION, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
START, TO_RAM, INTERRUPT = 1, 2, 4
BUFFER = 0x40000
LONG = 3_600_000  # ms: the device is busy for as long as a test looks


@pytest.fixture
def edu() -> Iterator[Edu]:
    with Edu(strict=True) as device:
        device.delay = 0
        yield device


@pytest.fixture
def guest(edu: Edu) -> Iterator[wb.Client]:
    with edu.connect() as guest:
        guest.enable()
        yield guest


def finished(edu: Edu, register: str, act: Callable[[], None]) -> None:
    """Do something and wait until the device takes bit 0 of a register back: it was busy, and is not."""
    since = edu.log.total
    act()
    edu.log.wait(lambda record: not record.value & 1, 5, register=register, kind="poke", since=since)


def transfer(edu: Edu, guest: wb.Client, source: int, destination: int, count: int, command: int) -> None:
    for register, value in ((SOURCE, source), (DESTINATION, destination), (COUNT, count)):
        guest.bar0.write64(register, value)
    finished(edu, "DMA_COMMAND", lambda: guest.bar0.write64(COMMAND, command | START))


def test_it_is_qemus_edu(edu, guest):
    assert guest.id == "1234:11e8"
    assert guest.config.read32(8) == 0x00FF0010
    assert guest.regions[0].size == 1 << 20
    assert [irq.count for irq in guest.irqs[:3]] == [1, 1, 0]
    assert edu.lint() == []


def test_identification_stays_and_liveness_is_the_complement(edu, guest):
    guest.bar0.write32(ID, 0)
    assert guest.bar0.read32(ID) == 0x010000ED
    for value in (0, 0x12345678, 0xFFFFFFFF):
        guest.bar0.write32(LIVENESS, value)
        assert guest.bar0.read32(LIVENESS) == value ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("number", "product"), [(0, 1), (1, 1), (10, 3628800), (13, 1932053504), (33, 1 << 31), (0xFFFFFFFF, 0)]
)
def test_a_factorial_of_32_bits(edu, guest, number, product):
    finished(edu, "STATUS", lambda: guest.bar0.write32(FACTORIAL, number))
    assert guest.bar0.read32(FACTORIAL) == product
    assert guest.bar0.read32(STATUS) == 0
    assert edu.irq.status.count == 0  # not asked for


def test_a_factorial_is_computed_in_the_background_and_not_disturbed(edu, guest):
    edu.delay = LONG
    guest.bar0.write32(STATUS, 0x80)
    guest.bar0.write32(FACTORIAL, 10)
    guest.bar0.write32(FACTORIAL, 5)
    guest.bar0.write32(STATUS, 0x80)
    assert guest.bar0.read32(STATUS) == 0x81
    assert guest.bar0.read32(FACTORIAL) == 10
    edu.finish_factorial()
    assert guest.wait_irq() == 1
    assert guest.bar0.read32(FACTORIAL) == 3628800
    assert guest.bar0.read32(STATUS) == 0x80
    assert guest.bar0.read32(IRQ_STATUS) == 1


def test_a_reset_ends_what_is_computed_and_copied(edu, guest):
    edu.delay = LONG
    guest.bar0.write32(FACTORIAL, 10)
    guest.bar0.write64(COMMAND, START | INTERRUPT)
    guest.bar0.write32(IRQ_RAISE, 1)
    guest.reset()
    assert [guest.bar0.read32(at) for at in (FACTORIAL, STATUS, IRQ_STATUS, COMMAND)] == [0, 0, 0, 0]
    assert not edu.irq.asserted
    edu.delay = 0
    finished(edu, "STATUS", lambda: guest.bar0.write32(FACTORIAL, 4))
    assert guest.bar0.read32(FACTORIAL) == 24


def test_what_a_snapshot_has_under_way_goes_on_when_it_is_restored(edu, guest):
    edu.delay = LONG
    guest.memory[0:4] = b"copy"
    for register, value in ((STATUS, 0x80), (FACTORIAL, 5)):
        guest.bar0.write32(register, value)
    for register, value in ((DESTINATION, BUFFER), (COUNT, 4), (COMMAND, START)):
        guest.bar0.write64(register, value)
    busy = edu.snapshot()
    guest.reset()
    edu.delay = 0
    finished(edu, "DMA_COMMAND", lambda: edu.restore(busy))
    assert guest.wait_irq() == 1
    assert [guest.bar0.read32(at) for at in (FACTORIAL, STATUS, IRQ_STATUS)] == [120, 0x80, 1]
    assert edu.bar0.memory[:4].tobytes() == b"copy"


def test_the_line_is_up_until_every_cause_is_acknowledged(edu, guest):
    guest.bar0.write32(IRQ_RAISE, 0x30)
    assert guest.wait_irq() == 1
    guest.bar0.write32(IRQ_RAISE, 0x02)
    assert guest.bar0.read32(IRQ_STATUS) == 0x32
    guest.bar0.write32(IRQ_ACK, 0x12)
    assert edu.irq.asserted
    guest.unmask_irq()
    assert guest.wait_irq() == 1  # again, as one is left
    guest.bar0.write32(IRQ_ACK, 0x20)
    guest.unmask_irq()
    assert not edu.irq.asserted
    assert guest.irq_count() == 0
    assert guest.bar0.read32(IRQ_STATUS) == guest.bar0.read32(IRQ_RAISE) == guest.bar0.read32(IRQ_ACK) == 0


def test_raising_nothing_raises_nothing(edu, guest):
    guest.bar0.write32(IRQ_RAISE, 0)
    assert not edu.irq.asserted


def test_with_msi_each_cause_is_a_message(edu, guest):
    assert guest.enable_msi() == 1
    for cause in (1, 2, 4):
        guest.bar0.write32(IRQ_RAISE, cause)
    guest.bar0.write32(IRQ_ACK, 7)
    assert guest.wait_irq() == 3
    assert [record.text for record in edu.log.filter(kind="irq", origin="device")] == ["MSI[0] delivered"] * 3


@contextmanager
def client(edu: Edu, shared: bool) -> Iterator[wb.Client]:
    with edu.connect() as guest:
        guest.enable()
        guest.memory.map(0, 1 << 20, shared=shared)
        yield guest


@pytest.mark.parametrize("shared", [True, False])
def test_bytes_go_to_the_device_and_back(edu, shared):
    with client(edu, shared) as guest:
        data = bytes(range(256)) * 15 + b"the end."
        guest.memory[0x1000 : 0x1000 + len(data)] = data
        transfer(edu, guest, 0x1000, BUFFER + 100, len(data), 0)
        assert edu.bar0.memory[100 : 100 + len(data)].tobytes() == data
        assert guest.bar0.read(BUFFER + 100, 8) == data[:8]
        transfer(edu, guest, BUFFER + 100, 0x8004, len(data), TO_RAM | INTERRUPT)
        assert guest.memory[0x8004 : 0x8004 + len(data)] == data
        assert guest.wait_irq() == 1
        assert guest.bar0.read32(IRQ_STATUS) == 0x100
        assert [(r.kind, r.offset, r.size) for r in edu.log.filter(register="dma", origin="device")] == [
            ("dma_read", 0x1000, len(data)),
            ("dma_write", 0x8004, len(data)),
        ]


def test_addresses_have_28_bits(edu, guest):
    guest.memory[0x2000:0x2004] = b"28th"
    transfer(edu, guest, 0xF000_0000 | 0x2000, BUFFER, 4, 0)
    assert edu.bar0.memory[:4].tobytes() == b"28th"


@pytest.mark.parametrize(
    ("address", "count"),
    [(BUFFER, 4097), (BUFFER + 4093, 4), (BUFFER - 1, 4), (0, 4), (BUFFER, 1 << 63), ((1 << 64) - 4, 8)],
)
@pytest.mark.parametrize("command", [0, TO_RAM])
def test_what_is_not_in_the_buffer_is_not_copied(edu, guest, caplog, address, count, command):
    ends = (0x1000, address) if not command else (address, 0x1000)
    transfer(edu, guest, *ends, count, command | INTERRUPT)
    assert f"{count} bytes at {address:#x} are not in the buffer" in caplog.text
    assert not edu.log.filter(register="dma", kind=["dma_read", "dma_write"])
    assert guest.wait_irq() == 1  # it is over all the same


def test_memory_that_is_not_there_and_a_master_that_is_off(edu, guest, caplog):
    guest.memory[0:4] = b"here"
    transfer(edu, guest, 0x0800_0000, BUFFER, 4, 0)
    guest.enable(bus_master=False)
    transfer(edu, guest, 0, BUFFER, 4, 0)
    guest.enable()
    assert len(edu.log.filter(kind="dma_read", flagged=True)) == 2
    assert caplog.text.count("the driver's transfer was not done") == 2
    transfer(edu, guest, 0, BUFFER, 4, 0)
    assert edu.bar0.memory[:4].tobytes() == b"here"
    transfer(edu, guest, 0, BUFFER, 0, 0)  # nothing is not too much


def test_a_transfer_that_runs_is_not_started_twice(edu, guest):
    edu.delay = LONG
    guest.bar0.write64(COUNT, 4)
    for command in (START, START, 0):
        guest.bar0.write64(COMMAND, command)
    assert guest.bar0.read32(COMMAND) == START
    guest.memory[0:4] = b"once"
    edu.transfer()
    assert guest.bar0.read32(COMMAND) == 0
    assert len(edu.log.filter(kind="write", register="DMA_COMMAND")) == 3
