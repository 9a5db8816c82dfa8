"""What a VM is given, and who is in the way: found before QEMU starts."""

import os

import pytest

import workbench as wb
from workbench.devices.gpio_pci_idio_16 import PciIdio16
from workbench.views.machines import machine_of
from workbench.vm.devices import _way_out, likely_causes, serve_free, suspects


@pytest.fixture
def card():
    with PciIdio16() as device:
        yield device


def test_a_device_in_use_by_a_software_guest_is_refused_with_the_way_out(card, monkeypatch):
    monkeypatch.setattr("workbench.vm.devices.SETTLE", 0.01)
    with (
        card.connect(),
        pytest.raises(wb.StateError, match=r"PciIdio16 is in use by a software guest .*guest.disconnect\(\)"),
    ):
        wb.VM(card).start()


def test_who_is_in_the_way_is_told_with_the_way_out():
    assert "another VM of this process, pid 12 (qemu): close that VM" in _way_out("pid 12 (qemu)", ["pid 12"])
    assert _way_out("pid 12 (qemu)", ["pid 1"]) == "pid 12 (qemu): close that VM or end that program"


def test_a_client_that_is_just_leaving_is_waited_for(card):
    card.connect().disconnect()
    serve_free(card, list)
    assert card.server.state == "listening"


def test_equal_names_and_the_same_device_twice_are_refused(card):
    with PciIdio16() as other, pytest.raises(ValueError, match=r"names of their own: PciIdio16\('a'\)"):
        wb.VM(card, other)
    with pytest.raises(ValueError, match="PciIdio16 is given twice"):
        wb.VM(card, card)


def test_a_class_a_list_and_anything_else_are_refused_with_what_to_write():
    with pytest.raises(TypeError, match=r"PciIdio16 is a class: VM\(PciIdio16\(\)\)"):
        wb.VM(PciIdio16)
    with pytest.raises(TypeError, match=r"VM\(\*devices\)"):
        wb.VM([])
    with pytest.raises(TypeError, match="not 'gpio'"):
        wb.VM("gpio")


def test_a_server_stands_for_its_device_and_one_module_may_be_a_word(card):
    vm = wb.VM(card.serve(), modules="gpio-pci-idio-16")
    assert vm.devices == (card,)
    assert vm.modules == ("gpio-pci-idio-16",)


def test_what_may_keep_qemu_waiting_is_named(card):
    card.serve()
    assert suspects([card], 1) == []
    card.server.pause()
    assert suspects([card], 1) == ["PciIdio16 is paused: resume() of its server lets the guest go on"]
    card.server.resume()
    with card.connect():
        assert "PciIdio16 is in use by pid" in suspects([card], 1)[0]
        assert suspects([card], os.getpid()) == []
    card.server.stop()
    assert likely_causes([card], 1, "") == [
        "likely because PciIdio16 is not served any more (its server is stopped)"
    ]
    assert "did not answer QEMU in time" in likely_causes([], 1, "vfio-user: timed out")[0]
    warning = '-device {"driver": "vfio-user-pci", "x-msg-timeout": 86400000}: warning: no error recovery'
    assert likely_causes([], 1, warning) == []
    assert likely_causes([], 1, "no such device") == []


def test_the_console_can_be_looked_at_after_its_only_device_was_unplugged(card):
    vm = wb.VM(card)
    vm._slots.leave(1)
    assert vm.devices == ()
    assert "nothing on the console" in repr(vm.console())
    other = wb.VM(card)
    with pytest.raises(wb.StateError, match="this VM has none"):
        vm.console()
    assert "nothing on the console" in repr(other.console())
    with pytest.raises(wb.StateError, match="this VM has none"):
        wb.VM().console()


def test_a_device_made_anew_is_where_the_one_was_that_it_took_over(card):
    card.serve()
    vm = wb.VM(card)
    with PciIdio16() as new:
        new.serve()
        assert machine_of(new) is vm
        assert vm._slots.find(new) == 1
        with pytest.raises(wb.StateError, match="plugged in already"):
            vm._slots.take(new)
        with PciIdio16() as newest:
            other = wb.VM(newest)
            other._serve()  # only now does it take over
            assert machine_of(newest) is other
