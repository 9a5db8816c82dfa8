"""An access inside the engine, and what its record costs."""

from bench_kit import ENGINE, Bench, Program, compiled
from bench_table import Figure, row


@row("access log: a whole 4-byte read in the engine, its record included", at_most=60)
def log_cost(bench: Bench) -> Figure:
    program = compiled("engine.c", *map(str, sorted(ENGINE.glob("*.c"))), extra=(f"-I{ENGINE}",))
    read, write, record, clock = map(float, bench.keep(Program([program], {bench.core})).hear().split())
    said = f"a write {write:.0f}; the record and its 2 clocks {record + 2 * clock:.0f} of both"
    return Figure(read, said, "ns")
