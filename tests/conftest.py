"""Fixtures for every test: a small device, a guest on it, and nothing left behind afterwards."""

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import surroundings
from leaks import open_files, sockets
from native_kit import Objects

import workbench as wb
from workbench.log import AccessLog


def pytest_configure() -> None:
    surroundings.put_right()


def pytest_unconfigure() -> None:
    surroundings.put_back()


def _started() -> set[threading.Thread]:
    # The launcher of virtual machines stays for ever, on purpose: QEMU dies with its thread.
    return {thread for thread in threading.enumerate() if thread.name != "wb-launcher"}


def _settle(threads: set[threading.Thread]) -> set[threading.Thread]:
    # A thread that was told to end may still be on its way out.
    deadline = time.monotonic() + 2
    for thread in _started() - threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return _started() - threads


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a file descriptor, a thread or a socket file behind."""
    fds, threads, files = open_files(), _started(), set(sockets(os.getpid()))
    yield
    left = [f"thread {thread.name}" for thread in _settle(threads)]
    extra = {fd: name for fd, name in open_files().items() if fds.get(fd) != name}
    if extra:
        gc.collect()  # a failed test's traceback, or a cycle, may still hold one
        extra = {fd: name for fd, name in open_files().items() if fds.get(fd) != name}
    left += [f"fd {fd}: {name}" for fd, name in extra.items()]
    left += [f"file {name}" for name in set(sockets(os.getpid())) - files]
    if left:
        pytest.fail(f"left behind: {', '.join(left)}")


@pytest.fixture
def device() -> Iterator[wb.Device]:
    """A Sample, closed after the test."""
    from sample import Sample

    with Sample() as sample:
        yield sample


@pytest.fixture
def guest(device: wb.Device) -> Iterator[wb.Client]:
    """A software guest on the Sample, disconnected after the test."""
    with device.connect() as client:
        yield client


@pytest.fixture
def log() -> AccessLog:
    """An empty log of the two bars of `log_kit`."""
    from log_kit import new_log

    return new_log()


@pytest.fixture
def mixed(log: AccessLog) -> AccessLog:
    """Eight records of every sort, a second apart."""
    from log_kit import fill

    return fill(log)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """What gives the engine's objects for a sanitizer, compiled once in a run."""
    base = tmp_path_factory.getbasetemp()
    return Objects(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture
def huge_page() -> Iterator[None]:
    """One more huge page of 2 MiB, where we may have one made; taken back afterwards."""
    pool, free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB"), 0
    with contextlib.suppress(OSError):
        before = int((pool / "nr_hugepages").read_text())
        with contextlib.suppress(OSError):
            (pool / "nr_hugepages").write_text(f"{before + 1}\n")
        free = int((pool / "free_hugepages").read_text())
    if not free:
        pytest.skip(f"no huge page is free, and only root may reserve one ({pool})")
    yield
    with contextlib.suppress(OSError):
        (pool / "nr_hugepages").write_text(f"{before}\n")
