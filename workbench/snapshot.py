"""Snapshot: the state of a device as a value, in memory or in a file.

It has the bytes of every region that are not all 0 (a page that was never touched costs nothing), what is
up and pending of interrupts, and what the device's own ``on_snapshot()`` added. It knows the layout it was
taken from and fits no other. A file is a header, a JSON manifest and the pages, compressed; nothing in
it is ever executed, and what it claims is checked before memory is given to it.
"""

import json
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO

from .errors import SnapshotError
from .layout import Layout
from .wholefile import whole_file

__all__ = ["LARGEST", "PAGE", "PLANES", "Snapshot", "UserState"]

PAGE = 4096
PLANES = ("value", "latch", "spent")  #: the engine's planes that hold state
LARGEST = 1 << 30  #: bytes of all pages of a snapshot, and of its compressed form
LARGEST_MANIFEST = 16 << 20
MOST_VECTORS = 2048
MAGIC, VERSION = b"\x89WBSTATE", 1
#: magic, version, bytes of the manifest, bytes of the pages compressed and not, CRC-32 of what follows
HEADER = struct.Struct("<8sIIQQI")
INTERRUPTS = ("sources", "told", "INTx", "MSI", "MSI-X", "ERR", "REQ")

Pages = Mapping[int, bytes]  #: by offset
UserState = bytes | str | None  #: of ``on_snapshot()``: bytes, or JSON as text


@dataclass(frozen=True)
class Snapshot:
    """The state of a device: ``dev.snapshot()`` takes one, ``dev.restore(s)`` puts it back.

    Two are equal when the state is. ``device`` is the name of the device it was taken from.
    """

    device: str = field(compare=False)
    layout: Layout
    #: (region, plane) -> offset -> bytes of a page; pages of zeros are left out
    pages: Mapping[tuple[str, str], Pages]
    #: numbers of interrupts: "sources" that are up, pending ones by kind, "told" (engine/wb.h)
    interrupts: Mapping[str, tuple[int, ...]]
    user: UserState

    def __post_init__(self) -> None:
        frozen = {key: MappingProxyType(dict(pages)) for key, pages in self.pages.items() if pages}
        object.__setattr__(self, "pages", MappingProxyType(frozen))
        object.__setattr__(self, "interrupts", MappingProxyType(dict(self.interrupts)))

    def __hash__(self) -> int:
        kept = frozenset((key, frozenset(pages)) for key, pages in self.pages.items())
        return hash((self.layout, self.user, kept))

    def __reduce__(self) -> Any:
        return Snapshot.from_bytes, (self.to_bytes(),)

    @property
    def size(self) -> int:
        """Bytes of all pages that are kept."""
        return sum(len(data) for pages in self.pages.values() for data in pages.values())

    def page(self, region: str, plane: str, offset: int) -> bytes:
        """Return the page at an offset of a region, a multiple of 4096; zeros where none was kept."""
        found = self.pages.get((region, plane), {}).get(offset)
        return bytes(self.layout.page_size(region, offset)) if found is None else found

    def read(self, region: str, offset: int, size: int, plane: str = "value") -> bytes:
        """Return ``size`` bytes that a region ("bar0", "config") had at ``offset``. ValueError outside."""
        if not (0 <= offset <= self.layout.sizes.get(region, -1) - size and size >= 0):
            raise ValueError(f"the snapshot of {self.device} has no {size} bytes at {offset:#x} of {region}")
        first = offset // PAGE * PAGE
        pages = [self.page(region, plane, start) for start in range(first, offset + size, PAGE)]
        return b"".join(pages)[offset - first :][:size]

    # -- what changed --

    def since(self, base: "Snapshot") -> "Snapshot":
        """Return the pages that differ from ``base``, zeros included; ``base.updated()`` takes them."""
        changed = {}
        for key in self.pages.keys() | base.pages.keys():
            mine, theirs = self.pages.get(key, {}), base.pages.get(key, {})
            changed[key] = {
                offset: self.page(*key, offset)
                for offset in sorted(mine.keys() | theirs.keys())
                if mine.get(offset) != theirs.get(offset)
            }
        return Snapshot(self.device, self.layout, changed, self.interrupts, self.user)

    def updated(self, changes: "Snapshot") -> "Snapshot":
        """Return the state of which ``changes`` has the pages that differ from this one."""
        pages = {key: dict(self.pages.get(key, {})) for key in self.pages.keys() | changes.pages.keys()}
        for key, changed in changes.pages.items():
            pages[key] |= changed
        kept = {
            key: {offset: found[offset] for offset in sorted(found) if any(found[offset])}
            for key, found in pages.items()
        }
        return Snapshot(changes.device, changes.layout, kept, changes.interrupts, changes.user)

    # -- as bytes --

    def to_bytes(self) -> bytes:
        """Return the snapshot as bytes for ``from_bytes()``. Raises SnapshotError above 1 GiB of pages."""
        extra = self.user if isinstance(self.user, bytes) else b""
        raw = self.size + len(extra)
        if raw > LARGEST:
            raise SnapshotError(f"the state has {raw} bytes; at most {LARGEST} can be saved")
        keys = sorted(self.pages)
        manifest: dict[str, Any] = {
            "device": self.device,
            "layout": self.layout.to_json(),
            "pages": [[*key, _runs(self.pages[key])] for key in keys],
            "interrupts": {name: list(numbers) for name, numbers in self.interrupts.items()},
            "user": len(extra) if isinstance(self.user, bytes) else self.user,
        }
        text = json.dumps(manifest, separators=(",", ":")).encode()
        packer = zlib.compressobj(1)
        packed = [packer.compress(data) for key in keys for _, data in sorted(self.pages[key].items())]
        body = b"".join([text, *packed, packer.compress(extra), packer.flush()])
        return HEADER.pack(MAGIC, VERSION, len(text), len(body) - len(text), raw, zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, largest: int = LARGEST) -> "Snapshot":
        """Return the snapshot in ``data``, of at most ``largest`` bytes of pages.

        Raises SnapshotError saying what is wrong with it.
        """
        text, packed, raw = _open(memoryview(data).cast("B"), largest)
        try:
            manifest = json.loads(bytes(text), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise SnapshotError(f"the manifest of the snapshot is no JSON: {error}") from None
        return _Reader(manifest).read(packed, raw)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the snapshot to a file, which is replaced at once or not at all. Raises OSError."""
        with whole_file(path) as partial:
            partial.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Snapshot":
        """Read a snapshot from a regular file, of which nothing is read that does not begin as one.

        Raises SnapshotError saying what is wrong with it, or OSError.
        """
        with open(os.fspath(path), "rb", opener=_at_once) as file:  # a number is no file of ours to close
            try:
                return cls.from_bytes(_whole(file))
            except SnapshotError as error:
                raise SnapshotError(f"{os.fspath(path)}: {error}") from None

    def __repr__(self) -> str:
        pages = sum(map(len, self.pages.values()))
        return f"<Snapshot of {self.device}: {pages} pages, {self.size} bytes>"


def _runs(pages: Pages) -> list[list[int]]:
    """Return [offset, number of pages] of every run of neighbours."""
    runs: list[list[int]] = []
    for offset in sorted(pages):
        if runs and runs[-1][0] + runs[-1][1] * PAGE == offset:
            runs[-1][1] += 1
        else:
            runs.append([offset, 1])
    return runs


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe that nobody writes to, too


def _whole(file: BinaryIO) -> bytes:
    """Return the bytes of a file, its header checked before the rest is read."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise SnapshotError("this is no regular file; Snapshot.from_bytes() takes what was read elsewhere")
    head = file.read(HEADER.size)
    text, *_ = _sizes(head, status.st_size, LARGEST)
    if status.st_size > HEADER.size + text + LARGEST:
        raise SnapshotError(f"{status.st_size} bytes are too many for a snapshot")
    return head + file.read(status.st_size - len(head))


def _sizes(head: bytes | memoryview, size: int, largest: int) -> tuple[int, int, int]:
    """Return bytes of the manifest, of the pages, and the checksum, as the head of ``size`` bytes says."""
    if len(head) < HEADER.size or bytes(head[: len(MAGIC)]) != MAGIC:
        raise SnapshotError("this is no snapshot: it does not begin as one")
    _, version, text, packed, raw, checksum = HEADER.unpack_from(head)
    if version != VERSION:
        raise SnapshotError(f"the snapshot has format {version}, this workbench reads format {VERSION}")
    if text > LARGEST_MANIFEST or raw > largest:
        raise SnapshotError(f"the snapshot claims a manifest of {text} and pages of {raw} bytes: too many")
    if size - HEADER.size != text + packed:
        raise SnapshotError(
            f"the snapshot has {size - HEADER.size} bytes behind its header, not {text + packed}"
        )
    return text, raw, checksum


def _open(data: memoryview, largest: int) -> tuple[memoryview, memoryview, int]:
    """Return manifest and compressed pages, checked against the header, and bytes of the pages."""
    text, raw, checksum = _sizes(data, len(data), largest)
    body = data[HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise SnapshotError("the snapshot is damaged: its checksum is wrong")
    return body[:text], body[text:], raw


class _Reader:
    """Checks a manifest, whoever wrote it, and cuts the pages as it says."""

    def __init__(self, manifest: object) -> None:
        if not isinstance(manifest, dict) or not isinstance(manifest.get("device"), str):
            raise SnapshotError("the manifest of the snapshot is not what it should be")
        if not manifest["device"].isprintable():  # as that of every device: it is shown
            raise SnapshotError(f"the snapshot is of {manifest['device']!r:.50}, which is no device's name")
        self.manifest: dict[str, Any] = manifest
        self.layout = Layout.from_json(manifest.get("layout"))

    def read(self, packed: memoryview, raw: int) -> Snapshot:
        """Return the snapshot whose pages are ``packed``, ``raw`` bytes in all."""
        runs, user = list(self._runs()), self.manifest.get("user")
        sizes = [self._size(region, start, count) for region, _, start, count in runs]
        extra = _number(user, LARGEST) if isinstance(user, int) else 0
        if sum(sizes) + extra != raw:
            raise SnapshotError(f"the snapshot lists {sum(sizes) + extra} bytes, its header says {raw}")
        data = _unpack(packed, raw)
        pages: dict[tuple[str, str], dict[int, bytes]] = {}
        at = 0
        for (region, plane, start, _), size in zip(runs, sizes, strict=True):
            found = pages.setdefault((region, plane), {})
            for offset in range(0, size, PAGE):
                page = data[at + offset : at + min(offset + PAGE, size)]
                found[start + offset] = bytes(page)
            at += size
        state = bytes(data[at:]) if isinstance(user, int) else self._text(user)
        return Snapshot(self.manifest["device"], self.layout, pages, dict(self._interrupts()), state)

    def _runs(self) -> Iterator[tuple[str, str, int, int]]:
        last: tuple[str, str, int] = ("", "", 0)
        for region, plane, runs in _rows(self.manifest.get("pages"), 3):
            if not isinstance(region, str) or region not in self.layout.sizes or plane not in PLANES:
                raise SnapshotError(
                    f"the snapshot has pages of {region!r}, {plane!r}, which is no part of it"
                )
            for start, count in _rows(runs, 2):
                size = self.layout.sizes[region]
                start, count = _number(start, size - 1), _number(count, (size - 1) // PAGE + 1)
                fits = not start % PAGE and count and start + (count - 1) * PAGE < size
                if not fits or (region, plane, start) < last:
                    raise SnapshotError(f"the snapshot lists pages of {region} that cannot be: {start:#x}")
                last = (region, plane, start + count * PAGE)
                yield region, plane, start, count

    def _size(self, region: str, start: int, count: int) -> int:
        return min(count * PAGE, self.layout.sizes[region] - start)

    def _interrupts(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        listed = self.manifest.get("interrupts")
        if not isinstance(listed, dict) or listed.keys() - set(INTERRUPTS):
            raise SnapshotError("the snapshot lists interrupts that there are not")
        for name, numbers in listed.items():
            yield name, tuple(sorted({_number(one, MOST_VECTORS - 1) for one in _list(numbers)}))

    @staticmethod
    def _text(user: object) -> str | None:
        if user is None:
            return None
        try:
            json.loads(user if isinstance(user, str) else "-")
        except (ValueError, RecursionError):
            raise SnapshotError("what on_snapshot() gave is no JSON in this snapshot") from None
        return str(user)


def _unpack(packed: memoryview, raw: int) -> memoryview:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, raw + 1)
    except zlib.error as error:
        raise SnapshotError(f"the pages of the snapshot cannot be decompressed: {error}") from None
    if len(data) != raw or not unpacker.eof or unpacker.unused_data:
        raise SnapshotError(f"the pages of the snapshot are not {raw} bytes")
    return memoryview(data)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise SnapshotError(f"the snapshot has {value!r:.50} where a list belongs")
    return value


def _rows(value: object, length: int) -> Iterable[list[Any]]:
    for row in _list(value):
        if len(_list(row)) != length:
            raise SnapshotError(f"the snapshot has a list of {len(row)} where {length} belong")
        yield row


def _number(value: object, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise SnapshotError(f"the snapshot has {value!r:.50} where a number from 0 to {highest} belongs")
    return value
