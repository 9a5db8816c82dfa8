"""A register with a native hook: beside the peer's C callback, beside no hook, and while a cell computes."""

from bench_kit import CARD, Bench
from bench_table import Figure, beside, row

C_HOOK = '''
device.bar0.PLAIN.on_read.native("""
int hook(const wb_native *wb, wb_touch *access)
{
    access->value = ++*(uint64_t *)wb->state & 0xff;
    return 0;
}
""", state=8)
'''
NUMBA_HOOK = """
@device.bar0.PLAIN.on_read.native(state=8)
def hook(wb, access):
    wb.state[0] += 1
    access.value = wb.state[0] & 0xFF
"""
READ = "read 0 0 4 {}"


def beside_peer(bench: Bench, hook: str) -> Figure:
    _, client = bench.ours(CARD + hook)
    return beside(bench, client, bench.peer(), READ.format(bench.count(20_000)))


@row("4-byte read, native hook in C / the peer's with a C callback", at_most=0.93)
def native_c(bench: Bench) -> Figure:
    return beside_peer(bench, C_HOOK)


@row("4-byte read, native hook by numba / the peer's with a C callback", at_most=0.93)
def native_numba(bench: Bench) -> Figure:
    return beside_peer(bench, NUMBA_HOOK)


@row("4-byte read, native hook / no hook")
def native_cost(bench: Bench) -> Figure:
    (_, hooked), (_, plain) = bench.ours(CARD + C_HOOK), bench.ours()
    return beside(bench, hooked, plain, READ.format(bench.count(20_000)))
