"""Which QEMU may be asked to unplug what."""

import pytest

from workbench.vm.hotplug import aborts


def version(*numbers: int) -> dict[str, object]:
    return {"qemu": dict(zip(("major", "minor", "micro"), numbers, strict=True)), "package": "Debian"}


@pytest.mark.parametrize("numbers", [(10, 1, 0), (11, 0, 2), (11, 1, 3)])
def test_msix_is_not_unplugged_from_a_qemu_that_aborts(numbers):
    said = ".".join(map(str, numbers))
    assert aborts(version(*numbers)).startswith(f"QEMU {said} aborts when a vfio-user device with MSI-X")


@pytest.mark.parametrize("numbers", [(11, 1, 4), (11, 2, 0), (12, 0, 0)])
def test_a_newer_qemu_is_tried(numbers):
    assert aborts(version(*numbers)) == ""
