"""Virtual machines for the tests: one shared by those that do not hurt it."""

from collections.abc import Iterator

import pytest

from workbench import VM
from workbench.vm.kit import Qemu, fetch_qemu


@pytest.fixture(scope="module")
def machine() -> Iterator[VM]:
    """A booted VM without a device, shared within a file."""
    with VM(accel="tcg") as vm:
        vm.qmp("query-status")  # its connection outlives the test that opens it
        yield vm


@pytest.fixture(scope="module", params=["", "bookworm", "trixie"], ids=["newest", "qemu-7.2", "qemu-10.0"])
def qemu(request: pytest.FixtureRequest) -> Qemu | None:
    """The QEMU to plug into: the kit's (None), or an older one, which needs the preloaded library."""
    older = fetch_qemu(request.param) if request.param else None
    assert older is None or older.preload
    return older
