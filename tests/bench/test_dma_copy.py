"""A DMA copy costs its bytes: beside memcpy on the same buffers, and beside the mapped path of libvfio-user.

For the second, build libvfio-user by hand and set ``WORKBENCH_DMA_PEER`` to the directory that has its
``libvfio-user.so`` and ``include/libvfio-user.h``.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from bench_kit import COMPILER, ENGINE, HERE

import workbench as wb
from workbench.errors import ProtocolError

PEER = os.environ.get("WORKBENCH_DMA_PEER", "")
GUEST = 64 << 20  # as in dma_copy.c

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(not COMPILER, reason="needs a C compiler"),
]


def compiled(path: Path, *extra: str) -> str:
    """Compile the benchmark, with the engine in it; return the program."""
    sources = [HERE / "dma_copy.c", *sorted(ENGINE.glob("*.c"))]
    flags = ["-std=gnu11", "-O2", "-pthread", f"-I{ENGINE}"]
    subprocess.run([COMPILER, *flags, *map(str, sources), *extra, "-o", str(path)], check=True)
    return str(path)


def start(command: Sequence[str]) -> "subprocess.Popen[str]":
    core = max(os.sched_getaffinity(0))
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )


def figures(program: "subprocess.Popen[str]") -> dict[int, list[float]]:
    """Return what it printed, by bytes of a copy."""
    with program:
        said, _ = program.communicate(timeout=55)
    print(
        "\nbytes, read and write relative to memcpy, ns of memcpy, read, write, the peer's read and write\n"
        + said
    )
    assert program.returncode == 0
    return {int(line.split()[0]): [float(word) for word in line.split()[1:]] for line in said.splitlines()}


def test_a_copy_of_a_mebibyte_is_as_fast_as_memcpy(tmp_path):
    speeds = figures(start([compiled(tmp_path / "dma_copy")]))
    assert min(speeds[1 << 20][:2]) >= 0.9
    assert min(speeds[4096][:2]) >= 0.4  # what a record, the lock and the clock may cost beside a page


def attach(path: Path, program: "subprocess.Popen[str]") -> wb.Client:
    """Be the client that maps memory for the peer's server, which needs a moment to listen."""
    while program.poll() is None:
        try:
            return wb.Client(path, arm=False, memory=GUEST)
        except (ProtocolError, OSError):
            continue
    raise AssertionError(f"the peer's server ended with {program.returncode}")


@pytest.mark.skipif(not PEER, reason="WORKBENCH_DMA_PEER is not set: where a libvfio-user is, built by hand")
def test_a_copy_of_a_page_is_as_fast_as_by_libvfio_user(tmp_path):
    library = [f"-I{PEER}/include", f"{PEER}/libvfio-user.so", f"-Wl,-rpath,{PEER}"]
    program = compiled(tmp_path / "dma_peer", "-DPEER", str(HERE / "dma_peer.c"), *library)
    socket = tmp_path / "peer.sock"
    running = start([program, str(socket)])
    with attach(socket, running) as client:
        client.memory.map(0, GUEST)
        _, _, _, read, write, peer_read, peer_write = figures(running)[4096]
    print(f"4 KiB, speed beside libvfio-user's: read {peer_read / read:.2f}, write {peer_write / write:.2f}")
    assert min(peer_read / read, peer_write / write) >= 0.9
