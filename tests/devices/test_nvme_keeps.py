"""The NVMe controller keeps what it was given: resets, swaps and killed guests under I/O; what backs it."""

import errno
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from nvme_kit import (
    BLOCK,
    CC,
    CSTS,
    DATA,
    FATAL,
    FLUSH,
    PAGE,
    QUEUES,
    READ,
    READY,
    SET,
    WRITE,
    Driver,
    Queue,
    place,
)

from workbench.devices.nvme import Nvme


def block(number: int, turn: int) -> bytes:
    """Return content that says where it belongs and when it was written."""
    return struct.pack("<II", number, turn) * (BLOCK // 8)


# -- interrupts --


def test_each_queue_has_its_vector_and_one_message_tells_of_many_completions(dev, driver, io):
    other = driver.add(5)
    for _ in range(7):
        other.put(FLUSH)
    before = [dev.irq.msix[n].count for n in range(9)]
    other.ring()
    assert [other.wait().status for _ in range(7)] == [0] * 7
    after = [dev.irq.msix[n].count for n in range(9)]
    assert [n for n in range(9) if after[n] != before[n]] == [5]
    assert 1 <= after[5] - before[5] <= 7


def test_a_masked_vector_holds_its_message_back_and_sends_it_once(dev, driver, io):
    driver.guest.msix.mask(1)
    for _ in range(3):
        io.put(FLUSH)
        io.ring()
    driver.guest.irq_count(1, 2)
    while len(dev.completions[1].ring) < 3:
        dev.log.wait(kind="irq", since=dev.log.total - 1, timeout=5)
    assert driver.guest.irq_count(1, 2) == 0
    driver.guest.msix.unmask(1)
    assert driver.guest.wait_irq(1, 5, 2) == 1
    assert [io.wait().status for _ in range(3)] == [0] * 3


def test_a_queue_without_interrupts_is_polled(dev, driver):
    queue = Queue(driver, 3, 16, 3)
    assert driver.admin.do(5, 0, (queue.cq, 0), 15 << 16 | 3, 3 << 16 | 1).status == 0
    assert driver.admin.do(1, 0, (queue.sq, 0), 15 << 16 | 3, 3 << 16 | 1).status == 0
    since = dev.log.total
    queue.put(FLUSH)
    queue.ring()
    dev.log.wait(kind="dma_write", since=since, timeout=5)  # the completion
    done = queue.look()
    assert done is not None
    assert done.status == 0
    assert all(record.seq < since for record in dev.log.filter(kind="irq"))


# -- a guest that does what it should not --


def test_bells_of_queues_that_are_not_there_and_entries_that_are_not_there_are_ignored(dev, driver, io):
    driver.bell(7, False, 1)
    driver.bell(7, True, 1)
    driver.bell(1, False, 16)
    driver.bell(1, False, 0xFFFFFFFF)
    driver.bell(1, True, 3)  # nothing was completed
    assert io.do(FLUSH).status == 0
    assert dev.submissions[1].ring.head == io.tail


def test_queues_in_memory_that_is_not_there_are_fatal_until_the_next_reset(dev, driver, io, caplog):
    assert driver.admin.do(5, 0, (1 << 40, 0), 15 << 16 | 2, 3).status == 0
    assert driver.admin.do(1, 0, (1 << 40, 0), 15 << 16 | 2, 2 << 16 | 1).status == 0
    since = dev.log.total
    driver.bell(2, False, 1)
    dev.log.wait(register="CSTS", kind="poke", since=since, timeout=5)
    assert driver.bar.read32(CSTS) == READY | FATAL
    assert "gives up until it is reset" in caplog.text
    assert driver.enable(1).io[0].do(FLUSH).status == 0


def test_queues_at_the_end_of_all_addresses_are_as_good_as_none(dev, driver, io):
    assert driver.admin.do(5, 0, ((1 << 64) - PAGE, 0), 1023 << 16 | 2, 3).status == 0
    driver.bar.write32(CC, 0)
    driver.bar.write64(0x28, (1 << 64) - PAGE)
    driver.bar.write32(0x24, 0xFFF0FFF)
    driver.bar.write32(CC, 0x00460001)
    assert driver.bar.read32(CSTS) == READY
    since = dev.log.total
    driver.bell(0, False, 1)
    dev.log.wait(register="CSTS", kind="poke", since=since, timeout=5)
    assert driver.bar.read32(CSTS) == READY | FATAL
    assert driver.enable(1).io[0].do(FLUSH).status == 0


def test_a_reset_in_the_middle_of_a_command_leaves_no_completion_behind(dev, driver, io, monkeypatch):
    written, original = threading.Event(), dev.disk.write

    def write(offset: int, data: bytes) -> None:
        original(offset, data)
        dev.bar0.CC.write(0)
        written.set()

    monkeypatch.setattr(dev.disk, "write", write)
    io.put(WRITE, 1, (DATA, 0), *place(0, BLOCK))
    io.put(FLUSH)
    io.ring()
    assert written.wait(5)
    driver.bar.read32(CSTS)
    with dev.hooks.here():  # the burst is over
        assert io.look() is None
    monkeypatch.undo()
    assert driver.enable(1).io[0].do(FLUSH).status == 0


def test_without_bus_mastering_the_controller_gives_up_and_says_so(dev, driver, io, caplog):
    driver.guest.enable(bus_master=False)
    since = dev.log.total
    io.put(FLUSH)
    io.ring()
    dev.log.wait(register="CSTS", kind="poke", since=since, timeout=5)
    assert driver.bar.read32(CSTS) == READY | FATAL
    assert "bus mastering" in caplog.text
    assert driver.enable(1).io[0].do(FLUSH).status == 0


def test_memory_that_only_messages_reach_serves_as_well(dev, guest):
    guest.memory.map(0, QUEUES, shared=False)
    guest.memory.map(QUEUES, 0x200000 - QUEUES, shared=False)
    driver = Driver(guest).enable(1)
    data = random.Random(3).randbytes(0x20000)
    assert driver.io[0].write(0, data).status == 0
    assert driver.io[0].read(0, len(data)) == data


def test_random_commands_never_stop_the_controller(dev, driver, io, caplog):
    chance = random.Random(7)
    for _ in range(300):
        dwords = [chance.choice((0, 1, 8, chance.getrandbits(32))) for _ in range(6)]
        prp = chance.choice(
            ((DATA, DATA + PAGE), (chance.getrandbits(64), chance.getrandbits(64)), (DATA, QUEUES))
        )
        number = chance.choice((FLUSH, WRITE, READ, 8, 9, chance.getrandbits(8)))
        io.put(
            number, chance.choice((1, 1, 0, 0xFFFFFFFF)), prp, *dwords, flags=chance.choice((0, 0, 0, 0x40))
        )
        io.ring()
        assert io.wait().status in {0, 1, 2, 4, 0xB, 0x13, 0x80}
    assert io.do(FLUSH).status == 0


# -- resets and swaps under I/O --


class Writer:
    """Writes blocks, remembers which writes were acknowledged, and checks that these can be read."""

    def __init__(self, driver: Driver, seed: int) -> None:
        self.driver, self.chance, self.turn = driver, random.Random(seed), 0
        self.acknowledged: dict[int, int] = {}  # block: turn
        self.maybe: dict[int, set[int]] = {}  # and what was on its way when the reset came

    def burst(self) -> dict[int, tuple[int, int]]:
        """Put writes into the queue and ring; return by their number which block and turn."""
        queue, sent = self.driver.io[0], {}
        for slot in range(self.chance.randrange(1, 12)):
            number, self.turn = self.chance.randrange(256), self.turn + 1
            at = DATA + PAGE * slot
            self.driver.memory.write(at, block(number, self.turn))
            sent[queue.put(WRITE, 1, (at, 0), *place(number, BLOCK))] = (number, self.turn)
        queue.ring()
        return sent

    def settle(self, sent: dict[int, tuple[int, int]], count: int) -> None:
        """Wait for so many completions; the rest may have happened or not."""
        for _ in range(count):
            done = self.driver.io[0].wait()
            assert done.status == 0
            number, turn = sent.pop(done.cid)
            self.acknowledged[number] = turn
            self.maybe.pop(number, None)
        for number, turn in sent.values():
            self.maybe.setdefault(number, set()).add(turn)

    def check(self) -> None:
        """Read every block that was written, and see that it holds what it must."""
        for number in self.acknowledged.keys() | self.maybe.keys():
            data = self.driver.io[0].read(number, BLOCK)
            where, turn = struct.unpack_from("<II", data)
            assert data == block(where, turn)  # whole
            assert turn in {self.acknowledged.get(number, 0), *self.maybe.get(number, ())}
            assert where in (number, 0)


def reset(driver: Driver, how: str) -> None:
    if how == "controller":
        driver.disable()
    elif how == "flr":
        at = next(offset for cap_id, offset in driver.guest.capabilities() if cap_id == 0x10)
        driver.guest.config.write16(at + 8, 0x8000)
    else:
        driver.guest.reset()


@pytest.mark.slow
def test_200_random_resets_under_io_lose_nothing_that_was_acknowledged(dev, driver):
    chance = random.Random(42)
    writer = Writer(driver, 43)
    for _ in range(200):
        sent = writer.burst()
        writer.settle(sent, chance.randrange(len(sent) + 1))
        reset(driver, chance.choice(("controller", "flr", "device")))
        driver.enable(1)
    writer.check()
    assert len(writer.acknowledged) > 200
    assert driver.bar.read32(CSTS) == READY


@pytest.mark.slow
def test_hooks_and_classes_are_swapped_under_io_and_nothing_is_lost(dev, driver, io):
    stop, failures = threading.Event(), []

    def swap() -> None:
        original = type(dev).submitted
        try:
            while not stop.is_set():
                dev.bar0.SQ_TAIL[1].on_write(lambda device, access: original(device, access))
                dev.swap(type(dev))
                dev.hooks.revert("bar0.SQ_TAIL[1].on_write")
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        writer = Writer(driver, 5)
        for _ in range(60):
            sent = writer.burst()
            writer.settle(sent, len(sent))
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert writer.maybe == {}
    writer.check()
    assert dev.hooks.get(0, dev.bar0.SQ_TAIL[1].description, 1, "write").revision > 10


def test_a_newer_device_goes_on_with_queues_and_disk(dev, driver, io):
    io.write(0, block(0, 1))
    io.put(WRITE, 1, (DATA, 0), *place(1, BLOCK))
    driver.memory.write(DATA, block(1, 2))
    newer = Nvme(strict=True)
    with newer:
        newer.serve()
        io.ring()
        assert io.wait().status == 0
        assert io.read(0, 2 * BLOCK) == block(0, 1) + block(1, 2)
        assert newer.disk is dev.disk
        assert newer.submissions[1].ring.head == io.tail
        driver.guest.disconnect()


def test_a_restored_controller_wants_a_reset_and_keeps_the_disk(dev, driver, io, caplog):
    io.write(0, block(0, 1))
    dev.restore(dev.snapshot())
    assert driver.bar.read32(CSTS) == READY | FATAL
    assert "its state was restored" in caplog.text
    assert driver.enable(1).io[0].read(0, BLOCK) == block(0, 1)
    driver.disable()
    dev.restore(dev.snapshot())
    assert driver.bar.read32(CSTS) == 0


# -- what backs it --


def test_a_file_keeps_what_was_written(tmp_path: Path):
    path = tmp_path / "disk.img"
    with Nvme(backing=path, size=1 << 20, strict=True) as dev, dev.connect() as guest:
        assert Driver(guest).enable(1).io[0].write(7, block(7, 1)).status == 0
    assert path.stat().st_size == 1 << 20
    assert path.read_bytes()[7 * BLOCK : 8 * BLOCK] == block(7, 1)
    with Nvme("another", backing=str(path), strict=True) as dev, dev.connect() as guest:
        assert Driver(guest).enable(1).io[0].read(7, BLOCK) == block(7, 1)


def test_a_bytearray_is_the_disk():
    mine = bytearray(1 << 16)
    with Nvme(backing=mine, strict=True) as dev, dev.connect() as guest:
        io = Driver(guest).enable(1).io[0]
        io.write(0, block(0, 1))
        assert mine[:BLOCK] == block(0, 1)
        mine[BLOCK : 2 * BLOCK] = block(1, 2)
        assert io.read(1, BLOCK) == block(1, 2)


def test_a_size_that_is_no_whole_number_of_blocks_is_refused():
    with pytest.raises(ValueError, match="no multiple of 512"):
        Nvme(size=1000)


def test_without_a_backing_there_are_64_mib():
    with Nvme() as dev:
        assert dev.disk.size == 64 << 20


def test_a_disk_that_fails_is_told_to_the_guest(tmp_path: Path, caplog):
    path = tmp_path / "disk.img"
    with Nvme(backing=path, size=1 << 20, strict=True) as dev, dev.connect() as guest:
        io = Driver(guest).enable(1).io[0]
        os.truncate(path, 0)
        assert io.move(READ, 0, BLOCK).status == 0x281
        assert "was truncated" in caplog.text
        assert io.write(0, block(0, 1)).status == 0


def test_flushes_forced_unit_access_and_a_cache_that_is_off_reach_the_disk(dev, driver, io, monkeypatch):
    flushed: list[int] = []
    monkeypatch.setattr(dev.disk, "flush", lambda: flushed.append(1))
    io.write(0, block(0, 1))
    assert flushed == []
    io.do(FLUSH)
    io.do(FLUSH, 0xFFFFFFFF)
    assert len(flushed) == 2
    io.do(WRITE, 1, (DATA, 0), 0, 0, 1 << 30)
    assert len(flushed) == 3
    assert driver.admin.do(SET, 0, (0, 0), 6, 0).status == 0
    io.write(0, block(0, 1))
    assert len(flushed) == 4
    driver.bar.write32(CC, 0x00464001)
    assert len(flushed) == 5


def test_a_flush_that_fails_is_told_to_the_guest(dev, io, driver, monkeypatch, caplog):
    def fail() -> None:
        raise OSError(errno.EIO, "no disk")

    monkeypatch.setattr(dev.disk, "flush", fail)
    assert io.do(FLUSH).status == 0x280
    driver.bar.write32(CC, 0x00464001)  # shutdown
    assert driver.bar.read32(CSTS) == READY | FATAL
    assert "no disk" in caplog.text


def test_a_mistake_in_a_command_is_told_to_the_guest_and_shown(dev, io):
    def broken(command):
        raise ZeroDivisionError

    dev.flush = broken
    for _ in range(3):
        io.put(FLUSH)
    io.ring()
    assert [io.wait().status for _ in range(3)] == [0x06] * 3
    assert io.write(0, block(0, 1)).status == 0
    assert [failure.name for failure in dev.hooks.failures] == ["defer(work)"]
    dev.hooks.failures.clear()


GUEST = """
import os, struct, sys
from nvme_kit import BLOCK, DATA, FLUSH, WRITE, Driver, place
from workbench import Client
io = Driver(Client(sys.argv[1])).enable(1).io[0]
for turn in range(1, 1 << 20):
    data = struct.pack("<II", turn % 1024, turn) * (BLOCK // 8)
    assert io.write(turn % 1024, data).status == 0
    if turn % 5 == 0:
        assert io.do(FLUSH).status == 0
        os.write(1, struct.pack("<I", turn))
"""


@pytest.mark.slow
def test_a_guest_killed_in_the_middle_of_writes_loses_none_that_was_flushed(tmp_path: Path):
    path, turn = tmp_path / "disk.img", 0
    with Nvme(backing=path, size=1 << 20, strict=True) as dev:
        for _ in range(3):
            dev.serve().wait_listening(5)
            kit = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            guest = subprocess.Popen(
                [sys.executable, "-c", GUEST, dev.server.path], stdout=subprocess.PIPE, env=kit
            )
            assert guest.stdout is not None
            for _ in range(40):
                (turn,) = struct.unpack("<I", guest.stdout.read(4))
            guest.send_signal(signal.SIGKILL)
            guest.wait()
            turn = struct.unpack("<I", (guest.stdout.read()[-4:] or struct.pack("<I", turn)))[0]
            guest.stdout.close()
            data = path.read_bytes()
            for number in range(1, turn + 1):
                where, last = struct.unpack_from("<II", data, number % 1024 * BLOCK)
                assert where == number % 1024
                assert last >= number
                assert data[where * BLOCK : (where + 1) * BLOCK] == block(where, last)
