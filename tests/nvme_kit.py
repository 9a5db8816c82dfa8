"""A driver for an NVMe controller, as small as it can be: queues, doorbells and phase bits, over a guest."""

import struct
import time
from typing import NamedTuple

from workbench import Client

SIZE = 4 << 20  #: bytes of the disk
PAGE, BLOCK = 4096, 512
CAP, VS, CC, CSTS, AQA, ASQ, ACQ = 0x00, 0x08, 0x14, 0x1C, 0x24, 0x28, 0x30
ENABLED = 0x00460001  # CC: entries of 64 and 16 bytes, EN
READY, FATAL, SHUT_DOWN = 1, 2, 8  # CSTS
FLUSH, WRITE, READ, WRITE_ZEROES, MANAGE = 0, 1, 2, 8, 9
DELETE_SQ, CREATE_SQ, LOG, DELETE_CQ, CREATE_CQ, IDENTIFY = 0, 1, 2, 4, 5, 6
ABORT, SET, GET, EVENT = 8, 9, 10, 12
QUEUES, QUEUE_BYTES = 0x10000, 0x4000  # where queues are in the guest's memory
PRP_LISTS, DATA, MEMORY = 0x80000, 0x100000, 0x400000


class Done(NamedTuple):
    """A completion; ``status`` is type << 8 | code."""

    cid: int
    status: int
    result: int
    again: bool  #: trying again may help
    sq_head: int
    sq: int


class Queue:
    """A pair of queues of one number, the driver's side."""

    def __init__(self, driver: "Driver", number: int, depth: int, vector: int) -> None:
        self.driver, self.number, self.depth, self.vector = driver, number, depth, vector
        self.sq = QUEUES + number * 2 * QUEUE_BYTES
        self.cq = self.sq + QUEUE_BYTES
        self.tail = self.head = self.cid = 0
        self.phase = 1
        driver.memory.write(self.cq, bytes(16 * depth))

    def put(
        self, opcode: int, nsid: int = 1, prp: tuple[int, int] = (0, 0), *dwords: int, flags: int = 0
    ) -> int:
        """Write a command into the queue without ringing; return its number."""
        self.cid = self.cid + 1 & 0xFFFF
        dwords += (0,) * (6 - len(dwords))
        command = struct.pack("<BBHIIIQQQ6I", opcode, flags, self.cid, nsid, 0, 0, 0, *prp, *dwords)
        self.driver.memory.write(self.sq + 64 * self.tail, command)
        self.tail = (self.tail + 1) % self.depth
        return self.cid

    def ring(self) -> None:
        self.driver.bell(self.number, False, self.tail)

    def look(self) -> Done | None:
        """Return the next completion if it is there, without giving its place back."""
        result, _, head, sq, cid, status = struct.unpack(
            "<IIHHHH", self.driver.memory.read(self.cq + 16 * self.head, 16)
        )
        if status & 1 != self.phase:
            return None
        self.head = (self.head + 1) % self.depth
        self.phase ^= not self.head
        return Done(cid, status >> 1 & 0x7FF, result, not status >> 15, head, sq)

    def wait(self, timeout: float = 5) -> Done:
        """Wait for the next completion, by interrupt, and give its place back."""
        end = time.monotonic() + timeout
        while (done := self.look()) is None:
            self.driver.guest.wait_irq(self.vector, max(end - time.monotonic(), 0.001), 2)
        self.driver.bell(self.number, True, self.head)
        return done

    def do(
        self, opcode: int, nsid: int = 1, prp: tuple[int, int] = (0, 0), *dwords: int, flags: int = 0
    ) -> Done:
        """Run one command."""
        cid = self.put(opcode, nsid, prp, *dwords, flags=flags)
        self.ring()
        done = self.wait()
        assert done.cid == cid
        return done

    # -- blocks --

    def prp(self, at: int, size: int) -> tuple[int, int]:
        """Return PRP1 and PRP2 of contiguous memory; a list goes to a place of this queue's own."""
        first = PAGE - at % PAGE
        pages = list(range(at + first, at + size, PAGE)) if size > first else []
        if len(pages) < 2:
            return at, pages[0] if pages else 0
        place = PRP_LISTS + self.number * PAGE
        self.driver.memory.write(place, struct.pack(f"<{len(pages)}Q", *pages))
        return at, place

    def write(self, block: int, data: bytes, at: int = DATA) -> Done:
        self.driver.memory.write(at, data)
        return self.move(WRITE, block, len(data), at)

    def read(self, block: int, size: int, at: int = DATA) -> bytes:
        done = self.move(READ, block, size, at)
        assert done.status == 0, done
        return self.driver.memory.read(at, size)

    def move(self, opcode: int, block: int, size: int, at: int = DATA) -> Done:
        return self.do(opcode, 1, self.prp(at, size), *place(block, size))


def place(block: int, size: int) -> tuple[int, int, int]:
    """Return the dwords 10 to 12 that say where blocks are."""
    return block & 0xFFFFFFFF, block >> 32, size // BLOCK - 1


class Driver:
    """What a driver does: enable, make queues; ``admin`` and ``io[0]`` ... are the queues."""

    def __init__(self, guest: Client, depth: int = 16) -> None:
        self.guest, self.bar, self.memory, self.depth = guest, guest.bar0, guest.memory, depth
        if not self.memory.ranges:
            self.memory.map(0, MEMORY)
        self.io: list[Queue] = []

    def bell(self, number: int, completions: bool, entry: int) -> None:
        self.bar.write32(0x1000 + 8 * number + 4 * completions, entry, posted=True)

    def enable(self, io: int = 0) -> "Driver":
        """Enable the controller as Linux does, with ``io`` pairs of queues."""
        self.guest.enable()
        self.guest.enable_msix()
        self.disable()
        self.admin, self.io = Queue(self, 0, self.depth, 0), []
        self.bar.write32(AQA, (self.depth - 1) * 0x10001)
        self.bar.write64(ASQ, self.admin.sq)
        self.bar.write64(ACQ, self.admin.cq)
        self.bar.write32(CC, ENABLED)
        assert self.bar.read32(CSTS) == READY
        for number in range(1, io + 1):
            self.add(number)
        return self

    def disable(self) -> None:
        self.bar.write32(CC, 0)
        assert self.bar.read32(CSTS) == 0

    def add(self, number: int) -> Queue:
        queue = Queue(self, number, self.depth, number)
        size = (self.depth - 1) << 16 | number
        assert self.admin.do(CREATE_CQ, 0, (queue.cq, 0), size, number << 16 | 3).status == 0
        assert self.admin.do(CREATE_SQ, 0, (queue.sq, 0), size, number << 16 | 1).status == 0
        self.io.append(queue)
        return queue

    def identify(self, what: int, nsid: int = 0) -> bytes:
        done = self.admin.do(IDENTIFY, nsid, (DATA, 0), what)
        assert done.status == 0, done
        return self.memory.read(DATA, PAGE)
