"""Takes the state of an engine device as a Snapshot, and puts one back.

While that is done the guest's next access waits at the gate, and no hook and no timer runs, so no access is
seen half done. (Mapped pages are written by the guest when it likes, and threads of your own are not held.)
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .changes import Changes, changes
from .engine import check, ffi, lib
from .errors import SnapshotError, StateError
from .hooks import Hooks
from .layout import Layout
from .protocol import IRQ_NAMES
from .registers import Block
from .snapshot import LARGEST, PAGE, Snapshot, UserState

__all__ = ["DeviceState"]

PLANES = {"value": lib.WB_VALUE, "latch": lib.WB_LATCH, "spent": lib.WB_SPENT}
OWN_STATE = 256 << 20  #: bytes that on_snapshot() may add in a migration
PATIENCE = 5000  #: ms that an access of the guest may take to its end
ZEROS = bytes(PAGE)


class DeviceState:
    """The state of one engine device; ``core`` says what it is described as."""

    def __init__(self, handle: Any, hooks: Hooks, core: Any) -> None:
        self._handle = handle
        self._hooks = hooks
        self._core = core

    @property
    def layout(self) -> Layout:
        """What a snapshot has to fit."""
        return Layout.of(self._core.blocks, self._core.irq_counts)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Hold the device still. Raises StateError when a hook or a timer's function does not return."""
        self._hooks.expect_end(PATIENCE / 1000)  # before the guest has to wait for us
        # Inside a hook the guest's access cannot end before we do.
        patience = 0 if self._hooks.running_here else PATIENCE
        if lib.wb_gate_hold(self._handle, patience) < 0:
            what = self._hooks.doing or "an access of the guest"
            raise StateError(f"{self._core.device.name}: {what} has not returned for {patience / 1000:g} s")
        try:
            with self._hooks.here():
                yield
        finally:
            lib.wb_gate_release(self._handle)

    # -- taking --

    def take(self) -> Snapshot:
        """Return the state. Raises what ``on_snapshot()`` raises, TypeError for what it must not return."""
        device = self._core.device
        with self.still():
            user = pack_user(device.on_snapshot())
            pages = self._pages()
            state = ffi.new("wb_irq_state *")
            lib.wb_state_get(self._handle, state)
        return Snapshot(device.name, self.layout, pages, dict(_interrupts(state)), user)

    def _blocks(self) -> Iterator[tuple[int, Block]]:
        # A ROM is part of the description.
        return ((index, block) for index, block in self._core.blocks.items() if index != lib.WB_ROM)

    def _pages(self) -> dict[tuple[str, str], dict[int, bytes]]:
        pages: dict[tuple[str, str], dict[int, bytes]] = {}
        for index, block in self._blocks():
            for offset in self._touched(index):
                for name, plane in PLANES.items():
                    data = self._get(index, plane, offset, block)
                    if data != ZEROS[: len(data)]:
                        pages.setdefault((block.name, name), {})[offset] = data
        return pages

    def _touched(self, index: int) -> Iterator[int]:
        at = ffi.new("uint64_t *")
        while lib.wb_state_next(self._handle, index, at) > 0:
            yield at[0]
            at[0] += PAGE

    def _get(self, index: int, plane: int, offset: int, block: Block) -> bytes:
        size = min(PAGE, block.size - offset)
        data = bytearray(size)
        into = ffi.from_buffer("uint8_t[]", data, require_writable=True)
        check(lib.wb_region_get(self._handle, index, plane, offset, into, size), block.name)
        return bytes(data)

    def diff(self, old: Snapshot, new: Snapshot | None) -> Changes:
        """Return what differs between two states, or one and now. Raises StateError."""
        self._fit(old)
        if new is not None:
            self._fit(new)
        return changes(self._core.blocks, old, self.take() if new is None else new)

    def _fit(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"this takes a wb.Snapshot, not {snapshot!r:.80}")
        if wrong := snapshot.layout.differences(self.layout):
            name = self._core.device.name
            raise StateError(
                f"{name}: the snapshot of {snapshot.device} has another layout: {'; '.join(wrong)}"
            )

    # -- putting back --

    def put(self, snapshot: Snapshot) -> None:
        """Put a state back: no rules, no hooks, one log record; then ``on_restore()``.

        Raises StateError naming what differs when the layout is another, and what ``on_restore()`` raises.
        """
        device, origin = self._core.device, self._hooks.origin()
        self._fit(snapshot)
        with self.still():
            lib.wb_state_halt(self._handle, lib.WB_HALT_RESTORE, 1)
            try:
                self._core.timers.reset()
                self._put_pages(snapshot)
                lib.wb_state_set(self._handle, _irq_state(snapshot.interrupts))
                self.log(lib.WB_STATE_RESTORED, origin)
                device.on_restore(unpack_user(snapshot.user))
            finally:
                lib.wb_state_halt(self._handle, lib.WB_HALT_RESTORE, 0)

    def _put_pages(self, snapshot: Snapshot) -> None:
        for index, block in self._blocks():
            for name, plane in PLANES.items():
                kept = snapshot.pages.get((block.name, name), {})
                for offset in sorted({*self._touched(index), *kept}):
                    data = snapshot.page(block.name, name, offset)
                    if self._get(index, plane, offset, block) != data:
                        result = lib.wb_region_set(self._handle, index, plane, offset, data, len(data))
                        check(result, block.name)

    def log(self, state: int, origin: int = lib.WB_GUEST) -> None:
        """Leave a record of kind "state"; ``state`` is a MigrationState, or WB_STATE_RESTORED."""
        record = {"kind": lib.WB_KIND_STATE, "origin": origin, "region": 255, "value": state}
        lib.wb_log_add(self._handle, ffi.new("wb_record *", record))

    # -- what a migration asks (migration.Movable) --

    @property
    def largest(self) -> int:
        """Bytes that a state of this device can have, whoever says how many it has."""
        return min(LARGEST, len(PLANES) * sum(block.size for _, block in self._blocks()) + OWN_STATE)

    def save(self, base: Snapshot | None = None) -> tuple[Snapshot, bytes]:
        """Return the state, and as bytes what of it differs from ``base``, or all. Raises as ``take()``."""
        with self._told("saving its state"):
            taken = self.take()
            return taken, (taken if base is None else taken.since(base)).to_bytes()

    def load(self, parts: Sequence[bytes]) -> None:
        """Put back a state and then what differs, from ``save()``. Raises as ``put()``, and SnapshotError."""
        with self._told("loading a state"):
            whole, *rest = (Snapshot.from_bytes(part, self.largest) for part in parts)
            for part in rest:
                whole = whole.updated(part)
            self.put(whole)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        # The client hears an errno alone.
        try:
            yield
        except (SnapshotError, StateError) as error:
            self._core.device.logger.warning("%s: %s failed: %s", self._core.device.name, what, error)
            raise
        except Exception as error:
            self._hooks.failures.add(what, error, 0)
            raise

    def halt(self, stopped: bool, refuse: bool = False) -> None:
        """Stop the device (no interrupts, DMA, timers) or let it run.

        ``refuse``: SET_IRQS, DMA_MAP and DMA_UNMAP too. Raises StateError when a hook does not return and the
        device is to be stopped; it runs again nevertheless.
        """
        try:
            with self.still():
                self._halt(stopped, refuse)
        except StateError:
            if stopped:
                raise
            self._halt(False, False)

    def _halt(self, stopped: bool, refuse: bool) -> None:
        for halt, on in ((lib.WB_HALT_CLIENT, refuse), (lib.WB_HALT_STOP, stopped)):
            lib.wb_state_halt(self._handle, halt, int(on))
        self._core.timers.hold(stopped)  # after the rest, for those that go on

    def start_logging(self, page_size: int, ranges: Sequence[tuple[int, int]]) -> int:
        """Log what DMA writes to ranges (IOVA, bytes), none: to all; return the page size. Raises OSError."""
        size, spans = ffi.new("uint64_t *", page_size), ffi.new("wb_dma_span[]", list(ranges))
        check(lib.wb_dirty_start(self._handle, size, spans, len(ranges)), "dirty logging")
        return int(size[0])

    def stop_logging(self) -> None:
        """Log no longer; no error when it is off."""
        lib.wb_dirty_stop(self._handle)

    def dirty(self, iova: int, length: int, page_size: int) -> bytes:
        """Return a bit for each page that DMA wrote since the last time, as 64-bit words. Raises OSError."""
        words = ((length - 1) // page_size) // 64 + 1
        bits = ffi.new("uint64_t[]", words)
        result = lib.wb_dirty_report(self._handle, iova, length, page_size, bits, words)
        check(result, f"dirty pages from {iova:#x}, {length} bytes")
        return bytes(ffi.buffer(bits))


def pack_user(state: Any) -> UserState:
    """Return what ``on_snapshot()`` gave as bytes or as JSON text. Raises TypeError when it is neither."""
    if state is None or isinstance(state, bytes):
        return state
    if isinstance(state, bytearray | memoryview):
        return bytes(state)
    try:
        return json.dumps(state, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"on_snapshot() returns bytes or what JSON can say, not {state!r:.80}: {error}"
        ) from None


def unpack_user(state: UserState) -> Any:
    """Return a fresh copy of what ``on_snapshot()`` gave."""
    return json.loads(state) if isinstance(state, str) else state


def _numbers(bits: Any) -> tuple[int, ...]:
    return tuple(
        64 * place + bit for place, word in enumerate(bits) if word for bit in range(64) if word >> bit & 1
    )


def _interrupts(state: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    bits = {"sources": state.sources, "told": state.told}
    bits |= {name: state.pending[index] for index, name in enumerate(IRQ_NAMES)}
    return ((name, numbers) for name, words in bits.items() if (numbers := _numbers(words)))


def _irq_state(interrupts: Mapping[str, tuple[int, ...]]) -> Any:
    state = ffi.new("wb_irq_state *")
    for name, numbers in interrupts.items():
        words = getattr(state, name) if name in ("sources", "told") else state.pending[IRQ_NAMES.index(name)]
        for number in numbers:
            words[number // 64] |= 1 << number % 64
    return state
