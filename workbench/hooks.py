"""Hooks: Python that runs because the guest touched a register.

A hook never answers. ``on_read`` runs before the ordinary read path and may return a fresh value;
``on_write`` runs after the ordinary write path stored the value. Setting a hook is one atomic exchange
in a table keyed (region, register, slot): running a cell again replaces, never adds, and each access is
answered by exactly one revision, which its log record names. A hook that raises never hurts the
guest: the stored value is answered, the record is flagged, the traceback is logged once and counted.
"""

import logging
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Protocol

from .engine import ffi, lib
from .errors import DescriptionError, StateError
from .hook import Access, Hook
from .lock import Lock
from .native import NativeCode
from .nativehook import NativeHook, Natives
from .pages import unhookable
from .registers import Block, Register
from .running import Running
from .upcall import ShortWay, access_number

__all__ = ["Access", "Hook", "Hooks"]

READ, WRITE = "read", "write"
BITS = {READ: lib.WB_HOOK_READ, WRITE: lib.WB_HOOK_WRITE}
CACHE_LIMIT = 4096  # distinct (offset, size) pairs remembered before starting afresh
HISTORY = 50  # revisions kept of a slot


class Named(Protocol):
    """What has a name: a register, "bar0.CTRL"."""

    name: str


Name = str | Named
Key = tuple[int, str, str]  # region, register (an element's name), slot


class Hooks(Running):
    """The hooks of one device: set, replaced, removed and run; iterates over those in force.

    ``failures`` is what they raised, ``stalls`` how long guests waited for Python.
    """

    def __init__(
        self, device: Any, handle: Any, short: ShortWay, blocks: Mapping[int, Block], logger: logging.Logger
    ) -> None:
        self._natives = Natives(handle)
        super().__init__(device, handle, short, logger)
        self.failures.gather = self._gather
        self.owner: Callable[[], Any] = lambda: None  #: the core it belongs to
        self._blocks = blocks
        self._table: dict[Key, Hook] = {}
        self._history: dict[Key, list[Hook]] = {}
        self._plans: dict[int, tuple[Hook, ...]] = {}
        self._swapping = Lock()  # apart, so that a hook that never returns can be replaced
        self.on_change: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Hook]:
        return iter(list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no hooks>"

    @property
    def in_python(self) -> int:
        """How many need the interpreter."""
        return len(self) - len(self._natives)

    @property
    def running(self) -> Hook | None:
        """The hook that runs now, or None."""
        return self.stalls.running or self._natives.running()

    @property
    def doing(self) -> str:
        """What runs now: "bar0.CTRL.on_write", "after(blink)", "on_reset" ...; "" when nothing does."""
        hook = self.running
        return hook.key if hook is not None else self.stalls.event

    def view(self) -> Any:
        """Return a live view of the hooks: calls, times, errors, revisions."""
        from .views.doors import view_of

        return view_of(self.owner, "hooks")

    # -- the table --

    def set(
        self,
        region: int,
        register: Register,
        index: int,
        slot: str,
        function: Callable[..., Any] | NativeCode,
        described: bool = False,
    ) -> Hook:
        """Put a function, or native code, in a slot ("read" or "write"); return the Hook, with its revision.

        Logged as a swap, unless it is part of the class (``described``) and the slot was never used.
        Raises DescriptionError when the function cannot be called with (device) or (device, access), or
        when the register lies in a page that the guest maps.
        """
        hook = _hook(self._blocks[region].name, region, register, index, slot, function)
        hook.described = described
        return self._install(hook)

    def set_again(self, was: Hook, enabled: bool = True) -> Hook:
        """Put the function of an earlier hook back into its slot; return the Hook with its new revision.

        Raises StateError when a newer class has no register of that name.
        """
        block = self._blocks[was.region]
        register = block.registers.get(was.register.name)  # as it is described now, perhaps elsewhere
        if register is None or was.index >= register.count:
            raise StateError(f"{was.key} cannot be set again: {block.name} has no such register any more")
        hook = _hook(block.name, was.region, register, was.index, was.slot, was.function)
        hook.described, hook.enabled = was.described, enabled
        if isinstance(hook, NativeHook):
            hook.resume(was)
        hook.cell, hook.source = was.cell, was.source  # it was defined there, not here
        return self._install(hook)

    def _install(self, hook: Hook) -> Hook:
        if self._blocks[hook.region].mapped_area(hook.offset):
            raise DescriptionError(hook.name, [unhookable(hook.offset)])
        key = (hook.region, hook.register.element_name(hook.index), hook.slot)
        with self._swapping:
            history = self._history.setdefault(key, [])
            hook.revision = min(history[-1].revision + 1, 0xFFFF) if history else 1
            if isinstance(hook, NativeHook):
                hook.follow(history[-1] if history else None)
            history.append(hook)
            del history[:-HISTORY]
            self._put(key, hook, logged=not hook.described or hook.revision > 1)
        return hook

    def remove(self, region: int, register: Register, index: int, slot: str) -> None:
        """Take the function out of a slot; no error when there is none."""
        key = (region, register.element_name(index), slot)
        with self._swapping:
            if key in self._table:
                self._put(key, None)

    def get(self, region: int, register: Register, index: int, slot: str) -> Hook | None:
        """Return the Hook in force in a slot, or None."""
        return self._table.get((region, register.element_name(index), slot))

    def _put(self, key: Key, hook: Hook | None, logged: bool = True) -> None:
        region, _, slot = key
        described = hook or self._table[key]
        offset = described.offset
        on, size = int(hook is not None and hook.enabled), described.register.size
        shared = self._blocks[region].at(offset, size)
        # The engine first: an access that has asked Python runs what was here, none what is not in yet.
        if not self._natives.exchange(described, len(shared) == 1, bool(on)):
            lib.wb_region_hook(self.handle, region, offset, size, BITS[slot], on)
        if hook is None:
            del self._table[key]
        else:
            self._table[key] = hook
        self._plans = {}
        self.short.close()
        # Registers may share bytes, and so hook bits.
        for register, index in () if on else shared:
            other = self.get(region, register, index, slot)
            if other is not None and other.enabled and other not in self._natives:
                lib.wb_region_hook(self.handle, region, other.offset, other.register.size, BITS[slot], 1)
        if logged:
            record = {
                "kind": lib.WB_KIND_SWAP, "origin": lib.WB_NOTEBOOK, "region": region, "offset": offset,
                "size": size, "revision": described.revision if on else 0, "value": BITS[slot],
            }  # fmt: skip
            lib.wb_log_add(self.handle, ffi.new("wb_record *", record))
        self.on_change()

    def keep_described(self, slots: Container[Key]) -> None:
        """Remove hooks that came from a class and are not in ``slots`` any more."""
        with self._swapping:
            for key, hook in list(self._table.items()):
                if hook.described and key not in slots:
                    self._put(key, None)

    def redescribe(self, device: Any, blocks: Mapping[int, Block]) -> None:
        """Belong to ``device`` with other registers; hooks of registers that are gone are removed."""
        with self._swapping:
            self.device, self._blocks, self._plans = device, blocks, {}
            self.short.close()
            for key, hook in list(self._table.items()):
                wanted = (hook.offset, hook.register.size, key[1])
                for register, index in blocks[key[0]].at(hook.offset, 1):
                    found = (register.element_offset(index), register.size, register.element_name(index))
                    if found == wanted:
                        hook.register = register
                        break
                else:  # under another name it would be listed and never run
                    self._put(key, None)

    # -- history, by the name of a slot: "bar0.CTRL.on_write", or by a register with one hook --

    def _find(self, name: Name) -> Key:
        wanted = getattr(name, "name", name)  # a register will do where it has one hook
        latest = {key: history[-1] for key, history in list(self._history.items()) if history}
        found = [key for key, hook in latest.items() if wanted in (hook.key, hook.name)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(repr(latest[key].key) for key in found or latest) or "none"
        if found:
            raise StateError(f"{wanted} has hooks in both slots: say which, {known}")
        raise StateError(f"there never was a hook {wanted!r}; hooks: {known}")

    def revisions(self, name: Name) -> list[Hook]:
        """Return the last 50 revisions of a slot such as "bar0.CTRL.on_write", oldest first."""
        return list(self._history[self._find(name)])

    def _revision(self, name: Name, number: int) -> Hook:
        kept = self.revisions(name)
        for hook in kept:
            if hook.revision == number:
                return hook
        raise StateError(f"{kept[-1].key} has no revision {number} (any more)")

    def revert(self, name: Name, revision: int | None = None) -> Hook:
        """Set an earlier function again (default: the one before), as a new revision; return it."""
        if revision is None:
            old = self.revisions(name)
            if len(old) < 2:
                raise StateError(f"{old[-1].key} has one revision only")
            revision = old[-2].revision
        return self.set_again(self._revision(name, revision))

    def disable(self, name: Name) -> None:
        """Let the C rules answer alone; the hook stays in the table for ``enable()``."""
        self._switch(name, False)

    def enable(self, name: Name) -> None:
        """Run a disabled hook again."""
        self._switch(name, True)

    def _switch(self, name: Name, on: bool) -> None:
        key = self._find(name)
        with self._swapping:
            hook = self._table.get(key)
            if hook is None:
                raise StateError(f"{self._history[key][-1].key} was removed: set it again, or revert it")
            hook.enabled = on
            self._put(key, hook)

    def diff(self, name: Name, old: int, new: int) -> str:
        """Return what changed between two revisions as a unified diff; "" if nothing did."""
        one, two = self._revision(name, old), self._revision(name, new)
        titles = (f"rev {old} {one.cell}", f"rev {new} {two.cell}")
        import difflib

        lines = difflib.unified_diff(one.source.splitlines(), two.source.splitlines(), *titles, lineterm="")
        return "\n".join(lines)

    def plan(self, access: Any) -> tuple[Hook, ...]:
        """Return the hooks of the registers that a ``wb_access`` touches, in ascending order."""
        plans = self._plans  # of before the table is looked at: a swap makes new ones
        number = access_number(access)
        plan = plans.get(number)
        if plan is None:
            slot = WRITE if access.write else READ
            touched = self._blocks[access.region].at(access.offset, access.size)
            # Of registers that share bytes, the write-only one is not read, nor the read-only one written.
            mask = "written_mask" if access.write else "stored_mask"
            meant = [found for found in touched if getattr(found.register, mask)] or touched
            keys = ((access.region, register.element_name(index), slot) for register, index in meant)
            found = (self._table.get(key) for key in keys)
            plan = tuple(hook for hook in found if hook is not None and hook.enabled)
            if len(plans) >= CACHE_LIMIT:
                plans.clear()
            plans[number] = plan
        return plan

    def _gather(self) -> None:
        """Add what native hooks failed with, which nobody told Python."""
        with self._swapping:  # each is told once, whoever asks at the same time
            hooks = [hook for kept in self._history.values() for hook in kept]
            told = [(hook, *hook.untold()) for hook in hooks if isinstance(hook, NativeHook)]
        for hook, count, error in told:
            if count:
                self.failures.add(hook.key, error, hook.revision, count)


def _hook(
    block: str,
    region: int,
    register: Register,
    index: int,
    slot: str,
    function: Callable[..., Any] | NativeCode,
) -> Hook:
    if isinstance(function, NativeCode):
        return NativeHook(block, region, register, index, slot, function)
    return Hook(block, region, register, index, slot, function)
