"""Virtual machines for the tests: one shared by those that do not hurt it."""

import shutil
from collections.abc import Iterator

import pytest

from workbench import VM, VmError
from workbench.vm.kit import fetch
from workbench.vm.launcher import spawn


@pytest.fixture(scope="session", autouse=True)
def launcher() -> None:
    """Start the launcher's permanent thread, so that no test looks as if it left one behind."""
    spawn(["true"]).wait()


@pytest.fixture(scope="session", autouse=True)
def fetched_kit() -> None:
    """Fetch the kit first; only where there is no apt to fetch it with are the tests skipped."""
    try:
        fetch()
    except VmError as error:
        if shutil.which("apt-get") is None:
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module")
def machine() -> Iterator[VM]:
    """A booted VM without a device, shared within a file."""
    with VM(accel="tcg") as vm:
        vm.qmp("query-status")  # its connection outlives the test that opens it
        yield vm
