"""vmlinux: the guest's kernel as it was before it was packed, which a guest under TCG need not unpack.

A bzImage carries the kernel as a compressed ELF file (Linux: arch/x86/boot, "payload_offset"). To unpack it
takes TCG more than a second and the host a tenth. QEMU enters an ELF kernel where its PVH note says (Xen:
misc/pvh). It is the same code, and at a known address; where anything is missing the bzImage boots as ever.
"""

import ctypes
import struct
from contextlib import suppress
from pathlib import Path

from ..wholefile import whole_file

__all__ = ["unpack", "unpacked"]

#: Offsets in the header of a bzImage, and the version of its protocol that added the payload's.
SETUP_SECTORS, MAGIC, VERSION, PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
WITH_PAYLOAD = 0x208
ZSTD = b"\x28\xb5\x2f\xfd"
#: Bytes of the largest kernel that is believed.
LARGEST = 1 << 28
PT_NOTE, PHYS32_ENTRY = 4, 18


def unpacked(vmlinuz: Path) -> Path:
    """Return the ELF kernel beside ``vmlinuz``, made when it is first asked for, or else ``vmlinuz``."""
    elf = vmlinuz.with_name(vmlinuz.name.replace("vmlinuz", "vmlinux") + ".elf")
    if elf.exists():
        return elf
    try:
        kernel = unpack(vmlinuz.read_bytes())
        if kernel is not None:
            with whole_file(elf) as path:  # others may be starting as well
                path.write_bytes(kernel)
            return elf
    except OSError:  # no space, no permission; a kernel that is not there is for QEMU to tell
        pass
    return vmlinuz


def unpack(image: bytes) -> bytes | None:
    """Return the ELF kernel in a bzImage, or None if there is none that QEMU can enter."""
    with suppress(struct.error, IndexError, ValueError):
        kernel = _decompress(_payload(image))
        if kernel is not None and _has_entry(kernel):
            return kernel
    return None


def _payload(image: bytes) -> bytes:
    (version,) = struct.unpack_from("<H", image, VERSION)
    if image[MAGIC : MAGIC + 4] != b"HdrS" or version < WITH_PAYLOAD:
        return b""
    offset, size = struct.unpack_from("<II", image, PAYLOAD)
    start = ((image[SETUP_SECTORS] or 4) + 1) * 512 + offset
    return image[start : start + size]


def _decompress(payload: bytes) -> bytes | None:
    """Undo zstd, which is Debian's: the size stands in four bytes behind it. None: another, or damaged."""
    if not payload.startswith(ZSTD):
        return None
    (size,) = struct.unpack("<I", payload[-4:])
    try:
        library = ctypes.CDLL("libzstd.so.1")  # apt needs it too, which brought the kernel
    except OSError:
        return None
    if size > LARGEST:
        return None
    place = ctypes.create_string_buffer(size)
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t] * 2
    return place.raw if library.ZSTD_decompress(place, size, payload, len(payload) - 4) == size else None


def _has_entry(elf: bytes) -> bool:
    """Say whether a 64-bit ELF file has Xen's note of a 32-bit entry: QEMU refuses one without."""
    if elf[:5] != b"\x7fELF\x02":
        return False
    (table,) = struct.unpack_from("<Q", elf, 32)
    width, count = struct.unpack_from("<HH", elf, 54)
    for at in range(table, table + width * count, width):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", elf, at)
        if kind == PT_NOTE and _names_entry(elf[offset : offset + size]):
            return True
    return False


def _names_entry(notes: bytes) -> bool:
    at = 0
    while at < len(notes):
        name, size, kind = struct.unpack_from("<III", notes, at)
        if kind == PHYS32_ENTRY and notes[at + 12 : at + 16] == b"Xen\0":
            return True
        at += 12 + (name + 3 & ~3) + (size + 3 & ~3)
    return False
