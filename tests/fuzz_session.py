"""Fuzzes what Python does with a client's bytes: the session with its migration, snapshots, the wire trace.

``python tests/fuzz_session.py 60`` runs for 60 seconds from the corpus in ``tests/native/corpus/session``. An
input is mutated bytes (from a seed that is printed, so a run can be had again) and is kept when it reaches a
new line of ours, as ``sys.settrace`` sees it. What may happen is a Refused or one of our other errors, with a
message; everything else is a bug, and the input is written to the cache's folder ``fuzz/broken``.
"""

import argparse
import contextlib
import hashlib
import random
import resource
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from state_kit import Stateful

import workbench as wb
from workbench import protocol, wire
from workbench.errors import ProtocolError, SnapshotError, StateError
from workbench.migration import PART
from workbench.protocol import Command, Feature, FeatureFlag, MigrationState
from workbench.session import Refused, Session
from workbench.snapshot import HEADER, Snapshot
from workbench.vm.debs import cache_home

CORPUS = Path(__file__).resolve().parent / "native/corpus/session"
OURS = str(Path(wb.__file__).resolve().parent)
LONGEST = 4096
SNAPSHOT, TRACE, REPLY = 0xC0, 0xD0, 0xE0  #: the first byte says what an input is; below: a conversation
LOAD_SAVED, LOAD_CHANGED = 0xF0, 0xF1  #: commands of our own: write back what was read, as it is or changed
GROWTH = 200 << 20  #: bytes that a run may add to the process


class Target(Stateful):
    """State of every sort, and doorbells; restores whatever it gets."""

    class bar4(wb.Bar, size=4096):
        FIRST = wb.Doorbell(0x100, count=4)

    def on_restore(self, state: Any) -> None:
        self.steps = state["steps"] if isinstance(state, dict) and "steps" in state else 0


class Fuzzed:
    """The device that inputs are tried on, and what a conversation has read of its state."""

    def __init__(self) -> None:
        self.device = Target("fuzzed")
        self.device.logger.disabled = True  # it tells of every state that does not fit
        self.saved = b""

    def run(self, data: bytes) -> None:
        """Try one input. Raises whatever is not an answer."""
        kind, rest = data[:1] or b"\0", data[1:]
        with contextlib.suppress(SnapshotError, StateError, ProtocolError):
            if kind[0] < SNAPSHOT:
                self.converse(data)
            elif kind[0] < TRACE:
                self.device.restore(Snapshot.from_bytes(repaired(rest), 1 << 24))
            elif kind[0] < REPLY:
                str(wire.describe(rest, bool(kind[0] & 1), kind[0] & 3))
            else:
                for one in protocol.region_capabilities(rest):
                    protocol.sparse_areas(one)

    def converse(self, data: bytes) -> None:
        """A conversation: every message is answered or refused, and the device still works."""
        session, self.saved = Session(self.device._core), b""
        try:
            for command, payload in messages(data):
                self.say(session, command, payload)
        finally:
            session.migration.end()
            with contextlib.suppress(OSError):
                self.device._core.state.stop_logging()
        self.device.bar0.PORTS[3].value = 0x5A
        assert self.device.bar0.PORTS[3].value == 0x5A

    def say(self, session: Session, command: int, payload: bytes) -> None:
        if command in (LOAD_SAVED, LOAD_CHANGED):
            saved = changed(self.saved, payload) if command == LOAD_CHANGED else self.saved
            payload = protocol.MIGRATION_DATA.pack(8 + len(saved), len(saved)) + saved
            command = Command.MIG_DATA_WRITE
        try:
            answer = session.answer(command, payload)
        except Refused as refused:
            if refused.code <= 0 or not str(refused):
                raise AssertionError(f"a refusal without a reason: {refused!r}") from refused
            return
        assert isinstance(answer, bytes)
        assert len(answer) <= protocol.MAX_TRANSFER + 64
        assert len(session.fds) <= protocol.MAX_FDS
        assert all(fd >= 0 for fd in session.fds)
        if command == Command.MIG_DATA_READ:
            self.saved = (self.saved + answer[8:])[: 1 << 20]


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut an input into messages: command, length (255: two more bytes), payload."""
    while len(data) >= 2:
        command, size, at = data[0], data[1], 2
        if size == 255 and len(data) >= 4:
            size, at = int.from_bytes(data[2:4], "little"), 4
        yield command, data[at : at + size]
        data = data[at + size :]


def changed(saved: bytes, how: bytes) -> bytes:
    """Change bytes of saved state (place, value; place, value ...) and make its check sum good again."""
    state = bytearray(saved)
    for place, value in struct.iter_unpack("<HB", how[: len(how) // 3 * 3]):
        if state:
            state[place % len(state)] ^= value
    return bytes(state[: PART.size]) + repaired(bytes(state[PART.size :]))


def repaired(data: bytes) -> bytes:
    """Return a snapshot with the check sum that it should have: the rest of it is to be looked at."""
    if len(data) < HEADER.size:
        return data
    return data[: HEADER.size - 4] + struct.pack("<I", zlib.crc32(data[HEADER.size :])) + data[HEADER.size :]


# ---- inputs to begin with


def message(command: int, payload: bytes = b"") -> bytes:
    size = bytes([len(payload)]) if len(payload) < 255 else b"\xff" + struct.pack("<H", len(payload))
    return bytes([command]) + size + payload


def feature(number: int, flags: int, data: bytes = b"") -> bytes:
    return message(Command.DEVICE_FEATURE, protocol.FEATURE.pack(1024, number | flags) + data)


def go(state: MigrationState) -> bytes:
    return feature(Feature.MIG_DEVICE_STATE, FeatureFlag.SET, protocol.FEATURE_STATE.pack(state, 0))


def seeds() -> list[bytes]:
    """Good conversations, a good snapshot, good messages."""
    read = message(Command.MIG_DATA_READ, protocol.MIGRATION_DATA.pack(1 << 20, 65536))
    limits = {
        "max_msg_fds": 8,
        "max_data_xfer_size": 65536,
        "write_multiple": True,
        "migration": {"pgsize": 4096},
    }
    version = message(Command.VERSION, protocol.pack_version(2, limits))
    infos = message(Command.DEVICE_GET_INFO, bytes([16] + [0] * 15)) + b"".join(
        message(Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(room, 0, index, 0, 0, 0))
        + message(Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, index % 6, 0))
        + message(Command.DEVICE_GET_REGION_IO_FDS, protocol.IO_FDS.pack(room * 8, 0, index, 0))
        for index in range(10)
        for room in (32, 96)
    )
    start = protocol.LOGGING_START.pack(4096, 1, 0) + protocol.LOGGING_RANGE.pack(0x10000, 0x10000)
    logging = (
        feature(Feature.DMA_LOGGING_START, FeatureFlag.SET, start)
        + feature(
            Feature.DMA_LOGGING_REPORT, FeatureFlag.GET, protocol.LOGGING_REPORT.pack(0x10000, 0x8000, 4096)
        )
        + feature(Feature.DMA_LOGGING_STOP, FeatureFlag.SET)
    )
    saving = go(MigrationState.PRE_COPY) + read + go(MigrationState.STOP_COPY) + read
    loading = go(MigrationState.RESUMING) + message(LOAD_SAVED) + go(MigrationState.RUNNING)
    spoilt = go(MigrationState.RESUMING) + message(LOAD_CHANGED, b"\x50\0\x20") + go(MigrationState.STOP)
    probes = b"".join(feature(number, FeatureFlag.PROBE | FeatureFlag.GET) for number in range(12))
    reset = message(Command.DEVICE_RESET)
    with Target("seed") as device:
        device.bar0.CTRL.value = 3
        snapshot = device.snapshot().to_bytes()
    wires = [
        bytes([TRACE]) + protocol.pack_message(1, command, payload)
        for whole in (version, infos, saving, logging)
        for command, payload in messages(whole)
    ]
    return [
        version + infos, version + logging, version + saving + loading, version + saving + spoilt + reset,
        probes + reset, bytes([SNAPSHOT]) + snapshot, *wires,
    ]  # fmt: skip


# ---- mutation and coverage

SMALL = [0, 1, 2, 7, 8, 15, 16, 32, 255, 4095, 4096]
EDGES = [*SMALL, *(1 << bits for bits in (16, 20, 31, 63)), (1 << 32) - 1, (1 << 64) - 1]
WORDS = [b"{}", b"[]", b"null", b'"', b"\0", b"-1", b"1e999", b'{"capabilities":', b"[" * 40, b"true", b"NaN"]


def mutated(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return an input made from one or two of the corpus."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        at = chance.randrange(len(data) + 1)
        way = chance.randrange(8)
        if way == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif way == 1:
            width = chance.choice((1, 2, 4, 8))
            data[at : at + width] = (chance.choice(EDGES) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        elif way == 2:
            del data[at : at + chance.randrange(1, 20)]
        elif way == 3:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif way == 4:
            data[at:at] = chance.choice(WORDS)
        elif way == 5:
            other = chance.choice(corpus)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.randrange(1, 200)]
        elif way == 6:
            data[at:at] = data[at : at + chance.randrange(1, 60)]
        elif data:
            data[at % len(data)] = chance.randrange(256)
    return bytes(data[:LONGEST])


class Lines:
    """The lines of ours that ran, while it is a context."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int]] = set()
        self.new = 0

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(OURS) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        key = frame.f_code, frame.f_lineno
        if key not in self.seen:
            self.seen.add(key)
            self.new += 1
        return self._line

    def __enter__(self) -> "Lines":
        self.new = 0
        sys.settrace(self._call)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)


def committed() -> list[bytes]:
    """Return the corpus."""
    return [path.read_bytes() for path in sorted(CORPUS.glob("*"))]


def fuzz(seconds: float, seed: int) -> tuple[int, list[bytes], int]:
    """Return how many inputs were tried, which reached something new, lines reached. Raises what it finds."""
    chance, lines, kept, count = random.Random(seed), Lines(), [], 0
    corpus = seeds() + committed()
    fuzzed, until = Fuzzed(), time.monotonic() + seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with fuzzed.device:
        while time.monotonic() < until or count < len(corpus):
            data = corpus[count] if count < len(corpus) else mutated(chance, corpus + kept)
            count += 1
            try:
                with lines:
                    fuzzed.run(data)
            except BaseException:
                name = cache_home() / "fuzz/broken" / f"session-{hashlib.sha1(data).hexdigest()[:16]}"
                name.parent.mkdir(parents=True, exist_ok=True)
                name.write_bytes(data)
                print(f"broken by {name} (seed {seed}): {data!r}", file=sys.stderr)
                raise
            if lines.new and count > len(corpus):
                kept.append(data)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH, f"{grown >> 20} MiB more than before"
    return count, kept, len(lines.seen)


def main() -> None:
    """Run, and with ``--keep`` add what reached new lines to the committed corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--keep", action="store_true")
    chosen = parser.parse_args()
    count, kept, lines = fuzz(chosen.seconds, chosen.seed)
    print(f"{count} inputs, {len(kept)} reached something new, {lines} lines of ours; seed {chosen.seed}")
    CORPUS.mkdir(parents=True, exist_ok=True)
    for data in kept if chosen.keep else ():
        (CORPUS / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main()
