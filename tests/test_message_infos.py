"""GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS and GET_IRQ_INFO: what a client asks once."""

import errno

import pytest
from sample import refusal

from workbench import protocol
from workbench.protocol import (
    DEVICE_INFO,
    IO_FDS,
    IRQ_INFO,
    REGION_INFO,
    Command,
    DeviceFlag,
    IrqFlag,
    RegionFlag,
)

INFO, REGION, FDS, IRQ = (
    Command.DEVICE_GET_INFO, Command.DEVICE_GET_REGION_INFO,
    Command.DEVICE_GET_REGION_IO_FDS, Command.DEVICE_GET_IRQ_INFO,
)  # fmt: skip


def region_info(guest, index: int, argsz: int = 32) -> tuple[int, ...]:
    reply, fds = guest.request(REGION, REGION_INFO.pack(argsz, 0, index, 0, 0, 0))
    assert fds == ()
    assert len(reply) == 32
    return REGION_INFO.unpack(reply)


@pytest.mark.parametrize("argsz", [16, 32, 0xFFFFFFFF])
def test_the_device_is_pci_and_can_be_reset(guest, argsz):
    reply, fds = guest.request(INFO, DEVICE_INFO.pack(argsz, 0, 0, 0))
    assert (DEVICE_INFO.unpack(reply), fds) == ((16, DeviceFlag.PCI | DeviceFlag.RESET, 9, 5), ())


def test_info_is_what_qemu_accepts(guest):
    _, flags, regions, irqs = DEVICE_INFO.unpack(guest.request(INFO, DEVICE_INFO.pack(16, 0, 0, 0))[0])
    assert flags & DeviceFlag.PCI
    assert 8 <= regions <= 100
    assert 3 <= irqs <= 50


@pytest.mark.parametrize("payload", [b"", bytes(15), DEVICE_INFO.pack(15, 0, 0, 0), bytes(16)])
def test_a_short_info_request_is_refused(guest, payload):
    assert refusal(guest, INFO, payload) == errno.EINVAL


def test_region_infos_say_size_and_access(guest):
    both = RegionFlag.READ | RegionFlag.WRITE
    assert region_info(guest, 0) == (32, both, 0, 0, 4096, 0)
    assert region_info(guest, 2) == (32, both, 2, 0, 8, 0)
    assert region_info(guest, 7) == (32, both, 7, 0, 256, 0)


@pytest.mark.parametrize("index", [1, 3, 4, 5, 6, 8])
def test_an_absent_region_is_empty_and_no_error(guest, index):
    assert region_info(guest, index) == (32, 0, index, 0, 0, 0)


@pytest.mark.parametrize("argsz", [32, 64, 4096, 0xFFFFFFFF])
def test_the_reply_is_never_longer_than_asked(guest, argsz):
    assert region_info(guest, 0, argsz)[0] == 32


def test_other_fields_of_a_region_request_are_not_looked_at(guest):
    reply, _ = guest.request(REGION, REGION_INFO.pack(32, 0xFF, 0, 77, 88, 99))
    assert REGION_INFO.unpack(reply) == (32, 3, 0, 0, 4096, 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"", bytes(31), REGION_INFO.pack(31, 0, 0, 0, 0, 0), REGION_INFO.pack(0, 0, 0, 0, 0, 0),
        REGION_INFO.pack(32, 0, 9, 0, 0, 0), REGION_INFO.pack(32, 0, 0xFFFFFFFF, 0, 0, 0),
    ],
)  # fmt: skip
def test_a_bad_region_request_is_refused(guest, payload):
    assert refusal(guest, REGION, payload) == errno.EINVAL


@pytest.mark.parametrize("index", [0, 2, 7])
def test_no_region_has_eventfds_of_its_own(guest, index):
    reply, fds = guest.request(FDS, IO_FDS.pack(16, 0, index, 0))
    assert (IO_FDS.unpack(reply), fds) == ((16, 0, index, 0), ())


@pytest.mark.parametrize(
    "payload",
    [
        b"", bytes(15), IO_FDS.pack(15, 0, 0, 0), IO_FDS.pack(16, 1, 0, 0), IO_FDS.pack(16, 0, 0, 1),
        IO_FDS.pack(16, 0, 1, 0), IO_FDS.pack(16, 0, 9, 0), IO_FDS.pack(16, 0, 0xFFFFFFFF, 0),
    ],
)  # fmt: skip
def test_a_bad_request_for_eventfds_is_refused(guest, payload):
    assert refusal(guest, FDS, payload) == errno.EINVAL


def test_irq_infos_say_counts_and_masking(guest):
    intx = IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED
    replies = [IRQ_INFO.unpack(guest.request(IRQ, IRQ_INFO.pack(16, 0, index, 0))[0]) for index in range(5)]
    assert replies[0] == (16, intx, 0, 1)
    assert [(reply[2], reply[3]) for reply in replies[1:]] == [(1, 0), (2, 0), (3, 0), (4, 0)]


@pytest.mark.parametrize(
    "payload",
    [
        b"", bytes(15), IRQ_INFO.pack(15, 0, 0, 0), IRQ_INFO.pack(0, 0, 0, 0),
        IRQ_INFO.pack(16, 0, 5, 0), IRQ_INFO.pack(16, 0, 0xFFFFFFFF, 0),
    ],
)  # fmt: skip
def test_a_bad_irq_request_is_refused(guest, payload):
    assert refusal(guest, IRQ, payload) == errno.EINVAL


# QEMU 11.1 reads a longer reply as the next message; section 1.6 of the notes on its client.
@pytest.mark.parametrize(
    ("command", "payload", "room"),
    [
        (Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 0, 4096), 48),
        (Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 2, 0, 0), 40),
        (INFO, DEVICE_INFO.pack(16, 0, 0, 0), 32),
        (REGION, REGION_INFO.pack(32, 0, 0, 0, 0, 0), 48),
        (IRQ, IRQ_INFO.pack(16, 0, 0, 0), 32),
        (Command.DEVICE_SET_IRQS, protocol.IRQ_SET.pack(20, 0x21, 0, 0, 0), 36),
        (Command.REGION_READ, protocol.REGION_ACCESS.pack(0, 7, 256), 32 + 256),
        (Command.REGION_WRITE, protocol.REGION_ACCESS.pack(0, 0, 4) + bytes(4), 32 + 4),
        (Command.DEVICE_RESET, b"", 16),
    ],
)
def test_a_reply_fits_the_room_that_qemu_has_for_it(guest, command, payload, room):
    guest.send_raw(protocol.pack_message(1, command, payload))
    reply = guest.receive()
    assert reply.header.flags == 1
    assert reply.header.size <= room
