"""Many records as columns: the same as the records one by one, whatever the pieces."""

import numpy as np
import pytest
from sample import Sample

from workbench.columns import PIECE, Columns, first_of
from workbench.records import KINDS, RECORD, Names, Records


def made(offsets: list[int], kind: str = "read") -> Records:
    records = np.zeros(len(offsets), RECORD)
    records["seq"], records["time"] = np.arange(len(offsets)), np.arange(len(offsets)) * 10
    records["offset"], records["size"] = offsets, 4
    records["kind"] = next(number for number, name in KINDS.items() if name == kind)
    return records


def test_fields_and_places_are_those_of_the_records_across_pieces() -> None:
    names = Names(Sample().blocks)
    records = made([0, 4, 0, 1 << 40, 8, (1 << 40) + 4, 4, 1 << 40] * 5)
    columns = Columns([records[:7], records[7:8], records[8:]], len(records), ["offset", "size"], names)
    assert columns["offset"].tolist() == records["offset"].tolist()
    labels = [columns.touches[code].label for code in columns.codes]
    kind = int(records["kind"][0])
    assert labels == [names.touch(kind, 0, int(row["offset"]), 4).label for row in records]
    assert len(set(labels)) == len(columns.touches)


def test_no_more_are_taken_than_there_is_room_for_and_fewer_are_no_fault() -> None:
    records = made([0, 4, 8])
    assert Columns([records, records], 4, ["offset"])["offset"].tolist() == [0, 4, 8, 0]
    assert len(Columns([records], 9, ["offset"])["offset"]) == len(Columns([records], 9, ["offset"])) == 3


def test_records_are_put_in_the_order_in_which_things_began() -> None:
    records = made([0, 4, 8])
    records["time"] = [30, 10, 20]
    columns = Columns([records], 3, ["offset", "time"], Names(Sample().blocks))
    columns.by_time()
    assert columns["offset"].tolist() == [4, 8, 0]
    assert [columns.touches[code].located[0].register.offset for code in columns.codes] == [4, 8, 0]


def test_first_of_tells_where_each_number_stands_first() -> None:
    assert first_of(np.array([2, 0, 2, 0]), 4).tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize("count", [0, 1, PIECE + 1])
def test_a_log_of_any_length_has_a_frame(count: int) -> None:
    pytest.importorskip("pandas")
    card = Sample(log_records=2 * PIECE)
    card.log.clear()
    for _ in range(count):
        card.bar0.poke(0, b"1234")
    frame = card.log.to_pandas()
    assert len(frame) == count
    assert frame["seq"].is_monotonic_increasing
