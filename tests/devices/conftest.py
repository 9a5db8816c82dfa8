"""An NVMe controller, a guest on it and a small driver; other devices bring fixtures of their own."""

from collections.abc import Iterator

import pytest
from nvme_kit import SIZE, Driver, Queue

import workbench as wb
from workbench.devices.nvme import Nvme


@pytest.fixture
def dev() -> Iterator[Nvme]:
    """Formatted to SIZE bytes; a hook that raised fails the test."""
    with Nvme(size=SIZE, strict=True) as device:
        yield device


@pytest.fixture
def guest(dev: Nvme) -> Iterator[wb.Client]:
    with dev.connect() as guest:
        yield guest


@pytest.fixture
def driver(guest: wb.Client) -> Driver:
    """Enabled, with one pair of I/O queues."""
    return Driver(guest).enable(1)


@pytest.fixture
def io(driver: Driver) -> Queue:
    return driver.io[0]
