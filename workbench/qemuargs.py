"""The arguments that plug a device into a QEMU: told by the device, and shown in its views."""

import json
from typing import Any

__all__ = ["qemu_arguments"]


def qemu_arguments(
    path: str, memory: str | None = "256M", patience: float | None = None, preload: bool = False
) -> list[str]:
    """Return the arguments for the socket at ``path``; the others are those of ``Device.qemu_args()``."""
    plug: dict[str, Any] = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": path}}
    milliseconds = None if patience is None else _milliseconds(patience)
    if preload:
        plug = {"driver": "vfio-pci", "sysfsdev": path}
    elif milliseconds is not None:
        plug["x-msg-timeout"] = milliseconds
    size = str(memory or "")
    shared = f"memory-backend-memfd,id=ram,size={size},share=on"
    backed = ["-m", size, "-object", shared, "-machine", "q35,memory-backend=ram"] if size else []
    return [*backed, "-device", json.dumps(plug)]


def _milliseconds(patience: float) -> int:
    if not 0 < float(patience) < 1e6:
        raise ValueError(f"patience is seconds above 0, not {patience!r}")
    return max(1, int(float(patience) * 1000))
