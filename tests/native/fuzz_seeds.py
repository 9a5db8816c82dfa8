"""What the fuzzers begin with: good conversations and rows of calls, in the bytes that fuzz_*.c read.

``python fuzz_seeds.py DIR`` writes them to ``DIR/conversation`` and ``DIR/calls``. The committed corpora in
``corpus`` grew from these and from what the fuzzers found; nothing else needs this file.
"""

import struct
import sys
from collections.abc import Mapping
from pathlib import Path

MEMFD, UNSEALED, EVENTFD, BLOCKING = 0, 1, 2, 3
BAR0, SHARED, CONFIG = 0, 1, 7
PMCSR, CONTROL, MSIX, MSI, TABLE = 0x64, 0x78, 0x40, 0x90, 8192


def message(command: int, payload: bytes = b"", flags: int = 0, fds: int = 0, kind: int = 0) -> bytes:
    size = bytes([len(payload)]) if len(payload) < 0xF0 else struct.pack("<H", 0xF0 | len(payload) << 8)
    return bytes([0, command, flags, fds | kind << 4]) + size + payload


def version(limit: int = 0xFFFFF) -> bytes:
    return message(1, struct.pack("<I", limit))


def mapped(iova: int, pages: int = 4, offset: int = 0, fds: int = 1, kind: int = MEMFD) -> bytes:
    return message(2, struct.pack("<IIQQQ", 32, 3, offset, iova, pages * 4096), 0, fds, kind)


def unmap(iova: int, pages: int = 4, flags: int = 0) -> bytes:
    return message(3, struct.pack("<IIQQ", 24, flags, iova, pages * 4096))


def irqs(
    flags: int, index: int, count: int = 1, fds: int = 0, kind: int = EVENTFD, data: bytes = b""
) -> bytes:
    return message(8, struct.pack("<IIIII", 20, flags, index, 0, count) + data, 0, fds, kind)


def read(region: int, offset: int, count: int) -> bytes:
    return message(9, struct.pack("<QII", offset, region, count))


def write(region: int, offset: int, data: bytes, flags: int = 0) -> bytes:
    return message(10, struct.pack("<QII", offset, region, len(data)) + data, flags)


def writes(*entries: tuple[int, int, bytes]) -> bytes:
    packed = [struct.pack("<QII8s", offset, region, len(data), data) for region, offset, data in entries]
    return message(15, struct.pack("<Q", len(packed)) + b"".join(packed))


def number(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    if value % 4096 == 0 and value // 4096 < 64:
        return bytes([0x80 | value // 4096])
    return b"\xe3" + struct.pack("<Q", value)


def call(kind: int, what: int, *numbers: int, tail: bytes = b"") -> bytes:
    return bytes([kind, what]) + b"".join(map(number, numbers)) + tail


DESCRIBE, REGION, IRQ, DMA, DIRTY, STATE, WATCH, OTHER, END = 0, 1, 3, 4, 6, 7, 8, 9, b"\x0a"


def inside(calls: bytes) -> bytes:
    return message(64, calls)


def ask(mode: int, kind: int, iova: int, to: int, size: int) -> bytes:
    return bytes([12, mode, kind]) + number(iova) + number(to) + number(size)


def spans(*listed: tuple[int, int]) -> bytes:
    return bytes([len(listed)]) + b"".join(number(iova) + number(size) for iova, size in listed)


def conversations() -> Mapping[str, bytes]:
    map_here = call(DMA, 4, 0x10000, 100)
    return {
        "plain": version() + read(BAR0, 0x20, 4) + write(BAR0, 0x20, b"abcd") + read(CONFIG, 0, 64),
        "posted": version()
        + write(BAR0, 0x20, b"abcd", 0x10)
        + writes((0, 0x20, b"abc"), (0, 64, b"abcdefgh")),
        "long": version() + read(BAR0, 0, 8192) + write(SHARED, 4090, bytes(120)) + read(6, 0, 3000),
        "rules": version()
        + b"".join(write(BAR0, 64 + at, b"\xa5") + read(BAR0, 64 + at, 1) for at in range(7, 22)),
        "dma": version() + mapped(0x10000) + inside(map_here + call(DMA, 6, 0x10FF0, 4096)) + unmap(0x10000),
        "dma-unsealed": version()
        + mapped(0, kind=UNSEALED)
        + inside(call(DMA, 8, 0, 4096, 5000))
        + unmap(0, 0, 2),
        "truncated": version()
        + mapped(0, kind=UNSEALED)
        + bytes([11, UNSEALED, 4])
        + inside(call(DMA, 4, 0, 8192)),
        "scatter": version()
        + mapped(0)
        + mapped(0x4000, 2, kind=UNSEALED)
        + inside(
            call(DMA, 11, 0, 1, tail=spans((0x3F00, 512), (0, 8))) + call(DMA, 10, 0, 1, tail=spans((64, 64)))
        ),
        "many-files": version() + b"".join(mapped(kind * 0x10000, kind=kind) for kind in range(16)),
        "too-many-fds": version() + message(2, bytes(32), 0, 15, 1) + message(8, bytes(20), 0, 15, 0),
        "intx": version()
        + irqs(0x24, 0, 1, 1)
        + irqs(0x14, 0, 1, 1)
        + inside(call(IRQ, 2 | 16, 0, 0, 0, 0))
        + bytes([11, EVENTFD, 2])
        + irqs(0x11, 0)
        + irqs(0x21, 0, 0),
        "blocking": version() + irqs(0x14, 0, 1, 1, BLOCKING) + bytes([11, BLOCKING, 2]) + irqs(0x11, 0),
        "msix": version()
        + irqs(0x24, 2, 8, 8)
        + write(CONFIG, MSIX + 2, b"\0\x80")
        + inside(call(IRQ, 0, 2, 3, 0, 0))
        + write(BAR0, TABLE + 12, b"\1\0\0\0")
        + irqs(0x22, 2, 2, 0, 0, b"\1\1")
        + irqs(0x9, 2, 2)
        + irqs(0x11, 2, 2),
        "msi": version()
        + irqs(0x24, 1, 4, 4)
        + write(CONFIG, MSI + 2, b"\x01\0")
        + inside(call(IRQ, 8, 1, 3, 0, 0)),
        "power": version()
        + write(CONFIG, PMCSR, b"\3")
        + read(BAR0, 0, 4)
        + write(CONFIG, PMCSR, b"\0")
        + write(CONFIG, CONTROL, b"\0\x80")
        + message(13),
        "doorbells": version()
        + message(6, struct.pack("<II", 0, 4))
        + bytes([15, 0, 1, 0])
        + bytes([15, 1, 1, 0]),
        "shared": version()
        + message(5, struct.pack("<I", 1))
        + bytes([14])
        + call(WATCH, 0, 1, 0, 8192, tail=b"\x08")
        + END
        + bytes([15, 0, 77])
        + number(4096)
        + bytes([14])
        + call(WATCH, 0)
        + END,
        "far-read": version()
        + mapped(0x20000, fds=0)
        + ask(0, 0, 0x20010, 0, 5000)
        + ask(1, 0, 0x20010, 0, 50),
        "far-write": version()
        + mapped(0x20000, fds=0)
        + ask(0, 1, 0x20010, 0, 5000)
        + ask(4, 1, 0x20010, 0, 50),
        "far-copy": version()
        + mapped(0x20000, fds=0)
        + mapped(0)
        + ask(0, 2, 0x20000, 64, 9000)
        + ask(2, 0, 0x20000, 0, 8)
        + ask(3, 3, 0x20000, 0, 8),
        "unanswered": version()
        + mapped(0x20000, fds=0)
        + ask(5, 0, 0x20010, 0, 8)
        + unmap(0x20000)
        + message(11, struct.pack("<QQQ", 0x20010, 8, 1), 0x41),
        "migrate": version()
        + mapped(0)
        + inside(call(DIRTY, 12, 0, tail=b"\0\1\0") + call(DMA, 6, 0, 5000))
        + message(16, b"\x0e\0\0\0")
        + mapped(0x10000)
        + inside(call(DIRTY, 12, 0, tail=b"\2" + number(0x4000)))
        + message(16, b"\x06\0\0\0"),
        "gate": version() + bytes([13]) + write(BAR0, 0x20, b"abcd")[1:] + b"\1" + read(BAR0, 0x20, 4),
        "hooked": version() + write(BAR0, 0, bytes([STATE, 4, 2, IRQ, 0, 0, 0, 0])) + read(BAR0, 0, 8),
        "pieces": version()
        + bytes([9, 7, 0])
        + struct.pack("<HHI", 5, 9, 32)[:7]
        + bytes([9, 25, 0])
        + (struct.pack("<HHI", 5, 9, 32) + bytes(8) + struct.pack("<QII", 0, 7, 4))[7:],
        "bad-size": version() + bytes([9, 16, 0]) + struct.pack("<HHIII", 5, 9, 3, 0, 0),
        "closing": version() + message(17, b"data"),
        "no-version": read(BAR0, 0, 4),
    }


def rows_of_calls() -> Mapping[str, bytes]:
    device = (
        call(DESCRIBE, 0, 0, 16384, 3)
        + call(DESCRIBE, 0, 1, 65536, 3)
        + call(DESCRIBE, 0, 7, 255, 3)
        + call(DESCRIBE, 1, 1, 0, 32768)
        + call(DESCRIBE, 2, 0, 1)
        + call(DESCRIBE, 2, 1, 32)
        + call(DESCRIBE, 2, 2, 20)
        + call(DESCRIBE, 3, 0x50, 0x40, 0, 0, 8192, 12288)
        + call(DESCRIBE, 4, 0x6C, 0x78)
    )
    rules = b"".join(call(REGION, 0, 0, 0, 256, plane, tail=b"\xff") for plane in range(5, 22))
    enable = call(REGION, 2, 7, 4, 2, 0, 4, 0xFFFF) + call(REGION, 2, 7, 0x42, 2, 0, 0x8000, 0xFFFF)
    near = call(DMA, 0, 0x10000, 0, 0x4000, 0, 3, tail=b"\0") + call(
        DMA, 0, 0x14000, 0, 0x4000, 0, 3, tail=b"\1"
    )
    irq = call(IRQ, 0x14, 2, 0, 0x24, 1, tail=bytes([EVENTFD]) + number(20)) + call(IRQ, 0, 2, 0, 0, 0)
    hooks = call(REGION, 3, 0, 0, 64, 0, 3, tail=b"\1") + call(REGION, 5, 0, 0, 8, 0, tail=b"\1\x07\x04")
    return {
        "regions": device + rules + hooks + call(REGION, 4, 0, 3, 100, 0) + call(STATE, 4, 1) + END,
        "native": device
        + rules
        + call(OTHER, 5, tail=b"\x13" + number(0) + number(0) + number(4))
        + call(REGION, 5, 0, 0, 4, 0, tail=b"\1\1")
        + call(OTHER, 5, tail=b"\x2c" + number(0) + number(4) + number(8))
        + call(REGION, 4, 0, 0, 32, 0),
        "dma": device
        + enable
        + near
        + call(DMA, 6, 0x13FF0, 4000)
        + call(DMA, 8, 0x10000, 4096, 0x14000)
        + call(DMA, 14, 0x10000)
        + call(DMA, 12, 0x14000, 40)
        + call(DMA, 3, 0x10000, 1, 0x4000)
        + END,
        "dirty": device
        + enable
        + near
        + call(DIRTY, 12, 0, tail=b"\0\1\0")
        + call(DMA, 6, 0x10000, 5000)
        + call(DIRTY, 12, 0x10000, tail=b"\2" + number(0x8000))
        + call(DIRTY, 0, 0, tail=b"\1"),
        "irqs": device
        + enable
        + irq
        + call(STATE, 2 | 8 | 64)
        + call(IRQ, 2 | 16, 0, 3, 0, 0)
        + call(STATE, 0)
        + call(STATE, 1, tail=b"\xff")
        + call(STATE, 2 | 8)
        + call(REGION, 5, 0, 8204, 4, 0, tail=b"\1\1"),
        "power": device
        + enable
        + call(REGION, 5, 7, 0x6C, 2, 0, tail=b"\3\3")
        + irq
        + call(REGION, 5, 7, 0x6C, 2, 0, tail=b"\0\0")
        + call(REGION, 5, 7, 0x78, 2, 0, tail=b"\x80" + number(0x8000)),
        "watch": device
        + call(WATCH, 0, 1, 0, 32768, tail=b"\4")
        + call(REGION, 5, 1, 100, 4000, 0, tail=b"\7\7")
        + call(WATCH, 0)
        + call(WATCH, 3)
        + call(REGION, 6, 1, 0, 0, 0)
        + call(OTHER, 0, 0, 0, 4, 1),
    }


def main(target: Path) -> None:
    for kind, inputs in (("conversation", conversations()), ("calls", rows_of_calls())):
        (target / kind).mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (target / kind / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
