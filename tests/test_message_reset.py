"""DEVICE_RESET, and the commands that are refused: features, migration, DMA in the wrong direction."""

import errno
import time

import pytest
from sample import DISABLE, access, irq_payload, refusal, unmap_payload

import workbench as wb
from workbench import IrqOutcome, protocol
from workbench.protocol import Command


def test_registers_and_config_space_go_back_to_reset_values(guest):
    guest.bar0.write32(0, 1)
    guest.bar2.write8(0, 1)
    guest.enable()
    guest.reset()
    assert guest.bar0.read32(0) == 0x11223344
    assert guest.bar2.read8(0) == 0
    assert guest.config.read16(4) == 0


def test_the_reply_is_exactly_a_header(guest):
    guest.send_raw(protocol.pack_message(1, Command.DEVICE_RESET))
    assert guest.receive().header == protocol.Header(1, Command.DEVICE_RESET, 16, 1)


def test_a_payload_is_refused(guest):
    guest.bar0.write32(0, 1)
    assert refusal(guest, Command.DEVICE_RESET, b"x") == errno.EINVAL
    assert guest.bar0.read32(0) == 1


def test_memory_and_eventfds_stay(device, guest):
    guest.memory[0:4] = b"kept"
    device.irq.assert_()
    assert guest.wait_irq() == 1
    guest.reset()
    assert not device.irq.asserted
    guest.unmask_irq()
    assert guest.irq_count() == 0
    guest.enable()
    assert device.dma.read(0, 4) == b"kept"
    assert device.irq.trigger() == IrqOutcome.DELIVERED


def test_a_reset_as_qemu_does_it_at_start(guest):
    """Section 1.4 of the notes on QEMU's client: interrupts down, COMMAND off, reset, up again."""
    guest.request(Command.DEVICE_SET_IRQS, irq_payload(DISABLE, count=0))
    guest.config.write16(4, guest.config.read16(4) & ~0x407)
    [(_, power)] = [found for found in guest.capabilities() if found[0] == 1]
    assert guest.config.read16(power + 4) & 3 == 0
    guest.reset()
    assert guest.config.read8(0x3D) == 1
    guest.arm()
    for bar in range(6):
        guest.config.write32(0x10 + 4 * bar, 0)
    assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_a_large_bar_is_reset_long_before_qemu_gives_up():
    """QEMU waits 5 s for the answer, and asks at its start and at each reboot."""

    class Large(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B13, class_code=0xFF0000)

        class bar0(wb.Bar, size=1 << 30, bits=64):
            FIRST = wb.Register(0, reset=1)
            LAST = wb.Register((1 << 30) - 4, reset=2)

    with Large() as device, device.connect() as guest:
        guest.bar0.write32(0, 7)
        guest.bar0.write32((1 << 30) - 4, 7)
        begun = time.monotonic()
        guest.reset()
        assert time.monotonic() - begun < 2.5
        assert (guest.bar0.read32(0), guest.bar0.read32((1 << 30) - 4)) == (1, 2)


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (Command.DEVICE_FEATURE, b""),
        (Command.MIG_DATA_READ, protocol.FEATURE.pack(8, 4096)),
        (Command.MIG_DATA_WRITE, protocol.FEATURE.pack(8, 4) + b"data"),
        (Command.MIG_DATA_WRITE, b""),
        (Command.DMA_READ, protocol.DMA_ACCESS.pack(0, 4)),
        (Command.DMA_WRITE, protocol.DMA_ACCESS.pack(0, 4) + b"data"),
        (14, unmap_payload()),
    ],
)
def test_what_is_not_served_is_refused_and_the_guest_goes_on(guest, command, payload):
    assert refusal(guest, command, payload) in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
    assert guest.request(Command.REGION_READ, access(0, 0x10))[0].endswith(b"\xee\xff\xc0\0")
