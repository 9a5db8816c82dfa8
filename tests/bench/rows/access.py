"""One access of a register that C answers, client and server on one core."""

from bench_kit import CARD, Bench
from bench_table import Figure, beside, row

READ = "read 0 0 4 {}"


@row("a bare echo of two system calls a side / the peer's 4-byte read")
def floor(bench: Bench) -> Figure:
    count = bench.count(8_000)
    return beside(bench, bench.floor(), bench.peer(), f"echo {count}", READ.format(count))


@row("4-byte read, log on, no hook / the peer's with a C callback", at_most=0.90)
def read(bench: Bench) -> Figure:
    _, client = bench.ours()
    peer, echo = bench.peer(), bench.floor()
    count = bench.count(8_000)
    ours, theirs, floor = bench.compare(
        lambda: client.measure(READ.format(count)),
        lambda: peer.measure(READ.format(count)),
        lambda: echo.measure(f"echo {count}"),
    )
    return Figure(
        ours / theirs,
        f"{ours:.0f} and {theirs:.0f} ns; echo {floor:.0f} ns, ours is {ours / floor:.3f} × that",
    )


@row("4-byte write with reply / the peer's with a C callback")
def write(bench: Bench) -> Figure:
    _, client = bench.ours()
    return beside(bench, client, bench.peer(), f"write 0 0 4 {bench.count(8_000)}")


@row("posted 4-byte writes, 64 a send: writes/s / the peer's", at_least=4)
def posted(bench: Bench) -> Figure:
    _, client = bench.ours()
    peer = bench.peer()
    order = f"post 0 0 4 {bench.count(128_000)} 64"
    ours, theirs = bench.compare(lambda: client.measure(order), lambda: peer.measure(order))
    return Figure(theirs / ours, f"{ours:.0f} and {theirs:.0f} ns a write")


MANY = CARD.replace("4096", "65536").replace(
    "COUNT =", "MORE = wb.Register(0x10, count=9997)\n        COUNT ="
)


@row("10,000 registers in a BAR / 4, every read another one", at_most=1.03)
def registers(bench: Bench) -> Figure:
    (_, few), (_, many) = bench.ours(MANY.replace("9997", "1")), bench.ours(MANY)
    count = bench.count(8_000)
    return beside(bench, many, few, f"walk 0 0 4 {count} 40000", f"walk 0 0 4 {count} 16")
