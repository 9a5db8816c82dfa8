"""The log's filter language: what it finds, and that it says what is wrong."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample import Sample

from workbench.log import AccessLog
from workbench.records import RECORD, Names
from workbench.views import query


@pytest.fixture
def log() -> Iterator[AccessLog]:
    with Sample() as device:
        device.bar0.SCRATCH.write(0x11)
        device.bar0.SCRATCH.write(0x10)
        device.bar0.SCRATCH.read()
        device.bar0.BUFFER[2].write(5)
        device.bar2.PORT = 7
        device.bar0.read(0x900, 4)  # no register there
        device.irq.trigger()
        yield device.log


def found(log: AccessLog, text: str) -> list[str]:
    records = log.records()
    keep = query.compile(text, log.names)(records)
    assert keep.dtype == bool
    assert len(keep) == len(records)
    return [f"{record.kind} {record.register}" for record, kept in zip(log, keep, strict=True) if kept]


WRITES = ["write bar0.SCRATCH", "write bar0.SCRATCH", "write bar0.BUFFER[2]"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reg == SCRATCH && op == w && value & 1", WRITES[:1]),
        ("reg == bar0.SCRATCH and op == write and not (value & 1)", WRITES[1:2]),
        ("op == write", WRITES),
        ("w", WRITES),
        ("value == 0x10 && old == 0x11", WRITES[1:2]),
        ("0x10 == value & w", None),
        ("value & 0x11 == 0x10 && w", WRITES[1:2]),  # & binds tighter than ==
        ("BUFFER[2]", WRITES[2:]),
        ("reg == BUFFER[*]", WRITES[2:]),
        ("BUFF*", WRITES[2:]),
        ("bar2", ["poke bar2.PORT"]),
        ("poke || irq", ["poke bar2.PORT", "irq irq.INTx"]),
        ("unmapped", ["read bar0+0x900"]),
        ("mark == flagged", ["read bar0+0x900"]),
        ("offset >= 0x900 && offset < 0x1000", ["read bar0+0x900"]),
        ("!(origin == notebook)", []),
        ("op != write && op != read", ["poke bar2.PORT", "irq irq.INTx"]),
        ("size == 1", ["poke bar2.PORT"]),
        ("latency > 10s", []),
        ("reg == NOWHERE", []),
        ('reg == "irq.INTx"', ["irq irq.INTx"]),
        ("INTx", ["irq irq.INTx"]),
        ("(value | 1) == 0x11 && w", WRITES[:2]),
        ("!!w", WRITES),
    ],
)
def test_a_filter_finds_what_it_says(log: AccessLog, text: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="'w' is not a number"):
            found(log, text)
    else:
        assert found(log, text) == expected


def test_no_text_finds_everything(log: AccessLog) -> None:
    assert len(found(log, " ")) == len(log)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("value ==", "missing at the end"),
        ("value == 1 2", "'2' was not expected"),
        ("(w", "closing parenthesis"),
        ("op == fly", "no op is called 'fly'; there are read, write"),
        ("reg < 5", "== and != only"),
        ("reg", "must be compared"),
        ("value == CTRL", "'CTRL' is not a number"),
        ("value == 0x1ffffffffffffffff", "64 bits"),
        ("value == 0x_", "'0x_' is not a number"),
        ("value == 1__0", "'1__0' is not a number"),
        ("value $ 1", "not understood: '\\$ 1'"),
        ("__import__('os')", "not expected|not understood"),
        ("(" * 100 + "w" + ")" * 100, "too many parentheses"),
        ("w ||" * 600, "at most 1000 letters"),
        ("&& w", "missing before '&&'"),
    ],
)
def test_a_wrong_filter_says_what_is_wrong(log: AccessLog, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        found(log, text)


def test_names_are_resolved_once_for_many_records() -> None:
    with Sample() as device:
        device.bar0.SCRATCH.write(1)
        rows = np.repeat(device.log.records(), 10_000)
        keep = query.compile("reg == SCRATCH && value & 1", device.log.names)(rows)
        assert keep.all()


@given(st.text(alphabet='regopvalu=!<>&|^()[]* 0x1CTRLw"', max_size=40))
def test_any_text_is_a_filter_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        query.compile(text, Names({}))(np.empty(0, RECORD))
