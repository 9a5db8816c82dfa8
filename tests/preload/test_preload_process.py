"""Processes and threads: forks, daemons, chroot, sanitizers, the environment, programs that are no QEMU."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from native_kit import skip_where_it_cannot_run
from preload_kit import HERE, SOURCES, Card, build, environment, run, running, sanitized
from programs import as_root

from workbench import preload

pytestmark = pytest.mark.slow

SANITIZERS = ("address,undefined", "thread")
#: The thread sanitizer's symbols are read with mmap, which is ours, before it can follow our calls.
QUIET = {"TSAN_OPTIONS": "symbolize=0"}


@pytest.fixture
def card() -> Iterator[Card]:
    with Card() as device:
        device.serve()
        device.config.COMMAND.BUS_MASTER = 1
        yield device


@pytest.fixture
def path(card: Card) -> str:
    assert card.server is not None
    return card.server.path


@pytest.mark.parametrize("scenario", ["fork", "vfork", "daemon"])
def test_a_child_and_its_parent(scenario: str, path: str) -> None:
    assert run(scenario, path).errors == ""


def test_memory_is_found_without_proc(card: Card, path: str, tmp_path: Path) -> None:
    with running("chroot", path, tmp_path, under=as_root()) as qemu:
        qemu.until("mapped")
        assert [region.shared for region in card.dma.regions] == [True]
        card.config.COMMAND.BUS_MASTER = 1
        card.dma.write(0, b"by file\0")
        qemu.go()


def hammer(card: Card, path: str, program: Path | None = None) -> None:
    """Threads read and map while ours copies by messages; every byte has to come back."""
    stop = threading.Event()
    wrong: list[str] = []

    def copy() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            data = number.to_bytes(4, "little") * 3000
            card.dma.write(4096, data)
            if card.dma.read(4096, len(data)) != data:
                wrong.append(f"round {number}")

    with running("hammer", path, program=program, **QUIET) as qemu:
        qemu.until("ready")
        card.config.COMMAND.BUS_MASTER = 1
        thread = threading.Thread(target=copy)
        thread.start()
        try:
            qemu.go()
            qemu.until("done")
        finally:
            stop.set()
            thread.join()
        qemu.go()
    assert wrong == []
    assert qemu.errors == ""


def test_threads_read_and_map_while_the_server_copies_by_messages(card: Card, path: str) -> None:
    hammer(card, path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_it_is_clean_under_the_sanitizers(sanitizer: str, card: Card, path: str) -> None:
    program = sanitized(sanitizer)
    hammer(card, path, program)
    for scenario in ("argsz", "interrupts", "kinds", "resample", "fork"):
        card.reset()
        with running(scenario, path, program=program, **QUIET) as qemu:
            pass
        assert qemu.errors == "", scenario
    for scenario, steps in {"walk": 1, "maps": 3, "closing": 1}.items():
        with running(scenario, path, program=program, **QUIET) as qemu:
            for _ in range(steps):
                qemu.line()
                qemu.go()
        assert qemu.errors == "", scenario


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_table_of_memory(sanitizer: str) -> None:
    flags = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-U_FORTIFY_SOURCE", f"-I{SOURCES}")
    files = (HERE / "ramtable.c", SOURCES / "ramtrack.c", SOURCES / "settings.c")
    program = build(f"ramtable_{sanitizer.partition(',')[0]}", *flags, *files, "-ldl")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    skip_where_it_cannot_run(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")


# ---- hardware beside it ----


def hardware() -> Path:
    """A library that shows a machine with VFIO."""
    return build("kernel_vfio.so", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", HERE / "kernel_vfio.c", "-ldl")


def beside(scenario: str, path: str) -> list[str]:
    """Run on a machine that has VFIO; return what reached its kernel."""
    kernel = hardware()
    both = f"{preload.path()}:{kernel}"
    return run(scenario, path, LD_PRELOAD=both).errors.splitlines()


def test_the_kernel_s_groups_and_ours_have_containers_of_their_own(path: str) -> None:
    said = beside("first", path)
    assert said == ["open /dev/vfio/77", "open /dev/vfio/vfio", "ioctl 0x3b68", "ioctl 0x3b71"]


def test_a_container_becomes_the_kernel_s_with_its_group(path: str) -> None:
    said = beside("undecided", path)
    assert said == ["open /dev/vfio/77", "open /dev/vfio/vfio", "ioctl 0x3b68", "ioctl 0x3b71"]


def test_nothing_of_a_device_s_life_gets_past_the_library(path: str) -> None:
    with running("walk", path, LD_PRELOAD=f"{preload.path()}:{hardware()}") as qemu:
        qemu.until("attached")
        qemu.go()
    assert qemu.errors == ""


def test_kvm_is_told_of_the_kernel_s_groups_alone(path: str) -> None:
    assert beside("kvm", path) == ["open /dev/vfio/77", "open /dev/kvm", "theirs", "ioctl 0x4018aee1"]


# ---- what is no QEMU ----

SCRIPT = """
cd "$1"; ls -l; ls /proc/self/fd | wc -l; readlink /proc/self/cwd; readlink absent/iommu_group
exec 5<Makefile; read -r line <&5; echo "$line"; exec 5<&-; (echo child); echo $(echo nested)
"""
MAPPING = """
import mmap, os, tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(4096)
    with mmap.mmap(file.fileno(), 4096) as shared:
        shared[:4] = b"data"
        print(os.pread(file.fileno(), 4, 0), sorted(os.listdir("/proc/self/fd"), key=int))
print(os.path.realpath("/proc/self/cwd/.."), os.path.exists("/dev/vfio/1"))
"""


@pytest.mark.parametrize(
    "command",
    [["/bin/ls", "-la"], ["bash", "-c", SCRIPT, "bash"], [sys.executable, "-c", MAPPING]],
    ids=["ls", "bash", "python"],
)
def test_any_other_program_does_what_it_does_without(command: list[str], tmp_path: Path) -> None:
    root = shutil.copytree(HERE.parent / "native/corpus", tmp_path / "root")  # where nobody else writes
    (root / "Makefile").write_text("one\ntwo\n")
    done = [
        subprocess.run([*command, root], env=env, capture_output=True, text=True, cwd=root, check=False)
        for env in (dict(os.environ), environment())
    ]
    assert done[0].stdout
    assert (done[0].stdout, done[0].stderr) == (done[1].stdout, done[1].stderr)
    assert done[0].returncode == done[1].returncode == 0


SHOW = 'printf "%s" "$LD_PRELOAD"'


def shell(tmp_path: Path, name: str) -> Path:
    """A shell that is called otherwise."""
    link = tmp_path / name
    link.symlink_to(shutil.which("dash") or "/bin/sh")
    return link


@pytest.mark.parametrize("name", ["qemu-system-x86_64", "kvm"])
def test_its_entry_leaves_the_environment_of_a_qemu(name: str, tmp_path: Path) -> None:
    kernel = hardware()
    ours, program = preload.path(), shell(tmp_path, name)
    for value, left in (
        (f"{ours}", ""),
        (f"{kernel}:{ours}", f"{kernel}"),
        (f"{ours} {kernel}", f"{kernel}"),
    ):
        done = subprocess.run(
            [program, "-c", f"{SHOW}; env"],
            env=environment(LD_PRELOAD=value), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.startswith(left)
        assert str(ours) not in done.stdout
        assert done.stderr == ""


def test_a_wrapper_passes_it_on(path: str) -> None:
    with running("walk", path, under=("/bin/sh", "-c", '"$@"', "sh")) as qemu:
        qemu.until("attached")
        qemu.go()
    assert qemu.errors == ""
