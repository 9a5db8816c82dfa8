"""The ring of records: order, overwriting, gaps, waiting."""

import threading

import pytest
from engine_kit import Engine

from workbench.engine import ffi, lib


def add(engine: Engine, count: int) -> None:
    record = ffi.new("wb_record *", {"kind": lib.WB_KIND_SWAP})
    for _ in range(count):
        lib.wb_log_add(engine.device, record)


def test_a_record_is_64_bytes_without_holes() -> None:
    names = [name for name, _ in ffi.typeof("wb_record").fields]
    sizes = [field.type for _, field in ffi.typeof("wb_record").fields]
    assert ffi.sizeof("wb_record") == sum(ffi.sizeof(kind) for kind in sizes) == 64
    assert names[:2] == ["seq", "time"]


def test_sequence_and_time_are_filled_in() -> None:
    with Engine() as engine:
        before = lib.wb_clock()
        add(engine, 2)
        record = ffi.new("wb_record *", {"time": 77, "seq": 99})
        lib.wb_log_add(engine.device, record)
        first, second, third = engine.records()
        assert [first.seq, second.seq, third.seq] == [0, 1, 2]
        assert before <= first.time <= second.time <= lib.wb_clock()
        assert third.time == 77


@pytest.mark.parametrize(("asked", "kept"), [(0, 1), (1, 1), (3, 4), (8, 8)])
def test_capacity_is_rounded_up_and_the_newest_are_kept(asked: int, kept: int) -> None:
    with Engine(log=asked) as engine:
        add(engine, 20)
        assert [record.seq for record in engine.records()] == list(range(20 - kept, 20))
        assert lib.wb_log_count(engine.device) == 20
        assert lib.wb_log_dropped(engine.device) == 20 - kept


def test_a_reader_sees_its_gap_and_goes_on() -> None:
    with Engine(log=8) as engine:
        since, room = ffi.new("uint64_t *"), ffi.new("wb_record[]", 8)
        add(engine, 3)
        assert lib.wb_log_copy(engine.device, since, room, 2) == 2
        assert since[0] == 2
        add(engine, 10)
        assert lib.wb_log_copy(engine.device, since, room, 8) == 8
        assert (room[0].seq, since[0]) == (5, 13)
        assert lib.wb_log_copy(engine.device, since, room, 8) == 0
        since[0] = 100
        assert lib.wb_log_copy(engine.device, since, room, 8) == 0
        assert since[0] == 100


def test_more_than_one_piece_is_copied_in_order_across_the_end_of_the_ring() -> None:
    with Engine(log=4096) as engine:
        add(engine, 6000)
        assert [record.seq for record in engine.records()] == list(range(6000 - 4096, 6000))


def test_waiting_ends_with_a_record_or_with_the_time() -> None:
    with Engine() as engine:
        assert lib.wb_log_wait(engine.device, 0, 1) == 0
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(lib.wb_log_wait(engine.device, 0, 10_000)))
        thread.start()
        add(engine, 1)
        thread.join(10)
        assert answers == [1]
        assert lib.wb_log_wait(engine.device, 0, 0) == 1
