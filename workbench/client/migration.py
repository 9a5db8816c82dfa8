"""Migration as a client drives it: states, the stream of data, the log of pages that the device wrote."""

from collections.abc import Callable, Sequence

from .. import protocol
from ..protocol import Command, Feature, FeatureFlag, MigrationFlag, MigrationState

__all__ = ["Migration"]

CHUNK = 1 << 18  #: bytes asked for at once

#: Sends a command and its payload, returns the reply's.
Ask = Callable[[Command, bytes, str], bytes]


class Migration:
    """``guest.migration``. All of it raises ProtocolError when the device refuses (``code`` is the errno)."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def feature(self, number: int, flags: int, data: bytes = b"", room: int = 0) -> bytes:
        """Send DEVICE_FEATURE with FeatureFlag ``flags``; return the data of the reply.

        ``room``: bytes of data that the reply may have, beside as many as ``data`` has.
        """
        size = protocol.FEATURE.size
        request = protocol.FEATURE.pack(size + len(data) + room, flags | number) + data
        return self._ask(Command.DEVICE_FEATURE, request, "DEVICE_FEATURE")[size:]

    @property
    def flags(self) -> MigrationFlag:
        """What the device can do (feature MIGRATION)."""
        return MigrationFlag(
            int.from_bytes(self.feature(Feature.MIGRATION, FeatureFlag.GET, room=8), "little")
        )

    @property
    def state(self) -> MigrationState:
        """Where the device is; assigning goes there (feature MIG_DEVICE_STATE)."""
        data = self.feature(Feature.MIG_DEVICE_STATE, FeatureFlag.GET, room=8)
        return MigrationState(protocol.FEATURE_STATE.unpack(data)[0])

    @state.setter
    def state(self, state: int) -> None:
        self.feature(Feature.MIG_DEVICE_STATE, FeatureFlag.SET, protocol.FEATURE_STATE.pack(state, 0))

    def read(self, size: int = CHUNK) -> bytes:
        """Return the next ``size`` bytes of the device's state; fewer when that was all (MIG_DATA_READ)."""
        head = protocol.MIGRATION_DATA.size
        reply = self._ask(
            Command.MIG_DATA_READ, protocol.MIGRATION_DATA.pack(head + size, size), "MIG_DATA_READ"
        )
        return reply[head:]

    def read_all(self, size: int = CHUNK) -> bytes:
        """Read until the device has no more for now, ``size`` bytes at once."""
        pieces = [self.read(size)]
        while len(pieces[-1]) == size:
            pieces.append(self.read(size))
        return b"".join(pieces)

    def write(self, data: bytes, size: int = CHUNK) -> None:
        """Hand state over, ``size`` bytes at once (MIG_DATA_WRITE)."""
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            head = protocol.MIGRATION_DATA.pack(protocol.MIGRATION_DATA.size + len(piece), len(piece))
            self._ask(Command.MIG_DATA_WRITE, head + piece, "MIG_DATA_WRITE")

    def save(self, precopy: bool = True) -> bytes:
        """Return the whole state of the device, which stops; with ``precopy`` most is read while it runs."""
        data = b""
        if precopy:
            self.state = MigrationState.PRE_COPY
            data = self.read_all()
        self.state = MigrationState.STOP_COPY
        data += self.read_all()
        self.state = MigrationState.STOP
        return data

    def load(self, data: bytes) -> None:
        """Give the device a state that ``save()`` returned, and let it run."""
        self.state = MigrationState.RESUMING
        self.write(data)
        self.state = MigrationState.RUNNING

    # -- pages that the device wrote --

    def start_logging(self, page_size: int = 4096, ranges: Sequence[tuple[int, int]] = ()) -> int:
        """Log what the device writes to ranges (IOVA, bytes), none: to all; return the page size it took."""
        listed = b"".join(protocol.LOGGING_RANGE.pack(*one) for one in ranges)
        data = protocol.LOGGING_START.pack(page_size, len(ranges), 0) + listed
        reply = self.feature(Feature.DMA_LOGGING_START, FeatureFlag.SET, data)
        return int(protocol.LOGGING_START.unpack_from(reply)[0])

    def stop_logging(self) -> None:
        """Log no longer."""
        self.feature(Feature.DMA_LOGGING_STOP, FeatureFlag.SET)

    def bitmap(self, iova: int, length: int, page_size: int = 4096) -> bytes:
        """Return a bit for each page of a range that was written since the last time, as 64-bit words."""
        data = protocol.LOGGING_REPORT.pack(iova, length, page_size)
        room = 8 * ((length - 1) // page_size // 64 + 1)
        return self.feature(Feature.DMA_LOGGING_REPORT, FeatureFlag.GET, data, room)[len(data) :]

    def dirty(self, iova: int, length: int, page_size: int = 4096) -> list[int]:
        """Return the IOVA of every page of a range that was written since the last time."""
        bits = int.from_bytes(self.bitmap(iova, length, page_size), "little")
        return [iova + place * page_size for place in range(bits.bit_length()) if bits >> place & 1]
