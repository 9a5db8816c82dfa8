"""Migration of a device by its client: the state machine, the stream of data, the log of dirty pages.

Messages DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE of the vfio-user specification, which follow
``linux/vfio.h``. The stream is a row of parts, each a length and a Snapshot: the whole state first and, after
a PRE_COPY, what has changed since. A state is entered when all that belongs to it is done.
"""

import contextlib
import errno
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from . import protocol
from .errors import SnapshotError, StateError
from .protocol import Command, Feature, FeatureFlag, MigrationFlag, MigrationState
from .refused import Refused

__all__ = ["ARCS", "Migration", "Movable", "path"]

ERROR, STOP, RUNNING = MigrationState.ERROR, MigrationState.STOP, MigrationState.RUNNING
STOP_COPY, RESUMING, PRE_COPY = MigrationState.STOP_COPY, MigrationState.RESUMING, MigrationState.PRE_COPY
GET, SET, PROBE = FeatureFlag.GET, FeatureFlag.SET, FeatureFlag.PROBE

#: What may follow a state directly, and what is done then.
ARCS: Mapping[tuple[MigrationState, MigrationState], str] = {
    (RUNNING, STOP): "_stop",
    (STOP, RUNNING): "_run",
    (STOP, STOP_COPY): "_begin_saving",
    (STOP_COPY, STOP): "_end_saving",
    (STOP, RESUMING): "_begin_loading",
    (RESUMING, STOP): "_end_loading",
    (RUNNING, PRE_COPY): "_begin_saving",
    (PRE_COPY, RUNNING): "_end_saving",
    (PRE_COPY, STOP_COPY): "_stop_and_save",
}
SAVING = (PRE_COPY, STOP_COPY)
STOPPED = (STOP, STOP_COPY, ERROR)
#: What a client may ask of a stopped device, besides reading and writing its regions.
QUIET = (Command.DEVICE_FEATURE, Command.MIG_DATA_READ, Command.DEVICE_RESET)
FEATURES: Mapping[int, FeatureFlag] = {
    Feature.MIGRATION: GET,
    Feature.MIG_DEVICE_STATE: GET | SET,
    Feature.DMA_LOGGING_START: SET,
    Feature.DMA_LOGGING_STOP: SET,
    Feature.DMA_LOGGING_REPORT: GET,
}
PART = struct.Struct("<4sQ")  #: "part", bytes of the snapshot that follows
MARK = b"part"
PARTS = 2  #: the state, and what changed


class Movable(Protocol):
    """What a migration needs of a device; ``state.DeviceState`` is one."""

    @property
    def largest(self) -> int:
        """Bytes that its state can have."""

    def save(self, base: Any = None) -> tuple[Any, bytes]:
        """Return the state, and as bytes what differs from ``base``."""

    def load(self, parts: Sequence[bytes]) -> None:
        """Put back what ``save()`` gave, one after another."""

    def halt(self, stopped: bool, refuse: bool = False) -> None:
        """Stop the device, which may fail, or let it run; ``refuse`` what sets it up."""

    def log(self, state: int) -> None:
        """Leave a record of a new MigrationState."""

    def start_logging(self, page_size: int, ranges: Sequence[tuple[int, int]]) -> int:
        """Log what DMA writes; return the page size. Raises OSError."""

    def stop_logging(self) -> None:
        """Log no longer."""

    def dirty(self, iova: int, length: int, page_size: int) -> bytes:
        """Return a bitmap of what was written. Raises OSError."""


def path(start: MigrationState, end: MigrationState) -> list[MigrationState]:
    """Return the states to go through, ``end`` included; [] when there is no way (or none to go).

    The shortest way that saves nothing in between, as the specification asks.
    """
    if (start, end) == (STOP_COPY, PRE_COPY):
        return []
    ways = deque([[start]])
    while ways:
        way = ways.popleft()
        if way[-1] == end:
            return way[1:]
        if way[-1] not in SAVING or way[-1] == start:
            ways += [[*way, to] for (at, to) in ARCS if at == way[-1] and to not in way]
    return []


class Migration:
    """Where the migration of one device stands in one conversation. Every answer may raise Refused."""

    def __init__(self, device: Callable[[], Movable]) -> None:
        self._device = device
        self.state = RUNNING
        self.max_transfer = protocol.MAX_TRANSFER  #: bytes of data in one message
        self._base: Any = None  # what PRE_COPY saved
        self._outgoing = b""
        self._sent = 0
        self._incoming = bytearray()

    def check(self, command: int) -> None:
        """Refuse what a client must not ask while the device is stopped (EINVAL)."""
        if self.state in STOPPED and command not in QUIET:
            name = protocol.command_name(command)
            raise Refused(errno.EINVAL, f"{name} while the device is in state {self.state.name}")

    def reset(self) -> None:
        """The device was reset: back to RUNNING, whatever was going on."""
        if self.state != RUNNING:
            self._forget()
            self._device().halt(False)
            self._enter(RUNNING)

    def end(self) -> None:
        """The client is gone, and with it its stop."""
        self._forget()
        if self.state != RUNNING:
            self._device().halt(False)

    # -- DEVICE_FEATURE --

    def feature(self, payload: bytes) -> bytes:
        """DEVICE_FEATURE: get, set or probe one."""
        if len(payload) < protocol.FEATURE.size:
            raise Refused(errno.EINVAL, f"DEVICE_FEATURE with {len(payload)} bytes of payload")
        argsz, flags = protocol.FEATURE.unpack_from(payload)
        number, asked = flags & 0xFFFF, FeatureFlag(flags & 0x70000)
        known = FEATURES.get(number, FeatureFlag(0))
        wrong = flags >> 19 or not asked or argsz < protocol.FEATURE.size or not known
        if wrong or asked & ~PROBE & ~known or (not asked & PROBE and asked == GET | SET):
            raise Refused(errno.EINVAL, f"feature {number}, flags {flags >> 16:#x}, argsz {argsz}")
        if asked & PROBE:
            return payload
        data = payload[protocol.FEATURE.size :]
        return self._set(number, data, payload) if asked & SET else self._get(number, data, argsz, flags)

    def _set(self, number: int, data: bytes, payload: bytes) -> bytes:
        if number == Feature.MIG_DEVICE_STATE:
            state, _ = _unpack(protocol.FEATURE_STATE, data)
            self.go(state)
        elif number == Feature.DMA_LOGGING_START:
            return payload[: protocol.FEATURE.size] + self._start_logging(data)
        else:
            self._device().stop_logging()
        return payload

    def _get(self, number: int, data: bytes, argsz: int, flags: int) -> bytes:
        if number == Feature.DMA_LOGGING_REPORT:
            return self._report(data, argsz, flags)
        if number == Feature.MIGRATION:
            answer = int(MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY).to_bytes(8, "little")
        else:
            answer = protocol.FEATURE_STATE.pack(self.state, 0)
        needed = protocol.FEATURE.size + len(answer)
        return protocol.FEATURE.pack(needed, flags) + (answer if needed <= argsz else b"")

    # -- dirty pages --

    def _start_logging(self, data: bytes) -> bytes:
        page_size, count, reserved = _unpack(protocol.LOGGING_START, data)
        listed = data[protocol.LOGGING_START.size :]
        if reserved or len(listed) != count * protocol.LOGGING_RANGE.size:
            raise Refused(errno.EINVAL, f"DMA logging of {count} ranges in {len(listed)} bytes")
        ranges = list(protocol.LOGGING_RANGE.iter_unpack(listed))
        with _errors():
            page_size = self._device().start_logging(page_size, ranges)
        return protocol.LOGGING_START.pack(page_size, count, 0) + listed

    def _report(self, data: bytes, argsz: int, flags: int) -> bytes:
        iova, length, page_size = request = _unpack(protocol.LOGGING_REPORT, data)
        if not length or not page_size or page_size & (page_size - 1):
            raise Refused(errno.EINVAL, f"a report of {length} bytes by pages of {page_size}")
        head = protocol.FEATURE.size + protocol.LOGGING_REPORT.size
        needed = head + 8 * ((length - 1) // page_size // 64 + 1)
        if needed > self.max_transfer:
            raise Refused(errno.EINVAL, f"a bitmap of {needed} bytes does not fit a message: ask for pieces")
        if needed > argsz:
            return protocol.FEATURE.pack(needed, flags)
        with _errors():
            bitmap = self._device().dirty(iova, length, page_size)
        return protocol.FEATURE.pack(needed, flags) + protocol.LOGGING_REPORT.pack(*request) + bitmap

    # -- the state machine --

    def go(self, state: int) -> None:
        """Go to a state, by way of others if need be. What fails leaves the last state reached, or ERROR."""
        known = state in set(MigrationState)
        way = path(self.state, MigrationState(state)) if known else []
        if not way and (state != self.state or self.state == ERROR):
            raise Refused(errno.EINVAL, f"there is no way from {self.state.name} to state {state}")
        for target in way:
            getattr(self, ARCS[self.state, target])()
            self._enter(target)

    def _enter(self, state: MigrationState) -> None:
        self.state = state
        self._device().log(state)

    def _stop(self) -> None:
        with _errors():
            self._device().halt(True, refuse=True)

    def _run(self) -> None:
        self._device().halt(False)

    def _begin_saving(self) -> None:
        self._save()

    def _stop_and_save(self) -> None:
        self._stop()
        try:
            self._save()
        except Refused:
            self._device().halt(False)
            raise

    def _save(self) -> None:
        with _errors():
            self._base, data = self._device().save(self._base)
        rest = self._outgoing[self._sent :]
        self._outgoing, self._sent = rest + PART.pack(MARK, len(data)) + data, 0

    def _end_saving(self) -> None:
        self._forget()

    def _begin_loading(self) -> None:
        self._forget()
        with _errors():
            self._device().halt(True)  # the client sets up interrupts and memory meanwhile

    def _end_loading(self) -> None:
        try:
            with _errors():
                self._device().load(self._parts())
        except Refused:
            self._fail()
            raise
        self._forget()
        self._stop()

    def _fail(self) -> None:
        self._forget()
        with contextlib.suppress(StateError):  # of a hook that does not return: it is stopped already
            self._device().halt(True, refuse=True)
        self._enter(ERROR)

    def _forget(self) -> None:
        self._base, self._outgoing, self._sent, self._incoming = None, b"", 0, bytearray()

    # -- data --

    def read(self, payload: bytes) -> bytes:
        """MIG_DATA_READ: the next piece of the state; shorter than asked for: that was all."""
        argsz, size = _unpack(protocol.MIGRATION_DATA, payload)
        if self.state not in SAVING:
            raise Refused(errno.EINVAL, f"MIG_DATA_READ in state {self.state.name}")
        if size > self.max_transfer or argsz < protocol.MIGRATION_DATA.size + size:
            raise Refused(errno.EINVAL, f"MIG_DATA_READ of {size} bytes, argsz {argsz}")
        data = self._outgoing[self._sent : self._sent + size]
        self._sent += len(data)
        return protocol.MIGRATION_DATA.pack(protocol.MIGRATION_DATA.size + len(data), len(data)) + data

    def write(self, payload: bytes) -> bytes:
        """MIG_DATA_WRITE: a piece of the state to load when RESUMING is left."""
        _, size = _unpack(protocol.MIGRATION_DATA, payload)
        data = payload[protocol.MIGRATION_DATA.size :]
        if self.state != RESUMING:
            raise Refused(errno.EINVAL, f"MIG_DATA_WRITE in state {self.state.name}")
        if size != len(data) or size > self.max_transfer:
            raise Refused(errno.EINVAL, f"MIG_DATA_WRITE of {size} bytes with {len(data)}")
        if len(self._incoming) + size > PARTS * self._device().largest:
            raise Refused(errno.EFBIG, f"more than {len(self._incoming)} bytes of migration data")
        self._incoming += data
        return b""

    def _parts(self) -> list[bytes]:
        parts: list[bytes] = []
        rest = memoryview(self._incoming)
        while rest:
            mark, size = PART.unpack_from(rest) if len(rest) >= PART.size else (b"", 0)
            if mark != MARK or size > len(rest) - PART.size:
                raise SnapshotError(f"the migration data ends, or is damaged, in part {len(parts) + 1}")
            if len(parts) == PARTS:  # each may unpack to all that a device has
                raise SnapshotError(f"the migration data has more than {PARTS} parts")
            parts.append(bytes(rest[PART.size : PART.size + size]))
            rest = rest[PART.size + size :]
        if not parts:
            raise SnapshotError("no migration data came")
        return parts


def _unpack(structure: struct.Struct, data: bytes) -> tuple[Any, ...]:
    if len(data) < structure.size:
        raise Refused(errno.EINVAL, f"{len(data)} bytes where {structure.size} belong")
    return structure.unpack_from(data)


@contextlib.contextmanager
def _errors() -> Any:
    """Refuse the message for what went wrong with the device or the client's data."""
    try:
        yield
    except (SnapshotError, StateError) as error:
        raise Refused(errno.EINVAL, str(error)) from error
    except OSError as error:
        raise Refused(error.errno or errno.EIO, str(error)) from error
    except MemoryError as error:
        raise Refused(errno.ENOMEM, str(error)) from error
    except Exception as error:  # raised by the device's own on_snapshot() or on_restore()
        raise Refused(errno.EIO, str(error)) from error
