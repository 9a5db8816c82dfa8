"""Each kind of reset as a guest causes it: what it resets, what it keeps, what on_reset hears."""

import threading

import pytest

import workbench as wb
from workbench import protocol

STATUS_OF_PME = 0x8000


class Board(wb.Device):
    """Everything that a reset may or may not touch."""

    id = wb.PciId(vendor=0x1234, device=0x0B13)
    irq = wb.Interrupts(intx=True)
    capabilities = (
        wb.PowerManagement(d1=True, pme=("D0", "D3hot"), soft_reset=True),
        wb.PciExpress(),
        wb.AdvancedErrorReporting(),
        wb.SerialNumber(0x1122334455667788),
    )

    class bar0(wb.Bar, size=4096):
        DATA = wb.Register(0x00, reset=5)
        MIXED = wb.Register(0x04, KEPT=wb.Field(0, 8, sticky=True), LOST=wb.Field(8, 8))
        ALL = wb.Register(0x08, sticky=True, A=wb.Field(0, 4), B=wb.Field(4, 4, sticky=False))

    def __init__(self, *args, **keywords):
        self.kinds = []
        super().__init__(*args, **keywords)

    def on_reset(self, kind):
        self.kinds.append((kind, self.bar0.DATA.value))


@pytest.fixture
def board():
    with Board() as device:
        yield device


@pytest.fixture
def guest(board):
    with board.connect() as client:
        yield client


def at(guest, cap_id):
    [offset] = [offset for found, offset in guest.capabilities() if found == cap_id]
    return offset


def flr(guest):
    control = at(guest, 0x10) + 8
    guest.config.write16(control, guest.config.read16(control) | 0x8000)


def power(guest, state):
    control = at(guest, 1) + 4
    guest.config.write16(control, guest.config.read16(control) & ~3 | state)


def d3hot(guest):
    power(guest, 3)
    power(guest, 0)


RESETS = {"device": lambda guest: guest.reset(), "flr": flr, "d3hot": d3hot}


@pytest.mark.parametrize("kind", RESETS)
def test_a_guests_reset_keeps_sticky_bits_and_says_its_kind(board, guest, kind):
    guest.enable()
    guest.config.write32(0x10, 0xFEBC0000)
    for offset in (0, 4, 8):
        guest.bar0.write32(offset, 0x7F7F)
    RESETS[kind](guest)
    assert board.kinds == [(kind, 5)]
    assert [guest.bar0.read32(offset) for offset in (0, 4, 8)] == [5, 0x7F, 0x0F]
    assert (guest.config.read16(4), guest.config.read32(0x10)) == (0, 0)
    [record] = board.log.filter(kind="reset")
    assert record.origin == "guest"


def test_each_kind_of_reset_has_words_in_the_log(board, guest):
    for reset in RESETS.values():
        reset(guest)
    board.reset()
    said = "\n".join(map(str, board.log.filter(kind="reset")))
    for words in ("by the client", "of the function (FLR)", "from D3hot to D0", "from the notebook"):
        assert words in said


def test_the_notebooks_reset_is_a_power_cycle(board):
    board.bar0.MIXED.value = 0x7F7F
    board.reset()
    assert board.bar0.MIXED.value == 0
    assert board.kinds == [("notebook", 5)]


def test_sticky_bits_of_capabilities_outlive_a_function_level_reset(board, guest):
    pm, express = at(guest, 1), at(guest, 0x10)
    guest.config.write16(pm + 4, 0x0100)
    guest.config.write16(express + 8, 0x2830)
    board.config.AER_UNCORRECTABLE_STATUS.MALFORMED_TLP = 1
    board.config.PCIE_DEVICE_STATUS.FATAL_ERROR = 1
    flr(guest)
    assert guest.config.read16(pm + 4) == 0x0100
    assert guest.config.read16(express + 8) == 0x2830 & 0x00E0 | 0x2810
    assert guest.config.read16(express + 10) == 0
    assert guest.config.read32(0x104) == 1 << 18


def test_eventfds_and_memory_stay_over_a_function_level_reset(board, guest):
    guest.enable()
    guest.memory[0:4] = b"kept"
    board.irq.assert_()
    assert guest.wait_irq() == 1
    flr(guest)
    assert not board.irq.asserted
    guest.unmask_irq()
    assert guest.irq_count() == 0
    guest.enable()
    assert board.dma.read(0, 4) == b"kept"
    assert board.irq.trigger() == wb.IrqOutcome.DELIVERED


def test_asleep_the_bars_are_silent_and_the_log_says_why(board, guest):
    guest.enable()
    power(guest, 3)
    assert guest.bar0.read32(0) == 0xFFFFFFFF
    guest.bar0.write32(0, 1)
    records = board.log.filter(register="bar0")
    assert [record.flags for record in records] == [{"asleep"}] * 2
    assert "function asleep (D1 to D3hot)" in str(records[0])
    assert len(board.log.filter(flagged=True)) == 2
    assert board.bar0.DATA.value == 5
    assert board.irq.assert_() == wb.IrqOutcome.DISABLED
    with pytest.raises(wb.DmaError, match="the guest put the function to sleep"):
        board.dma.read(0, 4)


def test_a_line_that_is_up_is_heard_when_the_function_wakes(board, guest):
    power(guest, 1)
    board.irq.assert_()
    assert guest.irq_count() == 0
    power(guest, 0)
    assert guest.wait_irq() == 1
    assert board.kinds == []


def test_d3hot_keeps_everything_without_soft_reset():
    class Firm(Board):
        capabilities = (wb.PowerManagement(),)

    with Firm() as device, device.connect() as guest:
        guest.bar0.write32(0, 9)
        d3hot(guest)
        assert guest.bar0.read32(0) == 9
        assert device.kinds == []


def test_hooks_on_the_same_registers_run_too_and_see_the_bit(board, guest):
    seen = []
    board.config.PCIE_DEVICE_CONTROL.on_write(lambda device, access: seen.append(access.value & 0x8000))
    board.config.PM_PMCSR.on_write(lambda device, access: seen.append(access.value & 3))
    flr(guest)
    power(guest, 3)
    power(guest, 0)
    assert seen == [0x8000, 3, 0]
    assert [kind for kind, _ in board.kinds] == ["flr", "d3hot"]


def test_on_reset_that_raises_leaves_the_guest_its_reset():
    class Broken(Board):
        def on_reset(self, kind):
            raise ValueError(kind)

    with Broken() as device, device.connect() as guest:
        guest.bar0.write32(0, 9)
        flr(guest)
        assert guest.bar0.read32(0) == 5
        assert [failure.name for failure in device.hooks.failures] == ["on_reset"]


def test_a_hook_may_ask_for_a_function_level_reset_itself(board, guest):
    @board.bar0.DATA.on_write
    def suicide(device, access):
        device.config.PCIE_DEVICE_CONTROL.write(0x8000)

    guest.bar0.write32(0, 9)
    assert guest.bar0.read32(0) == 5
    assert [kind for kind, _ in board.kinds] == ["flr"]


def test_state_is_kept_when_the_client_goes_unless_the_device_asks(board):
    class Forgetful(Board):
        reset_on_detach = True

        def on_detach(self):
            self.last = self.bar0.DATA.value

        def on_reset(self, kind):
            super().on_reset(kind)
            done.set()

    done = threading.Event()
    with board.connect() as guest:
        guest.bar0.write32(0, 9)
    board.server.wait_listening()
    assert (board.bar0.DATA.value, board.kinds) == (9, [])
    with Forgetful() as device:
        with device.connect() as guest:
            guest.bar0.write32(0, 9)
            guest.bar0.write32(4, 0xFFFF)
        assert done.wait(5)
        assert device.kinds == [("detach", 5)]
        assert (device.last, device.bar0.MIXED.value) == (9, 0)


def test_reset_on_detach_is_a_flag():
    with pytest.raises(wb.DescriptionError, match="reset_on_detach 'yes', expected True or False"):

        class Wrong(Board):
            reset_on_detach = "yes"


# -- the lists, as a guest walks them --


def test_a_guest_walks_both_lists(guest):
    assert guest.regions[7].size == 4096
    assert [cap_id for cap_id, _ in guest.capabilities()] == [1, 0x10]
    assert guest.extended_capabilities() == [(0x0001, 0x100), (0x0003, 0x12C)]
    assert guest.config.read(0x130, 8) == (0x1122334455667788).to_bytes(8, "little")


def test_a_device_without_extended_capabilities_has_no_such_list(device):
    with device.connect() as guest:
        assert guest.regions[7].size == 256
        assert guest.extended_capabilities() == []


def test_a_loop_in_the_extended_list_is_told(board, guest):
    board.config.poke(0x12E, b"\x01\x10")
    with pytest.raises(protocol.ProtocolError, match="the extended capability list comes back to 0x100"):
        guest.extended_capabilities()
    assert "the extended capability list loops back to 0x100" in board.lint()[0]


def test_the_layout_is_clean(board):
    assert board.lint() == []
