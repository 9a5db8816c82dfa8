"""The byte planes against a plain oracle of their rules, and the edges the oracle does not reach."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from engine_kit import PLANES, Engine
from hypothesis import given, settings
from hypothesis import strategies as st
from leaks import resident

from workbench.engine import lib

SIZE = 24
RULES = [name for name in PLANES if name != "HOOKS"]


class Oracle:
    """The rules of wb.h, byte by byte, in plain Python."""

    def __init__(self, planes: dict[str, bytes], hooks: bytes) -> None:
        self.p = {name: bytearray(data) for name, data in planes.items()}
        self.hooks = hooks
        self.calls: list[tuple[int, int, int]] = []

    def chunks(self, offset: int, size: int) -> list[tuple[int, int]]:
        if size <= 8:
            return [(offset, size)]
        cuts = [offset, *range(offset // 8 * 8 + 8, offset + size, 8), offset + size]
        return [(a, b - a) for a, b in itertools.pairwise(cuts)]

    def run_hook(self, offset: int, size: int, bit: int) -> None:
        if any(byte & bit for byte in self.hooks[offset : offset + size]):
            self.calls.append((bit, offset, size))

    def read(self, offset: int, size: int) -> bytes:
        answer = bytearray()
        for start, length in self.chunks(offset, size):
            self.run_hook(start, length, lib.WB_HOOK_READ)
            for i in range(start, start + length):
                p = {name: data[i] for name, data in self.p.items()}
                answer.append(p["VALUE"] & p["READABLE"])
                self.p["VALUE"][i] = p["VALUE"] & ~p["RC"] & 0xFF | p["RS"]
        return bytes(answer)

    def write(self, offset: int, data: bytes) -> int:
        flags = lib.WB_LONG if len(data) > 8 else 0
        for start, length in self.chunks(offset, len(data)):
            for i in range(start, start + length):
                flags |= self.write_byte(i, data[i - offset])
            self.run_hook(start, length, lib.WB_HOOK_WRITE)
            for i in range(start, start + length):
                self.p["VALUE"][i] &= ~self.p["PULSE"][i]
        if not any(self.p["KNOWN"][offset : offset + len(data)]):
            flags |= lib.WB_UNMAPPED
        return flags

    def write_byte(self, i: int, d: int) -> int:
        p = {name: data[i] for name, data in self.p.items()}
        v, n = p["VALUE"], ~d & 0xFF
        bad = p["KNOWN"] and (d ^ (v & p["READABLE"])) & ~p["ACCEPT"]
        w = p["WRITABLE"] | p["ONCE"] & ~p["SPENT"]
        v = v & ~w | d & w
        v = (v & ~(d & p["W1C"]) | d & p["W1S"]) ^ d & p["W1T"]
        v = (v & ~(n & p["W0C"]) | n & p["W0S"]) ^ n & p["W0T"]
        v = v & ~p["WCLR"] | p["WSET"] | d & p["PULSE"]
        self.p["VALUE"][i] = v
        self.p["SPENT"][i] |= p["ONCE"]
        self.p["LATCH"][i] = p["LATCH"] & ~p["WO"] | d & p["WO"]
        return lib.WB_VIOLATION if bad else 0


sparse = st.binary(min_size=SIZE, max_size=SIZE) | st.just(bytes(SIZE)) | st.just(b"\xff" * SIZE)
touches = st.tuples(st.integers(0, SIZE - 1), st.binary(max_size=SIZE), st.booleans())


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    planes=st.fixed_dictionaries(dict.fromkeys(RULES, sparse)),
    hooks=st.lists(st.integers(0, 3), min_size=SIZE, max_size=SIZE).map(bytes) | st.just(bytes(SIZE)),
    accesses=st.lists(touches, min_size=1, max_size=8),
)
def test_every_access_follows_the_rules(
    planes: dict[str, bytes], hooks: bytes, accesses: list[tuple[int, bytes, bool]]
) -> None:
    oracle, calls = Oracle(planes, hooks), list[tuple[int, int, int]]()
    with Engine() as engine:
        engine.hook = lambda a: calls.append((1 << a.write, a.offset, a.size))
        engine.region(0, SIZE, HOOKS=hooks, **planes)
        for offset, data, write in accesses:
            data = data[: SIZE - offset]
            if write:
                engine.write(0, offset, data)
                flags = oracle.write(offset, data)
                assert not data or engine.last().flags == flags
            else:
                assert engine.read(0, offset, len(data)) == oracle.read(offset, len(data))
        assert calls == oracle.calls
        for name in RULES:
            assert engine.get(0, name, 0, SIZE) == oracle.p[name], name


def test_a_write_record_shows_bytes_before_and_after() -> None:
    with Engine() as engine:
        engine.region(
            0, 16, VALUE=bytes(range(16)), READABLE=b"\xff" * 16, WRITABLE=b"\x0f" * 16, KNOWN=b"\xff"
        )
        engine.write(0, 2, b"\x55\xaa")
        record = engine.last()
    assert (record.kind, record.offset, record.size, record.region) == (lib.WB_KIND_WRITE, 2, 2, 0)
    assert (record.value, record.old, record.now) == (0xAA55, 0x0302, 0x0A05)
    assert record.flags == lib.WB_UNMAPPED


def test_a_read_record_shows_what_the_read_left_behind() -> None:
    with Engine() as engine:
        engine.region(0, 4, VALUE=b"\xff\x01", READABLE=b"\xff\xff", RC=b"\x0f", KNOWN=b"\xff\xff")
        assert engine.read(0, 0, 4) == b"\xff\x01\0\0"
        record = engine.last()
    assert (record.value, record.old, record.now, record.flags) == (0x01FF, 0x01FF, 0x01F0, 0)


def test_a_long_access_is_one_record_of_its_first_8_bytes() -> None:
    with Engine() as engine:
        engine.memory(0, 64)
        engine.write(0, 3, bytes(range(1, 41)))
        assert engine.read(0, 3, 40) == bytes(range(1, 41))
        write, read = engine.records()
    first = int.from_bytes(range(1, 9), "little")
    assert (write.value, write.old, write.now, write.size) == (first, 0, first, 40)
    assert (read.value, read.old, read.now, read.size) == (first, first, first, 40)
    assert write.flags == read.flags == lib.WB_LONG


def test_a_read_hook_runs_before_and_a_write_hook_after_the_rules() -> None:
    with Engine() as engine:
        engine.memory(0, 8)
        engine.set(0, "HOOKS", 0, b"\x01\0\0\0\x02")
        engine.set(0, "PULSE", 4, b"\x80")
        seen = []

        def hook(access: Any) -> None:
            seen.append(
                (
                    access.write,
                    access.offset,
                    access.size,
                    access.value,
                    access.old,
                    engine.get(0, "VALUE", 4, 1),
                )
            )
            access.flags, access.revision = lib.WB_HOOK_RAN, 3
            if not access.write:
                lib.wb_region_poke(engine.device, 0, lib.WB_VALUE, 0, 0x77, 0xFF, 1, lib.WB_DEVICE)

        engine.hook = hook
        assert engine.read(0, 0, 2) == b"\x77\0"
        engine.write(0, 4, b"\x81")
        poke, read, write = engine.records()
        assert engine.get(0, "VALUE", 4, 1) == b"\x01"
    assert seen == [(0, 0, 2, 0, 0, b"\0"), (1, 4, 1, 0x81, 0, b"\x81")]
    assert (poke.kind, poke.origin, poke.now) == (lib.WB_KIND_POKE, lib.WB_DEVICE, 0x77)
    assert (read.old, read.value, read.revision, read.flags) == (0, 0x77, 3, lib.WB_HOOK_RAN)
    assert (write.now, write.revision, write.flags) == (0x81, 3, lib.WB_HOOK_RAN)


def test_a_poke_changes_the_masked_bits_and_passes_rules_and_hooks() -> None:
    with Engine() as engine:
        engine.hook = lambda access: pytest.fail("a poke ran a hook")
        engine.region(0, 8, VALUE=b"\xf0" * 8, HOOKS=b"\x03" * 8)
        assert lib.wb_region_poke(engine.device, 0, lib.WB_VALUE, 1, 0xFFFF, 0x0FF0, 2, lib.WB_NOTEBOOK) == 0
        assert engine.get(0, "VALUE", 0, 4) == b"\xf0\xf0\xff\xf0"
        record = engine.last()
        assert (record.kind, record.value, record.old, record.now) == (
            lib.WB_KIND_POKE,
            0x0FF0,
            0xF0F0,
            0xFFF0,
        )
        for plane, size in ((lib.WB_READABLE, 1), (lib.WB_VALUE, 9)):
            assert lib.wb_region_poke(engine.device, 0, plane, 0, 0, 0, size, lib.WB_NOTEBOOK) == -22


def test_reset_restores_value_and_latch_and_forgets_what_was_written_once() -> None:
    with Engine() as engine:
        engine.region(
            0, 5000, VALUE=b"\x11" * 5000, RESET=b"\x22" * 5000, LATCH_RESET=b"\x33" * 9, ONCE=b"\xff"
        )
        engine.write(0, 0, b"\x99")
        lib.wb_device_reset(engine.device, lib.WB_RESET_DEVICE)
        assert engine.get(0, "VALUE", 0, 5000) == b"\x22" * 5000
        assert engine.get(0, "LATCH", 0, 10) == b"\x33" * 9 + b"\0"
        assert engine.get(0, "SPENT", 0, 1) == b"\0"
        record = engine.last()
    assert (record.kind, record.origin, record.value) == (
        lib.WB_KIND_RESET,
        lib.WB_GUEST,
        lib.WB_RESET_DEVICE,
    )


def swept(size: int) -> int:
    """Touch every MiB of an untouched BAR; return by how many bytes the process grew."""
    with Engine() as engine:
        engine.region(0, size, READABLE=bytes(size // 64))
        before = resident()
        for offset in range(0, size, 1 << 20):
            assert engine.read(0, offset, 4) == bytes(4)
            engine.write(0, offset, b"\xff" * 4)
            assert not any(engine.read(0, offset + 5, 9000))
        assert all(record.flags & lib.WB_UNMAPPED for record in engine.records())
        return resident() - before


def test_sweeping_an_untouched_bar_costs_no_memory() -> None:
    assert min(swept(256 << 20) for _ in range(2)) < 4 << 20


def test_an_access_may_span_a_programmed_and_an_untouched_page() -> None:
    with Engine() as engine:
        engine.region(0, 3 * 4096)
        for plane in ("READABLE", "WRITABLE", "KNOWN"):
            engine.set(0, plane, 4096, b"\xff" * 4096)
        engine.write(0, 4092, b"12345678")
        assert engine.read(0, 4092, 8) == b"\0\0\0\x005678"
        engine.write(0, 8188, b"abcdefgh" * 2)
        assert engine.read(0, 8180, 20) == bytes(8) + b"abcd" + bytes(8)


@pytest.mark.parametrize(
    ("offset", "size"), [(16, 1), (15, 2), (0, 17), (1 << 63, 8), ((1 << 64) - 4, 4), ((1 << 64) - 1, 2)]
)
def test_an_access_outside_the_region_is_invalid(offset: int, size: int) -> None:
    with Engine() as engine:
        engine.memory(0, 16)
        call: Callable[[], object]
        for call in (lambda: engine.read(0, offset, size), lambda: engine.write(0, offset, bytes(size))):
            with pytest.raises(OSError, match="Invalid") as caught:
                call()
            assert caught.value.errno == 22
        assert engine.records() == []


def test_an_access_against_the_regions_flags_is_refused() -> None:
    with Engine() as engine:
        engine.region(6, 16, flags=lib.WB_REGION_READ)
        engine.region(0, 16, flags=lib.WB_REGION_WRITE)
        assert engine.read(6, 0, 16) == bytes(16)
        with pytest.raises(PermissionError):
            engine.write(6, 0, b"1")
        with pytest.raises(PermissionError):
            engine.read(0, 0, 1)


def test_a_region_is_added_once_and_with_a_size() -> None:
    with Engine() as engine:
        engine.region(0, 16)
        assert lib.wb_region_add(engine.device, 0, 16, 3) == -17
        assert lib.wb_region_add(engine.device, 1, 0, 3) == -22
        assert lib.wb_region_add(engine.device, 9, 16, 3) == -22
        assert lib.wb_region_add(engine.device, 1, 1 << 63, 3) == -22


def test_hook_bits_are_set_and_cleared_over_a_range() -> None:
    with Engine() as engine:
        engine.memory(0, 8192)
        assert lib.wb_region_hook(engine.device, 0, 4090, 12, 3, 1) == 0
        assert lib.wb_region_hook(engine.device, 0, 4094, 4, 1, 0) == 0
        assert engine.get(0, "HOOKS", 4088, 16) == b"\0\0\3\3\3\3\2\2\2\2\3\3\3\3\0\0"
        assert lib.wb_region_hook(engine.device, 0, 0, 4, 4, 1) == -22
