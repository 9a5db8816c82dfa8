"""``dev.dma``: guest memory as Python sees it, however it is reached."""

import errno
import logging
import threading

import numpy as np
import pytest
from sample import Sample

import workbench as wb

PAGE, MIB = 4096, 1 << 20
MAPPED, FILE, FAR = {}, {"sealed": False}, {"shared": False}


@pytest.fixture(params=[MAPPED, FILE, FAR], ids=["mapped", "file", "messages"])
def ram(request, guest):
    """Two ranges of 1 MiB side by side, reached in one of three ways."""
    guest.enable()
    guest.memory.map(0, MIB, **request.param)
    guest.memory.map(MIB, MIB, **request.param)
    return guest.memory


@pytest.fixture
def mixed(guest):
    """Pages side by side: mapped, by messages, a file, by messages read-only."""
    guest.enable()
    guest.memory.map(0, PAGE)
    guest.memory.map(PAGE, PAGE, shared=False)
    guest.memory.map(2 * PAGE, PAGE, sealed=False)
    guest.memory.map(3 * PAGE, PAGE, readonly=True, shared=False)
    return guest.memory


def test_memory_that_a_software_guest_does_not_have_yet_is_told_with_the_cure(device):
    with device.connect() as guest:
        guest.enable()
        cure = r"mapped no memory there: .* guest\.memory\.map\(0, 1 << 20\) gives it some"
        with pytest.raises(wb.DmaError, match=cure):
            device.dma.write(0x2000, b"hello")
        guest.memory.map(0, 1 << 20)
        device.dma.write(0x2000, b"hello")
        assert guest.memory[0x2000:0x2005] == b"hello"
        with pytest.raises(wb.DmaError, match=r"mapped no memory there$"):
            device.dma.write(1 << 20, b"hello")


def test_read_and_write_across_ranges(device, ram):
    data = bytes(range(256)) * 512
    device.dma.write(MIB - 1000, data)
    assert ram[MIB - 1000 : MIB - 1000 + len(data)] == data
    assert device.dma.read(MIB - 1000, len(data)) == data
    assert device.dma.read(5, 0) == b""


def test_read_into_and_write_take_any_buffer(device, ram):
    ram[16:24] = bytes(range(8))
    into = bytearray(8)
    device.dma.read_into(16, into)
    array = np.zeros((2, 2), "<u2")
    device.dma.read_into(16, array)
    assert (bytes(into), array.tolist()) == (bytes(range(8)), [[0x100, 0x302], [0x504, 0x706]])
    device.dma.write(32, array)
    device.dma.write(40, array[:, 1])  # not contiguous
    device.dma.write(44, memoryview(into)[4:])
    assert ram[32:48] == bytes([0, 1, 2, 3, 4, 5, 6, 7, 2, 3, 6, 7, 4, 5, 6, 7])


def test_arrays_have_a_dtype(device, ram):
    kind = np.dtype([("address", "<u8"), ("length", "<u4"), ("flags", "<u4")])
    wanted = np.array([(0x1000, 4, 1), (0x2000, 8, 0)], kind)
    device.dma.write(0x100, wanted)
    found = device.dma.array(0x100, kind, 2)
    assert (found == wanted).all()
    assert found.flags.writeable
    assert device.dma.array(0x100, "<u4")[0] == 0x1000
    assert device.dma.array(0x100, "u1", 0).size == 0


def test_gather_and_scatter(device, ram):
    ram[MIB - 2 : MIB + 2] = b"abcd"
    ram[100:103] = b"xyz"
    assert device.dma.gather([(100, 3), (MIB - 2, 4), (7, 0)]) == b"xyzabcd"
    device.dma.scatter([(0, 2), (PAGE, 3)], np.frombuffer(b"12345", np.uint8))
    assert (ram[0:2], ram[PAGE : PAGE + 3]) == (b"12", b"345")
    kinds = [(r.kind, r.offset, r.size) for r in device.log if r.kind.startswith("dma")]
    assert kinds == [
        ("dma_read", 100, 3), ("dma_read", MIB - 2, 4), ("dma_write", 0, 2), ("dma_write", PAGE, 3),
    ]  # fmt: skip
    with pytest.raises(wb.DmaError, match=r"scatter 2 pieces.*mapped no memory"):
        device.dma.scatter([(0, 1), (2 * MIB, 1)], b"!!")
    assert ram[0] == ord("1")


def test_copy_inside_the_guest(device, ram):
    ram[0 : 3 * PAGE] = bytes(range(256)) * 48
    device.dma.copy(MIB - PAGE, 1, 3 * PAGE - 1)
    assert ram[MIB - PAGE : MIB + 2 * PAGE - 1] == (bytes(range(256)) * 48)[1:]
    with pytest.raises(wb.DmaError, match="copy to 0x200000"):
        device.dma.copy(2 * MIB, 0, 1)


def test_one_call_goes_through_ranges_of_every_kind(device, mixed):
    data = bytes(range(256)) * 48
    device.dma.write(0, data)
    assert mixed[0 : 3 * PAGE] == data
    mixed[3 * PAGE : 3 * PAGE + 3] = b"ROM"
    assert device.dma.read(5, 3 * PAGE - 2) == data[5:] + b"ROM"
    with pytest.raises(wb.DmaError, match="read-only"):
        device.dma.write(2 * PAGE, bytes(PAGE + 1))
    assert mixed[2 * PAGE : 3 * PAGE] == data[2 * PAGE :]


def test_regions_say_how_they_are_reached(device, mixed):
    assert [(r.iova, r.size, r.rights, r.reach) for r in device.dma.regions] == [
        (0, PAGE, "rw", "mapped"), (PAGE, PAGE, "rw", "messages"), (2 * PAGE, PAGE, "rw", "file"),
        (3 * PAGE, PAGE, "r-", "messages"),
    ]  # fmt: skip
    assert "<DmaRegion 0x1000+0x1000 rw messages without fd>" in repr(device.dma)
    assert "<td>r-</td><td>messages</td>" in device.dma._repr_mimebundle_()[0]["text/html"]


def test_many_regions_are_listed_in_part(device, guest):
    for n in range(70):
        guest.memory.map(0x200000 + 0x2000 * n, PAGE, shared=False)
    assert repr(device.dma).splitlines()[-1] == "… and 6 more"
    regions, total, size = device.dma.some_regions(2, 3)
    assert ([hex(one.iova) for one in regions], total) == (["0x204000", "0x206000", "0x208000"], 70)
    assert size == sum(one.size for one in device.dma.regions)


def test_regions_and_copies_are_shown_in_a_cell(device, ram):
    ram[0:3] = b"abc"
    device.dma.read(0, 3)
    with pytest.raises(wb.DmaError):
        device.dma.write(4 * MIB, b"<b>")
    shown, _ = device.dma._repr_mimebundle_()
    assert "2 regions, 2 MiB" in shown["text/html"]
    assert "0x636261" in shown["text/html"]
    assert "! refused: not mapped (EFAULT)" in shown["text/html"]
    assert "! refused: not mapped (EFAULT)" in shown["text/plain"]
    assert repr(device.dma) in shown["text/plain"]
    assert str(device.dma.view()) == shown["text/plain"]


def test_no_memory_is_shown_as_such(device):
    assert repr(device.dma) == "<no guest memory mapped>"
    assert "&lt;no guest memory mapped&gt;" in device.dma._repr_mimebundle_()[0]["text/html"]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda dma: dma.read(-1, 4), ValueError, "64 bits"),
        (lambda dma: dma.read(1 << 64, 4), ValueError, "64 bits"),
        (lambda dma: dma.read(0, -4), ValueError, "from 0 on"),
        (lambda dma: dma.read(0, 1 << 63), ValueError, "from 0 on"),
        (lambda dma: dma.read(0, 1 << 62), wb.DmaError, "mapped no memory there"),
        (lambda dma: dma.array(0, "<u8", 1 << 40), wb.DmaError, "mapped no memory there"),
        (lambda dma: dma.array(0, "<u8", 1 << 62), wb.DmaError, "mapped no memory there"),
        (lambda dma: dma.gather([(0, 1 << 62)]), wb.DmaError, "mapped no memory there"),
        (lambda dma: dma.gather([(0, 1 << 62)] * 2), ValueError, "from 0 on"),
        (lambda dma: dma.read("0", 4), TypeError, "integer"),
        (lambda dma: dma.read(0, 4.0), TypeError, "integer"),
        (lambda dma: dma.read_into(0, b"read"), TypeError, "bytes is read-only"),
        (lambda dma: dma.read_into(0, np.zeros(4, object)), TypeError, "Python objects"),
        (lambda dma: dma.write(0, np.zeros(2, [("x", "u1"), ("O", "O")])), TypeError, "Python objects"),
        (lambda dma: dma.read_into(0, np.zeros((4, 4))[:, 1]), ValueError, "not contiguous"),
        (lambda dma: dma.write(0, 5), TypeError, "bytes-like"),
        (lambda dma: dma.write(0, "text"), TypeError, "bytes-like"),
        (lambda dma: dma.array(0, object), ValueError, "no bytes of memory"),
        (lambda dma: dma.gather([(0, -1)]), ValueError, "from 0 on"),
        (lambda dma: dma.gather([(0, 1)] * 16385), ValueError, "too many"),
        (lambda dma: dma.scatter([(0, 4)], b"abc"), ValueError, "3 bytes of data do not fill"),
        (lambda dma: dma.copy(0, -1, 4), ValueError, "64 bits"),
        (lambda dma: setattr(dma, "timeout", 0), ValueError, "timeout"),
    ],
)
def test_wrong_arguments_are_named(device, guest, call, error, text):
    guest.enable()
    guest.memory.map(0, PAGE)
    with pytest.raises(error, match=text):
        call(device.dma)


def test_displays_do_not_ask_the_guest(device, guest):
    guest.memory.map(0, PAGE, shared=False)
    with pytest.raises(wb.DmaError, match="display does not ask"):
        device.dma.peek(0, 4)


def test_the_copies_of_many_threads_do_not_mix(device, mixed):
    def work(number):
        at, mine = number * 1000 + 100, bytes([number]) * 900
        for _ in range(20):
            device.dma.write(at, mine)
            results.append(device.dma.read(at, 900) == mine)

    results = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [True] * 240


# ---- in a hook


class Doorbell(Sample):
    """Reads guest memory because the guest wrote a register."""

    def __init__(self):
        super().__init__()
        self.seen = []

    class bar0(wb.Bar, size=4096):
        BELL = wb.Register(0)

    @bar0.BELL.on_write
    def ring(self, access):
        try:
            self.seen.append(self.dma.read(access.value, 4))
        except wb.DmaError as error:
            self.seen.append(error)


@pytest.fixture
def bell():
    with Doorbell() as device, device.connect() as guest:
        guest.enable()
        yield device, guest


def test_a_hook_reaches_shared_memory(bell):
    device, guest = bell
    guest.memory.map(PAGE, PAGE)
    guest.memory[PAGE : PAGE + 4] = b"ring"
    guest.bar0.write32(0, PAGE)
    assert device.seen == [b"ring"]


def test_a_hook_is_told_at_once_that_the_guest_cannot_answer_now(bell):
    device, guest = bell
    guest.memory.map(PAGE, PAGE, shared=False)
    guest.bar0.write32(0, PAGE)
    (error,) = device.seen
    assert error.errno == errno.EDEADLK
    assert "dev.defer" in str(error)
    assert device.dma.read(PAGE, 4) == bytes(4)  # here it may wait


# ---- shared or not


def test_a_deferred_copy_by_messages_goes_on_while_hooks_run(device, guest):
    guest.enable()
    guest.memory.map(0, MIB, shared=False)
    guest.memory[0:4] = b"far."
    inside, seen, other = threading.Event(), [], threading.get_ident()

    def copy():
        inside.set()
        for _ in range(20):
            seen.append((device.dma.read(0, 4), device.hooks.running_here))
            device.dma.write(8, b"back")
            device.dma.gather([(0, 4), (8, 4)])
            device.dma.copy(16, 0, 4)

    @device.bar0.SCRATCH.on_write
    def hook(device, access):
        assert threading.get_ident() != other

    timer = device.defer(copy)
    assert inside.wait(5)
    while timer in device._core.timers:
        guest.bar0.write32(0, 1)
    assert seen == [(b"far.", True)] * 20
    assert guest.memory[16:20] == b"far."
    assert not device.hooks.failures
    assert {
        record.origin for record in device.log.filter(register="dma", kind=["dma_read", "dma_write"])
    } == {"device"}


def test_private_memory_is_found_out_and_asked_for(device, guest):
    guest.enable()
    guest.memory.map(0, 16 * PAGE, private=True)
    guest.memory.map(MIB, 16 * PAGE)
    guest.memory[9 * PAGE : 9 * PAGE + 4] = guest.memory[MIB : MIB + 4] = b"mine"
    assert device.dma.read(9 * PAGE, 4) == bytes(4)  # silently wrong
    (private,) = device.dma.check()
    assert (private.iova, private.reach, private.private) == (0, "messages", True)
    assert device.dma.read(9 * PAGE, 4) == b"mine"
    device.dma.write(PAGE, b"seen by the guest")
    assert guest.memory[PAGE : PAGE + 17] == b"seen by the guest"
    assert device.dma.regions[1].reach == "mapped"


def test_many_ranges_are_listed_once_and_again_for_each_that_is_private(device, guest, monkeypatch):
    guest.enable()
    for n in range(30):
        guest.memory.map(n * MIB, PAGE, private=n in (3, 7))
        guest.memory[n * MIB] = 1
    lists, listed = [], wb.dma.DmaMemory._ranges
    monkeypatch.setattr(wb.dma.DmaMemory, "_ranges", lambda memory: lists.append(memory) or listed(memory))
    assert [region.iova for region in device.dma.check()] == [3 * MIB, 7 * MIB]
    assert len(lists) <= 5


def test_memory_that_is_shared_or_all_zero_stays_mapped(device, guest):
    guest.enable()
    guest.memory.map(0, PAGE, private=True)
    guest.memory.map(MIB, PAGE)
    guest.memory[MIB] = 1
    guest.memory.map(2 * MIB, PAGE, shared=False)
    assert device.dma.check() == []
    assert [region.reach for region in device.dma.regions] == ["mapped", "mapped", "messages"]


def test_qemu_is_asked_once_at_the_first_copy(device, guest, caplog):
    guest.memory.map(0, PAGE, private=True)
    guest.memory[0:4] = b"mine"
    device.dma.sharing.begin("pid 1 (qemu-system-x86)")
    with pytest.raises(wb.DmaError, match="bus master"):  # nobody can be asked yet
        device.dma.read(0, 4)
    guest.enable()
    with caplog.at_level(logging.WARNING):
        assert device.dma.read(0, 4) == device.dma.read(0, 4) == b"mine"
    assert [record.message.count("share=on") for record in caplog.records] == [1]


def test_a_hook_learns_why_its_memory_is_out_of_reach(bell, caplog):
    device, guest = bell
    guest.memory.map(PAGE, PAGE, private=True)
    guest.memory[PAGE : PAGE + 4] = b"mine"
    device.dma.sharing.begin("pid 1 (qemu-system-x86)")
    with caplog.at_level(logging.WARNING):
        guest.bar0.write32(0, PAGE)
        for thread in threading.enumerate():
            if thread.name == "workbench sharing":
                thread.join(10)
        guest.bar0.write32(0, PAGE)
    first, second = device.seen
    assert (first, second.errno) == (bytes(4), errno.EDEADLK)
    assert "share=on" in str(second)
    assert "share=on" in caplog.text


def test_other_clients_are_not_asked_behind_their_back(device, guest):
    guest.enable()
    guest.memory.map(0, PAGE, private=True)
    guest.memory[0] = 1
    assert device.dma.read(0, 1) == b"\0"
    assert device.dma.regions[0].reach == "mapped"
