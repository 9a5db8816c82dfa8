"""The access log against the real engine: what the ring keeps, looks, waits and exports."""

import csv
import itertools
import math
import threading
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from log_kit import CAPACITY, add, bar0, new_log
from pace import cost

from workbench.engine import ffi, lib
from workbench.log import AccessLog


def test_an_empty_log_says_so(log: AccessLog) -> None:
    assert len(log) == log.total == log.dropped == 0
    assert list(log) == []
    assert "0 records, 0 dropped" in repr(log)
    assert len(log.filter(register="CTRL", kind="read", last=1)) == 0
    assert len(log.records(5)) == 0


def test_the_ring_keeps_the_newest_and_counts_the_rest(log: AccessLog) -> None:
    for n in range(CAPACITY + 10):
        add(log, value=n)
    assert (len(log), log.dropped, log.total) == (CAPACITY, 10, CAPACITY + 10)
    assert log.records()["value"].tolist() == list(range(10, CAPACITY + 10))
    assert "10 dropped" in repr(log)
    assert "10 dropped" in log._repr_html_()
    assert log.filter(kind="read").dropped == 10


def test_records_begin_where_they_are_asked_to(log: AccessLog) -> None:
    for n in range(10):
        add(log, value=n)
    assert log.records(since=7)["seq"].tolist() == [7, 8, 9]
    assert log.filter(kind="read").records(since=7)["seq"].tolist() == [7, 8, 9]


def test_clear_moves_a_mark_and_loses_nothing_silently(log: AccessLog) -> None:
    for n in range(CAPACITY + 5):
        add(log, value=n)
    log.clear()
    assert (len(log), log.dropped, log.total) == (0, 0, 0)
    add(log, value=99)
    assert [record.value for record in log] == [99]
    assert log[0].seq == CAPACITY + 5
    assert log[0].elapsed == 0
    assert len(AccessLog(log.handle, {})) == CAPACITY


def test_another_thread_may_clear_the_log_while_it_is_counted(log: AccessLog, monkeypatch: Any) -> None:
    class Cleared:  # by another thread, just after the engine was asked
        wb_log_dropped = staticmethod(lib.wb_log_dropped)

        @staticmethod
        def wb_log_count(handle: Any) -> int:
            count = int(lib.wb_log_count(handle))
            add(log)
            log._start = count + 1
            return count

    for ask in (len, lambda log: log.total, AccessLog.summary):
        with monkeypatch.context() as patch:
            patch.setattr("workbench.log.lib", Cleared)
            assert str(ask(log)).startswith("0")


def test_slices_are_views_with_the_same_methods(log: AccessLog) -> None:
    for n in range(10):
        add(log, value=n)
    tail = log[-3:]
    add(log, value=10)
    assert [record.value for record in tail] == [7, 8, 9]
    assert [record.value for record in tail.filter(kind="read")[1:]] == [8, 9]
    assert tail[0].elapsed == log[7].elapsed
    with pytest.raises(IndexError):
        log[11]


@pytest.mark.parametrize("more", [0, CAPACITY, CAPACITY + 13])
def test_the_live_log_is_indexed_like_a_list_of_its_records(log: AccessLog, more: int) -> None:
    for n in range(10 + more):
        add(log, value=n)
    log_list = log.records()["seq"].tolist()
    for index in (0, 1, -1, -len(log_list), len(log_list) - 1):
        assert log[index].seq == log_list[index]
    for bound in (len(log_list), -len(log_list) - 1):
        with pytest.raises(IndexError):
            log[bound]
    numbers = (None, 0, 3, -2, -100, 100)
    slices = [slice(*one) for one in itertools.product(numbers, numbers, (None, 1, 3, -1, -4))]
    for one in slices:
        assert log[one].records()["seq"].tolist() == log_list[one], one


@pytest.mark.parametrize(
    "look",
    [
        lambda log: log[-1],
        lambda log: log[0],
        lambda log: log[-5:],
        lambda log: log[10:20:3],
        lambda log: log.newest(5),
        lambda log: log.epoch,
        repr,
        lambda log: log._repr_html_(),
    ],
    ids=["last", "first", "tail", "slice", "newest", "epoch", "repr", "html"],
)
def test_looking_at_a_few_records_copies_a_few(look: Any) -> None:
    log = new_log(capacity=1 << 14)
    record = ffi.new("wb_record *", {"size": 4})
    for _ in range(1 << 14):
        lib.wb_log_add(log.handle, record)
    look(log)  # imports, once for all
    log = AccessLog(log.handle, {0: bar0.block})
    tracemalloc.start()
    try:
        look(log)
        assert tracemalloc.get_traced_memory()[1] < 1 << 18  # the ring has 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", [0, -1])
def test_none_of_the_newest_are_none(log: AccessLog, most: int) -> None:
    add(log)
    assert log.newest(most) == log.filter(kind="read").newest(most) == []


def test_waiting_returns_the_record_another_thread_brings(log: AccessLog) -> None:
    add(log, "write", value=1)
    thread = threading.Thread(target=lambda: [add(log, "read"), add(log, "write", value=2)])
    thread.start()
    record = log.wait(kind="write", register="CTRL", since=1, timeout=5)
    thread.join()
    assert (record.seq, record.value) == (2, 2)


def test_waiting_may_count_records_and_look_back(log: AccessLog) -> None:
    for n in range(5):
        add(log, value=n)
    assert log.wait(3, since=0).value == 2
    assert log.wait(lambda record: record.value == 4, since=0).seq == 4
    with pytest.raises(ValueError, match="at least one"):
        log.wait(0)


def test_a_log_read_while_it_is_written_is_in_order(log: AccessLog) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            add(log)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        log.wait(CAPACITY, timeout=5)
        for _ in range(200):
            sequence = log.records()["seq"]
            assert len(sequence) <= CAPACITY
            assert np.all(np.diff(sequence.astype(np.int64)) > 0)
    finally:
        stop.set()
        thread.join()
    assert log.total == len(log) + log.dropped


@pytest.mark.parametrize("condition", ["KICK", bar0.CTRL, 1.5, None])
def test_waiting_for_a_register_wants_its_keyword(log: AccessLog, condition: Any) -> None:
    with pytest.raises(TypeError, match=r"by keyword: wait\(register="):
        log.wait(condition, timeout=0)


@pytest.mark.parametrize("timeout", [math.nan, 0, -1, -math.inf])
def test_waiting_for_no_time_ends(log: AccessLog, timeout: float) -> None:
    with pytest.raises(TimeoutError):
        log.wait(timeout=timeout)


def test_waiting_in_vain_times_out(log: AccessLog) -> None:
    add(log)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="1 records, 0 dropped"):
        log.wait(timeout=0.05)
    assert time.monotonic() - began > 0.04


def test_pandas_gets_one_row_a_record(mixed: AccessLog) -> None:
    frame = mixed.to_pandas()
    assert frame["kind"].tolist() == [record.kind for record in mixed]
    assert frame["register"].tolist() == [record.register for record in mixed]
    assert frame["origin"].tolist() == [record.origin for record in mixed]
    assert frame.index.total_seconds().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert frame["unmapped"].tolist() == [False] * 5 + [True, False, False]
    assert {"value", "old", "now", "latency", "revision", "size"} <= set(frame.columns)


def test_pandas_of_nothing_is_an_empty_frame(log: AccessLog) -> None:
    assert log.to_pandas().empty


def test_csv_has_a_line_a_record(mixed: AccessLog, tmp_path: Any) -> None:
    mixed.to_csv(tmp_path / "log.csv")
    with open(tmp_path / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["register"] for row in rows] == [record.register for record in mixed]
    assert rows[5]["flags"] == "unmapped"
    add(mixed, "dma_read", region=255, flags=lib.WB_REFUSED | lib.WB_LONG, value=13)
    mixed.to_csv(tmp_path / "log.csv")
    assert "long|refused" in (tmp_path / "log.csv").read_text()
    assert rows[1]["time"] == "1000000000"


@pytest.mark.slow
def test_a_million_records_become_a_frame_at_the_speed_of_numpy() -> None:
    """Against the least that must be done, in the same run: a slow or busy machine is no failure."""
    log = new_log(capacity=1 << 20)
    record = ffi.new("wb_record *", {"size": 4})
    for n in range(1 << 20):
        record.offset = 4 * (n & 255)
        lib.wb_log_add(log.handle, record)

    def plain() -> None:
        records = log.records()
        np.unique(records["offset"], return_index=True, return_inverse=True)
        records[np.argsort(records["time"], kind="stable")]

    assert len(log[:1].to_pandas()) == 1  # loads pandas
    least, frame = cost(plain, log.to_pandas)
    assert frame < 8 * least
    frame = log.to_pandas()
    assert len(frame) == 1 << 20
    assert np.array_equal(frame["seq"], np.arange(1 << 20))
