"""REGION_READ, REGION_WRITE and REGION_WRITE_MULTI: good, bad, posted, and at the edges."""

import errno

import pytest
from sample import access, open_link, refusal

from workbench import protocol
from workbench.protocol import MULTI_COUNT, MULTI_WRITE, REGION_ACCESS, Command, MessageFlag

READ, WRITE, MULTI = Command.REGION_READ, Command.REGION_WRITE, Command.REGION_WRITE_MULTI
LIMIT = protocol.MAX_TRANSFER


def read(guest, region: int, offset: int, count: int) -> bytes:
    payload = access(region, offset, count)
    reply, fds = guest.request(READ, payload)
    assert reply[:16] == payload
    assert fds == ()
    assert len(reply) == 16 + count
    return reply[16:]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_width_reads_what_it_wrote(guest, size):
    data = bytes(range(0xA1, 0xA1 + size))
    assert guest.request(WRITE, access(0, 8, size, data)) == (access(0, 8, size), ())
    assert read(guest, 0, 8, size) == data


def test_an_access_may_be_unaligned_and_span_registers(guest):
    guest.bar0.write(0x101, b"across three!")
    assert guest.bar0.read(0x101, 13) == b"across three!"
    assert guest.bar0.read(0x0F, 3) == b"\0\xee\xff"


def test_a_whole_region_in_one_message(guest):
    assert read(guest, 0, 0, 4096)[0x10:0x14] == (0xC0FFEE).to_bytes(4, "little")
    assert read(guest, 7, 0, 256)[:4] == b"\x34\x12\x11\x0b"
    assert len(read(guest, 2, 0, 8)) == 8


@pytest.mark.parametrize("offset", [0, 4096])
def test_no_bytes_are_a_success(guest, offset):
    assert read(guest, 0, offset, 0) == b""
    assert guest.request(WRITE, access(0, offset, 0)) == (access(0, offset, 0), ())


BAD_PLACES = [
    pytest.param(0, 4096, 1, id="behind"),
    pytest.param(0, 4093, 4, id="across the end"),
    pytest.param(0, 0, 4097, id="too long"),
    pytest.param(0, (1 << 64) - 1, 1, id="last offset"),
    pytest.param(0, (1 << 64) - 4, 8, id="overflow"),
    pytest.param(0, 1 << 63, 4, id="far"),
    pytest.param(1, 0, 1, id="absent BAR"),
    pytest.param(6, 0, 1, id="absent ROM"),
    pytest.param(8, 0, 1, id="absent VGA"),
    pytest.param(9, 0, 1, id="no such index"),
    pytest.param(0xFFFFFFFF, 0, 1, id="last index"),
    pytest.param(7, 256, 4, id="behind config space"),
    pytest.param(2, 8, 1, id="behind ports"),
]


@pytest.mark.parametrize(("region", "offset", "count"), BAD_PLACES)
def test_an_access_outside_is_refused(guest, region, offset, count):
    assert refusal(guest, READ, access(region, offset, count)) == errno.EINVAL
    assert refusal(guest, WRITE, access(region, offset, count, bytes(count))) == errno.EINVAL


@pytest.mark.parametrize("count", [LIMIT + 1, 1 << 31, 0xFFFFFFFF])
def test_a_read_of_more_than_the_limit_is_refused(guest, count):
    assert refusal(guest, READ, access(0, 0, count)) == errno.EINVAL


@pytest.mark.parametrize("payload", [b"", bytes(15)])
def test_a_short_access_is_refused(guest, payload):
    assert refusal(guest, READ, payload) == errno.EINVAL
    assert refusal(guest, WRITE, payload) == errno.EINVAL


WRONG_DATA = [(4, b""), (4, b"abc"), (4, b"abcde"), (0, b"a"), (0xFFFFFFFF, b"abcd")]


@pytest.mark.parametrize(("count", "data"), WRONG_DATA)
def test_a_write_needs_exactly_its_data(guest, count, data):
    assert refusal(guest, WRITE, access(0, 0, count, data)) == errno.EINVAL
    assert guest.bar0.read32(0) == 0x11223344


def test_a_refused_write_changes_nothing(guest):
    before = guest.bar0.read(0, 4096)
    refusal(guest, WRITE, access(0, 4094, 4, b"\xff" * 4))
    assert guest.bar0.read(0, 4096) == before


def test_rules_hold_for_every_width(guest):
    guest.bar0.write32(0x10, 0xFFFFFFFF)
    assert guest.bar0.read32(0x10) == 0xC0FFEE
    assert guest.bar0.read8(4) == 2
    guest.bar0.write8(4, 0)
    assert guest.bar0.read8(4) == 2
    guest.bar0.write16(4, 2)
    assert guest.bar0.read32(4) == 0


def test_ports_are_served_like_memory(guest):
    guest.bar2.write8(0, 0x42)
    assert guest.bar2.read16(0) == 0x5A42


PIECES = [(0, 1), (0, 2), (1, 2), (3, 1), (0x10, 4), (0x11, 1), (0x3D, 1)]


@pytest.mark.parametrize(("offset", "count"), PIECES)
def test_config_space_takes_any_width_and_alignment(guest, offset, count):
    whole = read(guest, 7, 0, 256)
    assert read(guest, 7, offset, count) == whole[offset : offset + count]
    guest.config.write(offset, whole[offset : offset + count])
    assert read(guest, 7, 0, 256) == whole


def test_the_bar_is_sized_by_writing_ones(guest):
    guest.config.write32(0x10, 0xFFFFFFFF)
    assert guest.config.read32(0x10) == 0xFFFFF000
    guest.config.write32(0x18, 0xFFFFFFFF)
    assert guest.config.read32(0x18) == 0xFFFFFFF9
    guest.config.write32(0x30, 0xFFFFFFFF)
    assert guest.config.read32(0x30) == 0


def entry(region: int, offset: int, data: bytes, count: int | None = None) -> bytes:
    return MULTI_WRITE.pack(offset, region, len(data) if count is None else count, data)


def multi(*entries: bytes, count: int | None = None) -> bytes:
    return MULTI_COUNT.pack(len(entries) if count is None else count) + b"".join(entries)


def test_many_writes_in_one_message(guest):
    payload = multi(entry(0, 0, b"abcd"), entry(0, 8, b"12345678"), entry(2, 0, b"p"), entry(0, 0, b"z"))
    assert guest.request(MULTI, payload) == (MULTI_COUNT.pack(4), ())
    assert guest.bar0.read(0, 4) == b"zbcd"
    assert guest.bar0.read(8, 8) == b"12345678"
    assert guest.bar2.read8(0) == ord("p")


def test_posted_many_writes_are_done_before_the_next_read_and_not_answered(guest):
    guest.write_multi((0, 0x100 + 4 * at, bytes([at] * 4)) for at in range(60))
    assert guest.bar0.read(0x100, 240) == b"".join(bytes([at] * 4) for at in range(60))


def test_the_largest_message_that_qemu_sends(guest):
    writes = [(0, 0x100, at.to_bytes(4, "little")) for at in range(200)]
    assert guest.write_multi(writes, posted=False) == 200
    assert guest.bar0.read32(0x100) == 199


def test_no_writes_are_a_success(guest):
    assert guest.write_multi([], posted=False) == 0


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(bytes(7), id="short"),
        pytest.param(multi(entry(0, 0, b"a"))[:-1], id="cut"),
        pytest.param(multi(entry(0, 0, b"a")) + b"x", id="long"),
        pytest.param(multi(entry(0, 0, b"a"), count=2), id="count"),
        pytest.param(multi(count=1), id="no entries"),
        pytest.param(multi(entry(0, 0, b"a"), count=(1 << 64) - 1), id="big count"),
        # 24 * count wraps to 24
        pytest.param(multi(entry(0, 0, b"a"), count=((1 << 64) // 8) + 1), id="wrapping count"),
        pytest.param(multi(entry(0, 0, b"a" * 8, 9)), id="nine bytes"),
        pytest.param(multi(entry(0, 0, b"a" * 8, 0xFFFFFFFF)), id="many bytes"),
        pytest.param(multi(entry(0, 0, b"zzzz"), entry(0, 4, b"", 9)), id="good, then nine bytes"),
        pytest.param(multi(entry(9, 0, b"a")), id="region"),
        pytest.param(multi(entry(0, 4096, b"a")), id="offset"),
    ],
)
def test_bad_many_writes_are_refused_and_change_nothing(guest, payload):
    assert refusal(guest, MULTI, payload) == errno.EINVAL
    assert guest.bar0.read32(0) == 0x11223344


def test_many_writes_stop_at_the_first_that_fails_and_say_how_many_were_done(guest):
    payload = multi(entry(0, 0, b"abcd"), entry(0, 1 << 40, b"x"), entry(0, 8, b"y"))
    assert guest.request(MULTI, payload) == (MULTI_COUNT.pack(1), ())
    assert (guest.bar0.read(0, 4), guest.bar0.read8(8)) == (b"abcd", 0)


def test_many_writes_have_to_be_negotiated(device):
    with open_link(device) as link:  # its VERSION offers nothing
        assert refusal(link, MULTI, multi(entry(0, 0, b"a"))) in (errno.EINVAL, errno.ENOTSUP)


def test_posted_writes_in_a_burst_are_all_done(guest):
    writes = [access(0, 0x100 + at % 64 * 4, 4, bytes([at % 256] * 4)) for at in range(2048)]
    guest.send_raw(b"".join(protocol.pack_message(1, WRITE, write, MessageFlag.NO_REPLY) for write in writes))
    assert guest.bar0.read(0x100, 256) == b"".join(bytes([at % 256] * 4) for at in range(1984, 2048))


def test_layout_of_the_access_message():
    assert REGION_ACCESS.size == len(access()) == 16
