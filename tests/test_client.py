"""The software guest on a real device: views, interrupts, memory, coming and going."""

import errno
import gc
import threading

import numpy as np
import pytest
from leaks import open_fds
from sample import Sample

import workbench as wb
from workbench.protocol import DeviceFlag, IrqFlag, RegionFlag


def test_it_knows_the_device(guest):
    assert guest.id == "1234:0b11"
    assert guest.info == DeviceFlag.PCI | DeviceFlag.RESET
    assert [region.size for region in guest.regions] == [4096, 0, 8, 0, 0, 0, 0, 256, 0]
    assert guest.regions[0].flags == RegionFlag.READ | RegionFlag.WRITE
    assert guest.regions[7].name == "config"
    assert [irq.count for irq in guest.irqs] == [1, 0, 0, 0, 0]
    assert IrqFlag.AUTOMASKED in guest.irqs[0].flags


def test_it_says_what_it_is(guest):
    assert "1234:0b11, bar0 4096 B, bar2 8 B, config 256 B, 1 INTx" in repr(guest)
    assert repr(guest.bar0) == "<bar0: 4096 bytes, READ|WRITE>"
    assert repr(guest.bar1) == "<bar1: 0 bytes, no access>"
    assert repr(guest.memory) == "<GuestMemory nothing mapped yet>"


def test_displaying_it_reads_nothing(device, guest):
    seen = len(device.log)
    repr(guest), repr(guest.bar0), repr(guest.memory), guest.closed
    assert len(device.log) == seen


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_views_read_and_write_every_width(guest, size):
    value = 0x8877665544332211 & (1 << size) - 1
    getattr(guest.bar0, f"write{size}")(8, value)
    assert getattr(guest.bar0, f"read{size}")(8) == value
    assert guest.bar0.read(8, size // 8) == value.to_bytes(size // 8, "little")


@pytest.mark.parametrize(("size", "value"), [(8, 256), (16, 1 << 16), (32, 1 << 32), (64, 1 << 64), (32, -1)])
def test_a_value_that_does_not_fit_is_refused_before_it_is_sent(guest, size, value):
    with pytest.raises(ValueError, match=f"does not fit {size} bits"):
        getattr(guest.bar0, f"write{size}")(0, value)
    assert guest.bar0.read32(0) == 0x11223344


@pytest.mark.parametrize("offset", [-1, 1 << 64])
def test_an_offset_that_no_message_can_say_is_refused(guest, offset):
    with pytest.raises(ValueError, match="cannot be said"):
        guest.bar0.read32(offset)


def test_a_name_is_answered_with_how_a_guest_reads(guest):
    hint = r"'CTRL': a guest knows no names, only offsets, as in guest\.bar0\.read32\(offset\)"
    with pytest.raises(AttributeError, match=hint):
        _ = guest.bar0.CTRL
    with pytest.raises(AttributeError):
        guest.bar0.CTRL = 1
    assert not hasattr(guest.config, "_repr_html_")


def test_an_access_outside_names_region_offset_and_errno(guest):
    text = r"REGION_READ of 4 bytes at bar0\+0x1000 was refused: EINVAL"
    with pytest.raises(wb.ProtocolError, match=text) as caught:
        guest.bar0.read32(4096)
    assert caught.value.code == errno.EINVAL
    with pytest.raises(wb.ProtocolError, match=r"REGION_WRITE of 1 bytes at bar1\+0x0 was refused"):
        guest.bar1.write8(0, 1)
    assert guest.bar0.read32(0) == 0x11223344


def test_a_posted_write_outside_is_dropped_as_in_a_real_machine(guest):
    guest.bar0.write32(4096, 1, posted=True)
    assert guest.bar0.read32(0) == 0x11223344


def test_enable_sets_the_command_register(guest):
    guest.enable()
    assert guest.config.read16(4) == 7
    guest.enable(bus_master=False, intx=False)
    assert guest.config.read16(4) == 0x403


def test_it_finds_the_capabilities(guest):
    [(number, offset)] = guest.capabilities()
    assert number == 1
    assert offset >= 0x40


def test_hooks_run_for_the_guest(device, guest):
    seen = []
    device.bar0.SCRATCH.on_write(lambda dev, access: seen.append(access.value))
    guest.bar0.write32(0, 0x42)
    assert seen == [0x42]


# ---- interrupts (the rest is in test_message_set_irqs.py)


def test_interrupts_are_counted_without_waiting(device, guest):
    assert guest.irq_count() == 0
    device.irq.trigger()
    assert guest.irq_count() == 1
    assert guest.irq_count() == 0


def test_waiting_ends_when_another_thread_raises_the_interrupt(device, guest):
    thread = threading.Thread(target=device.irq.trigger)
    thread.start()
    assert guest.wait_irq() == 1
    thread.join()


def test_a_wait_in_vain_says_that_intx_is_masked_since_the_last_one(device, guest):
    with pytest.raises(TimeoutError, match=r"for 0.01 s$"):
        guest.wait_irq(timeout=0.01)
    device.irq.trigger()
    guest.wait_irq()
    assert repr(device.irq) == "<INTA armed masked until the guest is done, signalled 1×>"
    with pytest.raises(TimeoutError, match=r"masked since the last one: guest.unmask_irq\(\)$"):
        guest.wait_irq(timeout=0.01)
    guest.unmask_irq()
    with pytest.raises(TimeoutError, match=r"for 0.01 s$"):
        guest.wait_irq(timeout=0.01)


def test_close_is_disconnect(guest):
    guest.close()
    assert guest.closed


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_makes_no_sense_is_refused(device, guest, timeout):
    with pytest.raises(ValueError, match="0 seconds or more"):
        guest.wait_irq(timeout=timeout)  # poll() would wait for ever
    with pytest.raises(ValueError, match="0 seconds or more"):
        wb.Client(device.server.path, timeout=timeout)


def test_a_timeout_may_be_for_ever(device, guest):
    guest.disconnect()
    with device.connect(timeout=float("inf")) as patient:
        device.irq.trigger()
        assert patient.wait_irq(timeout=float("inf")) == 1


def test_numbers_that_are_no_int_are_written_too(device, guest):
    device.bar0.WIDE = 7
    guest.bar0.write32(0, np.uint32(5))
    guest.bar0.write32(0x100, device.bar0.WIDE)
    assert (guest.bar0.read32(0), guest.bar0.read32(0x100)) == (5, 7)
    device.bar0.SCRATCH.poke(0xFF, mask=np.uint8(0xF0))
    assert guest.bar0.read32(0) == 0xF5
    guest.disconnect()
    with device.connect(timeout=np.uint8(5)):
        pass


@pytest.mark.parametrize("start", [-1, 1 << 32, "0"])
def test_vectors_that_no_message_can_say_are_refused(guest, start):
    with pytest.raises((ValueError, TypeError), match=r"32 bits|str"):
        guest.mask_irq(vector=start)
    assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_a_number_in_place_of_bytes_is_answered_with_how_one_is_written(guest):
    with pytest.raises(TypeError, match=r"a number is written by bar0\.write32\(0, 1\)"):
        guest.bar0.write(0, 1)


def test_an_interrupt_that_is_not_armed_is_named(guest):
    guest.disarm()
    with pytest.raises(wb.StateError, match="INTx vector 0 is not armed"):
        guest.wait_irq()
    with pytest.raises(wb.StateError, match="INTx vector 7"):
        guest.irq_count(7)


def test_a_device_without_a_pin_is_not_armed(device):
    class Quiet(wb.Device):
        id = wb.PciId(vendor=0x1234, device=1)

    with Quiet() as quiet, quiet.connect() as guest:
        assert guest.irqs[0].count == 0
        with pytest.raises(wb.StateError):
            guest.wait_irq()


# ---- memory


def test_memory_appears_at_the_first_use(device, guest):
    guest.enable()
    assert guest.memory[0x100] == 0
    assert repr(guest.memory) == "<GuestMemory 0x0+0x100000>"
    guest.memory[0x100] = 0x42
    guest.memory[0x200:0x204] = b"abcd"
    assert device.dma.read(0x100, 1) == b"\x42"
    assert device.dma.read(0x200, 4) == b"abcd"
    device.dma.write(0x300, b"device")
    assert guest.memory[0x300:0x306] == b"device"


def test_memory_where_it_is_wanted(device, guest):
    guest.enable()
    guest.memory.map(1 << 32, 8192)
    guest.memory[(1 << 32) + 4094 : (1 << 32) + 4098] = b"page"
    assert device.dma.read((1 << 32) + 4094, 4) == b"page"
    with pytest.raises(IndexError, match="no guest memory at 0x0"):
        guest.memory[0]


def test_memory_without_bus_mastering_is_out_of_reach(device, guest):
    guest.memory[0] = 1
    with pytest.raises(OSError, match="bus master"):
        device.dma.read(0, 1)
    device.dma.poke(1, b"ok")  # the workbench is no bus master
    assert (device.dma.peek(0, 3), guest.memory[1:3]) == (b"\1ok", b"ok")
    with pytest.raises(wb.DmaError, match=r"cannot poke 1 bytes .*mapped no memory"):
        device.dma.poke(1 << 40, b"x")


def test_memory_that_is_read_only_for_the_device(device, guest):
    guest.enable()
    guest.memory.map(0, 4096, readonly=True)
    guest.memory[0:3] = b"ROM"
    assert device.dma.read(0, 3) == b"ROM"
    with pytest.raises(wb.DmaError):
        device.dma.write(0, b"x")
    assert guest.memory[0:3] == b"ROM"


def test_adjacent_memory_reads_and_writes_across(guest):
    guest.memory.map(0, 4096)
    guest.memory.map(4096, 4096)
    guest.memory[4090:4102] = b"hello, world"
    assert guest.memory[4090:4102] == b"hello, world"


NOT_PAGES = [(0, 0), (1, 4096), (0, 100), (-4096, 4096), ((1 << 64) - 4096, 8192)]


@pytest.mark.parametrize(("iova", "size"), NOT_PAGES)
def test_memory_comes_in_whole_pages(guest, iova, size):
    with pytest.raises(ValueError, match="whole pages"):
        guest.memory.map(iova, size)


def test_memory_is_mapped_once_and_unmapped_as_it_was_mapped(guest):
    guest.memory.map(0, 8192)
    with pytest.raises(ValueError, match="overlaps"):
        guest.memory.map(4096, 4096)
    with pytest.raises(ValueError, match="nothing is mapped at 0x1000"):
        guest.memory.unmap(4096)
    guest.memory.unmap(0)
    with pytest.raises(IndexError):
        guest.memory[0]
    guest.memory.map(0, 4096)
    guest.memory.unmap_all()
    assert guest.memory.ranges == ()


@pytest.mark.parametrize("key", [slice(None, 4), slice(0, None), slice(0, 8, 2), slice(4, 2), slice(-4, 0)])
def test_memory_wants_both_ends(guest, key):
    with pytest.raises(IndexError, match="both ends"):
        guest.memory[key]


def test_memory_takes_bytes_that_fit(guest):
    with pytest.raises(ValueError, match="3 bytes do not fill 4"):
        guest.memory[0:4] = b"abc"
    with pytest.raises(TypeError):
        guest.memory[0] = b"a"


def test_memory_outside_stores_nothing(guest):
    guest.memory.map(0, 4096)
    with pytest.raises(IndexError):
        guest.memory[4094:4100] = b"abcdef"
    assert guest.memory[4094:4096] == b"\0\0"


# ---- coming and going


def test_disconnecting_keeps_the_devices_state(device, guest):
    guest.bar0.write32(0, 0x42)
    guest.disconnect()
    assert guest.closed
    with device.connect() as second:
        assert second.bar0.read32(0) == 0x42


def test_reconnecting_maps_the_memory_again_and_arms_again(device, guest):
    guest.enable()
    guest.memory[0:4] = b"kept"
    guest.reconnect()
    assert device.dma.read(0, 4) == b"kept"
    device.irq.trigger()
    assert guest.wait_irq() == 1


def test_reconnecting_after_disconnecting_starts_with_empty_memory(device, guest):
    guest.memory[0:4] = b"lost"
    guest.disconnect()
    guest.reconnect()
    assert guest.bar0.read32(0x10) == 0xC0FFEE
    assert guest.memory.ranges == ()


def test_a_server_that_stops_is_gone_and_may_come_back(device, guest):
    device.server.stop()
    with pytest.raises(wb.ProtocolError, match="gone"):
        guest.bar0.read32(0)
    assert guest.closed
    device.serve()
    guest.reconnect()
    assert guest.bar0.read32(0x10) == 0xC0FFEE


@pytest.mark.parametrize("own_path", [False, True])
def test_a_guest_starts_a_stopped_server_again_where_it_was(device, own_path, tmp_path):
    device.serve(str(tmp_path / "own") if own_path else None).stop()
    with device.connect() as guest:
        assert guest.bar0.read32(0x10) == 0xC0FFEE
        assert (guest.path == str(tmp_path / "own")) == own_path


def test_many_guests_one_after_the_other(device):
    with device.connect() as guest:
        guest.memory[0] = 1
        before = open_fds()
    for _ in range(30):
        with device.connect() as guest:
            guest.memory[0] = 1
            assert open_fds() == before
            assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_a_guest_that_is_forgotten_lets_the_device_go():
    with Sample() as device:
        guest = device.connect()
        guest.memory[0] = 1
        del guest
        gc.collect()
        with device.connect() as guest:
            assert guest.bar0.read32(0x10) == 0xC0FFEE


def test_threads_share_a_guest(guest):
    wrong = []

    def work(slot: int) -> None:
        for value in range(100):
            guest.bar0.write32(0x100 + 4 * slot, value)
            if guest.bar0.read32(0x100 + 4 * slot) != value:
                wrong.append((slot, value))

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_region_that_is_not_shared_cannot_be_mapped(guest):
    with pytest.raises(wb.StateError, match="bar0 is not shared"):
        guest.map_region(0)


def test_the_wire_trace_shows_the_whole_conversation():
    with Sample() as device:
        server = device.serve(trace=True)
        with device.connect() as guest:
            guest.bar0.read32(0x10)
        lines = [str(message) for message in server.trace]
    assert "VERSION version=0." in lines[0]
    assert any("DEVICE_SET_IRQS irq=INTx set=eventfd|trigger" in line and "+1 fd" in line for line in lines)
    assert lines[-1].endswith("REGION_READ reply at=bar0+0x10 count=4 data=eeffc000")
    assert not any("[" in line for line in lines), "nothing odd in our own conversation"


def test_the_wire_trace_keeps_the_beginning_of_a_long_message_and_does_not_call_it_odd():
    with Sample() as device:
        server = device.serve(trace=True)
        with device.connect() as guest:
            guest.bar0.read(0, 4096)
        assert server.trace[-1].size == 16 + 16 + 4096
        assert server.trace[-1].odd == ()
