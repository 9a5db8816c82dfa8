"""An access inside the engine, and what its record costs."""

from bench_kit import ENGINE, Bench, Program, compiled
from bench_table import Figure, row


@row("access log: what an access costs with its record, at most", at_most=60)
def log_cost(bench: Bench) -> Figure:
    program = compiled("engine.c", *map(str, sorted(ENGINE.glob("*.c"))), extra=(f"-I{ENGINE}",))
    read, write, record, clock = map(float, bench.keep(Program([program], {bench.core})).hear().split())
    said = f"whole read {read:.0f}, write {write:.0f}; the record and 2 clocks are {record + 2 * clock:.0f}"
    return Figure(max(read, write), said, "ns")
