"""The QEMU command line of a VM, and whether KVM is worth trying."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .debs import cache_home
from .kit import Qemu

#: No ``quiet``: the console is where one looks when a boot fails. The guest trusts its host: no mitigations.
KERNEL_ARGUMENTS = "console=ttyS0 mitigations=off random.trust_cpu=on"


@dataclass(frozen=True)
class Wiring:
    """What connects QEMU to us: paths and file descriptors that it inherits."""

    console: str
    initrd: str
    trace: str
    agent: int
    qmp: int


# fmt: off: an option and its value belong on one line
# An option and its value belong on one line.
# fmt: off
def memory_args(memory: str) -> list[str]:
    """Return the arguments for guest memory that the device can share: without it DMA cannot work."""
    return [
        "-m", memory, "-object", f"memory-backend-memfd,id=wb-ram,size={memory},share=on",
        "-machine", "memory-backend=wb-ram",
    ]


def device_args(path: str) -> list[str]:
    """Return the arguments for the device served on the socket ``path``; QEMU takes them as JSON only."""
    device = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": path}}
    return ["-device", json.dumps(device)]


def qemu_command(qemu: Qemu, accel: str, memory: str, vmlinuz: Path, wiring: Wiring, devices: Sequence[str],
                 trace: Sequence[str] = (), append: str = "", extra: Sequence[str] = ()) -> list[str]:
    """Return the whole command line: q35, shared memory, two serial ports, QMP, the devices."""
    return [
        *qemu.command,
        "-nodefaults", "-no-user-config", "-display", "none", "-name", "pci-workbench",
        "-accel", accel, "-cpu", "host" if accel == "kvm" else "max",
        *memory_args(memory), "-machine", "q35",
        "-chardev", f"file,id=wb-console,path={wiring.console}", "-serial", "chardev:wb-console",
        "-chardev", f"socket,id=wb-agent,fd={wiring.agent}", "-serial", "chardev:wb-agent",
        "-chardev", f"socket,id=wb-qmp,fd={wiring.qmp}", "-qmp", "chardev:wb-qmp",
        "-kernel", str(vmlinuz), "-initrd", wiring.initrd, "-append", f"{KERNEL_ARGUMENTS} {append}".strip(),
        *(["-D", wiring.trace] if trace else []), *(word for each in trace for word in ("-trace", each)),
        *devices, *extra,
    ]
# fmt: on

# fmt: on


def _mark() -> Path:
    return cache_home() / "kvm-broken"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def kvm_problem() -> str | None:
    """Return why KVM cannot be used, or None if it looks usable. A guest may still find it broken."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "no /dev/kvm: no hardware virtualisation here, or its module is not loaded"
    except OSError as error:
        return f"/dev/kvm cannot be opened ({error.strerror}): add yourself to the group kvm"
    try:
        failed = _mark().read_text().partition("\n")
    except OSError:
        return None
    return f"a guest failed with it earlier: {failed[2].strip()}" if failed[0] == _boot_id() else None


def remember_kvm_failure(why: str) -> None:
    """Note that KVM does not work, until this machine boots anew."""
    try:
        _mark().parent.mkdir(parents=True, exist_ok=True)
        _mark().write_text(f"{_boot_id()}\n{why}\n")
    except OSError:
        pass  # only costs the next start a second try
