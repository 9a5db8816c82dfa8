"""A described log without a device: records are put into it one by one."""

from collections.abc import Mapping
from typing import Any

from workbench.engine import ffi, lib
from workbench.log import AccessLog
from workbench.records import KINDS
from workbench.registers import Bar, Block, Field, Register

CAPACITY = 64


class bar0(Bar, size=4096):
    CTRL = Register(0x00, ENABLE=Field(0), MODE=Field(1, 2, enum={"SLOW": 0, "FAST": 2}), PERIOD=Field(8, 16))
    STATUS = Register(0x04, mode="ro", LIT=Field(0), DONE=Field(1, mode="w1c"))
    DATA = Register(0x10, width=8, count=4)


class bar2(Bar, size=256):
    CTRL = Register(0x00, width=8)


def add(log: AccessLog, kind: str = "read", **values: Any) -> None:
    """Put one record in, by the names of `RECORD`; unless said, 4 bytes and now."""
    code = next(number for number, name in KINDS.items() if name == kind)
    fields = {"kind": code, "size": 4, "time": lib.wb_clock(), **values}
    lib.wb_log_add(log.handle, ffi.new("wb_record *", fields))


def new_log(blocks: Mapping[int, Block] | None = None, capacity: int = CAPACITY) -> AccessLog:
    """Return a log on a ring of ``capacity`` records, its registers named by ``blocks``."""
    engine = ffi.gc(lib.wb_device_new(ffi.new("wb_upcalls *"), capacity), lib.wb_device_free)
    return AccessLog(engine, blocks or {0: bar0.block, 2: bar2.block})


def fill(log: AccessLog) -> AccessLog:
    """Put eight records of every sort into it, a second apart from 1 s on."""
    add(log, "read", time=1_000_000_000)
    add(log, "write", time=2_000_000_000, value=1, now=1, origin=lib.WB_NOTEBOOK)
    add(log, "read", time=3_000_000_000, offset=4)
    add(log, "read", time=4_000_000_000, offset=0x12, size=1)
    add(log, "read", time=5_000_000_000, region=2, size=1)
    add(log, "read", time=6_000_000_000, offset=0x80, flags=lib.WB_UNMAPPED)
    add(log, "irq", time=7_000_000_000, region=255, origin=lib.WB_DEVICE)
    add(log, "error", time=8_000_000_000, region=255, value=22)
    return log
