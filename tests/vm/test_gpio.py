"""The main job: Debian's own gpio-pci-idio-16 driver on a device written in Python, in a real QEMU."""

import threading

import pytest

import workbench as wb
from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.vm.hotplug import aborts

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

MODULES = ("gpio-pci-idio-16",)
EXPORT = "cd /sys/class/gpio; [ -e IIN0 ] || echo 528 > export"
# Linux 6.12 hands an interrupt to the handlers of all 16 inputs, and its interrupt thread dies of an input
# without one (handle_nested_irq(0)). Nobody then serves the INTx: it stays masked, or is counted until the
# kernel gives up after 100,000. So every input gets a handler.
EDGES = """cd /sys/class/gpio
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    echo $((528+n)) > export && echo both > IIN$n/edge && cat IIN$n/edge || exit
done"""
# One read(2) each: the shell's own read and cat read more than once, and each read counts.
READ = "dd if=/sys/class/gpio/IIN0/value bs=64 count=1 2>/dev/null"
WRITE = "cd /sys/class/gpio; [ -e OUT{n} ] || echo $((512+{n})) > export; echo {value} > OUT{n}/value"


@pytest.fixture
def card():
    with PciIdio16(strict=True) as device:
        yield device


def boot(*devices, qemu=None):
    return wb.VM(*devices, modules=MODULES, accel="tcg", qemu=qemu)


def write(card, vm, n, value):
    """Set an output; QEMU posts the write, so it may come after the command has ended."""
    since = card.log.total
    vm.run(WRITE.format(n=n, value=value), check=True)
    card.log.wait(register="OUT0_7" if n < 8 else "OUT8_15", kind="write", since=since)


def read_inputs(vm, times=12):
    loop = f"{EXPORT}; n=0; while [ $n -lt {times} ]; do {READ}; n=$((n+1)); done"
    return vm.run(loop, check=True).stdout.split()


def test_linux_drives_the_card_and_the_log_shows_it_by_name(card, qemu):
    with boot(card, qemu=qemu) as vm:
        assert "Device [494f:0dc8]\n\tKernel driver in use: pci-idio-16" in vm.run("lspci -nnk").stdout
        assert read_inputs(vm) == list("000111000111")
        for n in range(16):
            write(card, vm, n, 1)
            assert card.bar2.OUT8_15.value << 8 | card.bar2.OUT0_7.value == (1 << n + 1) - 1
        write(card, vm, 9, 0)
        assert (card.bar2.OUT0_7, card.bar2.OUT8_15) == (0xFF, 0xFD)
    reads = card.log.filter(register="IN0_7", kind="read", origin="guest")
    assert [record.value & 1 for record in reads] == [0, 0, 0, 1, 1, 1] * 2
    writes = card.log.filter(register="OUT0_7", kind="write", origin="guest")
    assert [record.value for record in writes] == [(1 << n + 1) - 1 for n in range(8)]
    assert writes[0].register == "bar2.OUT0_7"
    assert "0→1" in str(writes[0])
    names = {record.register for record in card.log.filter(register="config")}
    assert {"config.VENDOR_ID", "config.COMMAND", "config.BAR2"} <= names
    assert card.log.dropped == 0


def test_the_device_survives_a_qemu_that_is_killed_and_a_guest_that_reboots(card):
    with boot(card) as vm:
        write(card, vm, 3, 1)
        vm.kill()
    card.server.wait_listening()
    assert card.bar2.OUT0_7 == 0x08  # the state stays when a client goes
    with boot(card) as vm:
        assert card.bar2.OUT0_7 == 0x00  # QEMU resets a device when it starts
        assert read_inputs(vm) == list("000111000111")
        pid = vm.pid
        vm.reboot()
        assert vm.pid == pid
        assert read_inputs(vm) == list("000111000111")
    card.server.wait_listening()
    kinds = [record.kind for record in card.log.filter(kind=("attach", "detach"))]
    assert kinds == ["attach", "detach", "attach", "detach"]


def test_a_hook_swapped_while_the_guest_reads_answers_every_read_once(card):
    with boot(card) as vm:
        since, got, revisions = card.log.total, [], 0
        card.bar2.IN0_7.on_read(lambda device: 0)  # revision 2
        reader = threading.Thread(target=lambda: got.extend(read_inputs(vm, 300)))
        reader.start()
        while reader.is_alive():
            card.bar2.IN0_7.on_read(lambda device, value=0xFF * (revisions % 2): value)  # 3, 4, ...
            revisions += 1
            reader.join(0.002)
        records = [r for r in card.log.filter(register="IN0_7", kind="read") if r.seq >= since]
    assert revisions > 20
    assert len(got) == 300
    assert [str(record.value & 1) for record in records] == got
    assert len({record.revision for record in records}) > 10
    answers = {
        record.revision: 0xFF * (record.revision >= 3 and record.revision % 2 == 0) for record in records
    }
    assert [record.value for record in records] == [answers[record.revision] for record in records]


def counts(vm):
    """How often Linux counted the card's INTx, and then how often each of the 16 inputs changed."""
    lines = vm.run("awk '/ 0000:01:00.0/ { print $2 }' /proc/interrupts", check=True).stdout.split()
    return int(lines[0]), [int(line) for line in lines[1:]]


def complaints(vm):
    """What the guest's kernel found wrong with its own driver or with the interrupt."""
    return vm.run("dmesg | grep -e BUG: -e Comm: -e 'nobody cared'").stdout


def test_interrupts_reach_the_driver_and_are_acknowledged(card):
    with boot(card) as vm:
        assert vm.run(EDGES, check=True).stdout == "both\n" * 16
        assert card.irq_enabled
        assert counts(vm) == (0, [0] * 16)
        for n in range(3):
            since = card.log.total
            said = card.change_inputs()
            assert said == "delivered" or n, said  # later QEMU's unmask may be on its way yet, and deliver it
            card.log.wait(register="CLEAR", kind="write", since=since, timeout=20)
            assert not card.irq.asserted
            assert complaints(vm) == ""
        interrupts, changes = counts(vm)
        assert changes == [3] * 16
        # QEMU takes the handler's read of IRQ_STATUS for its end and unmasks; the line is up yet, so there is
        # a second eventfd, and a spurious interrupt each time that QEMU sees it only after the CLEAR.
        assert 3 <= interrupts <= 6


def test_a_card_in_a_vm_is_refused_to_a_second_one_and_reset_with_the_machine(card):
    with boot(card) as vm:
        with pytest.raises(wb.StateError, match="PciIdio16 is in use by another VM of this process"):
            boot(card).start()
        assert "BAR 2: Memory at" in vm.run("lspci -v -d 494f:").stdout
        write(card, vm, 3, 1)
        vm.reset()
        assert card.bar2.OUT0_7 == 0
        assert read_inputs(vm) == list("000111000111")
    with boot(card) as vm:  # at once: the server may not have noticed yet that the first is gone
        assert vm.alive


def test_a_paused_card_is_named_when_the_boot_takes_too_long(card):
    card.serve().pause()
    vm = wb.VM(card, accel="tcg", timeout=8)
    with pytest.raises(wb.VmError, match=r"within 8 s\nlikely because PciIdio16 is paused"):
        vm.start()


def test_two_cards_in_one_machine():
    with PciIdio16("left") as left, PciIdio16("right") as right, boot(left, right) as vm:
        vm.run("cd /sys/class/gpio; echo 512 > export; echo 1 > OUT0/value", check=True)
        vm.close()
        for card in (left, right):
            card.server.wait_listening()
        assert sorted([left.bar2.OUT0_7.value, right.bar2.OUT0_7.value]) == [0, 1]


def test_a_card_is_plugged_and_unplugged_while_the_guest_runs(card):
    with PciIdio16("second") as second, boot(card) as vm:
        address = vm.plug(second)
        assert f"{address[5:]} Class [ff00]: Device [494f:0dc8]" in vm.run("lspci -nn").stdout
        assert vm.devices == (card, second)
        with pytest.raises(wb.StateError, match="plugged in already"):
            vm.plug(second)
        vm.unplug(card)
        assert vm.run("lspci -nn -d 494f:0dc8").stdout.count("494f") == 1
        assert card.server.state == "listening"
        with pytest.raises(wb.StateError, match="not plugged into this VM"):
            vm.unplug(card)
        vm.plug(card)
        assert read_inputs(vm, 3) == ["0", "0", "0"]


class Vectors(wb.Device):
    """With MSI-X, which some QEMU do not let go of."""

    id = wb.PciId(vendor=0x1234, device=0x0B1A)
    irq = wb.Interrupts(msix=2)

    class bar0(wb.Bar, size=0x4000):
        CTRL = wb.Register(0x00)


def test_unplugging_what_this_qemu_would_abort_on_is_refused():
    with Vectors() as device, wb.VM(accel="tcg") as vm:
        vm.plug(device)
        if not aborts(vm.qmp("query-version")):
            vm.unplug(device)
            return
        with pytest.raises(wb.StateError, match=r"Vectors cannot be unplugged: QEMU .* aborts"):
            vm.unplug(device)
        assert "[1234:0b1a]" in vm.run("lspci -nn", check=True).stdout
        assert vm.devices == (device,)
