"""The access log: ten million records as a DataFrame and as a picture."""

from bench_kit import CARD, Bench
from bench_table import Figure, row

RECORDS = 10_000_000
FILL = """
import time
from workbench.engine import ffi, lib
word, read = ffi.new("uint8_t[4]"), lib.wb_region_read
for number in range({records}):
    read(device._core.handle, 0, number % 3 << 2, word, 4, 0)
assert len(device.log) >= {records}
answer = 0
"""
TIMED = """
began = time.perf_counter()
{code}
answer = time.perf_counter() - began
"""
DRAW = "device.log.plot().figure.savefig(__import__('io').BytesIO(), format='png')"


def seconds(bench: Bench, code: str) -> Figure:
    server, _ = bench.ours(CARD.replace("Card()", f"Card(log_records={RECORDS})"))
    count = bench.count(RECORDS)
    server.run(FILL.format(records=count))
    (taken,) = bench.compare(lambda: float(server.run(TIMED.format(code=code))))
    return Figure(taken * RECORDS / count, f"{count:,} records", "s")


@row("10 million records to a DataFrame", at_most=2)
def log_frame(bench: Bench) -> Figure:
    return seconds(bench, "device.log.to_pandas()")


@row("10 million records to a timeline picture", at_most=2)
def log_timeline(bench: Bench) -> Figure:
    return seconds(bench, DRAW)
