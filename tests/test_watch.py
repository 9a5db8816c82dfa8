"""Watches: what a guest stored in mapped pages is found and logged, and nothing stays behind."""

import gc
import threading

import numpy as np
import pytest

import workbench as wb
from workbench.engine import ffi, lib


class Ring(wb.Device):
    """A BAR of which the upper half is mapped."""

    id = wb.PciId(vendor=0x1234, device=0x0B15)

    class bar0(wb.Bar, size=0x4000, mmap=[(0x2000, 0x2000)]):
        HEAD = wb.Register(0x2000)
        TAIL = wb.Register(0x2004, A=wb.Field(0, 8), B=wb.Field(8, 24))


@pytest.fixture
def ring():
    with Ring() as device:
        yield device


@pytest.fixture
def driver(ring):
    with ring.connect() as client:
        yield client


def found(device):
    return [record for record in device.log if record.kind == "mmap"]


def wait_found(device, count):
    """Wait until so many changes are in the log."""
    handle = device._core.handle
    for _ in range(1000):
        seen = lib.wb_log_count(handle)
        if len(found(device)) >= count:
            return found(device)
        lib.wb_log_wait(handle, seen, 5000)
    raise AssertionError(found(device))


def test_a_store_of_the_guest_becomes_a_record(ring, driver):
    with driver.bar0.mmap() as mapped, ring.bar0.watch(period=0.001):
        mapped[0:4] = (0x11223344).to_bytes(4, "little")
        (record,) = wait_found(ring, 1)
    assert (record.register, record.offset, record.size) == ("bar0.HEAD", 0x2000, 4)
    assert (record.old, record.value, record.now) == (0, 0x11223344, 0x11223344)
    assert record.origin == "guest"
    assert record.latency > 0
    assert "mmap" in str(record)
    assert "0x11223344" in str(record)


@pytest.mark.parametrize(
    ("at", "data", "offset", "size"),
    [(5, b"\1", 0x2005, 1), (6, b"\1\1", 0x2006, 2), (5, b"\1\1", 0x2004, 4), (3, b"\1\1", 0x2000, 8),
     (8, b"\1" * 8, 0x2008, 8), (0x1FFC, b"\1\1\1\1", 0x3FFC, 4)],
)  # fmt: skip
def test_a_record_is_as_narrow_as_an_aligned_access(ring, driver, at, data, offset, size):
    with driver.bar0.mmap() as mapped:
        watch = ring.bar0.watch(period=3600)
        mapped[at : at + len(data)] = data
        watch.stop()
    (record,) = found(ring)
    assert (record.offset, record.size) == (offset, size)
    assert record.value.to_bytes(size, "little").strip(b"\0") == data


def test_stop_takes_a_last_sample_and_fields_are_named(ring, driver):
    with driver.bar0.mmap() as mapped:
        mapped[4] = 3
        with ring.bar0.watch(period=3600) as watch:
            mapped[4] = 5
    (record,) = found(ring)
    assert record.changes == ("A 3→5",)
    assert (watch.changes, watch.samples, watch.unlogged, watch.running) == (1, 1, 0, False)


def test_what_was_there_before_is_no_change(ring):
    ring.bar0.array(np.uint8)[:] = 7
    with ring.bar0.watch(period=3600):
        pass
    assert found(ring) == []


def test_only_the_watched_bytes_are_looked_at(ring):
    memory = ring.bar0.array("<u8")
    with ring.bar0.watch(0x2010, 12, period=3600):
        memory[0:5] = 1
    assert [record.offset for record in found(ring)] == [0x2010, 0x2018]


def test_of_many_changes_the_rest_is_counted(ring):
    memory = ring.bar0.array("<u8")
    with ring.bar0.watch(period=3600) as watch:
        memory[:] = 1
    records = found(ring)
    assert len(records) == 257
    assert all(record.size == 1 for record in records[:-1])
    last = records[-1]
    assert last.flags == {"more"}
    assert (last.offset, last.size, last.value) == (0x2800, 0x1800, 768)
    assert last.text == "768 more words changed"
    assert (watch.changes, watch.unlogged) == (1024, 768)


def test_messages_and_pokes_are_not_told_twice(ring, driver):
    with ring.bar0.watch(period=3600) as watch:
        driver.bar0.write32(0x2000, 5)
        driver.bar0.write(0x2FFC, bytes(range(1, 101)))
        ring.bar0.TAIL = 6
        ring.bar0.poke(0x3003, b"notebook")
    assert found(ring) == []
    assert watch.changes == 0


def test_a_poke_of_other_bytes_does_not_hide_a_change(ring, driver):
    with driver.bar0.mmap() as mapped, ring.bar0.watch(period=3600):
        mapped[0] = 9
        ring.bar0.poke(0x2001, b"\1\2")
    (record,) = found(ring)
    assert (record.offset, record.size, record.old, record.value) == (0x2000, 1, 0, 9)


def test_two_watches_find_the_same(ring, driver):
    one, two = ring.bar0.watch(period=3600), ring.bar0.watch(period=3600)
    with driver.bar0.mmap() as mapped, one, two:
        mapped[0] = 1
    assert (one.changes, two.changes) == (1, 1)


def test_close_ends_watches_and_stop_may_be_repeated():
    device = Ring()
    watch = device.bar0.watch()
    assert watch.running
    device.close()
    assert not watch.running
    watch.stop()
    assert "stopped" in repr(watch)


def test_a_forgotten_device_takes_its_watch_along():
    device = Ring()
    before = set(threading.enumerate())
    watch = device.bar0.watch()
    thread = watch._thread
    assert thread in set(threading.enumerate()) - before
    assert thread.name == "workbench watch bar0+0x2000"
    del device, watch
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_watch_goes_on_when_a_newer_class_takes_the_device_over(ring, driver):
    class Again(wb.Device):
        id = Ring.id

        class bar0(wb.Bar, size=0x4000, mmap=[(0x2000, 0x2000)]):
            FIRST = wb.Register(0x2000)

    with driver.bar0.mmap() as mapped, ring.bar0.watch(period=3600):
        mapped[0] = 4
        ring.swap(Again)
        assert ring.bar0.FIRST == 4
    assert [record.register for record in found(ring)] == ["bar0.FIRST"]


@pytest.mark.parametrize("period", [0, -1, 1e-5, 1e9, float("nan")])
def test_a_period_must_be_reasonable(ring, period):
    with pytest.raises(ValueError, match=r"expected 0\.0001 to 3600 seconds"):
        ring.bar0.watch(period=period)


def test_only_mapped_pages_can_be_watched(ring):
    with pytest.raises(ValueError, match="in no mapped page"):
        ring.bar0.watch(0)
    with pytest.raises(ValueError, match="the mapped pages end at 0x4000"):
        ring.bar0.watch(0x3000, 0x1001)
    with pytest.raises(ValueError, match="the mapped pages end"):
        ring.bar0.watch(0x3000, 0)
    with pytest.raises(wb.StateError, match="no mapped pages"):
        ring.config.watch()


@pytest.mark.parametrize(
    ("region", "offset", "size", "period"),
    [(9, 0x2000, 8, 1), (1, 0, 8, 1), (0, 0x2004, 8, 1), (0, 0x2000, 4, 1), (0, 0x2000, 0, 1),
     (0, 0x1000, 0x2000, 1), (0, 0x3000, 0x2000, 1), (0, 0x2000, 8, 0), (0, 0x2000, 1 << 63, 1),
     (0, 0x2000, 8, 1 << 63)],
)  # fmt: skip
def test_the_engine_refuses_what_it_cannot_watch(ring, region, offset, size, period):
    made = ffi.new("wb_watch **")
    assert lib.wb_watch_new(ring._core.handle, region, offset, size, period, 1, made) < 0
    assert made[0] == ffi.NULL
