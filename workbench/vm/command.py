"""The QEMU command line of a VM."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .kit import Qemu

#: No ``quiet``: the console is where one looks when a boot fails. The guest trusts its host: no mitigations.
#: Its timer is there even if a busy host shows it late; its ciphers were tested before: a fifth of a boot.
KERNEL_ARGUMENTS = "console=ttyS0 mitigations=off random.trust_cpu=on no_timer_check cryptomgr.notests"


@dataclass(frozen=True)
class Wiring:
    """What connects QEMU to us: paths and file descriptors that it inherits."""

    console: int
    initrd: str
    trace: str
    agent: int
    qmp: int


# An option and its value belong on one line.
# fmt: off
def qemu_command(qemu: Qemu, accel: str, memory: str, kernel: Path, wiring: Wiring, devices: Sequence[str],
                 trace: Sequence[str] = (), append: str = "", extra: Sequence[str] = ()) -> list[str]:
    """Return the whole command line: q35, shared memory, two serial ports, QMP, the devices."""
    return [
        *qemu.start,
        "-nodefaults", "-no-user-config", "-display", "none", "-name", "pci-workbench",
        "-accel", accel, "-cpu", "host" if accel == "kvm" else "max",
        # Memory that devices can share: without it DMA cannot work.
        "-m", memory, "-object", f"memory-backend-memfd,id=wb-ram,size={memory},share=on",
        "-machine", "q35,memory-backend=wb-ram",
        "-chardev", f"socket,id=wb-console,fd={wiring.console}", "-serial", "chardev:wb-console",
        "-chardev", f"socket,id=wb-agent,fd={wiring.agent}", "-serial", "chardev:wb-agent",
        "-chardev", f"socket,id=wb-qmp,fd={wiring.qmp}", "-qmp", "chardev:wb-qmp",
        "-kernel", str(kernel), "-initrd", wiring.initrd, "-append", f"{KERNEL_ARGUMENTS} {append}".strip(),
        *(["-D", wiring.trace] if trace else []), *(word for each in trace for word in ("-trace", each)),
        *devices, *extra,
    ]
# fmt: on
