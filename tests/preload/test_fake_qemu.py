"""Every VFIO call of QEMU's, made by a C program with the library preloaded, against our own server."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from preload_kit import Card, fake_qemu, run, running
from programs import strace

pytestmark = pytest.mark.slow


@pytest.fixture
def card() -> Iterator[Card]:
    with Card() as device:
        device.serve()
        yield device


@pytest.fixture
def path(card: Card) -> str:
    assert card.server is not None
    return card.server.path


def regions(card: Card) -> list[tuple[int, int, str, bool]]:
    return [(one.iova, one.size, one.rights, one.shared) for one in card.dma.regions]


def test_without_the_library_there_is_no_such_device(path: str) -> None:
    done = subprocess.run([fake_qemu(), "walk", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed" in done.stderr


def test_everything_once_in_qemu_s_order(card: Card, path: str) -> None:
    with running("walk", path) as qemu:
        qemu.until("attached")
        assert [record.kind for record in card.log.filter(kind=("attach", "reset"))] == ["attach", "reset"]
        qemu.go()
    assert qemu.errors == ""
    card.log.wait(kind="detach", since=0)


@pytest.mark.parametrize("scenario", ["argsz", "interrupts", "kinds", "resample"])
def test_a_scenario_without_steps(scenario: str, path: str) -> None:
    assert run(scenario, path).errors == ""


def test_maps_come_and_go_as_the_kernel_has_it(card: Card, path: str) -> None:
    with running("maps", path) as qemu:
        qemu.until("mapped")
        top = (1 << 64) - 4096
        assert regions(card) == [
            (0x10000, 0x2000, "rw", False), (0x12000, 0x1000, "r-", False),
            (0x15000, 0x1000, "rw", False), (top, 0x1000, "rw", False),
        ]  # fmt: skip
        qemu.go()
        qemu.until("unmapped")
        assert regions(card) == []
        qemu.go()
        qemu.until("mapped again")
        assert regions(card) == [(0x10000, 0x2000, "rw", False)]
        qemu.go()


def enable(card: Card) -> None:
    card.config.COMMAND.BUS_MASTER = 1


def test_memory_is_reached_by_file_and_by_messages(card: Card, path: str) -> None:
    with running("memory", path) as qemu:
        qemu.until("ready")
        enable(card)
        assert [(region.iova, region.shared) for region in card.dma.regions] == [
            (0, True), (0x10000, True), (0x20000, False), (0x21000, False),
        ]  # fmt: skip
        words = {0: b"shared", 0x10000: b"later", 0x20000: b"private"}
        for iova, word in words.items():
            assert card.dma.read(iova, len(word)) == word
            card.dma.write(iova, word.upper())
        assert card.dma.read(0x20FFE, 6) == b"across"
        with pytest.raises(OSError, match="read-only"):
            card.dma.write(0x21000, b"x")
        qemu.go()


def test_without_sharing_everything_goes_by_messages(card: Card, path: str) -> None:
    with running("memory", path, WORKBENCH_PRELOAD_NO_SHARE="1") as qemu:
        qemu.until("ready")
        enable(card)
        assert not any(region.shared for region in card.dma.regions)
        for iova, word in {0: b"shared", 0x10000: b"later", 0x20000: b"private"}.items():
            assert card.dma.read(iova, len(word)) == word
            card.dma.write(iova, word.upper())
        qemu.go()


def test_bars_are_read_written_and_mapped_where_they_may_be(card: Card, path: str) -> None:
    with running("bars", path) as qemu:
        qemu.until("mapped")
        assert card.bar2.WORDS[0].value == 0xA1
        card.bar2.WORDS[1].value = 0xC2
        qemu.go()


def test_descriptors_may_be_closed_in_any_order(card: Card, path: str) -> None:
    with running("closing", path) as qemu:
        qemu.until("closed")
        assert len(card.log.filter(kind="attach")) == 6
        card.log.wait(kind="detach", since=card.log.filter(kind="attach")[-1].seq)
        qemu.go()


def test_muser_s_directory_holds_the_socket_as_cntrl(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "empty").mkdir()
    with Card() as card:
        card.serve(str(tmp_path / "0/cntrl"))
        assert run("directory", tmp_path / "0", tmp_path / "empty", tmp_path / "0/cntrl").errors == ""


def test_two_devices_in_one_container_have_the_same_memory(card: Card, path: str) -> None:
    with Card(name="other") as other, running("neighbour", path, other.serve().path) as qemu:
        qemu.until("both")
        assert regions(card) == regions(other) == [(0, 4096, "rw", False), (4096, 4096, "rw", False)]
        qemu.go()
        qemu.until("one")
        assert [region.iova for region in other.dma.regions] == [0, 4096, 8192]
        qemu.go()


def test_the_log_names_each_step_and_is_private(card: Card, path: str, tmp_path: Path) -> None:
    log = tmp_path / "preload.log"
    with running("walk", path, WORKBENCH_PRELOAD_LOG=str(log)) as qemu:
        qemu.until("attached")
        qemu.go()
    said = log.read_text()
    for step in (
        "a vfio-user server, group",
        "container: descriptor",
        "connected, version 0.1",
        "reset: done",
    ):
        assert step in said
    assert said.rstrip().endswith("closed")
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.timeout(240)  # strace may have to be fetched
def test_no_vfio_call_reaches_the_kernel(path: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    under = (*strace(), "-f", "-e", "trace=openat,open,ioctl,readlink", "-o", str(trace))
    with running("walk", path, under=under) as qemu:
        qemu.until("attached")
        qemu.go()
    seen = trace.read_text()
    assert "openat(" in seen
    assert "/dev/vfio" not in seen
    assert "VFIO" not in seen
    assert "0x3b" not in seen
