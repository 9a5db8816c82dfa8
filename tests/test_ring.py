"""Ring: entries in guest memory that one side fills and the other empties."""

import struct

import pytest
from sample import Sample

import workbench as wb

ENTRY, SIZE, COUNT = "<IHxB", 8, 5
AT = 0x1FF0  # so that the third entry begins another page


@pytest.fixture
def memory(device: Sample, guest: wb.Client) -> wb.Client:
    guest.enable()
    guest.memory.map(0x1000, 0x1000)
    guest.memory.map(0x2000, 0x1000)
    return guest


@pytest.fixture
def ring(device: Sample, memory: wb.Client) -> wb.Ring:
    return wb.Ring(device.dma, AT, ENTRY, COUNT)


def fill(memory: wb.Client, entry: int, number: int) -> None:
    memory.memory.write(AT + SIZE * entry, struct.pack(ENTRY, number, number + 1, number + 2))


def test_entries_that_the_guest_filled_are_taken_in_order_and_around_the_end(memory, ring):
    for lap in range(3):
        for entry in range(COUNT):
            fill(memory, entry, 10 * lap + entry)
            ring.filled((entry + 1) % COUNT)
            assert len(ring) == 1
            assert ring.take() == (10 * lap + entry, 10 * lap + entry + 1, 10 * lap + entry + 2)
    assert ring.laps == 3
    assert (len(ring), ring.room, ring.head) == (0, COUNT - 1, 0)


def test_an_empty_ring_has_nothing_to_take_and_is_no_false(ring):
    with pytest.raises(IndexError, match="empty"):
        ring.take()
    assert ring
    assert len(ring) == 0


def test_entries_are_put_until_it_is_full_and_again_when_the_guest_has_read(memory, ring):
    for number in range(COUNT - 1):
        ring.put(number, 7, 9)
    assert ring.room == 0
    with pytest.raises(wb.StateError, match="is full"):
        ring.put(99, 0, 0)
    ring.emptied(2)
    assert ring.room == 2
    ring.put(4, 7, 9)
    ring.put(5, 7, 9)
    assert ring.laps == 1
    found = [struct.unpack(ENTRY, memory.memory.read(AT + SIZE * entry, SIZE)) for entry in range(COUNT)]
    assert found == [(number, 7, 9) for number in (5, 1, 2, 3, 4)]
    assert repr(ring) == "<Ring at 0x1ff0: 4 of 5 entries wait, head 2, tail 1>"


def test_what_a_guest_cannot_have_done_is_refused_and_changes_nothing(ring):
    ring.filled(3)
    for tail in (-1, COUNT, 1 << 31):
        with pytest.raises(ValueError, match="has no number"):
            ring.filled(tail)
    for head in (-1, COUNT, 4):
        with pytest.raises(ValueError, match="cannot have read"):
            ring.emptied(head)
    assert (ring.head, ring.tail) == (0, 3)
    ring.emptied(3)
    assert len(ring) == 0


def test_memory_that_is_gone_is_an_error_and_the_ring_stays_where_it_was(memory, ring):
    ring.put(1, 2, 3)
    memory.memory.unmap(0x1000)
    memory.memory.unmap(0x2000)
    with pytest.raises(wb.DmaError):
        ring.take()
    with pytest.raises(wb.DmaError):
        ring.put(1, 2, 3)
    assert (ring.head, ring.tail, ring.laps) == (0, 1, 0)


def test_rings_that_cannot_be(device):
    for count in (1, 0, -4):
        with pytest.raises(ValueError, match="at least 2 entries"):
            wb.Ring(device.dma, 0, ENTRY, count)
    for iova in (-1, 1 << 64):
        with pytest.raises(ValueError, match="an IOVA has 64 bits"):
            wb.Ring(device.dma, iova, ENTRY, 2)


def test_a_ring_at_the_end_of_all_addresses_goes_on_at_0(device, guest):
    guest.enable()
    guest.memory.map(0, 0x1000)
    ring = wb.Ring(device.dma, (1 << 64) - SIZE, ENTRY, COUNT)
    ring.filled(2)
    with pytest.raises(wb.DmaError):
        ring.take()
    ring.emptied(1)
    guest.memory.write(0, struct.pack(ENTRY, 4, 5, 6))
    assert ring.take() == (4, 5, 6)


def test_a_ring_of_pairs_is_told_from_its_entries(device, memory):
    pair = wb.Ring(device.dma, AT, ENTRY, 2)
    for number in range(4):
        pair.put(number, 0, 0)
        assert pair.room == 0
        assert pair.take() == (number, 0, 0)
    assert pair.laps == 2
