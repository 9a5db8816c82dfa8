"""Threads that look for messages instead of sleeping, and many devices in one process."""

import time

from bench_kit import CARD, Absent, Bench, Client
from bench_table import Figure, row

READ = "read 0 0 4 {}"
POLLING = CARD.replace("serve(path)", "serve(path, poll_us=50)")
POLLER = CARD.replace("serve(path)", "serve(path, poller=wb.Poller(poll_us=50))")
COUNT = 32
MANY = """
class Card(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0005)

    class bar0(wb.Bar, size=4096):
        PLAIN = wb.Register(0)

poller = {poller}
devices = [Card(f"card{{n}}") for n in range({count})]
for n, device in enumerate(devices):
    device.serve(f"{{path}}{{n or ''}}", poller=poller)
"""


def other_core(bench: Bench) -> int:
    if len(bench.cores) < 2:
        raise Absent("one core")
    return bench.cores[0]


def beside_sleeping(bench: Bench, code: str) -> Figure:
    core = other_core(bench)
    (_, sleeping), (_, polling) = bench.ours(core=core), bench.ours(code, core=core)
    assert polling.ask("spin 1")
    count = bench.count(20_000)
    one, other = bench.compare(
        lambda: polling.measure(READ.format(count)), lambda: sleeping.measure(READ.format(count))
    )
    return Figure(one / other, f"{one:.0f} and {other:.0f} ns")


@row("4-byte read, both sides polling / sleeping, a core each", at_most=0.6)
def polling(bench: Bench) -> Figure:
    return beside_sleeping(bench, POLLING)


@row("the same with a poller of one device", at_most=0.6)
def poller(bench: Bench) -> Figure:
    return beside_sleeping(bench, POLLER)


def together(clients: list[Client], seconds: float) -> float:
    """Return the reads a second of all clients, reading at once."""
    start = time.monotonic_ns() + 20_000_000
    for client in clients:
        client.tell(f"during 0 0 4 {start} {start + int(seconds * 1e9)}")
    return sum(float(client.hear()) for client in clients) / seconds


def many(bench: Bench, poller: str) -> Figure:
    path = bench.path()
    bench.serve(path, MANY.format(poller=poller, count=COUNT))
    clients = [bench.client(f"{path}{n or ''}") for n in range(COUNT)]
    seconds = 0.5 * bench.effort
    one, all_ = bench.compare(lambda: together(clients[:1], seconds), lambda: together(clients, seconds))
    return Figure(all_ / one, f"{all_:,.0f} and {one:,.0f} reads a second")


@row("32 devices in a process, a thread each: reads/s of all / of one", at_least=0.9)
def devices(bench: Bench) -> Figure:
    return many(bench, "None")


@row("32 devices in one poller: reads/s of all / of one", at_least=0.9)
def devices_poller(bench: Bench) -> Figure:
    return many(bench, "wb.Poller(poll_us=0)")
