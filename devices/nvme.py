"""An NVMe 1.4 controller with one disk, which Linux's own ``nvme`` drives: ``Nvme(backing="disk.img")``.

The guest writes commands of 64 bytes into a submission queue in its memory and rings a doorbell. The
controller fetches them, copies data from or to the pages that a command names (PRP), writes completions of
16 bytes into a completion queue and sends the MSI-X message of that queue. Queue 0 is for administration.

Source: NVM Express 1.4: 3.1 registers, 4 queues and PRP, 5 administration, 6 reading and writing, 7.6 start.
"""

import contextlib
import struct
import uuid
from collections import namedtuple
from typing import Any, NamedTuple

import workbench as wb

PAGE, BLOCK = 4096, 512  #: bytes: the only page size that CAP offers, the only block size of the disk
QUEUES = 9  #: of each sort, the administrative one included
DEPTH = 1024  #: entries of a queue at most
MDTS = 8  #: a command moves at most 2**MDTS pages: 1 MiB
BURST = 32  #: commands of one queue before it is another one's turn
EVENTS = 4  #: asynchronous event requests that are kept
CACHE, QUEUE_COUNT = 6, 7  #: features that mean something here
FEATURES = {1: 0, 2: 0, 4: 343, 5: 0, CACHE: 1, QUEUE_COUNT: (QUEUES - 2) * 0x10001, 8: 0, 9: 0, 10: 0, 11: 0}

# How a command ends: type << 8 | code (4.6.1).
SUCCESS, INVALID_OPCODE, INVALID_FIELD, DATA_TRANSFER_ERROR = 0x00, 0x01, 0x02, 0x04
INTERNAL_ERROR, ABORT_REQUESTED, INVALID_NAMESPACE, SEQUENCE_ERROR = 0x06, 0x07, 0x0B, 0x0C
INVALID_PRP_OFFSET, LBA_OUT_OF_RANGE, WRITE_FAULT, READ_ERROR = 0x13, 0x80, 0x280, 0x281
NO_SUCH_COMPLETIONS, INVALID_QUEUE_ID, INVALID_QUEUE_SIZE, EVENT_LIMIT = 0x100, 0x101, 0x102, 0x105
INVALID_VECTOR, INVALID_LOG_PAGE, INVALID_DELETION, NOT_SAVEABLE = 0x108, 0x109, 0x10C, 0x10D
TRANSIENT = (SUCCESS, DATA_TRANSFER_ERROR, INTERNAL_ERROR)  #: trying again may help

# Entries of the two sorts of queues, in the words of struct (4.2, 4.6).
COMMAND, COMPLETION = "<BBHI16xQQ6I", "<IIHHHH"
Command = namedtuple("Command", "opcode flags cid nsid prp1 prp2 cdw10 cdw11 cdw12 cdw13 cdw14 cdw15")

#: Methods by opcode: of queue 0 (5), of the others (6).
ADMIN = {0x00: "delete_submissions", 0x01: "create_submissions", 0x02: "get_log_page",
         0x04: "delete_completions", 0x05: "create_completions", 0x06: "identify", 0x08: "abort",
         0x09: "set_feature", 0x0A: "get_feature", 0x0C: "keep_event_request"}  # fmt: skip
IO = {0x00: "flush", 0x01: "write", 0x02: "read", 0x08: "write_zeroes", 0x09: "manage"}


class Completions(NamedTuple):
    """A completion queue; ``vector`` is None when the guest wants no interrupts."""

    ring: wb.Ring
    vector: int | None


class Submissions(NamedTuple):
    """A submission queue, and where its commands complete."""

    number: int
    ring: wb.Ring
    completions: Completions


class Refused(Exception):
    """A command ends with this status instead of success."""


def demand(fulfilled: bool, status: int) -> None:
    """Refuse the command with a status unless something is so."""
    if not fulfilled:
        raise Refused(status)


def fill(size: int, *places: Any) -> bytes:
    """Return ``size`` bytes of 0 with values in some places: (offset, format of ``struct``, values ...)."""
    data = bytearray(size)
    for offset, layout, *values in places:
        struct.pack_into("<" + layout, data, offset, *values)
    return bytes(data)


class Nvme(wb.Device):
    """An NVMe controller; ``dev.disk`` is what is on the disk.

    ``backing``: a file, or a buffer such as a bytearray; without it the disk is in memory and goes with the
    device. ``size``: bytes, a multiple of 512; needed for what is not there yet (in memory: 64 MiB).
    """

    id = wb.PciId(vendor=0x1234, device=0x4E56, class_code=0x010802)
    irq = wb.Interrupts(msix=QUEUES)
    capabilities = (wb.PowerManagement(), wb.PciExpress(flr=True))
    reset_on_detach = True  # a guest that is gone leaves queues in memory that is gone, too

    class bar0(wb.Bar, size=0x4000, bits=64):
        """The bells are plain registers and no ``Doorbell``: an eventfd would not carry the number."""

        # fmt: off
        CAP = wb.Register(0x00, 64, "ro", MQES=wb.Field(0, 16, reset=DEPTH - 1, doc="Entries of a queue - 1"),
                          CQR=wb.Field(16, reset=1, doc="Queues are contiguous"),
                          TO=wb.Field(24, 8, reset=20, doc="Until RDY, at worst: half seconds"),
                          CSS=wb.Field(37, 8, reset=1, doc="The NVM command set"))
        VS = wb.Register(0x08, mode="ro", reset=0x00010400)
        INTM = wb.Register(0x0C, mode="ignore", count=2, doc="INTMS, INTMC: of INTx, which is not there")
        CC = wb.Register(0x14, EN=wb.Field(0), CSS=wb.Field(4, 3), MPS=wb.Field(7, 4), AMS=wb.Field(11, 3),
                         SHN=wb.Field(14, 2, doc="Shutdown notification"), IOSQES=wb.Field(16, 4),
                         IOCQES=wb.Field(20, 4))
        CSTS = wb.Register(0x1C, mode="ro", RDY=wb.Field(0), CFS=wb.Field(1, doc="Fatal"),
                           SHST=wb.Field(2, 2, enum={"NORMAL": 0, "OCCURRING": 1, "COMPLETE": 2}))
        AQA = wb.Register(0x24, ASQS=wb.Field(0, 12), ACQS=wb.Field(16, 12))
        ASQ = wb.Register(0x28, 64, PAGE=wb.Field(12, 52))
        ACQ = wb.Register(0x30, 64, PAGE=wb.Field(12, 52))
        CMB = wb.Register(0x38, 64, "ro", doc="CMBLOC, CMBSZ: there is no memory of ours for queues")
        SQ_TAIL = wb.Register(0x1000, mode="wo", count=QUEUES, stride=8, ENTRY=wb.Field(0, 16))
        CQ_HEAD = wb.Register(0x1004, mode="wo", count=QUEUES, stride=8, ENTRY=wb.Field(0, 16))
        # fmt: on

    def __init__(self, name: str | None = None, *, backing: Any = None, size: int | None = None, **rest: Any):
        super().__init__(name, **rest)
        self.own_disk = backing is not None or size is not None
        self.disk = wb.Storage(backing, size if self.own_disk else 64 << 20)
        if self.disk.size % BLOCK:
            raise ValueError(f"{self.disk}: the size is no multiple of {BLOCK}")
        self.uuid = uuid.uuid5(uuid.NAMESPACE_DNS, self.name)  # a guest tells its disks apart by that
        self.submissions: dict[int, Submissions] = {}
        self.completions: dict[int, Completions] = {}
        self.ready: dict[int, None] = {}  # submission queues that have work, in order
        self.events: list[int] = []  # event requests that the guest left with us
        self.features = dict(FEATURES)

    def close(self) -> None:
        """Stop serving, and close the disk unless a newer device goes on with it."""
        done = self.closed
        super().close()
        if not done:
            self.disk.close()

    def on_reset(self, kind: str) -> None:
        """Every reset is the same: what the guest set up is forgotten, the disk is not touched."""
        for one in (self.submissions, self.completions, self.ready, self.events):
            one.clear()
        self.features.update(FEATURES)

    def on_takeover(self, older: "Nvme") -> None:
        """A newer device goes on with the guest's queues and, unless it was given one, with the disk."""
        for name in ("submissions", "completions", "ready", "events", "features"):
            setattr(self, name, getattr(older, name))
        if not self.own_disk:
            self.disk = older.disk

    def on_restore(self, state: Any) -> None:
        """Queues are in no snapshot: a guest that had some has to reset us, which loses nothing."""
        self.on_reset("restore")
        if self.bar0.CSTS.RDY:
            self.give_up("its state was restored")

    @bar0.CC.on_write
    def configure(self, access: wb.Access) -> None:
        """Enabling makes queue 0, disabling is a reset that keeps ASQ, ACQ and AQA (7.6.1, 7.3.2)."""
        if access.value & ~access.old & 1:
            self.enable()
        elif access.old & ~access.value & 1:
            self.on_reset("controller")
            self.bar0.CSTS.poke(0)
        if self.bar0.CC.SHN and not access.old >> 14 & 3:
            self.shut_down()

    def enable(self) -> None:
        """Make the administrative queues where the guest wants them."""
        dma, bar, cc, sizes = self.dma, self.bar0, self.bar0.CC, self.bar0.AQA
        if cc.MPS or cc.CSS or cc.AMS or not sizes.ASQS or not sizes.ACQS:
            self.give_up(f"the guest asks for what CAP does not offer: CC {cc:#x}, AQA {sizes:#x}")
            return
        self.completions[0] = Completions(wb.Ring(dma, bar.ACQ.value, COMPLETION, sizes.ACQS.value + 1), 0)
        ring = wb.Ring(dma, bar.ASQ.value, COMMAND, sizes.ASQS.value + 1)
        self.submissions[0] = Submissions(0, ring, self.completions[0])
        self.bar0.CSTS.RDY.value = 1

    def shut_down(self) -> None:
        """What was written reaches the disk, and no command runs before the next reset (7.6.2)."""
        self.submissions.clear()
        try:
            self.disk.flush()
            self.bar0.CSTS.SHST.value = "COMPLETE"
        except OSError as error:
            self.give_up(str(error))

    def give_up(self, why: str) -> None:
        """Run no more commands until the guest resets the controller (9.5)."""
        self.logger.warning("%s gives up until it is reset: %s", self.name, why)
        self.submissions.clear()
        self.bar0.CSTS.CFS.value = 1

    # -- queues --

    @bar0.SQ_TAIL.on_write
    def submitted(self, access: wb.Access) -> None:
        """The guest filled a queue up to here. What makes no sense is ignored, here and below."""
        if queue := self.submissions.get(access.index):
            with contextlib.suppress(ValueError):
                queue.ring.filled(access.value)
            self.schedule(queue)

    @bar0.CQ_HEAD.on_write
    def completed(self, access: wb.Access) -> None:
        """The guest read completions up to here; commands that had to wait for room go on."""
        if completions := self.completions.get(access.index):
            with contextlib.suppress(ValueError):
                completions.ring.emptied(access.value)
            for queue in self.submissions.values():
                if queue.completions is completions:
                    self.schedule(queue)

    def schedule(self, queue: Submissions) -> None:
        """Let a queue be served, if it has commands and there is room to complete them.

        On the device's own thread: C answers registers meanwhile, memory that only messages reach can be
        used, and a reset cancels it. ``self.work()`` here, in the bell's hook, would save a thread switch: of
        a command that comes alone 0.2 of 0.5 ms, of many or long ones little.
        """
        if self.has_work(queue):
            if not self.ready:
                self.defer(self.work)
            self.ready[queue.number] = None

    def has_work(self, queue: Submissions) -> bool:
        """Tell whether a queue has commands and room to complete them, and was not forgotten meanwhile."""
        work = len(queue.ring) > 0 and queue.completions.ring.room > 0
        return work and self.submissions.get(queue.number) is queue

    def work(self) -> None:
        """Serve the queue that has waited longest; what is left, and the others, have their turns later."""
        number = next(iter(self.ready), 0)
        self.ready.pop(number, None)
        queue = self.submissions.get(number)
        try:
            if queue:
                self.burst(queue)
        finally:
            if self.ready:
                self.defer(self.work)
            if queue:
                self.schedule(queue)

    def burst(self, queue: Submissions) -> None:
        """Run some commands of a queue, then send one interrupt for all of them."""
        try:
            for _ in range(BURST):
                if self.has_work(queue):
                    self.run(queue, Command(*queue.ring.take()))
        except wb.DmaError as error:  # of the queue itself, so nobody can be told but by CSTS
            self.give_up(str(error))
        finally:
            if queue.completions.vector is not None:
                self.irq[queue.completions.vector].trigger()

    def run(self, queue: Submissions, command: Command) -> None:
        """Carry a command out and complete it, whatever happens."""
        status, result = INTERNAL_ERROR, 0  # that of a mistake of ours, which goes on to the panel
        try:
            name = (IO if queue.number else ADMIN).get(command.opcode)
            demand(name is not None, INVALID_OPCODE)
            demand(not command.flags & 0xC3, INVALID_FIELD)  # fused, or data described by SGLs
            result = getattr(self, str(name))(command)
            status = SUCCESS
        except Refused as refused:
            status = refused.args[0]
        except wb.DmaError:  # dev.log has the reason
            status = DATA_TRANSFER_ERROR
        except OSError as error:
            self.logger.warning("%s: %s", self.disk, error)
            status = READ_ERROR if command.opcode == 2 else WRITE_FAULT
        finally:
            if result is not None:
                self.complete(queue, command.cid, status, result)

    def complete(self, queue: Submissions, cid: int, status: int, result: int = 0) -> None:
        """Write a completion. The phase bit changes with each lap, so that the guest sees it is new."""
        ring = queue.completions.ring
        flags = (status not in TRANSIENT) << 15 | status << 1 | ~ring.laps & 1
        if self.submissions.get(queue.number) is queue:  # a reset may come while messages copy its data
            ring.put(result, 0, queue.ring.head, queue.number, cid, flags)

    def pages(self, command: Command, size: int) -> list[tuple[int, int]]:
        """Return (address, bytes) of every page that takes part: PRP1, then PRP2 or a list there (4.3)."""
        first = min(size, PAGE - command.prp1 % PAGE)
        count = -(-(size - first) // PAGE)
        rest = self.page_list(command.prp2, count) if count > 1 else [command.prp2] * count
        demand(not command.prp1 % 4 and not any(page % PAGE for page in rest), INVALID_PRP_OFFSET)
        sizes = [PAGE] * (count - 1) + [(size - first - 1) % PAGE + 1]
        return [(command.prp1, first), *zip(rest, sizes, strict=False)]

    def page_list(self, at: int, count: int) -> list[int]:
        """Read a PRP list; where it does not fit its page, the last entry says where it goes on."""
        found: list[int] = []
        demand(at % 8 == 0, INVALID_PRP_OFFSET)
        while True:
            here = (PAGE - at % PAGE) // 8
            found += self.dma.array(at, "<u8", min(here, count - len(found))).tolist()
            if len(found) == count:
                return found
            at = found.pop()
            demand(at % PAGE == 0, INVALID_PRP_OFFSET)  # each turn brings 511 more: no list is endless

    def answer(self, command: Command, data: bytes) -> int:
        """Copy what an administrative command asked for to the guest."""
        self.dma.scatter(self.pages(command, len(data)), data)
        return 0

    def extent(self, command: Command, most: int = PAGE << MDTS) -> tuple[int, int]:
        """Return where on the disk a command reads or writes: offset and size, in bytes."""
        start, size = (command.cdw11 << 32 | command.cdw10) * BLOCK, ((command.cdw12 & 0xFFFF) + 1) * BLOCK
        demand(command.nsid == 1, INVALID_NAMESPACE)
        demand(size <= most, INVALID_FIELD)
        demand(start + size <= self.disk.size, LBA_OUT_OF_RANGE)
        return start, size

    # -- reading and writing (6) --

    def read(self, command: Command) -> int:
        """Copy blocks from the disk to the guest."""
        start, size = self.extent(command)
        return self.answer(command, self.disk.read(start, size))

    def write(self, command: Command) -> int:
        """Copy blocks from the guest to the disk; none of them, if one of the guest's pages is not there."""
        start, size = self.extent(command)
        self.disk.write(start, self.dma.gather(self.pages(command, size)))
        return self.through(command)

    def write_zeroes(self, command: Command) -> int:
        """Write blocks of 0, which nobody has to send."""
        self.disk.zero(*self.extent(command, most=BLOCK << 16))
        return self.through(command)

    def manage(self, command: Command) -> int:
        """Dataset management (6.7): blocks the guest needs no more read as 0. Other hints are ignored."""
        asked = self.dma.gather(self.pages(command, 16 * ((command.cdw10 & 0xFF) + 1)))
        ranges = [(start * BLOCK, count * BLOCK) for _, count, start in struct.iter_unpack("<IIQ", asked)]
        demand(command.nsid == 1, INVALID_NAMESPACE)
        demand(all(sum(one) <= self.disk.size for one in ranges), LBA_OUT_OF_RANGE)
        for one in ranges if command.cdw11 & 4 else ():
            self.disk.zero(*one)
        return 0

    def through(self, command: Command) -> int:
        """Flush if the guest wants it for this command (FUA), or wants no cache."""
        if command.cdw12 >> 30 & 1 or not self.features[CACHE] & 1:
            self.disk.flush()
        return 0

    def flush(self, command: Command) -> int:
        """What was completed before survives from now on, even if the machine that we run on crashes."""
        demand(command.nsid in (1, 0xFFFFFFFF), INVALID_NAMESPACE)  # ours, or all
        self.disk.flush()
        return 0

    # -- administration (5) --

    def new_ring(self, command: Command, there: dict[int, Any], entry: str, power: int) -> wb.Ring:
        """Check what the guest wants for a queue, and return it as a ring."""
        number, last = command.cdw10 & 0xFFFF, command.cdw10 >> 16
        demand(0 < number < QUEUES and number not in there, INVALID_QUEUE_ID)
        demand(0 < last < DEPTH, INVALID_QUEUE_SIZE)
        demand(command.cdw11 & 1 == 1 and 1 << power == struct.calcsize(entry), INVALID_FIELD)
        demand(command.prp1 % PAGE == 0, INVALID_PRP_OFFSET)
        return wb.Ring(self.dma, command.prp1, entry, last + 1)

    def create_completions(self, command: Command) -> int:
        """Make a completion queue."""
        ring = self.new_ring(command, self.completions, COMPLETION, self.bar0.CC.IOCQES.value)
        vector = command.cdw11 >> 16
        demand(vector < QUEUES, INVALID_VECTOR)
        self.completions[command.cdw10 & 0xFFFF] = Completions(ring, vector if command.cdw11 & 2 else None)
        return 0

    def create_submissions(self, command: Command) -> int:
        """Make a submission queue; several may share a completion queue."""
        number, target = command.cdw10 & 0xFFFF, command.cdw11 >> 16
        ring = self.new_ring(command, self.submissions, COMMAND, self.bar0.CC.IOSQES.value)
        demand(0 < target < QUEUES, INVALID_QUEUE_ID)
        demand(target in self.completions, NO_SUCH_COMPLETIONS)
        self.submissions[number] = Submissions(number, ring, self.completions[target])
        return 0

    def delete_submissions(self, command: Command) -> int:
        """Forget a submission queue; what is still in it never runs."""
        number = command.cdw10 & 0xFFFF
        demand(number != 0 and self.submissions.pop(number, None) is not None, INVALID_QUEUE_ID)
        return 0

    def delete_completions(self, command: Command) -> int:
        """Forget a completion queue that no submission queue uses."""
        number = command.cdw10 & 0xFFFF
        demand(number != 0 and number in self.completions, INVALID_QUEUE_ID)
        users = [one for one in self.submissions.values() if one.completions is self.completions[number]]
        demand(not users, INVALID_DELETION)
        del self.completions[number]
        return 0

    def keep_event_request(self, command: Command) -> None:
        """Complete it when there is something to tell; so far there never is."""
        demand(len(self.events) < EVENTS, EVENT_LIMIT)
        self.events.append(command.cid)

    def abort(self, command: Command) -> int:
        """Only event requests can be aborted: all else is done when we get here. 1: it was not aborted."""
        queue, cid = self.submissions[0], command.cdw10 >> 16
        if command.cdw10 & 0xFFFF or cid not in self.events or queue.completions.ring.room < 2:
            return 1
        self.events.remove(cid)
        self.complete(queue, cid, ABORT_REQUESTED)
        return 0

    def set_feature(self, command: Command) -> int:
        """Keep a value until the next reset; the number of queues is ours to say."""
        demand(not command.cdw10 >> 31, NOT_SAVEABLE)
        if command.cdw10 & 0xFF == QUEUE_COUNT:
            demand(len(self.completions) == 1, SEQUENCE_ERROR)
            demand(0xFFFF not in (command.cdw11 & 0xFFFF, command.cdw11 >> 16), INVALID_FIELD)
        elif command.cdw10 & 0xFF in self.features:
            self.features[command.cdw10 & 0xFF] = command.cdw11
        return self.get_feature(command)

    def get_feature(self, command: Command) -> int:
        """Return what was set, or what there is."""
        demand(command.cdw10 & 0xFF in self.features, INVALID_FIELD)
        return self.features[command.cdw10 & 0xFF]

    def get_log_page(self, command: Command) -> int:
        """Copy a part of a log (5.14): errors, of which none are kept; health: 300 K, all spare; firmware."""
        health, firmware = fill(512, (1, "HBB", 300, 100, 10)), fill(512, (0, "B7x8s", 1, b"1.0     "))
        log = {1: bytes(64), 2: health, 3: firmware}.get(command.cdw10 & 0xFF, b"")
        size = (((command.cdw11 & 0xFFFF) << 16 | command.cdw10 >> 16) + 1) * 4
        start = command.cdw13 << 32 | command.cdw12
        demand(log != b"", INVALID_LOG_PAGE)
        demand(start % 4 == 0 and start <= len(log) and size <= PAGE << MDTS, INVALID_FIELD)
        return self.answer(command, log[start : start + size].ljust(size, b"\0"))

    def identify(self, command: Command) -> int:
        """Copy 4096 bytes: the namespace, the controller, the list of namespaces or the namespace's names."""
        what, nsid = command.cdw10 & 0xFF, command.nsid
        demand(what < 4, INVALID_FIELD)
        demand(nsid == 1 or what == 1 or (what == 2 and nsid < 0xFFFFFFFE), INVALID_NAMESPACE)
        if what == 1:
            return self.answer(command, self.about_controller())
        if what == 2:
            return self.answer(command, fill(PAGE, (0, "I", int(nsid < 1))))
        blocks, long, short = self.disk.size // BLOCK, self.uuid.bytes, self.uuid.bytes[:8]
        places = (0, "QQQ", blocks, blocks, blocks), (120, "8s", short), (130, "B", BLOCK.bit_length() - 1)
        names = (0, "BBH8s", 1, 8, 0, short), (12, "BBH16s", 3, 16, 0, long)  # EUI64, UUID
        return self.answer(command, fill(PAGE, *(names if what == 3 else places)))

    def about_controller(self) -> bytes:
        """Identify Controller (figure 247): only what is not 0."""
        serial, model = self.name.encode("ascii", "replace")[:20].ljust(20), b"workbench NVMe".ljust(40)
        return fill(
            PAGE,
            (0, "HH20s40s8s", self.id.vendor, self.id.vendor, serial, model, b"1.0     "),
            (77, "BHI", MDTS, 1, 0x00010400),  # the controller's number, the version
            (111, "B", 1),  # it has a disk
            (258, "BBBB", 3, EVENTS - 1, 0b11, 0b100),  # aborts, events, firmware slots, offsets in logs
            (512, "BBHI", 0x66, 0x44, 0, 1),  # entries of 64 and 16 bytes; one namespace
            (520, "HxxxB", 0b1100, 0b111),  # zeroes, hints; a cache that forgets, a flush for all namespaces
            (768, "256s", f"nqn.2014-08.org.nvmexpress:uuid:{self.uuid}".encode()),
        )
