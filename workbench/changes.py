"""What differs between two snapshots, by register and field: ``dev.diff(s)``.

Bytes that no register covers are told as ranges. Shown as lines of text, in a notebook as a table.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from .fields import spell
from .registers import Block, Located, Register
from .snapshot import PAGE, PLANES, Snapshot

__all__ = ["Change", "Changes", "changes"]


class Change(NamedTuple):
    """One thing that differs: its name, and how it was and is, as numbers or text."""

    name: str
    old: Any
    new: Any
    text: str

    def __repr__(self) -> str:
        return self.text


class Changes(Sequence[Change]):
    """A list of Change, in order of region and offset; ``names`` are what changed."""

    def __init__(self, found: Sequence[Change]) -> None:
        self._found = tuple(found)

    @property
    def names(self) -> list[str]:
        """What changed: "bar0.CTRL.ENABLE" ..."""
        return [change.name for change in self._found]

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, number: int) -> Change: ...
    @overload
    def __getitem__(self, number: slice) -> "Changes": ...
    def __getitem__(self, number: int | slice) -> "Change | Changes":
        return Changes(self._found[number]) if isinstance(number, slice) else self._found[number]

    def __eq__(self, other: object) -> bool:
        return self._found == tuple(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "\n".join(change.text for change in self._found) or "<no changes>"

    def _repr_html_(self) -> str:
        if not self._found:
            return "<p>no changes</p>"
        rows = (change.text.removeprefix(change.name).split(" -> ", 1) for change in self._found)
        cells = "".join(
            f"<tr><td><code>{escape(change.name)}</code></td>"
            + "".join(f"<td>{escape(text.strip())}</td>" for text in row)
            + "</tr>"
            for change, row in zip(self._found, rows, strict=True)
        )
        return f"<table><tr><th>what</th><th>was</th><th>is</th></tr>{cells}</table>"


def changes(blocks: Mapping[int, Block], old: Snapshot, new: Snapshot) -> Changes:
    """Return what differs, named as ``blocks`` describes it; both snapshots fit that layout."""
    found: list[Change] = []
    for block in blocks.values():
        found += _block_changes(block, old, new)
    found += _interrupt_changes(old, new)
    return Changes([*found, *_user_changes(old.user, new.user)])


def _change(name: str, old: Any, new: Any, before: str = "", after: str = "") -> Change:
    return Change(name, old, new, f"{name} {before or spell(old)} -> {after or spell(new)}")


# ---- registers


def _block_changes(block: Block, old: Snapshot, new: Snapshot) -> Iterator[Change]:
    seen: set[tuple[str, int]] = set()
    bare: list[list[int]] = []  # [first, end, bytes that changed] where no register is
    for offset in sorted(_changed_pages(block.name, old, new)):
        places = _changed_bytes(block.name, offset, old, new)
        if not block.at(offset, PAGE):
            _extend(bare, offset + int(places[0]), offset + int(places[-1]) + 1, len(places))
            continue
        for start, end in _runs(places):
            located = block.at(offset + start, end - start)
            if not located:
                _extend(bare, offset + start, offset + end, end - start)
            for one in located:
                if (key := (one.register.name, one.index)) not in seen:
                    seen.add(key)
                    yield from _register_changes(block, one, old, new)
    for first, end, count in bare:
        name = f"{block.name}+{first:#x}"
        yield Change(name, None, None, f"{name}…{end - 1:#x}: {count} bytes changed")


def _changed_pages(name: str, old: Snapshot, new: Snapshot) -> set[int]:
    found = set()
    for plane in PLANES:
        one, two = old.pages.get((name, plane), {}), new.pages.get((name, plane), {})
        found |= {offset for offset in one.keys() | two.keys() if one.get(offset) != two.get(offset)}
    return found


def _changed_bytes(name: str, offset: int, old: Snapshot, new: Snapshot) -> npt.NDArray[np.intp]:
    changed = np.zeros(old.layout.page_size(name, offset), bool)
    for plane in PLANES:
        one, two = old.page(name, plane, offset), new.page(name, plane, offset)
        changed |= np.frombuffer(one, np.uint8) != np.frombuffer(two, np.uint8)
    return np.flatnonzero(changed)


def _runs(places: npt.NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Return (first, end) of runs of neighbours."""
    if len(places):
        breaks = np.flatnonzero(np.diff(places) > 1) + 1
        for run in np.split(places, breaks):
            yield int(run[0]), int(run[-1]) + 1


def _extend(bare: list[list[int]], first: int, end: int, count: int) -> None:
    # What changed within a page of what changed before is one range: frame buffers are full of such.
    if bare and first - bare[-1][1] < PAGE:
        bare[-1][1] = end
        bare[-1][2] += count
    else:
        bare.append([first, end, count])


def _shown(block: Block, one: Located, snapshot: Snapshot) -> int:
    """Return a register's value as its handle shows it: stored bits, and write-only ones as last written."""
    register, offset = one.register, one.register.element_offset(one.index)
    value = int.from_bytes(snapshot.read(block.name, offset, register.size), "little")
    if latched := register.plane_mask("wo"):
        latch = int.from_bytes(snapshot.read(block.name, offset, register.size, "latch"), "little")
        value = value & register.stored_mask | latch & latched
    return value


def _register_changes(block: Block, one: Located, old: Snapshot, new: Snapshot) -> Iterator[Change]:
    register = one.register
    name = f"{block.name}.{register.element_name(one.index)}"
    before, after = _shown(block, one, old), _shown(block, one, new)
    for field in register.fields.values():
        was, now = field.extract(before), field.extract(after)
        if was != now:
            yield _change(f"{name}.{field.name}", was, now, spell(was, field), spell(now, field))
    rest = ~sum(field.mask for field in register.fields.values())
    if (before ^ after) & rest:
        yield _change(name, before, after)
    yield from _spent_changes(name, register, block, one, old, new)


def _spent_changes(
    name: str, register: Register, block: Block, one: Located, old: Snapshot, new: Snapshot
) -> Iterator[Change]:
    if once := register.plane_mask("once"):
        offset = register.element_offset(one.index)
        was, now = (
            bool(int.from_bytes(each.read(block.name, offset, register.size, "spent"), "little") & once)
            for each in (old, new)
        )
        if was != now:
            words = ("may be written once", "was written once")
            yield Change(name, was, now, f"{name} {words[was]} -> {words[now]}")


# ---- the rest


def _interrupt_changes(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    for kind in sorted(old.interrupts.keys() | new.interrupts.keys()):
        before, after = set(old.interrupts.get(kind, ())), set(new.interrupts.get(kind, ()))
        for number in sorted(before ^ after):
            if kind == "sources":
                name = f"irq[{number}].asserted"
            elif kind == "told":
                name = f"irq.MSI-X[{number}] mask bit in use"
            else:
                name = f"irq.{kind}{'' if kind == 'INTx' else f'[{number}]'}.pending"
            yield _change(name, int(number in before), int(number in after))


def _user_changes(old: bytes | str | None, new: bytes | str | None) -> Iterator[Change]:
    if old == new:
        return
    one, two = (json.loads(state) if isinstance(state, str) else state for state in (old, new))
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(one.keys() | two.keys()):
            if one.get(key) != two.get(key):
                was, now = one.get(key), two.get(key)
                yield _change(f"on_snapshot()[{key!r}]", was, now, f"{was!r:.60}", f"{now!r:.60}")
    else:
        yield _change("on_snapshot()", one, two, f"{one!r:.60}", f"{two!r:.60}")
