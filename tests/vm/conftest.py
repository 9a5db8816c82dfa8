"""Virtual machines for the tests: one shared by those that do not hurt it."""

from collections.abc import Iterator

import pytest

from workbench import VM


@pytest.fixture(scope="module")
def machine() -> Iterator[VM]:
    """A booted VM without a device, shared within a file."""
    with VM(accel="tcg") as vm:
        vm.qmp("query-status")  # its connection outlives the test that opens it
        yield vm
