"""The library to preload into a QEMU without vfio-user-pci; ``workbench preload-path`` says where it is.

``LD_PRELOAD=$(workbench preload-path) qemu-system-x86_64 … -device vfio-pci,sysfsdev=SOCKET`` attaches
a served device to any QEMU that has ``vfio-pci``. The C files beside this one are the library.
"""

import sys
from pathlib import Path

from ..errors import StateError

__all__ = ["path"]

LIBRARY = "_preload.so"


def path() -> Path:
    """Return the library's path, for LD_PRELOAD.

    Raises StateError where VFIO is not (other systems than Linux, 32-bit), when it was not built, and when it
    lies where LD_PRELOAD cannot name it: a space or a colon ends a name there (ld.so(8)).
    """
    if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        raise StateError(f"the preloaded library is for 64-bit Linux, this is {sys.platform}")
    found = Path(__file__).resolve().with_name(LIBRARY)
    if not found.is_file():
        raise StateError(
            f"{found} was not built; `pip install .` in a checkout (-e too) builds it, with <linux/vfio.h>"
        )
    if set(str(found)) & set(": \t\n"):
        raise StateError(f"LD_PRELOAD cannot name {found}: install where the path has no space and no colon")
    return found
