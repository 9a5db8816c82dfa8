"""The 16550A as a driver meets it: banks, FIFOs, loopback, and which interrupt comes when."""

from collections.abc import Iterator

import pytest

import workbench as wb
from workbench.client.region import RegionView
from workbench.devices.uart_16550 import Uart16550

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = range(3, 8)
DATA, SENT, LINE, MODEM = 1, 2, 4, 8  # IER
DTR, RTS, OUT1, OUT2, LOOP = 1, 2, 4, 8, 16  # MCR
DLAB = 0x80


@pytest.fixture
def uart() -> Iterator[Uart16550]:
    with Uart16550(strict=True) as device:
        yield device


@pytest.fixture
def port(uart: Uart16550) -> Iterator[RegionView]:
    with uart.connect() as guest:
        yield guest.bar0


@pytest.fixture
def guest(uart: Uart16550) -> Iterator[wb.Client]:
    with uart.connect() as guest:
        guest.enable()
        yield guest


def drain(port) -> bytes:
    """Read while data are ready, as a driver does."""
    data = bytearray()
    while port.read8(LSR) & 1:
        data.append(port.read8(RBR))
    return bytes(data)


def test_it_is_a_single_port_16550_that_linux_takes_by_its_class(uart, guest):
    assert guest.config.read32(0x08) >> 8 == 0x070002
    assert guest.regions[0].size == 8
    assert guest.config.read32(0x10) & 1  # an I/O BAR
    assert guest.config.read8(0x3D) == 1


def test_registers_after_a_reset(port):
    assert [port.read8(n) for n in range(8)] == [0, 0, 1, 0, 0, 0x60, 0xB0, 0]


def test_what_linux_does_to_find_out_the_type(uart, port):
    port.write8(IER, 0x0F)
    assert port.read8(IER) == 0x0F
    port.write8(IER, 0)
    assert port.read8(IER) == 0
    port.write8(MCR, LOOP | OUT2 | RTS)
    assert port.read8(MSR) & 0xF0 == 0x90  # DCD and CTS
    port.write8(MCR, 0)
    port.write8(FCR, 1)
    assert port.read8(IIR) >> 6 == 3  # a 16550A
    port.write8(SCR, 0x5A)
    assert port.read8(SCR) == 0x5A
    assert len(uart.log.filter(flagged=True)) == 0


def test_the_divisor_lies_over_data_and_interrupt_enable(uart, port):
    port.write8(IER, DATA | SENT)
    port.write8(LCR, DLAB | 3)
    assert uart.baud == 9600
    port.write8(DLL, 0x45)
    port.write8(DLM, 0xA3)
    assert port.read16(DLL) == 0xA345
    assert uart.baud == 115200 // 0xA345
    port.write8(LCR, 3)
    assert port.read8(IER) == DATA | SENT
    assert port.read8(RBR) == 0
    port.write8(LCR, DLAB)
    assert port.read16(DLL) == 0xA345
    assert uart.tx.read() == b""


def test_a_divisor_of_zero_is_no_division_by_it(uart, port):
    port.write8(LCR, DLAB)
    port.write16(DLL, 0)
    assert uart.baud == 115200


def test_interrupts_go_on_while_the_divisor_covers_their_enable(uart, guest):
    guest.bar0.write8(MCR, RTS)
    guest.bar0.write8(IER, DATA)
    guest.bar0.write8(LCR, DLAB)
    uart.rx.write("x")
    assert guest.wait_irq() == 1
    assert guest.bar0.read8(IIR) == 4


def test_bits_of_ier_that_no_interrupt_has_stay_off(port):
    port.write8(IER, 0xF0)
    assert port.read8(IER) == 0


def test_what_the_guest_sends_is_read_as_text_or_bytes(uart, port):
    for byte in b"hello\nrest":
        assert port.read8(LSR) & 0x60 == 0x60
        port.write8(THR, byte)
    assert uart.tx.readline() == "hello\n"
    assert uart.tx.read() == b"rest"


def test_a_guest_that_floods_costs_bounded_memory(uart, port):
    uart.tx.limit = 8
    for byte in range(20):
        port.write8(THR, byte)
    assert uart.tx.read() == bytes(range(12, 20))
    assert uart.tx.lost == 12


def test_what_is_written_arrives_in_order_beyond_the_fifo(uart, port):
    port.write8(FCR, 1)
    port.write8(MCR, DTR | RTS)
    sent = bytes(range(100))
    uart.rx.write(sent)
    assert len(uart.fifo) == 16
    assert drain(port) == sent
    assert port.read8(RBR) == 0  # nothing there: no byte twice


@pytest.mark.parametrize(("fcr", "room"), [(0, 1), (1, 16)])
def test_the_other_end_waits_while_rts_is_off_or_the_fifo_is_full(uart, port, fcr, room):
    port.write8(FCR, fcr)
    uart.rx.write(b"x" * 20)
    assert len(uart.fifo) == 0
    port.write8(MCR, RTS)
    assert len(uart.fifo) == room
    assert len(uart.rx) == 20 - room


def test_clearing_the_fifo_drops_what_is_in_it(uart, port):
    port.write8(FCR, 1)
    port.write8(MCR, RTS)
    uart.rx.write("a" * 16)
    port.write8(MCR, 0)
    uart.rx.write("b")
    port.write8(FCR, 3)
    assert port.read8(LSR) & 1 == 0
    port.write8(MCR, RTS)
    assert drain(port) == b"b"


def test_switching_the_fifos_off_clears_them(uart, port):
    port.write8(FCR, 1)
    port.write8(MCR, LOOP)
    port.write8(THR, 1)
    port.write8(FCR, 0)
    assert port.read8(LSR) & 1 == 0
    assert port.read8(IIR) == 1


def test_loopback_goes_through_the_fifo_and_not_out(uart, port):
    port.write8(FCR, 1)
    port.write8(MCR, LOOP | RTS)
    uart.rx.write("from outside")
    for byte in b"inside":
        port.write8(THR, byte)
    assert drain(port) == b"inside"
    assert uart.tx.read() == b""
    port.write8(MCR, RTS)
    assert drain(port) == b"from outside"


@pytest.mark.parametrize(("outputs", "inputs"), [(DTR, 0x20), (RTS, 0x10), (OUT1, 0x40), (OUT2, 0x80)])
def test_each_modem_output_comes_back_as_one_input(port, outputs, inputs):
    port.write8(MCR, LOOP | outputs)
    assert port.read8(MSR) & 0xF0 == inputs


def test_changes_of_the_modem_lines_are_told_once(port):
    port.write8(MCR, LOOP)
    assert port.read8(MSR) == 0x0B  # CTS, DSR and DCD fell
    assert port.read8(MSR) == 0
    port.write8(MCR, LOOP | OUT1)
    assert port.read8(MSR) == 0x40  # RI rose: not told
    port.write8(MCR, LOOP)
    assert port.read8(MSR) == 0x04  # it fell


def test_an_overrun_keeps_the_fifo_and_is_told_once(uart, guest):
    port = guest.bar0
    port.write8(FCR, 1)
    port.write8(MCR, LOOP)
    port.write8(IER, LINE)
    for byte in range(17):
        port.write8(THR, byte)
    assert guest.wait_irq() == 1
    assert port.read8(IIR) == 0xC6
    assert port.read8(LSR) == 0x63
    assert port.read8(LSR) == 0x61
    assert port.read8(IIR) == 0xC1
    assert not uart.irq.asserted
    assert drain(port) == bytes(range(16))


@pytest.mark.parametrize(("trigger", "level"), [(0, 1), (1, 4), (2, 8), (3, 14)])
def test_the_trigger_level_tells_data_from_time_out(uart, guest, trigger, level):
    port = guest.bar0
    port.write8(FCR, trigger << 6 | 1)
    port.write8(MCR, RTS)
    port.write8(IER, DATA)
    uart.rx.write(b"x" * (level - 1))
    assert port.read8(IIR) == (0xCC if level > 1 else 0xC1)
    uart.rx.write(b"x")
    assert port.read8(IIR) == 0xC4
    assert guest.wait_irq() == 1
    drain(port)
    assert port.read8(IIR) == 0xC1
    assert not uart.irq.asserted


def test_an_idle_transmitter_interrupts_whenever_it_is_enabled(uart, guest):
    port = guest.bar0
    for _ in range(2):
        port.write8(IER, SENT)
        assert uart.irq.asserted
        assert port.read8(IIR) == 2
        assert port.read8(IIR) == 1  # reading it was the acknowledge
        assert not uart.irq.asserted
        port.write8(IER, 0)
    port.write8(IER, SENT)
    port.read8(IIR)
    port.write8(THR, 1)
    assert port.read8(IIR) == 2


def test_a_modem_interrupt_goes_when_its_status_is_read(uart, guest):
    guest.bar0.write8(IER, MODEM)
    guest.bar0.write8(MCR, LOOP)
    assert guest.wait_irq() == 1
    assert guest.bar0.read8(IIR) == 0
    guest.bar0.read8(MSR)
    assert guest.bar0.read8(IIR) == 1
    assert not uart.irq.asserted


def test_the_most_urgent_interrupt_comes_first(uart, guest):
    port = guest.bar0
    port.write8(FCR, 1)
    port.write8(MCR, LOOP)
    for byte in range(17):
        port.write8(THR, byte)
    port.write8(IER, DATA | SENT | LINE | MODEM)
    causes = [port.read8(IIR) & 0xF]
    port.read8(LSR)
    causes.append(port.read8(IIR) & 0xF)
    drain(port)
    causes.append(port.read8(IIR) & 0xF)  # which is the acknowledge of this one
    causes.append(port.read8(IIR) & 0xF)
    port.read8(MSR)
    assert causes == [6, 4, 2, 0]
    assert port.read8(IIR) == 0xC1


def test_the_line_stays_up_until_the_last_byte_is_read(uart, guest):
    guest.bar0.write8(FCR, 1)
    guest.bar0.write8(MCR, RTS)
    guest.bar0.write8(IER, DATA)
    uart.rx.write("ab")
    guest.bar0.read8(RBR)
    assert uart.irq.asserted
    guest.bar0.read8(RBR)
    assert not uart.irq.asserted


def test_a_reset_empties_the_chip_and_leaves_what_waits_outside(uart, guest):
    guest.bar0.write8(FCR, 1)
    guest.bar0.write8(MCR, RTS)
    guest.bar0.write8(IER, DATA)
    uart.rx.write(b"x" * 20)
    guest.reset()
    assert [guest.bar0.read8(n) for n in range(8)] == [0, 0, 1, 0, 0, 0x60, 0xB0, 0]
    assert not uart.irq.asserted
    assert len(uart.rx) == 4


def in_the_middle(uart, port):
    """Bring the chip into a state of which registers show a part only."""
    port.write8(FCR, 1)
    port.write8(MCR, RTS)
    port.write8(IER, DATA)
    uart.rx.write("abc")
    port.write8(LCR, DLAB)
    port.write16(DLL, 0x0203)


def check_the_middle(uart, port):
    assert port.read16(DLL) == 0x0203
    port.write8(LCR, 0)
    assert port.read8(IER) == DATA
    assert port.read8(IIR) == 0xC4
    assert uart.irq.asserted
    assert drain(port) == b"abc"


def test_a_snapshot_has_what_no_register_shows(uart, port, tmp_path):
    in_the_middle(uart, port)
    uart.snapshot().save(tmp_path / "uart")
    uart.reset()
    uart.restore(wb.Snapshot.load(tmp_path / "uart"))
    check_the_middle(uart, port)


def test_a_newer_device_goes_on_with_the_same_chip(uart, port):
    in_the_middle(uart, port)
    with Uart16550(strict=True) as newer:
        newer.serve()
        check_the_middle(newer, port)


def test_looking_takes_nothing(uart, port):
    port.write8(MCR, RTS)
    uart.rx.write("x")
    repr(uart), repr(uart.bar0), uart._repr_html_()
    assert uart.bar0.LSR.DATA == 1
    assert drain(port) == b"x"


def test_a_read_of_all_registers_at_once_is_each_of_them_once(uart, port):
    port.write8(MCR, RTS)
    uart.rx.write("AB")
    assert port.read64(0) & 0xFF == ord("A")
    assert drain(port) == b"B"
