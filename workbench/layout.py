"""Layout: what of a device a guest has seen for good, and a snapshot must find again.

Regions with their sizes and mapped pages, vectors of interrupts, and every register of config space with
its reset value and rules. Values and hooks are no part of it.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .errors import SnapshotError
from .protocol import IRQ_NAMES, REGION_NAMES
from .registers import Block

__all__ = ["Layout"]

LARGEST_REGION = 1 << 42  #: bytes; the engine's limit
Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Regions as (name, size, mapped start, size ...), vectors of each kind, config registers as numbers."""

    regions: tuple[tuple[str, Numbers], ...]
    irqs: Numbers
    config: tuple[tuple[str, Numbers], ...]  #: offset, bytes, reset value, CRC-32 of the rules

    @classmethod
    def of(cls, blocks: Mapping[int, Block], irqs: Sequence[int]) -> "Layout":
        """Return the layout of a description."""
        regions = [
            (block.name, (block.size, *(number for area in block.mapped for number in area)))
            for _, block in sorted(blocks.items())
        ]
        space = blocks.get(REGION_NAMES.index("config"))  # none: a class that has no id yet
        config = [
            (name, (one.offset, one.size, one.reset, _rules(one.plane_bytes)))
            for name, one in (sorted(space.registers.items()) if space else ())
        ]
        return cls(tuple(regions), tuple(irqs), tuple(config))

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each region, by name."""
        return {name: numbers[0] for name, numbers in self.regions}

    def page_size(self, region: str, offset: int) -> int:
        """Return the bytes of the page at ``offset``: 4096, or what is left of the region."""
        return max(0, min(4096, self.sizes[region] - offset))

    def differences(self, other: "Layout") -> list[str]:
        """Return in what ``other`` differs, one line each; [] when a snapshot of one fits the other."""
        found = []
        mine, theirs = dict(self.regions), dict(other.regions)
        for name in sorted(mine.keys() | theirs.keys()):
            one, two = mine.get(name), theirs.get(name)
            if one is None or two is None:
                found.append(f"{name} is {'new' if one is None else 'gone'}")
            elif one[0] != two[0]:
                found.append(f"{name}: {one[0]:#x} → {two[0]:#x} bytes")
            elif one != two:
                found.append(f"{name} has other mapped pages")
        for kind, before, after in zip(IRQ_NAMES, self.irqs, other.irqs, strict=True):
            if before != after:
                found.append(f"{kind}: {before} → {after} vectors")
        if "config" not in mine or "config" not in theirs:  # that says it
            return found
        return found + _config_differences(dict(self.config), dict(other.config))

    # -- as JSON --

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "regions": [[name, *numbers] for name, numbers in self.regions],
            "irqs": list(self.irqs),
            "config": [[name, *numbers] for name, numbers in self.config],
        }

    @classmethod
    def from_json(cls, data: object) -> "Layout":
        """Return the layout that ``to_json()`` made. Raises SnapshotError for anything else."""
        if not isinstance(data, dict):
            raise SnapshotError("the snapshot has no layout")
        regions, config = _named(data.get("regions"), 1), _named(data.get("config"), 4)
        irqs = data.get("irqs")
        names = [name for name, _ in regions]
        right = isinstance(irqs, list) and len(irqs) == len(IRQ_NAMES) and _whole(irqs)
        right = right and all(1 <= numbers[0] <= LARGEST_REGION for _, numbers in regions)
        if not right or set(names) - set(REGION_NAMES) or len(set(names)) != len(names):
            raise SnapshotError("the layout in the snapshot is none that a device can have")
        return cls(regions, tuple(irqs or ()), config)


def _rules(planes: Mapping[str, bytes]) -> int:
    skipped = ("value", "latch", "reset", "latch_reset")
    rules = (name.encode() + data for name, data in sorted(planes.items()) if name not in skipped)
    return zlib.crc32(b"".join(rules))


def _config_differences(mine: Mapping[str, Numbers], theirs: Mapping[str, Numbers]) -> list[str]:
    found = []
    for name in sorted(mine.keys() | theirs.keys()):
        one, two = mine.get(name), theirs.get(name)
        if one is None or two is None:
            found.append(f"config.{name} is {'new' if one is None else 'gone'}")
        elif one[2] != two[2]:
            found.append(f"config.{name}: {one[2]:#x} → {two[2]:#x}")
        elif one != two:
            found.append(f"config.{name} has another place or other rules")
    return found


def _whole(numbers: Sequence[object]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in numbers)


def _named(rows: object, least: int) -> tuple[tuple[str, Numbers], ...]:
    listed = isinstance(rows, list) and all(isinstance(row, list) and len(row) > least for row in rows)
    if not isinstance(rows, list) or not listed:
        raise SnapshotError("the layout in the snapshot is not what it should be")
    if not all(isinstance(row[0], str) and row[0].isprintable() and _whole(row[1:]) for row in rows):
        raise SnapshotError("the layout in the snapshot has other things than names and numbers")
    return tuple((row[0], tuple(row[1:])) for row in rows)
