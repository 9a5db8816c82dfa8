"""Many devices in one process: each is served on its own, and nothing of one is seen on another."""

import contextlib
import threading

import workbench as wb

COUNT = 32


class Counter(wb.Device):
    """Counts what it is told, in Python, and interrupts."""

    id = wb.PciId(vendor=0x1234, device=0x0B32)
    irq = wb.Interrupts(intx=True)

    class bar0(wb.Bar, size=4096):
        ADD = wb.Register(0x00)
        SUM = wb.Register(0x04, mode="ro")

    @bar0.ADD.on_write
    def add(self, access: wb.Access) -> None:
        self.bar0.SUM.poke(self.bar0.SUM.value + access.value)
        self.irq.trigger()


def drive(guest: wb.Client, number: int, sums: dict[int, int]) -> None:
    guest.arm()
    for _ in range(20):
        guest.bar0.write32(0, number)
        assert guest.wait_irq() == 1
        guest.unmask_irq()
    sums[number] = guest.bar0.read32(4)


def test_thirty_two_devices_are_served_at_once() -> None:
    sums: dict[int, int] = {}
    with contextlib.ExitStack() as stack:
        devices = [stack.enter_context(Counter(f"counter{n}", strict=True)) for n in range(COUNT)]
        guests = [stack.enter_context(device.connect()) for device in devices]
        drivers = [
            threading.Thread(target=drive, args=(guest, number, sums)) for number, guest in enumerate(guests)
        ]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join(30)
        assert [device.server.state for device in devices if device.server] == ["attached"] * COUNT
        assert [len(device.log.filter(register="ADD", kind="write")) for device in devices] == [20] * COUNT
    assert sums == {number: 20 * number for number in range(COUNT)}
