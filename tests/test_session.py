"""The conversation as values: what a Session answers, without a socket."""

import errno

import pytest

from workbench import protocol
from workbench.protocol import Command, RegionCapability, RegionFlag
from workbench.session import Refused, Session


class Card:
    """A device as the session sees it: sizes and counts."""

    region_sizes = {0: 4096, 7: 256}
    irq_counts = (1, 0, 0, 0, 0)
    region_areas = {}
    port_regions = ()
    resets = 0

    def client_reset(self) -> None:
        self.resets += 1

    def doorbells(self, index):
        return []


class MappedSession(Session):
    """A session whose BAR0 has a sparse-mmap capability, as a mapped BAR will have."""

    def region_capabilities(self, index):
        areas = protocol.SPARSE_HEADER.pack(1, 0) + protocol.SPARSE_AREA.pack(0, 4096)
        return [RegionCapability(1, 1, areas), RegionCapability(99, 1, b"odd")] if index == 0 else []


def region_info(session, index, argsz=32):
    return session.answer(Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(argsz, 0, index, 0, 0, 0))


def refusal(session, command, payload):
    with pytest.raises(Refused) as caught:
        session.answer(command, payload)
    return caught.value


def test_version_agrees_on_the_lower_minor_and_the_smaller_transfer():
    session = Session(Card())
    reply = session.answer(Command.VERSION, protocol.pack_version(1, {"max_data_xfer_size": 4096}))
    assert protocol.unpack_version(reply) == (0, 1, {"max_msg_fds": 16, "max_data_xfer_size": 1 << 20})
    assert session.accepted == (4096, False)


def test_version_offers_write_multiple_only_to_a_client_that_does():
    session = Session(Card())
    reply = session.answer(Command.VERSION, protocol.pack_version(0, {"write_multiple": True}))
    assert protocol.unpack_version(reply)[2]["write_multiple"] is True
    assert session.accepted.write_multiple


@pytest.mark.parametrize(
    "capabilities",
    [{"max_msg_fds": -1}, {"max_msg_fds": 1025}, {"max_msg_fds": "8"}, {"max_data_xfer_size": 0},
     {"max_data_xfer_size": True}, {"write_multiple": 1}],
)  # fmt: skip
def test_version_with_a_wrong_limit_is_refused_and_closes(capabilities):
    session = Session(Card())
    refused = refusal(session, Command.VERSION, protocol.pack_version(0, capabilities))
    assert (refused.code, refused.close, session.accepted) == (errno.EINVAL, True, None)


def test_another_major_version_is_refused():
    assert refusal(Session(Card()), Command.VERSION, protocol.VERSION.pack(1, 0)).close


def test_region_info_gives_size_and_flags_and_an_absent_region_size_0():
    session = Session(Card())
    both = RegionFlag.READ | RegionFlag.WRITE
    assert protocol.REGION_INFO.unpack(region_info(session, 0)) == (32, both, 0, 0, 4096, 0)
    assert protocol.REGION_INFO.unpack(region_info(session, 3)) == (32, 0, 3, 0, 0, 0)


def test_region_capabilities_that_do_not_fit_are_announced_not_truncated():
    reply = region_info(MappedSession(Card()), 0, argsz=32)
    argsz, flags, _, offset, _, _ = protocol.REGION_INFO.unpack(reply)
    assert argsz == 32 + (8 + 24) + (8 + 8)
    assert (flags & RegionFlag.CAPS, offset) == (0, 0)


def test_region_capabilities_that_fit_form_a_chain():
    session = MappedSession(Card())
    reply = region_info(session, 0, argsz=80)
    assert len(reply) == 80
    sparse, odd = protocol.region_capabilities(reply)
    assert protocol.sparse_areas(sparse) == [(0, 4096)]
    assert (odd.id, odd.data[:3]) == (99, b"odd")


def test_reset_reaches_the_device_and_takes_no_payload():
    card = Card()
    session = Session(card)
    assert session.answer(Command.DEVICE_RESET, b"") == b""
    assert card.resets == 1
    assert refusal(session, Command.DEVICE_RESET, b"x").code == errno.EINVAL


@pytest.mark.parametrize(
    ("command", "code"),
    [(Command.DEVICE_FEATURE, errno.EINVAL), (Command.MIG_DATA_READ, errno.EINVAL),
     (Command.DMA_READ, errno.ENOTSUP), (14, errno.EINVAL), (0xFFFF, errno.EINVAL)],
)  # fmt: skip
def test_what_is_not_served_is_refused_in_words(command, code):
    assert refusal(Session(Card()), command, b"").code == code
