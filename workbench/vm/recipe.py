"""Recipe: what a VM is made of, as the person wrote it down, and the QEMU that is started from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import VmError
from . import initramfs, kit
from .command import qemu_command
from .process import Process
from .progress import Telling
from .vmlinux import unpacked

__all__ = ["Ready", "Recipe"]


class Ready(NamedTuple):
    """What a recipe was made into, for one start and its second try."""

    qemu: kit.Qemu
    guest: kit.Guest
    initrd: bytes


@dataclass(frozen=True)
class Recipe:
    """The arguments of `VM` that are not about devices; ``qemu`` and ``kernel`` None: found or fetched."""

    modules: Sequence[str]
    memory: str
    trace: Sequence[str]
    qemu: str | Path | kit.Qemu | None
    kernel: str | Path | None
    extra: Sequence[str]
    append: str
    files: Mapping[str, bytes] | None
    progress: Telling

    def prepare(self) -> Ready:
        """Find or fetch QEMU and the kernel, build the initramfs. Raises VmError, and those of `kit`."""
        qemu = self.qemu if isinstance(self.qemu, kit.Qemu) else None
        if self.qemu is not None and qemu is None:
            qemu = kit.probe((str(self.qemu),))
            if qemu is None:
                raise VmError(f"{self.qemu} does not run or has neither vfio-user-pci nor vfio-pci")
        found, guest = kit.fetch(self.progress)
        if self.kernel is not None:
            guest = kit.Guest(Path(self.kernel), guest.modules, guest.busybox)
        return Ready(qemu or found, guest, initramfs.build(guest, self.modules, self.files))

    def start(self, ready: Ready, accel: str, devices: Sequence[str]) -> Process:
        """Start QEMU with the arguments ``devices``. Raises OSError when it cannot start."""
        qemu, guest, initrd = ready
        own = self.kernel is not None or accel == "kvm"  # which unpacks it in no time
        kernel = guest.vmlinuz if own else unpacked(guest.vmlinuz)
        self.progress(f"starting QEMU {qemu.version} ({accel})", None)
        command = partial(
            qemu_command, qemu, accel, self.memory, kernel,
            devices=devices, trace=self.trace, append=self.append, extra=self.extra,
        )  # fmt: skip
        return Process(command, initrd)
