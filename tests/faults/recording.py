"""A recorded conversation: what a real client said, as a text file that is only ever read as text.

The first line says who spoke. Each other line is a message: how often it came in a row, how many file
descriptors came with it, and its bytes in hexadecimal. The ids are those of the client.
"""

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

__all__ = ["Recording", "Said"]

LINE = re.compile(r"(\d{1,4}) (\d{1,2}) ([0-9a-f]{32,8192})", re.ASCII)
LIMIT = 1 << 20  #: bytes of a file


@dataclass(frozen=True)
class Said:
    """A message of the client, header included, how many descriptors came with it, and its command.

    The command is the one that was recorded, whatever a test makes of the bytes.
    """

    data: bytes
    nfds: int
    command: int

    @classmethod
    def of(cls, data: bytes, nfds: int) -> "Said":
        """Return the message in ``data``."""
        return cls(data, nfds, int.from_bytes(data[2:4], "little"))

    @property
    def body(self) -> tuple[bytes, int]:
        """The message but for its id."""
        return self.data[2:], self.nfds


@dataclass(frozen=True)
class Recording:
    """Who spoke, and what."""

    about: str
    said: tuple[Said, ...]

    def save(self, path: Path) -> None:
        """Write it. A message that came several times in a row, but for its id, is one line."""
        lines = [self.about]
        for _, group in groupby(self.said, key=lambda one: one.body):
            same = list(group)
            lines.append(f"{len(same)} {same[0].nfds} {same[0].data.hex()}")
        path.write_text("\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Read it. Raises ValueError naming the line that is none, or that the file is too long."""
        text = path.read_text(encoding="ascii")
        if len(text) > LIMIT:
            raise ValueError(f"{path} has {len(text)} bytes, more than any recording")
        about, *lines = text.splitlines()
        said: list[Said] = []
        for number, line in enumerate(lines, 2):
            found = LINE.fullmatch(line)
            if found is None or len(found[3]) % 2:
                raise ValueError(f"{path}, line {number}: no message of a recording")
            data, nfds = bytes.fromhex(found[3]), int(found[2])
            first = int.from_bytes(data[:2], "little")
            for repeat in range(int(found[1])):
                number_of = (first + repeat) & 0xFFFF
                said.append(Said.of(number_of.to_bytes(2, "little") + data[2:], nfds))
        return cls(about, tuple(said))
