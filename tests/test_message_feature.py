"""DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE: lengths, flags, pages that the device wrote."""

import errno
import random

import pytest
from sample import Sample, link_to, open_link, refusal

from workbench import protocol
from workbench.client.migration import Migration
from workbench.protocol import FEATURE, Command, Feature, FeatureFlag, MigrationState

GET, SET, PROBE = FeatureFlag.GET, FeatureFlag.SET, FeatureFlag.PROBE
PAGE = 4096
KNOWN = {1: GET, 2: GET | SET, 6: SET, 7: SET, 8: GET}


@pytest.fixture
def writer():
    """A device and a guest with bus mastering on, so that the device can write its memory."""
    with Sample() as device, device.connect() as guest:
        guest.enable()
        guest.memory.map(0, 64 * PAGE)
        yield device, guest.migration


def ask(guest, number, flags, data=b"", argsz=None):
    argsz = FEATURE.size + len(data) if argsz is None else argsz
    return guest.request(Command.DEVICE_FEATURE, FEATURE.pack(argsz, flags | number) + data)[0]


# ---- what is asked


@pytest.mark.parametrize("number", [*range(12), 0xFFFF])
@pytest.mark.parametrize("methods", [FeatureFlag(0), GET, SET, GET | SET])
def test_a_probe_tells_what_there_is_and_echoes_the_question(guest, number, methods):
    flags = methods | PROBE
    if number in KNOWN and not methods & ~KNOWN[number]:
        assert ask(guest, number, flags, b"data") == FEATURE.pack(12, flags | number) + b"data"
    else:
        assert refusal(guest, Command.DEVICE_FEATURE, FEATURE.pack(8, flags | number)) == errno.EINVAL


@pytest.mark.parametrize("number", [0, 1, 2, 3, 6, 7, 8, 0xFFFF])
@pytest.mark.parametrize("flags", [0, GET | SET, 1 << 19, 1 << 31 | GET, SET << 3])
def test_flags_that_ask_nothing_or_too_much_are_refused(guest, number, flags):
    payload = FEATURE.pack(64, flags | number) + bytes(56)
    assert refusal(guest, Command.DEVICE_FEATURE, payload) == errno.EINVAL


@pytest.mark.parametrize(("number", "flags"), [(1, SET), (6, GET), (7, GET), (8, SET), (3, GET), (9, SET)])
def test_what_a_feature_cannot_do_is_refused(guest, number, flags):
    payload = FEATURE.pack(64, flags | number) + bytes(56)
    assert refusal(guest, Command.DEVICE_FEATURE, payload) == errno.EINVAL


@pytest.mark.parametrize("payload", [b"", b"\0" * 7, FEATURE.pack(7, GET | 1)])
def test_a_short_question_is_refused(guest, payload):
    assert refusal(guest, Command.DEVICE_FEATURE, payload) == errno.EINVAL


def test_an_answer_that_has_no_room_tells_how_much_it_needs(guest):
    assert ask(guest, 1, GET, argsz=15) == FEATURE.pack(16, GET | 1)
    assert ask(guest, 1, GET, argsz=16) == FEATURE.pack(16, GET | 1) + (5).to_bytes(8, "little")
    assert ask(guest, 2, GET, argsz=64) == FEATURE.pack(16, GET | 2) + protocol.FEATURE_STATE.pack(2, 0)


def test_setting_a_state_echoes_it(guest):
    data = protocol.FEATURE_STATE.pack(MigrationState.STOP, 0xFFFFFFFF)
    assert ask(guest, 2, SET, data) == FEATURE.pack(16, SET | 2) + data
    assert guest.migration.state == MigrationState.STOP


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0", b"\0" * 8, b"\5" + b"\0" * 7, b"\xff" * 8])
def test_a_state_that_is_none_is_refused(guest, data):
    assert refusal(guest, Command.DEVICE_FEATURE, FEATURE.pack(16, SET | 2) + data) == errno.EINVAL
    assert guest.migration.state == MigrationState.RUNNING


def test_who_offers_migration_hears_of_it_and_others_do_not(guest, device):
    assert guest.capabilities_of_server["migration"] == {"pgsize": 4096, "max_bitmap_size": 1 << 20}
    guest.disconnect()
    for offer in ({}, {"migration": None}, {"migration": 7}):
        with link_to(device) as link:
            reply, _ = link.request(Command.VERSION, protocol.pack_version(0, offer), (), False, "")
            assert "migration" not in protocol.unpack_version(reply)[2]


# ---- data


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0" * 7,
        protocol.MIGRATION_DATA.pack(8, 1),
        protocol.MIGRATION_DATA.pack(1 << 31, (1 << 20) + 1),
    ],
)
def test_a_read_of_more_than_there_is_room_for_is_refused(guest, payload):
    guest.migration.state = MigrationState.STOP_COPY
    assert refusal(guest, Command.MIG_DATA_READ, payload) == errno.EINVAL
    assert guest.migration.read_all()


def test_a_read_is_shorter_than_asked_for_only_at_the_end(guest):
    guest.migration.state = MigrationState.STOP_COPY
    pieces = []
    while len(piece := guest.migration.read(100)) == 100:
        pieces.append(piece)
    assert len(pieces) > 5
    assert guest.migration.read(100) == b""
    assert guest.migration.read(0) == b""


@pytest.mark.parametrize("state", [MigrationState.RUNNING, MigrationState.STOP, MigrationState.RESUMING])
def test_there_is_nothing_to_read_in_other_states(guest, state):
    guest.migration.state = state
    payload = protocol.MIGRATION_DATA.pack(4096, 16)
    assert refusal(guest, Command.MIG_DATA_READ, payload) == errno.EINVAL


@pytest.mark.parametrize("state", [state for state in MigrationState if state not in (0, 4)])
def test_nothing_may_be_written_in_other_states(guest, state):
    guest.migration.state = state
    payload = protocol.MIGRATION_DATA.pack(12, 4) + b"data"
    assert refusal(guest, Command.MIG_DATA_WRITE, payload) == errno.EINVAL


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0" * 7,
        protocol.MIGRATION_DATA.pack(12, 5) + b"data",
        protocol.MIGRATION_DATA.pack(12, 3) + b"data",
    ],
)
def test_a_write_needs_exactly_its_data(guest, payload):
    guest.migration.state = MigrationState.RESUMING
    assert refusal(guest, Command.MIG_DATA_WRITE, payload) == errno.EINVAL


def test_a_write_is_answered_without_a_payload(guest):
    guest.migration.state = MigrationState.RESUMING
    data = protocol.MIGRATION_DATA.pack(12, 4) + b"data"
    assert guest.request(Command.MIG_DATA_WRITE, data)[0] == b""


def test_a_client_that_takes_little_at_once_is_not_sent_more(device):
    with device.serve(), open_link(device) as link:
        migration = Migration(
            lambda command, payload, about: link.request(command, payload, (), False, about)[0]
        )
        migration.state = MigrationState.STOP_COPY
        assert migration.read_all(64)


# ---- pages that the device wrote


def test_writes_are_logged_between_start_and_stop(writer):
    device, migration = writer
    device.dma.write(0, b"before")
    assert migration.start_logging(PAGE) == PAGE
    device.dma.write(3 * PAGE + 4090, b"0123456789")
    device.dma.scatter([(10 * PAGE, 1), (12 * PAGE, 1)], b"ab")
    device.dma.copy(20 * PAGE, 0, 2 * PAGE)
    device.dma.read(30 * PAGE, PAGE)
    device.dma.write(40 * PAGE, b"")
    wanted = [page * PAGE for page in (3, 4, 10, 12, 20, 21)]
    assert migration.dirty(0, 64 * PAGE) == wanted
    assert migration.dirty(0, 64 * PAGE) == []
    migration.stop_logging()
    device.dma.write(0, b"after")
    migration.start_logging(PAGE)
    assert migration.dirty(0, 64 * PAGE) == []


def test_what_messages_carried_is_logged_too(writer):
    device, migration = writer
    device_guest = migration._ask.__self__
    device_guest.memory.map(1 << 32, PAGE, shared=False)
    migration.start_logging(PAGE)
    device.dma.write((1 << 32) + 5, b"x")
    assert migration.dirty(1 << 32, PAGE) == [1 << 32]


def test_a_refused_copy_is_not_logged(writer):
    device, migration = writer
    migration.start_logging(PAGE)
    with pytest.raises(OSError, match="mapped no memory"):
        device.dma.write(1 << 40, b"x")
    assert migration.dirty(1 << 40, PAGE) == []


def test_only_the_ranges_asked_for_are_logged(writer):
    device, migration = writer
    migration.start_logging(PAGE, [(16 * PAGE, 2 * PAGE), (4 * PAGE, 2 * PAGE), (6 * PAGE, PAGE)])
    device.dma.write(0, bytes(64 * PAGE))
    assert migration.dirty(4 * PAGE, 3 * PAGE) == [4 * PAGE, 5 * PAGE, 6 * PAGE]
    assert migration.dirty(16 * PAGE, 2 * PAGE) == [16 * PAGE, 17 * PAGE]
    for iova, length in ((0, PAGE), (3 * PAGE, 2 * PAGE), (6 * PAGE, 2 * PAGE), (0, 64 * PAGE)):
        data = protocol.LOGGING_REPORT.pack(iova, length, PAGE)
        payload = FEATURE.pack(4096, GET | 8) + data
        assert refusal(migration._ask.__self__, Command.DEVICE_FEATURE, payload) == errno.EINVAL


@pytest.mark.parametrize(
    ("hint", "taken"), [(1, 4096), (512, 4096), (4096, 4096), (1 << 21, 1 << 21), (1 << 63, 1 << 63)]
)
def test_any_power_of_two_is_a_page_size(writer, hint, taken):
    device, migration = writer
    assert migration.start_logging(hint) == taken
    device.dma.write(PAGE, b"x")
    assert migration.dirty(0, 64 * PAGE, 64 * PAGE) == [0]


@pytest.mark.parametrize("page_size", [1, 2, 512, 4096, 8192, 1 << 16, 1 << 40])
def test_a_report_may_have_other_pages_than_the_log(writer, page_size):
    device, migration = writer
    migration.start_logging(PAGE)
    device.dma.write(3 * PAGE, b"x")
    found = migration.dirty(0, 16 * PAGE, page_size)
    first = 3 * PAGE // page_size * page_size
    assert found == list(range(first, max(4 * PAGE, first + 1), page_size))


def test_bits_behind_the_range_are_zero(writer):
    device, migration = writer
    migration.start_logging(PAGE)
    device.dma.write(0, bytes(64 * PAGE))
    bits = migration.bitmap(0, 3 * PAGE + 1)
    assert bits == (0xF).to_bytes(8, "little")
    assert migration.bitmap(4 * PAGE, 59 * PAGE) == ((1 << 59) - 1).to_bytes(8, "little")
    assert migration.dirty(0, 64 * PAGE) == [
        3 * PAGE,
        63 * PAGE,
    ]  # the one that was told in part, and the rest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        protocol.LOGGING_START.pack(0, 0, 0),
        protocol.LOGGING_START.pack(4097, 0, 0),
        protocol.LOGGING_START.pack(4096, 1, 0),
        protocol.LOGGING_START.pack(4096, 0, 1),
        protocol.LOGGING_START.pack(4096, 0, 0) + bytes(16),
        protocol.LOGGING_START.pack(4096, 0xFFFFFFFF, 0) + bytes(16),
        protocol.LOGGING_START.pack(4096, 1, 0) + protocol.LOGGING_RANGE.pack(0, 0),
        protocol.LOGGING_START.pack(4096, 1, 0) + protocol.LOGGING_RANGE.pack(1 << 63, (1 << 63) + 1),
        protocol.LOGGING_START.pack(4096, 2, 0) + 2 * protocol.LOGGING_RANGE.pack(0, 4096),
    ],
)
def test_a_wrong_start_is_refused_and_starts_nothing(guest, data):
    payload = FEATURE.pack(64, SET | 6) + data
    assert refusal(guest, Command.DEVICE_FEATURE, payload) == errno.EINVAL
    guest.migration.start_logging()


def test_a_second_start_is_refused_and_a_second_stop_is_none(guest):
    guest.migration.start_logging()
    data = protocol.LOGGING_START.pack(4096, 0, 0)
    assert refusal(guest, Command.DEVICE_FEATURE, FEATURE.pack(24, SET | 6) + data) == errno.EBUSY
    guest.migration.stop_logging()
    guest.migration.stop_logging()


@pytest.mark.parametrize(
    ("iova", "length", "page_size"),
    [
        (0, 0, 4096),
        (0, 4096, 0),
        (0, 4096, 3),
        (1 << 63, (1 << 63) + 1, 4096),
        (0, 1 << 40, 4096),
        (0, 1 << 63, 1),
    ],
)
def test_a_report_that_cannot_be_is_refused(guest, iova, length, page_size):
    guest.migration.start_logging()
    data = protocol.LOGGING_REPORT.pack(iova, length, page_size)
    payload = FEATURE.pack(0xFFFFFFFF, GET | 8) + data
    assert refusal(guest, Command.DEVICE_FEATURE, payload) == errno.EINVAL


def test_there_is_no_report_before_the_start_or_after_the_stop(guest):
    payload = FEATURE.pack(64, GET | 8) + protocol.LOGGING_REPORT.pack(0, 4096, 4096)
    assert refusal(guest, Command.DEVICE_FEATURE, payload) == errno.EINVAL
    guest.migration.start_logging()
    assert guest.request(Command.DEVICE_FEATURE, payload)[0]
    guest.migration.stop_logging()
    assert refusal(guest, Command.DEVICE_FEATURE, payload) == errno.EINVAL


def test_a_report_without_room_forgets_nothing(writer):
    device, migration = writer
    guest = migration._ask.__self__
    migration.start_logging(PAGE)
    device.dma.write(0, b"x")
    data = protocol.LOGGING_REPORT.pack(0, 64 * PAGE, PAGE)
    assert ask(guest, 8, GET, data, argsz=39) == FEATURE.pack(40, GET | 8)
    assert ask(guest, 8, GET, data, argsz=40) == FEATURE.pack(40, GET | 8) + data + (1).to_bytes(8, "little")


def test_all_of_the_address_space_is_reported_by_huge_pages(writer):
    device, migration = writer
    migration._ask.__self__.memory.map((1 << 64) - PAGE, PAGE)
    migration.start_logging(PAGE)
    device.dma.write((1 << 64) - 1, b"x")
    assert migration.dirty(1 << 63, 1 << 63, 1 << 58) == [(1 << 64) - (1 << 58)]


def test_logging_goes_on_over_a_reset_and_ends_with_the_client(device):
    with device.connect() as guest:
        guest.migration.start_logging()
        guest.reset()
        guest.migration.bitmap(0, 4096)
    with device.connect() as guest:
        guest.migration.start_logging()


def test_random_writes_and_reports_agree_with_a_model(writer):
    device, migration = writer
    chance = random.Random(7)
    for hint in (4096, 16384):
        pages = migration.start_logging(hint)
        model: set[int] = set()  # granules
        for _ in range(150):
            if chance.random() < 0.6:
                at = chance.randrange(64 * PAGE)
                size = min(chance.choice([1, 100, PAGE, 5 * PAGE]), 64 * PAGE - at)
                device.dma.write(at, bytes(size))
                model |= set(range(at // pages, (at + size - 1) // pages + 1))
                continue
            iova = chance.randrange(64 * PAGE)
            length, unit = chance.randrange(1, 64 * PAGE - iova + 1), 1 << chance.randrange(8, 18)
            told = {
                place
                for granule in model
                if granule * pages < iova + length and (granule + 1) * pages > iova
                for place in range(
                    max(granule * pages - iova, 0) // unit,
                    min((granule + 1) * pages - 1 - iova, length - 1) // unit + 1,
                )
            }
            assert migration.dirty(iova, length, unit) == [iova + place * unit for place in sorted(told)]
            model -= {n for n in model if iova <= n * pages and (n + 1) * pages <= iova + length}
        migration.stop_logging()


def test_the_wire_trace_says_it_in_words(device):
    server = device.serve(trace=True)
    with device.connect() as guest:
        guest.migration.state = MigrationState.STOP_COPY
        guest.migration.read(100)
        guest.migration.state = MigrationState.RESUMING
        guest.migration.write(b"data")
    text = "\n".join(map(str, server.trace))
    assert "MIG_DEVICE_STATE" in text
    assert "state=STOP_COPY" in text
    assert "MIG_DATA_READ" in text
    assert f"{Feature.MIG_DEVICE_STATE.name}" in text
