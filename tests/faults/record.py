"""Record what a QEMU says to a device while Linux boots and binds its driver: ``record.py gpio|nvme FILE``.

Needs the VM kit (``workbench fetch``). The file is what ``recording.py`` reads: text, a line a message.
"""

import sys
import threading
from pathlib import Path

from recording import Recording, Said

import workbench as wb
from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.devices.nvme import Nvme
from workbench.protocol import HEADER, MessageFlag

#: By name: the device, its driver, and what a person does with it then.
SESSIONS = {
    "gpio": (PciIdio16, "gpio-pci-idio-16", "gpiodetect || ls /sys/class/gpio /sys/bus/gpio/devices"),
    "nvme": (lambda: Nvme(size=1 << 24), "nvme", "dd if=/dev/nvme0n1 of=/dev/null bs=4k count=8"),
}


def record(device: wb.Device, driver: str, command: str) -> Recording:
    """Boot, bind, use, power off; return what the client said."""
    said: list[Said] = []
    server = device.serve(trace=True)
    add, guard = server.trace.add, threading.Lock()

    def keep(from_server: bool, data: bytes, nfds: int, length: int) -> None:
        add(from_server, data, nfds, length)
        _, _, _, flags, _ = HEADER.unpack_from(data)
        if not from_server and flags & 0xF != MessageFlag.REPLY:  # answers are ours to provoke
            assert len(data) == length, "longer than the trace keeps"
            with guard:
                said.append(Said.of(data, nfds))

    server.trace.add = keep  # type: ignore[method-assign]
    with wb.VM(device, accel="tcg", modules=(driver,)) as vm:
        print(vm.run("dmesg | grep -i -e idio -e nvme; " + command).stdout)
        version = vm.qmp("query-version")["qemu"]
        kernel = vm.run("uname -r").stdout.strip()
        vm.powerdown()
    server.wait_listening()
    words = ".".join(str(version[part]) for part in ("major", "minor", "micro"))
    return Recording(f"QEMU {words}, Linux {kernel}, {driver}", tuple(said))


def main() -> None:
    make, driver, command = SESSIONS[sys.argv[1]]
    with make() as device:
        session = record(device, driver, command)
    session.save(Path(sys.argv[2]))
    size = sum(HEADER.unpack_from(one.data)[2] for one in session.said)
    print(f"{session.about}: {len(session.said)} messages, {size} bytes")


if __name__ == "__main__":
    main()
