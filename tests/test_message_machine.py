"""What the machine does to a conversation: signals, full sockets, no descriptors left, streams closed."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from leaks import open_fds, room_for
from sample import TRIGGER_EVENTFD, access, eventfds, irq_payload, memory_file, open_link

import workbench as wb
from workbench import protocol
from workbench.errors import ProtocolError
from workbench.protocol import Command, Header

MIB = 1 << 20


class Big(wb.Device):
    """A BAR whose content does not fit into a socket's buffer."""

    id = wb.PciId(vendor=0x1234, device=0x0B12, class_code=0xFF0000)

    class bar0(wb.Bar, size=MIB):
        FIRST = wb.Register(0x00, reset=0x11111111)
        LAST = wb.Register(MIB - 4, reset=0x22222222)


@pytest.fixture
def interrupt(device: wb.Device) -> Iterator[None]:
    """The signal SIGUSR1 interrupts system calls, as a debugger or a profiler does."""
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    yield
    signal.signal(signal.SIGUSR1, before)


def signal_server(device: wb.Device, times: int = 20) -> None:
    (thread,) = (each for each in threading.enumerate() if each.name == f"workbench {device.name}")
    assert thread.ident is not None
    for _ in range(times):
        signal.pthread_kill(thread.ident, signal.SIGUSR1)


def test_signals_while_the_server_waits_for_a_message_disturb_nothing(device, interrupt):
    with open_link(device) as link:
        for _ in range(20):
            signal_server(device)
            assert (
                link.request(Command.REGION_READ, access(0, 0x10), (), False, "")[0][16:] == b"\xee\xff\xc0\0"
            )


def test_signals_while_it_waits_for_an_eventfd_too_disturb_nothing(device, interrupt):
    with wb.Client(device.serve().path, resample=True) as guest:
        device.irq.assert_()
        for _ in range(20):
            signal_server(device)
            assert guest.wait_irq() == 1
            guest.unmask_irq()
        assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_signals_while_a_full_socket_is_waited_for_lose_no_byte(interrupt):
    with Big() as big, open_link(big) as link:
        link.send_raw(protocol.pack_message(5, Command.REGION_READ, access(0, 0, MIB)))
        select.select([link.fileno()], [], [], 5)
        signal_server(big)
        reply = link.receive()
    assert reply.header == Header(5, Command.REGION_READ, 32 + MIB, 1)
    assert reply.payload[16:] == b"\x11" * 4 + bytes(MIB - 8) + b"\x22" * 4


def test_a_reply_comes_in_one_piece(device):
    """Some clients read header and payload with one recvmsg, and take what comes for all there is."""
    with open_link(device) as link:
        for number in range(200):
            link.send_raw(protocol.pack_message(number, Command.REGION_READ, access(0, 0, 4096)))
            assert select.select([link.fileno()], [], [], 5)[0]
            assert len(os.read(link.fileno(), 65536)) == 16 + 16 + 4096


def test_descriptors_that_the_process_has_no_room_for_end_the_conversation(device):
    """The kernel drops them and says MSG_CTRUNC: which of them came is not known any more."""
    with open_link(device) as link, eventfds(1) as fds, room_for(0):
        link.send_raw(protocol.pack_message(1, Command.DEVICE_SET_IRQS, irq_payload(TRIGGER_EVENTFD)), fds)
        with pytest.raises(ProtocolError, match="gone"):
            link.receive()
    device.server.wait_listening()
    with device.connect() as guest:
        assert device.irq.trigger() == "delivered"
        assert guest.wait_irq() == 1


@pytest.mark.slow
def test_a_process_without_standard_streams_serves_as_any_other():
    """Its sockets, eventfds and memory files are descriptors 0, 1 and 2 then."""
    code = (
        "import os\n"
        "from workbench.devices.gpio_pci_idio_16 import PciIdio16\n"
        "os.closerange(0, 3)\n"
        "with PciIdio16() as card, card.connect() as guest:\n"
        "    guest.bar2.write8(0, 5)\n"
        "    guest.enable()\n"
        "    guest.memory[0:4] = b'RAM!'\n"
        "    assert card.dma.read(0, 4) == b'RAM!'\n"
        "    assert card.irq.trigger() == 'delivered' and guest.wait_irq() == 1\n"
        "    assert [os.stat(fd).st_ino > 0 for fd in range(3)] == [True] * 3\n"
        "    status = card.bar2.OUT0_7.value\n"
        "os._exit(status)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 5


def test_a_descriptor_0_is_a_descriptor(device):
    """A mapping and an eventfd that arrive as descriptor 0 are kept, used and closed as any."""
    with device.connect() as guest, memory_file() as fd:
        guest.enable()
        before, kept = open_fds(), os.dup(0)
        os.close(0)
        try:
            guest.request(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 0x5000, 4096), [fd])
            os.pwrite(fd, b"zero", 0)
            assert os.path.samestat(os.fstat(0), os.fstat(fd))
            assert device.dma.read(0x5000, 4) == b"zero"
            guest.request(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, 0x5000, 4096))
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(0)
        finally:
            os.dup2(kept, 0)
            os.close(kept)
        assert open_fds() == before
