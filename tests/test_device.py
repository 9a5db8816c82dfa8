"""Device: descriptions, their mistakes, and the life of an instance."""

import copy
import gc
import json
import pickle
import weakref

import pytest
from leaks import resident

import workbench as wb


class Card(wb.Device):
    """A card with INTx."""

    id = wb.PciId(vendor=0x1234, device=0x0002)
    irq = wb.Interrupts(intx="B")
    capabilities = (wb.PowerManagement(),)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0, reset=5)

    class bar2(wb.Bar, size=1 << 20, bits=64, prefetchable=True):
        DATA = wb.Register(0xFFFF8, 64)


@pytest.fixture
def card():
    with Card() as device:
        yield device


def test_all_mistakes_of_a_class_are_reported_together():
    with pytest.raises(wb.DescriptionError) as caught:

        class Wrong(wb.Device):
            id = 0x1234
            irq = "A"
            bar0 = 4096

            class regs(wb.Bar, size=4096):
                CTRL = wb.Register(0)

            class bar6(wb.Bar, size=4096):
                CTRL = wb.Register(0)

    text = str(caught.value)
    assert "Wrong is described wrongly" in text
    for part in (
        "id is 4660",
        "irq is 'A'",
        "bar0 is 4096",
        "regs is not named bar0 to bar5",
        "bar6: a PCI device",
    ):
        assert part in text


def test_a_hook_on_a_register_of_another_device_is_a_mistake():
    with pytest.raises(wb.DescriptionError, match="hooks CTRL, which is not a register of this device"):

        class Wrong(wb.Device):
            id = wb.PciId(vendor=1, device=2)

            @Card.bar0.CTRL.on_write
            def switch(self, access): ...


def test_a_bar_used_under_another_name_is_a_mistake_and_a_subclass_of_it_is_not():
    class Common(wb.Bar, size=4096):
        CTRL = wb.Register(0)

    with pytest.raises(wb.DescriptionError, match=r"write class bar1\(Common\): pass"):

        class Wrong(wb.Device):
            id = wb.PciId(vendor=1, device=2)
            bar1 = Common

    class Right(wb.Device):
        id = wb.PciId(vendor=1, device=2)

        class bar1(Common):
            pass

    with Right() as device:
        assert device.bar1.CTRL.name == "bar1.CTRL"


def test_a_device_without_an_id_cannot_be_made():
    class Base(wb.Device):
        pass

    with pytest.raises(wb.DescriptionError, match=r"add id = wb\.PciId"):
        Base()


def test_a_subclass_inherits_bars_and_hooks_and_overrides_by_name():
    class First(wb.Device):
        id = wb.PciId(vendor=1, device=2)

        class bar0(wb.Bar, size=4096):
            CTRL = wb.Register(0)

        @bar0.CTRL.on_write
        def switch(self, access):
            self.who = "first"

    class Second(First):
        def switch(self, access):
            self.who = "second"

    with Second() as device:
        device.bar0.CTRL.write(1)
        assert device.who == "second"


def test_config_space_has_names_and_bar_sizing_works(card):
    assert card.config.VENDOR_ID == 0x1234
    assert card.config.INTERRUPT_PIN == 2
    card.config.BAR0.write(0xFFFFFFFF)
    assert card.config.BAR0.read() == 0xFFFFF000
    card.config.write(0x18, b"\xff" * 8)
    assert int.from_bytes(card.config.read(0x18, 8), "little") == 0xFFFFFFFFFFF0000C


def test_reset_restores_registers_and_runs_on_reset(card):
    seen = []
    card.on_reset = seen.append
    card.bar0.CTRL = 9
    card.config.COMMAND.write(0x6)
    card.irq.assert_()
    card.reset()
    assert (card.bar0.CTRL.value, card.config.COMMAND.value, card.irq.asserted) == (5, 0, False)
    assert seen == ["notebook"]


def test_the_line_is_mirrored_in_status_bit_3_and_says_nobody_listens(card):
    assert card.irq.assert_() == "nobody listens"
    assert card.config.STATUS.INTERRUPT_STATUS == 1
    card.irq.deassert()
    assert card.config.STATUS.INTERRUPT_STATUS == 0


def test_an_interrupt_that_the_device_does_not_have_is_an_error():
    class Quiet(wb.Device):
        id = wb.PciId(vendor=1, device=2)

    with Quiet() as device:
        for call in (device.irq.trigger, device.irq.assert_):
            with pytest.raises(OSError, match="the device does not have"):
                call()
        assert repr(device.irq) == "<no interrupts>"


def test_serve_refuses_a_layout_that_qemu_cannot_bear(card):
    card.config.poke(0x3D, b"\x07")
    with pytest.raises(wb.DescriptionError, match=r"(?i)interrupt pin"):
        card.serve()
    assert card.server is None


def test_serving_twice_gives_the_same_server_and_another_path_is_an_error(card, tmp_path):
    server = card.serve()
    assert card.serve() is server
    with pytest.raises(wb.StateError, match="already"):
        card.serve(str(tmp_path / "other.sock"))


def test_a_closed_device_can_be_looked_at_but_not_served(card):
    card.serve()
    card.bar0.CTRL = 3
    card.close()
    card.close()
    assert card.bar0.CTRL == 3
    assert len(card.log)
    with pytest.raises(wb.StateError, match="is closed"):
        card.serve()


def test_another_device_of_the_same_name_takes_over(card):
    first = card.serve()
    with Card() as second:
        server = second.serve()
        assert server is first
        assert card.closed
        with second.connect() as guest:
            assert guest.bar0.read32(0) == 5


def test_two_devices_with_names_of_their_own_serve_side_by_side():
    with Card("left") as left, Card("right") as right:
        left.bar0.CTRL, right.bar0.CTRL = 1, 2
        with left.connect() as one, right.connect() as two:
            assert (one.bar0.read32(0), two.bar0.read32(0)) == (1, 2)


def test_qemu_args_name_the_socket_and_share_memory(card):
    args = card.qemu_args()
    assert card.server.path in args[-1]
    assert "vfio-user-pci" in args[-1]
    assert any("share=on" in arg for arg in args)
    assert card.qemu_args(memory=None) == args[-2:]
    older = card.qemu_args(memory=None, preload=True)
    assert older == ["-device", json.dumps({"driver": "vfio-pci", "sysfsdev": card.server.path})]


def test_a_forgotten_device_is_freed():
    device = Card()
    device.serve()
    device.close()
    gone = weakref.ref(device)
    del device
    gc.collect()
    assert gone() is None


def test_a_large_bar_costs_no_memory():
    class Large(wb.Device):
        id = wb.PciId(vendor=1, device=2)

        class bar0(wb.Bar, size=1 << 30):
            LAST = wb.Register((1 << 30) - 4, reset=7)

    def grown():
        before = resident()
        with Large() as device:
            device.reset()
            assert device.bar0.LAST.read() == 7
            assert device.bar0.read(1 << 20, 4) == bytes(4)
            return resident() - before

    assert min(grown() for _ in range(3)) < 8 << 20  # the least: the process may grow for reasons of its own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bar0", "bar0 holds registers: assign to one, as in bar0"),
        ("config", r"as in config\.VENDOR_ID = 1"),
        ("bar5", "bar5 is described in the class"),
        ("id", "id is described in the class"),
        ("irq", "irq is described in the class"),
        ("log", "log belongs to the device"),
        ("hooks", "hooks belongs to the device"),
    ],
)
def test_what_a_device_is_made_of_is_not_assigned_to(card, name, message):
    before = getattr(card, name, None)
    with pytest.raises(AttributeError, match=message):
        setattr(card, name, 5)
    assert getattr(card, name, None) is before
    card.anything_else = 5


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_device_is_not_copied(card, make):
    with pytest.raises(TypeError, match="can neither be copied nor pickled, for it belongs to its guest"):
        make(card)
    with pytest.raises(TypeError, match=r"a part of it: log\[:\]"):
        make(card.log)
    assert len(copy.deepcopy(card.log[:])) == len(card.log)


def test_a_device_is_made_once(card):
    server = card.serve()
    with pytest.raises(wb.StateError, match="is made already"):
        card.__init__()
    assert card.server is server


@pytest.mark.parametrize("records", [-1, 1 << 32])
def test_a_log_of_a_size_that_cannot_be_is_refused(card, records):
    with pytest.raises(ValueError, match=f"not {records}"):
        type(card)("other", log_records=records)


@pytest.mark.parametrize("name", ["two\nlines", "\ud800"])
def test_a_name_that_cannot_be_printed_is_refused(card, name):
    with pytest.raises(ValueError, match="can be printed"):
        type(card)(name)


def test_a_patience_that_makes_no_sense_is_refused(card):
    for patience in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="patience is seconds above 0"):
            card.qemu_args(patience=patience)
    assert card.qemu_args(memory=64)[1] == "64"
