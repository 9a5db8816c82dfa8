"""Linux's own 8250_pci on a 16550A written in Python: text both ways, FIFOs, interrupts, a shell."""

import hashlib
import random
import re
from collections.abc import Iterator

import pytest

import workbench as wb
from workbench.devices.uart_16550 import Uart16550
from workbench.vm.kit import Qemu

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

RAW = "stty -F /dev/ttyS2 raw -echo"
SIZE = 4096


@pytest.fixture(scope="module")
def uart(qemu: Qemu | None) -> Iterator[Uart16550]:
    with Uart16550(strict=True) as device:
        yield device


@pytest.fixture(scope="module")
def vm(uart: Uart16550, qemu: Qemu | None) -> Iterator[wb.VM]:
    with wb.VM(uart, accel="tcg", qemu=qemu) as vm:
        # Held open: Linux forgets the count of interrupts when the last user closes the port.
        vm.run(
            "sleep 10000 < /dev/ttyS2 & until grep -q ttyS2 /proc/interrupts; do sleep 0.1; done", check=True
        )
        yield vm


def counts(vm: wb.VM) -> tuple[int, int, int]:
    """Return what the driver counts for the port: bytes sent, bytes received, interrupts."""
    line = next(
        line for line in vm.run("cat /proc/tty/driver/serial").stdout.splitlines() if line[:2] == "2:"
    )
    found = dict(word.split(":") for word in line.split()[1:] if ":" in word)
    interrupts = vm.run("awk '/ttyS2/ { print $2 }' /proc/interrupts").stdout
    return int(found["tx"]), int(found["rx"]), int(interrupts)


def data(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


def test_linux_finds_a_16550a_with_its_interrupt(uart, vm):
    assert "Device [1b36:0002]\n\tKernel driver in use: serial" in vm.run("lspci -nnk").stdout
    irq = vm.run("cat /sys/bus/pci/devices/0000:01:00.0/irq").stdout.strip()
    port = re.search(r"I/O ports at (\w+)", vm.run("lspci -v -d 1b36:0002").stdout)
    told = vm.run("cat /proc/tty/driver/serial").stdout
    assert port is not None
    assert f"2: uart:16550A port:{int(port[1], 16):08X} irq:{irq} " in told
    assert len(uart.log.filter(flagged=True)) == 0


def test_what_the_guest_writes_arrives_whole_by_fifo_loads(uart, vm):
    vm.run(f"{RAW}; awk 'BEGIN {{ for (n = 0; n < 1000; n++) print n }}' > /tmp/sent", check=True)
    before, since = counts(vm), uart.log.total
    sent = vm.run("cat /tmp/sent > /dev/ttyS2; md5sum < /tmp/sent; wc -c < /tmp/sent", check=True, timeout=60)
    digest, size = sent.stdout.split()[0], int(sent.stdout.split()[-1])
    got = uart.tx.read(size, 60)
    after = counts(vm)
    assert hashlib.md5(got).hexdigest() == digest
    assert len(uart.tx) == 0
    assert after[0] - before[0] == size
    assert after[2] > before[2]
    asked = [record for record in uart.log.filter(register="IIR", kind="read") if record.seq >= since]
    assert len(asked) < size / 8  # a FIFO's load for each question, not a byte


def test_what_is_written_arrives_whole_in_the_guest(uart, vm):
    vm.run(RAW, check=True)
    sent, before = data(2), counts(vm)
    uart.rx.write(sent)
    got = vm.run(f"head -c {SIZE} /dev/ttyS2 | md5sum", check=True, timeout=60).stdout.split()[0]
    after = counts(vm)
    assert got == hashlib.md5(sent).hexdigest()
    assert after[1] - before[1] == SIZE
    assert after[2] > before[2]


def test_both_ways_at_once(uart, vm):
    vm.run(RAW, check=True)
    sent = data(3)
    uart.rx.write(sent)
    vm.run(f"head -c {SIZE} < /dev/ttyS2 > /dev/ttyS2", check=True, timeout=60)
    assert uart.tx.read(SIZE, 60) == sent


def test_a_command_that_opens_the_port_does_not_hang_it_up_when_it_ends(vm):
    assert vm.run("cut -d' ' -f7 /proc/self/stat < /dev/ttyS2").stdout == "0\n"  # no controlling terminal
    vm.run("sleep 0 < /dev/ttyS2", check=True)
    assert "DTR" in vm.run("grep ^2: /proc/tty/driver/serial").stdout  # held open all the time


def test_the_speed_that_linux_sets_is_the_one_the_device_shows(uart, vm):
    for baud in (1200, 57600):
        vm.run(f"stty -F /dev/ttyS2 {baud}", check=True)
        assert uart.baud == baud


def test_a_shell_on_the_port_answers_and_a_hook_is_swapped_under_it(uart, vm):
    vm.run("stty -F /dev/ttyS2 sane -echo -opost; (sh < /dev/ttyS2 2>&1 | cat > /dev/ttyS2) 2>/dev/null &")
    print("echo $((6 * 7)) `uname`", file=uart.rx)
    assert uart.tx.readline(20) == "42 Linux\n"

    def shout(device: Uart16550, access: wb.Access) -> None:
        access.value = ord(chr(access.value).upper())
        device.send(access)

    with uart.override(uart.bar0.THR, write=shout):
        uart.rx.write("echo quietly\n")
        assert uart.tx.readline(20) == "QUIETLY\n"
    uart.rx.write("echo quietly; exit\n")
    assert uart.tx.readline(20) == "quietly\n"
