"""Which records a filter keeps, and what it says of names that nobody described."""

import math
import re
from typing import Any

import numpy as np
import pytest
from log_kit import add, bar0, bar2

import workbench as wb
from workbench.engine import lib
from workbench.log import AccessLog


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"register": "CTRL"}, [0, 1, 4]),
        ({"register": "bar0.CTRL"}, [0, 1]),
        ({"register": ["bar0.STATUS", "irq"]}, [2, 6]),
        ({"register": "DATA"}, [3]),
        ({"register": "DATA[2]"}, [3]),
        ({"register": "DATA[1]"}, []),
        ({"register": "bar0+0x80"}, [5]),
        ({"register": "bar0+0x84"}, []),
        ({"register": "bar0.CTRL+STATUS"}, []),
        ({"register": "INTx"}, [6]),
        ({"register": "irq.MSI[3]"}, []),
        ({"register": bar0}, [0, 1, 2, 3, 5]),
        ({"register": bar0.block}, [0, 1, 2, 3, 5]),
        ({"register": (bar2, "irq")}, [4, 6]),
        ({"register": []}, []),
        ({"register": "bar0"}, [0, 1, 2, 3, 5]),
        ({"register": bar2.CTRL}, [4]),
        ({"register": [bar0.CTRL, bar2.CTRL]}, [0, 1, 4]),
        ({"kind": "write"}, [1]),
        ({"kind": ["irq", "error"]}, [6, 7]),
        ({"origin": "notebook"}, [1]),
        ({"since": 6_000_000_000}, [5, 6, 7]),
        ({"until": 2_000_000_000}, [0, 1]),
        ({"last": 2.0}, [5, 6, 7]),
        ({"last": 0}, [7]),
        ({"last": 1e300}, list(range(8))),
        ({"last": math.inf}, list(range(8))),
        ({"flagged": True}, [5, 7]),
        ({"flagged": False}, [0, 1, 2, 3, 4, 6]),
        ({"register": "CTRL", "kind": "read"}, [0, 4]),
    ],
)
def test_filters_keep_what_fits(mixed: AccessLog, filters: dict[str, Any], found: list[int]) -> None:
    assert mixed.filter(**filters).records()["seq"].tolist() == found
    assert [record.seq for record in mixed.filter(**filters)] == found


def test_a_record_is_a_moment_for_filters(mixed: AccessLog) -> None:
    assert len(mixed.filter(since=mixed[2], until=mixed[3])) == 2


@pytest.mark.parametrize("filters", [{"kind": "reads"}, {"origin": "driver"}])
def test_a_filter_names_the_words_there_are(mixed: AccessLog, filters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"there are (read, write|guest, notebook)"):
        mixed.filter(**filters)


@pytest.mark.parametrize(
    ("name", "near"),
    [("CTLR", "CTRL"), ("bar0.STATSU", r"bar0\.STATUS"), ("DATA[4]", r"DATA\[\d\]"), ("ö", "bar0, bar2")],
)
def test_a_register_that_nobody_described_is_answered_with_those_like_it(
    log: AccessLog, name: str, near: str
) -> None:
    with pytest.raises(ValueError, match=rf"no register is called '{re.escape(name)}'; there are .*{near}"):
        log.filter(register=name)
    with pytest.raises(ValueError, match="no register is called"):
        log.wait(register=["CTRL", name], timeout=0)


@pytest.mark.parametrize("wrong", [3, None, 0.5, object()])
def test_a_register_is_a_name_or_a_thing_with_one(log: AccessLog, wrong: Any) -> None:
    with pytest.raises(TypeError, match="a register is a name"):
        log.filter(register=[wrong])


def test_every_label_of_a_record_finds_it(mixed: AccessLog) -> None:
    add(mixed, offset=0, size=8)
    add(mixed, offset=0x10, size=4)
    add(mixed, "irq", region=255, offset=lib.WB_MSIX << 16 | 5)
    add(mixed, "irq", region=255, offset=lib.WB_REQ << 16)
    add(mixed, "map", region=255)
    add(mixed, "reset", region=255)
    add(mixed, region=lib.WB_ROM, offset=0x20)
    for record in mixed:
        assert record.seq in [found.seq for found in mixed.filter(register=record.register)], record.register


@pytest.mark.parametrize("last", [math.nan, -1.0, -math.inf])
def test_the_last_seconds_are_a_number_of_seconds(log: AccessLog, last: float) -> None:
    with pytest.raises(ValueError, match="last is how many seconds"):
        log.filter(last=last)


def test_things_of_a_device_are_registers_for_filters(device: wb.Device) -> None:
    bar = device.bar0
    bar.BUFFER[2].write(7)
    bar.BUFFER[3].write(7)
    bar.STATUS.read()
    bar.SCRATCH.read()
    device.config.read(0, 4)

    def found(register: Any) -> list[str]:
        return [record.register for record in device.log.filter(register=register, kind=("read", "write"))]

    assert found(bar.BUFFER[2]) == ["bar0.BUFFER[2]"]
    assert found(bar.BUFFER) == found(type(device).bar0.BUFFER) == ["bar0.BUFFER[2]", "bar0.BUFFER[3]"]
    assert found(bar.STATUS.DONE) == found(bar.STATUS) == ["bar0.STATUS"]
    assert len(found(bar)) == len(found(type(device).bar0)) == 4
    assert [name.partition(".")[0] for name in found(device.config)] == ["config"]
    assert found([bar.SCRATCH, bar.BUFFER[3]]) == ["bar0.BUFFER[3]", "bar0.SCRATCH"]
    assert found(iter([bar.STATUS])) == ["bar0.STATUS"]


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"kind": 5}, TypeError, "kind is a name or several of read, write"),
        ({"kind": b"read"}, TypeError, "kind is a name or several of read, write"),
        ({"kind": ["read", 5]}, ValueError, "no kind is called 5; there are read"),
        ({"kind": [[]]}, ValueError, r"no kind is called \[\]"),
        ({"origin": object()}, TypeError, "origin is a name or several of guest"),
        ({"origin": "gast"}, ValueError, "no origin is called 'gast'; there are guest"),
        (
            {"since": "yesterday"},
            TypeError,
            "since is a time in ns, as record.time, or a record, not 'yesterday'",
        ),
        ({"since": float("nan")}, TypeError, "since is a time in ns"),
        ({"until": None.__class__}, TypeError, "until is a time in ns"),
        ({"until": True}, TypeError, "until is a time in ns"),
        ({"last": "5"}, TypeError, "last is how many seconds before the newest record, not '5'"),
        ({"last": -1}, ValueError, "last is how many seconds"),
        ({"last": float("nan")}, ValueError, "last is how many seconds"),
        ({"flagged": "yes"}, TypeError, "flagged is True, False or None, not 'yes'"),
        ({"flagged": 1}, TypeError, "flagged is True, False or None, not 1"),
        ({"register": 5}, TypeError, "a register is a name"),
        ({"register": ["CTRL", None]}, TypeError, "a register is a name"),
    ],
)
def test_a_filter_that_makes_no_sense_is_told_in_words(mixed: AccessLog, wrong, error, said) -> None:
    with pytest.raises(error, match=said):
        mixed.filter(**wrong)


@pytest.mark.parametrize("since", [0, 0.0, -5, np.uint64(0), np.float64(0)])
def test_numbers_of_every_sort_are_times(mixed: AccessLog, since) -> None:
    assert len(mixed.filter(since=since)) == len(mixed)
    assert len(mixed.filter(since=1 << 80)) == 0
    assert len(mixed.filter(last=float("inf"), until=mixed[-1])) == len(mixed)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout": "soon"}, "timeout is a number of seconds, not 'soon'"),
        ({"timeout": None}, "timeout is a number of seconds, not None"),
        ({"since": "start"}, "since is the sequence number of the first record that counts, not 'start'"),
        ({"since": 1.5}, "since is the sequence number"),
    ],
)
def test_a_wait_that_makes_no_sense_is_told_in_words(mixed: AccessLog, wrong, said) -> None:
    with pytest.raises(TypeError, match=said):
        mixed.wait(**wrong)
    assert mixed.wait(since=mixed[0]) == mixed[0]
