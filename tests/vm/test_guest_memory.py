"""Guest memory of a real QEMU: shared, private in spite of its file, and without a file."""

import logging

import pytest

import workbench as wb
from workbench.devices.gpio_pci_idio_16 import PciIdio16

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

SPARE = 0x9000  # of the first 64 KiB, which Linux on x86 leaves to the firmware
ENABLE = """for d in /sys/bus/pci/devices/*; do
    [ $(cat $d/vendor) != 0x494f ] || printf '\\6' | dd of=$d/config bs=1 seek=4 conv=notrunc
done"""


def boot(card, backend):
    """A VM whose memory is another than the shared one that it gets by itself."""
    memory = (
        []
        if backend is None
        else ["-object", f"{backend},id=own,size=256M", "-machine", "memory-backend=own"]
    )
    return wb.VM(card, memory="256M", accel="tcg", extra_args=memory)


@pytest.fixture
def card():
    with PciIdio16(strict=True) as device:
        yield device


def enable(card, vm):
    """Switch bus mastering on as a driver's probe does."""
    vm.run(ENABLE, check=True)
    card.log.wait(lambda record: record.value & 4, 10, register="config.COMMAND", kind="write", since=0)


def kernel_text(card):
    """What the guest's kernel has at 16 MiB, where x86 puts its code."""
    return card.dma.read(16 << 20, 1 << 20)


@pytest.mark.parametrize("backend", [None, "memory-backend-memfd,share=off", "memory-backend-ram"])
def test_the_device_sees_what_the_guest_sees(card, backend, caplog):
    with boot(card, backend) as vm, caplog.at_level(logging.WARNING):
        enable(card, vm)
        assert len(set(kernel_text(card))) > 100
        card.dma.write(SPARE, b"written by the device" * 100)
        assert card.dma.read(SPARE, 2100) == b"written by the device" * 100
        # As the guest's processor sees it; Linux shows its memory to nobody (STRICT_DEVMEM).
        seen = vm.qmp("human-monitor-command", **{"command-line": f"xp /8xb {SPARE:#x}"})
        assert bytes(int(word, 16) for word in seen.split(":")[1].split()) == b"written "
        reach = {region.reach for region in card.dma.regions if region.size > 64 << 20}
        assert reach == {"mapped" if backend is None else "messages"}
    assert ("share=on" in caplog.text) == (backend is not None and "memfd" in backend)
