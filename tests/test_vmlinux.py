import ctypes
import struct
from pathlib import Path

import pytest

from workbench.vm.vmlinux import unpack, unpacked


def note(owner: bytes, kind: int) -> bytes:
    """A note of three bytes, which are padded, as its owner's name is."""
    return struct.pack("<III", len(owner), 3, kind) + owner + bytes(-len(owner) % 4) + b"abc\0"


def elf(*notes: bytes) -> bytes:
    """A 64-bit ELF file with two program headers: something to load, and notes."""
    text = b"".join(notes)
    head = struct.pack("<16s2HI3QI6H", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    place = 64 + 2 * 56
    load = struct.pack("<2I6Q", 1, 5, 0, 0, 0, 16, 16, 4096)
    return head + load + struct.pack("<2I6Q", 4, 4, place, 0, 0, len(text), len(text), 4) + text


def zstd(data: bytes) -> bytes:
    library = ctypes.CDLL("libzstd.so.1")
    place = ctypes.create_string_buffer(len(data) + 1024)
    library.ZSTD_compress.restype = ctypes.c_size_t
    library.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t] * 2 + [ctypes.c_int]
    size = library.ZSTD_compress(place, len(place), data, len(data), 1)
    return place.raw[:size]


def image(payload: bytes, size: int, version: int = 0x20F) -> bytes:
    """A bzImage by the boot protocol's text: three sectors, and the payload 100 bytes on."""
    setup = bytearray(3 * 512)
    setup[0x1F1] = 2
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    struct.pack_into("<II", setup, 0x248, 100, len(payload) + 4)
    return bytes(setup) + bytes(100) + payload + struct.pack("<I", size) + b"behind it"


KERNEL = elf(note(b"Linux\0", 18), note(b"Xen\0", 6), note(b"Xen\0", 18)) + bytes(5000)
NONE = [
    b"",
    b"\x7fELF",
    b"\x7fELF\x01" + KERNEL[5:],
    KERNEL[:100],
    KERNEL[:200],
    elf(),
    elf(note(b"GNU\0", 18)),
    KERNEL[:54] + b"\0\0" + KERNEL[56:],
]
GOOD = image(zstd(KERNEL), len(KERNEL))


def test_the_kernel_is_unpacked_once_and_kept_beside_the_packed_one(tmp_path: Path):
    packed = tmp_path / "vmlinuz-6.0-test"
    packed.write_bytes(GOOD)
    found = unpacked(packed)
    assert found.read_bytes() == KERNEL
    packed.unlink()
    assert unpacked(packed) == found
    assert list(tmp_path.iterdir()) == [found]


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no kernel" * 1000,
        GOOD[:700],
        GOOD[:-20],
        GOOD.replace(b"HdrS", b"SrdH"),
        image(zstd(KERNEL), len(KERNEL), version=0x207),
        image(zstd(KERNEL), len(KERNEL) - 1),
        image(zstd(KERNEL), len(KERNEL) + 1),
        image(zstd(KERNEL), 0xFFFFFFFF),
        image(KERNEL, len(KERNEL)),
        *(image(zstd(other), len(other)) for other in NONE),
    ],
)
def test_what_holds_no_kernel_that_qemu_can_enter_boots_as_it_is(packed: bytes, tmp_path: Path):
    assert unpack(packed) is None
    path = tmp_path / "vmlinuz"
    path.write_bytes(packed)
    assert unpacked(path) == path
    assert list(tmp_path.iterdir()) == [path]


def test_a_kernel_that_is_not_there_is_left_to_qemu_to_tell(tmp_path: Path):
    assert unpacked(tmp_path / "vmlinuz") == tmp_path / "vmlinuz"
