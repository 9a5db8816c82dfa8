"""Threads that look for messages instead of sleeping; many devices in one process; what one needs."""

import subprocess
import time
from pathlib import Path

from bench_kit import CARD, Absent, Bench, Client
from bench_table import Figure, beside, row

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


def beside_sleeping(bench: Bench, code: str) -> Figure:
    if len(bench.cores) < 2:
        raise Absent("one core")
    core = bench.cores[0]
    (_, sleeping), (_, polling) = bench.ours(core=core), bench.ours(code, core=core)
    polling.ask("spin 1")
    return beside(bench, polling, sleeping, READ.format(bench.count(20_000)))


@row("4-byte read, both sides polling / both sleeping, a core each", at_most=0.6)
def polling(bench: Bench) -> Figure:
    return beside_sleeping(bench, POLLING)


@row("the same, served by a poller", at_most=0.6)
def poller(bench: Bench) -> Figure:
    return beside_sleeping(bench, POLLER)


def in_turn(bench: Bench, poller: str) -> tuple[Client, Client]:
    """Serve 33 devices; return a client of one of them, and one that reads the others in turn."""
    path = bench.path()
    bench.serve(path, MANY.format(poller=poller, count=COUNT + 1))
    single, all_ = bench.client(path), bench.client(f"{path}1")
    for n in range(2, COUNT + 1):
        all_.ask(f"also {path}{n}")
    return single, all_


@row("32 devices in a poller: reads/s / of one device on its own thread", at_least=0.9)
def devices(bench: Bench) -> Figure:
    single, threads = in_turn(bench, "None")
    polled, poller = in_turn(bench, "wb.Poller(poll_us=0)")
    order = READ.format(bench.count(20_000))
    ways = [lambda client=client: client.measure(order) for client in (single, poller, polled, threads)]
    one, all_, own, each = (1e9 / time for time in bench.compare(*ways))
    return Figure(
        all_ / one,
        f"{all_:,.0f} and {one:,.0f} a second; a poller's only one {own / one:.2f} ×, "
        f"32 with a thread each {each / one:.2f} ×",
    )


def together(clients: list[Client], seconds: float) -> float:
    """Return the reads a second of all clients, reading at once."""
    start = time.monotonic_ns() + 20_000_000
    for client in clients:
        client.tell(f"during 0 0 4 {start} {start + int(seconds * 1e9)}")
    return sum(float(client.hear()) for client in clients) / seconds


@row("32 devices in a poller, 32 client processes on its core: reads/s / of one")
def devices_clients(bench: Bench) -> Figure:
    path = bench.path()
    bench.serve(path, MANY.format(poller="wb.Poller(poll_us=0)", count=COUNT))
    clients = [bench.client(f"{path}{n or ''}") for n in range(COUNT)]
    echoes = [bench.floor() for _ in range(COUNT)]
    seconds = 0.1 * bench.effort
    one, all_, echo, echoed = bench.compare(
        lambda: together(clients[:1], seconds),
        lambda: together(clients, seconds),
        lambda: together(echoes[:1], seconds),
        lambda: together(echoes, seconds),
    )
    return Figure(all_ / one, f"{all_:,.0f} and {one:,.0f} reads a second; bare echoes {echoed / echo:.2f} ×")


MEMORY = """
import workbench as wb

class Frame(wb.Device):
    id = wb.PciId(vendor=0x1234, device=0x0007)

    class bar0(wb.Bar, size=256 << 20, mmap=True):
        pass

device = Frame()
device.serve("{path}")
"""


def resident(process: int) -> float:
    """Return the MiB of a process that are in memory, those of files included."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@row("a served device, 256 MiB of mapped BAR untouched: above an idle kernel", at_most=30)
def memory(bench: Bench) -> Figure:
    from jupyter_client.manager import start_new_kernel

    path = bench.path()
    manager, kernel = start_new_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    try:
        kernel.execute_interactive("import os", output_hook=lambda message: None)
        answer = kernel.execute_interactive(
            "0", user_expressions={"pid": "os.getpid()"}, output_hook=lambda message: None
        )
        process = int(answer["content"]["user_expressions"]["pid"]["data"]["text/plain"])
        idle = resident(process)
        kernel.execute_interactive("import workbench", output_hook=lambda message: None)
        imported = resident(process)
        done = kernel.execute_interactive(MEMORY.format(path=path), output_hook=lambda message: None)
        assert done["content"]["status"] == "ok", done["content"]
        bench.client(path).measure("read 0 0 4 64")
        served = resident(process)
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
    return Figure(
        served - idle,
        f"kernel {idle:.0f}, the import {imported - idle:.0f}, the device {served - imported:.1f}",
        "MiB",
    )
