"""Debian's older QEMUs with the preloaded library, started by hand: sandbox, chroot, daemon, MUSER's way.

No guest runs: the firmware finds the card, gives its BAR an address and switches it on.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from programs import as_root, strace

from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.vm.kit import Qemu, fetch_qemu

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

SHARED = (
    "-m",
    "64",
    "-object",
    "memory-backend-memfd,id=ram,size=64M,share=on",
    "-machine",
    "memory-backend=ram",
)
DENY = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@pytest.fixture(scope="module", params=["bookworm", "trixie"], ids=["qemu-7.2", "qemu-10.0"])
def older(request: pytest.FixtureRequest) -> Qemu:
    return fetch_qemu(request.param)


@pytest.fixture
def card() -> Iterator[PciIdio16]:
    with PciIdio16() as device:
        yield device


@contextlib.contextmanager
def firmware(
    older: Qemu, card: PciIdio16, path: str | Path, *arguments: str, under: Sequence[str] = ()
) -> Iterator["subprocess.Popen[str]"]:
    """Start QEMU with the card at ``path``, wait until the firmware has switched it on, end it."""
    assert older.preload
    plug = ["-device", f"vfio-pci,sysfsdev={path}"]
    command = [*under, *older.start, "-nodefaults", "-display", "none", "-accel", "tcg", *arguments, *plug]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            card.log.wait(
                lambda record: record.value & 3, 60, register="config.COMMAND", kind="write", since=0
            )
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=30)[1]
    wrong = [line for line in said.splitlines() if "terminating on signal" not in line]
    assert wrong == [], said


def served(card: PciIdio16, path: Path | None = None) -> str:
    return card.serve(None if path is None else str(path)).path


def test_a_sandbox_that_denies_everything_lets_it_work(older: Qemu, card: PciIdio16) -> None:
    with firmware(older, card, served(card), *SHARED, "-sandbox", DENY):
        assert any(region.shared for region in card.dma.regions)


def test_memory_that_the_firmware_maps_after_the_chroot_is_shared(
    older: Qemu, card: PciIdio16, tmp_path: Path
) -> None:
    namespace = as_root()  # which has no nobody in it
    if older.version.startswith("7."):
        jail = ["-chroot", str(tmp_path), *([] if namespace else ["-runas", "nobody"])]
    else:
        jail = ["-run-with", f"chroot={tmp_path}{'' if namespace else ',user=nobody'}"]
    with firmware(older, card, served(card), *SHARED, *jail, under=namespace):
        assert any(region.shared and region.writable for region in card.dma.regions)


def test_muser_s_command_line(older: Qemu, card: PciIdio16, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    served(card, tmp_path / "0/cntrl")
    backend = f"memory-backend-file,id=ram-node0,prealloc=yes,mem-path={tmp_path}/mem,share=yes,size=67108864"
    memory = ("-m", "64", "-object", backend, "-numa", "node,nodeid=0,cpus=0,memdev=ram-node0")
    with firmware(older, card, tmp_path / "0", *memory):
        assert any(region.shared and region.writable for region in card.dma.regions)
        assert any(card.dma.peek(0, 1024))  # the firmware's interrupt vectors: it is the same memory


def test_a_daemon(older: Qemu, card: PciIdio16, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with firmware(older, card, served(card), *SHARED, "-daemonize", "-pidfile", str(pid)) as process:
        assert process.wait(30) == 0
        daemon = int(pid.read_text())
        assert card.server is not None
        assert f"pid {daemon} " in str(card.server.client)
        os.kill(daemon, signal.SIGTERM)
        card.log.wait(kind="detach", since=0)


def test_no_vfio_call_of_qemu_reaches_the_kernel(older: Qemu, card: PciIdio16, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    # -D: QEMU is the child, strace its grandchild; what ends QEMU ends both.
    under = (*strace(), "-D", "-f", "-e", "trace=open,openat,ioctl,readlink,readlinkat", "-o", str(trace))
    with firmware(older, card, served(card), *SHARED, under=under):
        pass
    seen = trace.read_text()
    assert "openat(" in seen
    assert [line for line in seen.splitlines() if "/dev/vfio" in line or "VFIO" in line] == []
