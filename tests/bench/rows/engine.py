"""An access inside the engine, and what its record costs."""

from bench_kit import ENGINE, Bench, Program, compiled
from bench_table import Figure, row


def figures(bench: Bench) -> list[float]:
    """Run engine.c; return what it printed, ns: see there."""
    program = compiled("engine.c", *map(str, sorted(ENGINE.glob("*.c"))), extra=(f"-I{ENGINE}",))
    return [float(word) for word in bench.keep(Program([program], {bench.core})).hear().split()]


@row("access log: a whole 4-byte read in the engine, its record included", at_most=60)
def log_cost(bench: Bench) -> Figure:
    read, write, record, clock, _ = figures(bench)
    said = f"a write {write:.0f}; the record and its 2 clocks {record + 2 * clock:.0f} of both"
    return Figure(read, said, "ns")


@row("inside the engine: what a native hook adds to an access")
def native_call(bench: Bench) -> Figure:
    read, _, _, clock, hooked = figures(bench)
    return Figure(hooked - read, f"read {read:.0f}, with the hook {hooked:.0f}; a clock is {clock:.0f}", "ns")
