"""The NVMe controller as a small driver meets it: start, queues, PRP lists, errors, interrupts."""

import random
import struct

import pytest
from nvme_kit import (
    ABORT,
    ACQ,
    AQA,
    ASQ,
    BLOCK,
    CAP,
    CC,
    CREATE_CQ,
    CREATE_SQ,
    CSTS,
    DATA,
    DELETE_CQ,
    DELETE_SQ,
    ENABLED,
    EVENT,
    FATAL,
    FLUSH,
    GET,
    IDENTIFY,
    LOG,
    MANAGE,
    MEMORY,
    PAGE,
    PRP_LISTS,
    READ,
    READY,
    SET,
    SHUT_DOWN,
    SIZE,
    VS,
    WRITE,
    WRITE_ZEROES,
    Driver,
    Queue,
    place,
)

import workbench as wb
from workbench.devices.nvme import Nvme

NOWHERE = 1 << 40  # no memory of the guest


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# -- start and end --


def test_it_is_an_nvme_1_4_controller_that_linux_takes_by_its_class(dev, guest):
    assert guest.config.read32(0x08) >> 8 == 0x010802
    assert guest.bar0.read32(VS) == 0x00010400
    cap = guest.bar0.read64(CAP)
    assert cap & 0xFFFF == 1023
    assert cap >> 37 & 1
    assert guest.bar0.read32(CAP) == cap & 0xFFFFFFFF
    assert guest.bar0.read32(CAP + 4) == cap >> 32
    assert guest.bar0.read32(CSTS) == 0


def test_enabling_makes_it_ready_and_disabling_forgets_the_queues(dev, driver):
    assert sorted(dev.submissions) == [0, 1]
    driver.disable()
    assert dev.submissions == {}
    assert driver.bar.read32(AQA) == 0xF000F
    assert driver.bar.read64(ASQ) == driver.admin.sq
    assert driver.bar.read64(ACQ) == driver.admin.cq
    driver.enable(2)
    assert driver.io[1].write(0, content(BLOCK)).status == 0


@pytest.mark.parametrize(
    ("cc", "aqa"), [(ENABLED | 1 << 7, 0xF000F), (ENABLED | 1 << 4, 0xF000F), (ENABLED, 0xF)]
)
def test_enabling_with_what_cap_does_not_offer_is_fatal(dev, guest, cc, aqa):
    guest.bar0.write32(AQA, aqa)
    guest.bar0.write32(CC, cc)
    assert guest.bar0.read32(CSTS) == FATAL
    assert dev.submissions == {}
    Driver(guest).enable(1)


def test_a_shutdown_notification_flushes_and_completes(dev, driver, io):
    io.write(0, content(BLOCK))
    driver.bar.write32(CC, ENABLED | 1 << 14)
    assert driver.bar.read32(CSTS) == READY | SHUT_DOWN
    since = dev.log.total
    io.put(READ, 1, (DATA, 0), 0, 0, 0)
    io.ring()
    driver.bar.read32(CSTS)  # the bell was heard before
    assert all(record.kind != "dma_read" for record in dev.log if record.seq >= since)
    driver.bar.write32(CC, 0)
    assert driver.bar.read32(CSTS) == 0
    assert driver.enable(1).io[0].read(0, BLOCK) == content(BLOCK)


@pytest.mark.parametrize("how", ["device", "flr", "notebook", "client"])
def test_every_reset_forgets_the_queues_and_keeps_the_disk(dev, guest, driver, io, how):
    io.write(5, content(PAGE))
    if how == "device":
        guest.reset()
    elif how == "flr":
        flr(guest)
    elif how == "notebook":
        dev.reset()
    else:
        guest.disconnect()
        dev.server.wait_listening(5)
        guest = dev.connect()
    assert guest.bar0.read32(CC) == guest.bar0.read32(CSTS) == 0
    assert dev.submissions == dev.completions == dev.ready == {}
    assert Driver(guest).enable(1).io[0].read(5, PAGE) == content(PAGE)
    guest.disconnect()


def flr(guest: wb.Client) -> None:
    """Set INITIATE_FLR in Device Control of the PCI Express capability."""
    at = next(offset for cap_id, offset in guest.capabilities() if cap_id == 0x10)
    guest.config.write16(at + 8, guest.config.read16(at + 8) | 0x8000)


# -- identify --


def test_identify_controller(dev, driver):
    page = driver.identify(1)
    assert struct.unpack_from("<HH", page) == (dev.id.vendor, dev.id.vendor)
    assert page[4:24] == b"Nvme".ljust(20)
    assert page[77] == 8
    assert struct.unpack_from("<I", page, 80)[0] == 0x10400
    assert page[512:514] == b"\x66\x44"
    assert struct.unpack_from("<I", page, 516)[0] == 1
    assert page[525] & 1
    assert page[768:].startswith(b"nqn.2014-08.org.nvmexpress:uuid:")


def test_identify_namespace_list_and_names(dev, driver):
    page = driver.identify(0, 1)
    assert struct.unpack_from("<QQQ", page) == (SIZE // BLOCK,) * 3
    assert page[130] == 9
    assert driver.identify(2, 0)[:8] == b"\1\0\0\0\0\0\0\0"
    assert driver.identify(2, 1)[:4] == bytes(4)
    names = driver.identify(3, 1)
    assert names[:4] == b"\1\x08\0\0"
    assert names[12:16] == b"\3\x10\0\0"
    assert names[16:32] == dev.uuid.bytes


def test_two_controllers_have_names_of_their_own():
    with (
        Nvme("left", size=BLOCK) as left,
        Nvme("right", size=BLOCK) as right,
        Nvme("left", size=BLOCK) as again,
    ):
        assert left.uuid == again.uuid != right.uuid
        assert left.about_controller()[4:24] == b"left".ljust(20)


@pytest.mark.parametrize(
    ("what", "nsid", "status"),
    [(0, 2, 0x0B), (0, 0, 0x0B), (3, 9, 0x0B), (2, 0xFFFFFFFF, 0x0B), (0x42, 1, 0x02)],
)
def test_identify_of_what_is_not_there(driver, what, nsid, status):
    done = driver.admin.do(IDENTIFY, nsid, (DATA, 0), what)
    assert done.status == status
    assert not done.again


# -- features, logs, events --


def test_the_number_of_queues_is_what_there_is_and_asked_for_before_there_are_any(driver):
    assert driver.admin.do(GET, 0, (0, 0), 7).result == 0x70007
    assert driver.admin.do(SET, 0, (0, 0), 7, 0x10001).status == 0x0C
    driver.enable()
    assert driver.admin.do(SET, 0, (0, 0), 7, 0x10001).result == 0x70007
    assert driver.admin.do(SET, 0, (0, 0), 7, 0xFFFF).status == 0x02


def test_features_are_kept_until_the_next_reset(driver):
    assert driver.admin.do(SET, 0, (0, 0), 11, 0x1F).status == 0
    assert driver.admin.do(GET, 0, (0, 0), 11).result == 0x1F
    assert driver.enable().admin.do(GET, 0, (0, 0), 11).result == 0
    assert driver.admin.do(SET, 0, (0, 0), 1 << 31 | 11).status == 0x10D
    assert driver.admin.do(SET, 0, (0, 0), 0x70, 1).status == 0x02
    assert driver.admin.do(GET, 0, (0, 0), 0x70).status == 0x02


def test_log_pages(driver):
    driver.memory.write(DATA, b"\xff" * PAGE)
    assert driver.admin.do(LOG, 0xFFFFFFFF, (DATA, 0), 127 << 16 | 2).status == 0
    assert driver.memory.read(DATA, 6) == struct.pack("<BHBBB", 0, 300, 100, 10, 0)
    assert driver.memory.read(DATA + 512, 1) == b"\xff"
    assert driver.admin.do(LOG, 0, (DATA, 0), 3 << 16 | 3, 0, 8).status == 0
    assert driver.memory.read(DATA, 16) == b"1.0     " + bytes(8)
    assert driver.admin.do(LOG, 0, (DATA, 0), 2, 0, 1).status == 0x02
    assert driver.admin.do(LOG, 0, (DATA, 0), 2, 0, 516).status == 0x02
    assert driver.admin.do(LOG, 0, (DATA, 0), 2, 0xFFFF).status == 0x02
    assert driver.admin.do(LOG, 0, (DATA, 0), 0xC0).status == 0x109


def test_event_requests_are_kept_limited_and_aborted(dev, driver):
    numbers = [driver.admin.put(EVENT) for _ in range(4)]
    assert driver.admin.do(EVENT).status == 0x105
    assert dev.events == numbers
    extra = driver.admin.put(ABORT, 0, (0, 0), numbers[1] << 16)
    driver.admin.ring()
    assert (done := driver.admin.wait()).cid == numbers[1]
    assert done.status == 0x07
    done = driver.admin.wait()
    assert (done.cid, done.status, done.result) == (extra, 0, 0)
    assert driver.admin.do(ABORT, 0, (0, 0), numbers[1] << 16).result == 1
    assert driver.admin.do(ABORT, 0, (0, 0), numbers[0] << 16 | 1).result == 1


# -- reading and writing --


@pytest.mark.parametrize("size", [BLOCK, PAGE, 2 * PAGE, 3 * PAGE, 0x11000, 1 << 20])
@pytest.mark.parametrize("offset", [0, 0x200, 0xFFC])
def test_blocks_are_written_and_read_back_from_any_place_in_memory(dev, io, size, offset):
    data = content(size, size + offset)
    assert io.write(3, data, DATA + offset).status == 0
    assert dev.disk.read(3 * BLOCK, size) == data
    assert dev.disk.read(2 * BLOCK, BLOCK) == dev.disk.read(3 * BLOCK + size, BLOCK) == bytes(BLOCK)
    assert io.read(3, size, DATA + offset + 0x180000) == data


def test_a_prp_list_goes_on_in_other_pages_where_its_page_ends(dev, driver, io):
    pages = [DATA + PAGE * n for n in range(40)]
    random.Random(1).shuffle(pages)
    data = content(40 * PAGE)
    for n, page in enumerate(pages):
        driver.memory.write(page, data[n * PAGE : (n + 1) * PAGE])
    first, second = PRP_LISTS + 0xFE8, PRP_LISTS + 3 * PAGE  # two entries, then where it goes on
    driver.memory.write(first, struct.pack("<3Q", *pages[1:3], second))
    driver.memory.write(second, struct.pack("<37Q", *pages[3:]))
    assert io.do(WRITE, 1, (pages[0], first), *place(8, len(data))).status == 0
    assert dev.disk.read(8 * BLOCK, len(data)) == data
    only = PRP_LISTS + 0xFF8  # nothing but where it goes on
    driver.memory.write(only, struct.pack("<Q", second))
    driver.memory.write(second, struct.pack("<39Q", *pages[1:]))
    for page in pages:
        driver.memory.write(page, bytes(PAGE))
    assert io.do(READ, 1, (pages[0], only), *place(8, len(data))).status == 0
    assert b"".join(driver.memory.read(page, PAGE) for page in pages) == data


def test_a_prp_list_in_a_circle_is_no_endless_one(driver, io):
    at = PRP_LISTS
    driver.memory.write(at, struct.pack("<512Q", *[at] * 512))
    assert io.do(READ, 1, (DATA, at + 0xFF8), *place(0, 1 << 20)).status == 0


@pytest.mark.parametrize(
    ("prp", "size", "status"),
    [
        ((DATA + 2, 0), BLOCK, 0x13),  # no multiple of 4
        ((DATA, DATA + 0x1010), 2 * PAGE, 0x13),  # the second is no page
        ((DATA, PRP_LISTS + 4), 3 * PAGE, 0x13),  # the list is no multiple of 8
        ((NOWHERE, 0), BLOCK, 0x04),
        ((DATA, NOWHERE), 2 * PAGE, 0x04),
        ((DATA, NOWHERE), 3 * PAGE, 0x04),  # the list
        ((MEMORY - PAGE, MEMORY), 2 * PAGE, 0x04),
        (((1 << 64) - 4, 0), BLOCK, 0x04),
    ],
)
def test_memory_that_is_not_there_fails_the_command_and_changes_nothing(dev, driver, io, prp, size, status):
    dev.disk.write(0, content(size))
    driver.memory.write(DATA, b"\xee" * 2 * PAGE)
    for opcode in (WRITE, READ):
        done = io.do(opcode, 1, prp, *place(0, size))
        assert done.status == status
        assert done.again == (status == 0x04)
    assert dev.disk.read(0, size) == content(size)
    assert driver.memory.read(DATA, PAGE) == b"\xee" * PAGE
    assert io.read(0, size) == content(size)  # and all goes on


def test_a_list_whose_entries_are_no_pages_is_refused(driver, io):
    driver.memory.write(PRP_LISTS, struct.pack("<3Q", DATA, DATA + 0x800, DATA))
    assert io.do(READ, 1, (DATA, PRP_LISTS), *place(0, 4 * PAGE)).status == 0x13
    driver.memory.write(PRP_LISTS + 0xFF8, struct.pack("<Q", PRP_LISTS + 8))  # goes on inside a page
    assert io.do(READ, 1, (DATA, PRP_LISTS + 0xFF8), *place(0, 4 * PAGE)).status == 0x13


@pytest.mark.parametrize(
    ("opcode", "nsid", "where", "status"),
    [
        (READ, 2, (0, 0, 0), 0x0B),
        (WRITE, 0xFFFFFFFF, (0, 0, 0), 0x0B),
        (READ, 1, (SIZE // BLOCK, 0, 0), 0x80),
        (WRITE, 1, (SIZE // BLOCK - 1, 0, 1), 0x80),
        (READ, 1, (0, 0xFFFFFFFF, 0), 0x80),
        (WRITE_ZEROES, 1, (SIZE // BLOCK - 1, 0, 1), 0x80),
        (READ, 1, (0, 0, 0x800), 0x02),  # 1 MiB and a block
        (FLUSH, 2, (0, 0, 0), 0x0B),
        (MANAGE, 2, (0, 4, 0), 0x0B),
        (0x05, 1, (0, 0, 0), 0x01),
        (0xFF, 1, (0, 0, 0), 0x01),
    ],
)
def test_commands_that_make_no_sense_end_with_the_error_of_the_specification(io, opcode, nsid, where, status):
    done = io.do(opcode, nsid, (DATA, 0), *where)
    assert (done.status, done.again) == (status, False)


@pytest.mark.parametrize("flags", [0x40, 0x80, 0x01])
def test_scatter_gather_lists_and_fused_commands_are_refused(io, flags):
    assert io.do(READ, 1, (DATA, 0), *place(0, BLOCK), flags=flags).status == 0x02


def test_administrative_commands_that_are_not_there(driver):
    assert driver.admin.do(0x10).status == 0x01
    assert driver.admin.do(0xC1).status == 0x01


def test_zeroes_are_written_without_data(dev, io):
    dev.disk.write(0, b"\xaa" * SIZE)
    assert io.do(WRITE_ZEROES, 1, (0, 0), 1, 0, 0x0FFF).status == 0  # 2 MiB
    assert dev.disk.read(0, BLOCK) == b"\xaa" * BLOCK
    assert dev.disk.read(BLOCK, 2 << 20) == bytes(2 << 20)
    assert dev.disk.read(BLOCK + (2 << 20), BLOCK) == b"\xaa" * BLOCK


def test_blocks_that_are_given_back_read_as_zeroes(dev, driver, io):
    dev.disk.write(0, b"\xaa" * SIZE)
    ranges = [(0, 2, 4), (7, 1, SIZE // BLOCK - 1), (0, 0, 9)]
    driver.memory.write(DATA, b"".join(struct.pack("<IIQ", *one) for one in ranges))
    kept = bytearray(b"\xaa" * SIZE)
    assert io.do(MANAGE, 1, (DATA, 0), 2, 0b011).status == 0  # hints on how it will be used
    assert dev.disk.read(0, SIZE) == kept
    assert io.do(MANAGE, 1, (DATA, 0), 2, 0b100).status == 0
    kept[4 * BLOCK : 6 * BLOCK], kept[-BLOCK:] = bytes(2 * BLOCK), bytes(BLOCK)
    assert dev.disk.read(0, SIZE) == kept


def test_nothing_is_given_back_when_one_block_is_not_there(dev, driver, io):
    dev.disk.write(0, b"\xaa" * BLOCK)
    for start, count in (SIZE // BLOCK, 1), (1, SIZE // BLOCK), (0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF):
        driver.memory.write(DATA, struct.pack("<IIQIIQ", 0, 1, 0, 0, count, start))
        assert io.do(MANAGE, 1, (DATA, 0), 1, 4).status == 0x80
    assert io.do(MANAGE, 1, (0x7FFF_0000, 0), 255, 4).status == 0x04  # no memory there
    assert dev.disk.read(0, BLOCK) == b"\xaa" * BLOCK


# -- queues --


def test_queues_wrap_around_and_the_phase_bit_changes_with_each_lap(driver, io):
    for n in range(5 * io.depth):
        assert io.write(n % 64, struct.pack("<I", n) * 128).status == 0
    assert io.phase == 0
    assert io.read(63, BLOCK) == struct.pack("<I", 63) * 128


def test_many_commands_are_rung_for_at_once_and_complete_in_order(dev, io):
    numbers = [io.put(WRITE, 1, (DATA + n * BLOCK, 0), n, 0, 0) for n in range(io.depth - 1)]
    io.driver.memory.write(DATA, data := content(BLOCK * len(numbers)))
    io.ring()
    done = [io.wait() for _ in numbers]
    assert [one.cid for one in done] == numbers
    assert {one.status for one in done} == {0}
    assert done[-1].sq_head == io.tail
    assert dev.disk.read(0, len(data)) == data


def test_a_full_completion_queue_holds_commands_back_until_it_is_read(dev, driver):
    assert driver.admin.do(DELETE_SQ, 0, (0, 0), 1).status == 0
    assert driver.admin.do(DELETE_CQ, 0, (0, 0), 1).status == 0
    cq = Queue(driver, 1, 4, 1)
    sq = Queue(driver, 2, 16, 1)
    assert driver.admin.do(CREATE_CQ, 0, (cq.cq, 0), 3 << 16 | 1, 1 << 16 | 3).status == 0
    assert driver.admin.do(CREATE_SQ, 0, (sq.sq, 0), 15 << 16 | 2, 1 << 16 | 1).status == 0
    numbers = [sq.put(FLUSH) for _ in range(10)]
    sq.ring()
    driver.guest.wait_irq(1)
    assert dev.submissions[2].ring.head == 3  # as many as there is room for
    found = []
    while len(found) < 10:
        done = cq.look()
        if done is None:
            driver.guest.wait_irq(1)
        else:
            found.append(done.cid)
            driver.bell(1, True, cq.head)
    assert found == numbers


def test_queues_of_a_guest_take_turns(dev, driver):
    first, second = driver.io[0], driver.add(2)
    with dev.hooks.here():  # nothing is served meanwhile
        for queue in (first, second):
            for _ in range(15):
                queue.put(FLUSH)
        dev.bar0.SQ_TAIL[1].write(first.tail)
        dev.bar0.SQ_TAIL[2].write(second.tail)
        assert list(dev.ready) == [1, 2]
    for queue in (first, second):
        assert [queue.wait().status for _ in range(15)] == [0] * 15


def create(driver: Driver, opcode: int, number: int, last: int, cdw11: int, at: int = DATA) -> int:
    return driver.admin.do(opcode, 0, (at, 0), last << 16 | number, cdw11).status


def test_queues_that_cannot_be_made(driver):
    assert create(driver, CREATE_CQ, 0, 15, 3) == 0x101
    assert create(driver, CREATE_CQ, 1, 15, 3) == 0x101  # there already
    assert create(driver, CREATE_CQ, 9, 15, 3) == 0x101
    assert create(driver, CREATE_CQ, 2, 0, 3) == 0x102
    assert create(driver, CREATE_CQ, 2, 1024, 3) == 0x102
    assert create(driver, CREATE_CQ, 2, 15, 2) == 0x02  # not contiguous
    assert create(driver, CREATE_CQ, 2, 15, 9 << 16 | 3) == 0x108
    assert create(driver, CREATE_CQ, 2, 15, 3, DATA + 8) == 0x13
    assert create(driver, CREATE_SQ, 2, 15, 0 << 16 | 1) == 0x101
    assert create(driver, CREATE_SQ, 2, 15, 99 << 16 | 1) == 0x101
    assert create(driver, CREATE_SQ, 2, 15, 3 << 16 | 1) == 0x100
    assert create(driver, CREATE_SQ, 1, 15, 1 << 16 | 1) == 0x101
    driver.bar.write32(CC, 1)  # entries of 1 byte
    assert create(driver, CREATE_CQ, 2, 15, 3) == 0x02


def test_queues_that_cannot_be_deleted(driver):
    for opcode in (DELETE_SQ, DELETE_CQ):
        for number in (0, 2, 77):
            assert driver.admin.do(opcode, 0, (0, 0), number).status == 0x101
    assert driver.admin.do(DELETE_CQ, 0, (0, 0), 1).status == 0x10C
    assert driver.admin.do(DELETE_SQ, 0, (0, 0), 1).status == 0
    assert driver.admin.do(DELETE_CQ, 0, (0, 0), 1).status == 0
    assert driver.add(1).do(FLUSH).status == 0
