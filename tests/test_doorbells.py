"""Doorbells: writes that a client signals by eventfd (GET_REGION_IO_FDS), and by message as ever."""

import contextlib
import errno
import os

import pytest
from sample import link_to, refusal

import workbench as wb
from workbench import protocol
from workbench.engine import lib
from workbench.protocol import IO_EVENTFD, IO_FDS, Command

FDS = Command.DEVICE_GET_REGION_IO_FDS


class Queues(wb.Device):
    """Doorbells in a memory BAR and one in an I/O BAR."""

    id = wb.PciId(vendor=0x1234, device=0x0B16)

    class bar0(wb.Bar, size=0x2000):
        CTRL = wb.Register(0x00)
        DB = wb.Doorbell(0x1000, 32, count=4)
        KICK = wb.Doorbell(0x0800, 16, match=0xBEEF)
        TEST = wb.Register(0x10, mode="ro")

    class bar2(wb.Bar, size=8, kind="io"):
        GO = wb.Doorbell(0x04, 8, match=1)

    class bar4(wb.Bar, size=0x1000):
        MANY = wb.Doorbell(0x0, count=40)

    def __init__(self):
        super().__init__()
        self.rung = []

    @bar0.DB.on_write
    def ring(self, access):
        self.rung.append((access.index, access.value))

    @bar0.KICK.on_write
    def kick(self, access):
        self.rung.append(("kick", access.value, access.size, access.origin))

    @bar2.GO.on_write
    def go(self, access):
        self.rung.append(("go", access.value))


@pytest.fixture
def queues():
    with Queues() as device:
        yield device


@pytest.fixture
def driver(queues):
    with queues.connect() as client:
        yield client


@contextlib.contextmanager
def bells(view):
    found = view.io_eventfds()
    try:
        yield {bell.offset: bell for bell in found}
    finally:
        for bell in found:
            os.close(bell.fd)


def wait_written(device, register):
    """Wait until a write to the register is in the log, and return its newest record."""
    handle = device._core.handle
    for _ in range(1000):
        seen = lib.wb_log_count(handle)
        written = [one for one in device.log if one.register == register and one.kind == "write"]
        if written:
            return written[-1]
        lib.wb_log_wait(handle, seen, 5000)
    raise AssertionError(f"nobody wrote {register}")


def test_doorbells_are_told_with_offset_size_and_match(driver):
    with bells(driver.bar0) as found:
        told = [(bell.offset, bell.size, bell.match) for bell in found.values()]
        assert told == [(0x800, 2, 0xBEEF), *((0x1000 + 4 * n, 4, None) for n in range(4))]
        assert len({bell.fd for bell in found.values()}) == 5


def test_the_reply_is_laid_out_as_specified(driver):
    reply, fds = driver.request(FDS, IO_FDS.pack(4096, 0, 2, 0))
    for fd in fds:
        os.close(fd)
    assert IO_FDS.unpack_from(reply) == (16 + 40, 0, 2, 1)
    assert IO_EVENTFD.unpack_from(reply, 16) == (4, 1, 0, 0, 3, 0, 1)  # datamatch, port I/O
    assert len(fds) == 1


def test_the_trace_shows_what_may_be_signalled(queues):
    queues.serve(trace=True)
    with queues.connect() as guest, bells(guest.bar0):
        (reply,) = [one for one in queues.server.trace if one.from_server and one.nfds]
    assert "eventfds=0x800+0x2,0x1000+0x4,0x1004+0x4,0x1008+0x4,0x100c+0x4 +5 fds" in str(reply)


def test_a_signal_is_a_write_of_the_guest(queues, driver):
    with bells(driver.bar0) as found:
        found[0x800].ring()
        record = wait_written(queues, "bar0.KICK")
    assert queues.rung == [("kick", 0xBEEF, 2, "guest")]
    assert (record.origin, record.value, record.size) == ("guest", 0xBEEF, 2)
    assert {"signalled", "hook_ran"} <= record.flags


def test_elements_are_told_apart(queues, driver):
    with bells(driver.bar0) as found:
        for number in (2, 0):
            found[0x1000 + 4 * number].ring()
            wait_written(queues, f"bar0.DB[{number}]")
    assert queues.rung == [(2, 0), (0, 0)]


def test_signals_that_wait_are_one_write(queues, driver):
    queues.server.pause()
    with bells(driver.bar2) as found:
        for _ in range(5):
            found[4].ring()
        queues.server.resume()
        wait_written(queues, "bar2.GO")
        found[4].ring()
        for _ in range(1000):
            if len(queues.rung) > 1:
                break
            lib.wb_log_wait(queues._core.handle, lib.wb_log_count(queues._core.handle), 20)
        driver.bar0.read32(0)
    assert 2 <= len(queues.rung) <= 3  # one may have been on its way when the gate closed


def test_messages_work_as_ever_beside_signals(queues, driver):
    with bells(driver.bar0):
        driver.bar0.write32(0x1004, 77)
    driver.bar0.write16(0x800, 1)
    assert queues.rung == [(1, 77), ("kick", 1, 2, "guest")]
    assert not any("signalled" in record.flags for record in queues.log)


def test_messages_that_were_sent_before_a_signal_are_served_before_it(queues, driver):
    with bells(driver.bar0) as found:
        queues.server.pause()
        driver.bar0.write32(0, 1, posted=True)
        for value in range(2, 50):
            driver.bar0.write32(0, value, posted=True)
        found[0x1000].ring()
        queues.server.resume()
        record = wait_written(queues, "bar0.DB[0]")
    control = [one for one in queues.log if one.register == "bar0.CTRL"]
    assert control[0].seq < record.seq


def test_asking_again_gives_the_same_eventfds_of_this_client(queues, driver):
    def count():
        return len(os.listdir("/proc/self/fd"))

    with bells(driver.bar0):
        before = count()
    for _ in range(20):
        with bells(driver.bar0) as found:
            assert count() == before
            assert len(found) == 5


def test_who_is_gone_cannot_ring_any_more(queues):
    with queues.connect() as first, bells(first.bar0) as old:
        first.disconnect()
        queues.server.wait_listening()
        with queues.connect() as second, bells(second.bar0) as new:
            old[0x1000].ring()
            new[0x1004].ring()
            wait_written(queues, "bar0.DB[1]")
    assert queues.rung == [(1, 0)]


def test_a_client_gets_no_more_descriptors_than_one_message_may_have(queues, driver):
    with bells(driver.bar4) as found:
        assert list(found) == [4 * n for n in range(protocol.MAX_FDS)]
    for limit, expected in ((3, 3), (0, 0), (None, 1)):
        driver.disconnect()
        with link_to(queues) as link:
            said = {} if limit is None else {"max_msg_fds": limit}
            link.request(Command.VERSION, protocol.pack_version(0, said), (), False, "VERSION")
            reply, fds = link.request(FDS, IO_FDS.pack(4096, 0, 4, 0), (), False, "fds")
            for fd in fds:
                os.close(fd)
            assert (len(fds), IO_FDS.unpack_from(reply)) == (expected, (16 + 40 * expected, 0, 4, expected))


def test_a_reply_that_does_not_fit_is_announced_without_descriptors(driver):
    for argsz in (16, 16 + 5 * 40 - 1):
        reply, fds = driver.request(FDS, IO_FDS.pack(argsz, 0, 0, 0))
        assert (reply, fds) == (IO_FDS.pack(16 + 5 * 40, 0, 0, 5), ())


@pytest.mark.parametrize(
    "payload",
    [b"", bytes(15), IO_FDS.pack(15, 0, 0, 0), IO_FDS.pack(4096, 1, 0, 0), IO_FDS.pack(4096, 0, 0, 1),
     IO_FDS.pack(4096, 0, 1, 0), IO_FDS.pack(4096, 0, 9, 0), IO_FDS.pack(4096, 0, 0xFFFFFFFF, 0)],
)  # fmt: skip
def test_a_bad_request_is_refused(driver, payload):
    assert refusal(driver, FDS, payload) == errno.EINVAL


def test_a_request_with_descriptors_is_refused_and_they_are_closed(driver):
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        assert refusal(driver, FDS, IO_FDS.pack(4096, 0, 0, 0), (fd,)) == errno.EINVAL
    finally:
        os.close(fd)


def test_an_eventfd_made_blocking_by_the_client_does_not_stop_the_server(queues, driver):
    with bells(driver.bar0) as found:
        os.set_blocking(found[0x800].fd, True)
        for _ in range(200):
            found[0x800].ring()
            with contextlib.suppress(BlockingIOError):
                os.set_blocking(found[0x800].fd, False)
                os.eventfd_read(found[0x800].fd)  # the client is faster, now and then
                os.set_blocking(found[0x800].fd, True)
        assert driver.bar0.read32(0x10) == 0


def test_pause_holds_signals_back(queues, driver):
    with bells(driver.bar0) as found:
        driver.bar0.read32(0)
        queues.server.pause()
        found[0x800].ring()
        for _ in range(1000):
            if queues.server.waiting:
                break
            lib.wb_log_wait(queues._core.handle, lib.wb_log_count(queues._core.handle), 5)
        assert queues.server.waiting
        assert queues.rung == []
        queues.server.resume()
        wait_written(queues, "bar0.KICK")


def test_the_engine_has_room_for_so_many_and_refuses_what_is_outside(queues):
    handle = queues._core.handle
    for bad in [(9, 0, 4), (1, 0, 4), (0, 0x1FFD, 4), (0, 0, 0), (0, 0, 9), (0, 1 << 63, 4)]:
        assert lib.wb_doorbell_open(handle, *bad, 0) == -errno.EINVAL
    with queues.connect() as guest:
        made = [lib.wb_doorbell_open(handle, 0, 0, 4, value) for value in range(lib.WB_MAX_DOORBELLS)]
        assert len(set(made)) == lib.WB_MAX_DOORBELLS
        assert lib.wb_doorbell_open(handle, 0, 0, 4, 1 << 20) == -errno.ENOSPC
        assert refusal(guest, FDS, IO_FDS.pack(4096, 0, 0, 0)) == errno.ENOSPC


@pytest.mark.parametrize(
    ("match", "line"),
    [(0x10000, "match 0x10000 does not fit 16 bits"), (-1, "match -0x1 does not fit 16 bits"),
     ("x", "match 'x', expected a whole number")],
)  # fmt: skip
def test_a_value_to_match_must_fit(match, line):
    with pytest.raises(wb.DescriptionError) as caught:

        class bar0(wb.Bar, size=4096):
            DB = wb.Doorbell(0, 16, match=match)

    assert list(caught.value.problems) == [f"DB: {line}"]
