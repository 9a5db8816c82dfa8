"""Power states and resets as Linux causes them, and the capabilities that it finds."""

import pytest

import workbench as wb

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]


class Board(wb.Device):
    """What Linux may reset in each of its ways."""

    id = wb.PciId(vendor=0x1234, device=0x0B13)
    capabilities = (
        wb.PowerManagement(d1=True, soft_reset=True),
        wb.PciExpress(),
        wb.AdvancedErrorReporting(),
        wb.SerialNumber(0x0123456789ABCDEF),
    )

    class bar0(wb.Bar, size=4096):
        DATA = wb.Register(0x00)
        MARK = wb.Register(0x04, sticky=True)

    def __init__(self) -> None:
        self.kinds: list[str] = []
        super().__init__()

    def on_reset(self, kind: str) -> None:
        self.kinds.append(kind)


def test_linux_finds_the_capabilities_and_resets_the_function_in_each_of_its_ways() -> None:
    with Board() as board, wb.VM(board, accel="tcg") as vm:
        text = vm.run("lspci -vv -d 1234:0b13", check=True).stdout
        for line in (
            "[40] Power Management version 3, D1+ D2- NoSoftRst-, D",
            "[48] Express (v2) Endpoint, FLReset+, x1 at gen 1",
            "[100 v2] Advanced Error Reporting",
            "[12c v1] Device Serial Number 01-23-45-67-89-ab-cd-ef",
        ):
            assert f"\tCapabilities: {line}" in text, text
        vm.run("lspci -n -d 1234:0b13 | cut -d' ' -f1 > /tmp/slot")
        here = "cd /sys/bus/pci/devices/0000:$(cat /tmp/slot); "
        assert {"flr", "pm"} <= set(vm.run(f"{here}cat reset_method", check=True).stdout.split())
        base = int(vm.run(f"{here}head -1 resource", check=True).stdout.split()[0], 16)
        vm.run(f"{here}echo 1 > enable", check=True)
        for method, kind in (("flr", "flr"), ("pm", "d3hot")):
            board.kinds.clear()
            since = board.log.total
            vm.run(f"devmem {base:#x} 32 7; devmem {base + 4:#x} 32 9", check=True)
            vm.run(f"{here}echo {method} > reset_method; echo 1 > reset", check=True)
            assert board.kinds == [kind]
            assert board.log[since:].filter(kind="reset")[0].origin == "guest"
            read = vm.run(f"devmem {base:#x} 32; devmem {base + 4:#x} 32", check=True)
            assert [int(word, 16) for word in read.stdout.split()] == [0, 9]
        control = board.config.PM_PMCSR.offset
        vm.run(f"setpci -s $(cat /tmp/slot) {control:x}.w=3", check=True)
        assert board.config.PM_PMCSR.POWER_STATE == 3  # (QEMU 11 takes the BARs away meanwhile, by itself)
        assert "NoSoftRst-, D3\n" in vm.run("lspci -vv -d 1234:0b13", check=True).stdout
        with pytest.raises(wb.DmaError, match="the guest put the function to sleep"):
            board.dma.read(0, 4)
        vm.run(f"setpci -s $(cat /tmp/slot) {control:x}.w=0", check=True)
        assert board.kinds == ["d3hot", "d3hot"]
