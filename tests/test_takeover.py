"""Hot swap by every habit of a notebook user: the class cell, the instance cell, swap, override, reload."""

import contextlib
import importlib
import itertools
import re
import sys
import threading

import pytest

import workbench as wb

CELL = """
class Lamp(wb.Device):
    id = wb.PciId(vendor=0x1234, device={device})
    irq = wb.Interrupts(intx=True)
    class bar0(wb.Bar, size={size}):
        CTRL = wb.Register(0, reset=1)
        {extra}
    @bar0.CTRL.on_write
    def switch(self, access):
        self.seen = ({answer}, access.value)
"""


def cell(answer=1, size=4096, device=7, extra=""):
    return CELL.format(answer=answer, size=size, device=device, extra=extra)


@pytest.fixture
def notebook():
    names = {"wb": wb, "__name__": "notebook"}
    exec(cell() + "dev = Lamp()", names)
    yield names
    names["dev"].close()


def test_running_the_class_cell_again_swaps_hooks_and_registers_in_place(notebook):
    dev = notebook["dev"]
    with dev.connect() as guest:
        guest.bar0.write32(0, 5)
        exec(cell(answer=2, extra="EXTRA = wb.Register(8, reset=9)"), notebook)
        assert type(dev) is notebook["Lamp"]
        assert guest.bar0.read32(0) == 5  # the value stays
        assert guest.bar0.read32(8) == 9  # what is new has its reset value
        guest.bar0.write32(0, 6)
    assert dev.seen == (2, 6)
    assert [r.revision for r in dev.log.filter(register="CTRL", kind="write")] == [1, 2]
    assert dev.bar0.EXTRA.value == 9


def test_a_register_that_is_described_no_more_is_unmapped(notebook):
    dev = notebook["dev"]
    exec(cell(extra="GONE = wb.Register(8)"), notebook)
    exec(cell(), notebook)
    dev.bar0.read(8, 4)
    assert "unmapped" in dev.log[-1].flags
    assert "GONE" not in vars(dev.bar0)


@pytest.mark.parametrize(
    ("change", "said"), [({"size": 8192}, "0x1000 → 0x2000"), ({"device": 8}, "config.DEVICE_ID")]
)
def test_another_layout_is_told_and_nothing_changes(notebook, change, said):
    dev = notebook["dev"]
    for _ in range(
        2
    ):  # Python tells a place once, and IPython lets that be forgotten for places in cells alone
        with pytest.warns(UserWarning, match=said) as told:
            exec(cell(answer=3, **change), notebook)
        assert told[0].filename == "<string>"  # the cell
    assert said in dev.notice
    dev.bar0.CTRL.write(4)
    assert dev.seen == (1, 4)


def test_a_class_that_has_lost_its_id_changes_nothing(notebook):
    dev = notebook["dev"]
    with pytest.warns(UserWarning, match=r"another layout \(bar0 is gone; config is gone\)"):
        exec(cell(answer=3).replace("id = ", "was = 5 # "), notebook)
    dev.bar0.CTRL.write(4)
    assert dev.seen == (1, 4)


def test_making_the_instance_again_takes_the_server_over_with_the_guest_attached(notebook):
    old = notebook["dev"]
    with old.connect() as guest:
        guest.bar0.write32(0, 5)
        exec(cell(answer=4) + "dev = Lamp(); dev.serve()", notebook)
        dev = notebook["dev"]
        assert dev is not old
        assert guest.bar0.read32(0) == 5
        guest.bar0.write32(0, 6)
        guest.reset()
        assert guest.bar0.read32(0) == 1
    assert dev.seen == (4, 6)
    assert dev.server.running
    assert old.closed
    old.close()
    assert dev.server.running


def test_a_timer_goes_on_with_the_instance_made_again_which_may_cancel_it(notebook):
    old = notebook["dev"]
    old.serve()
    old.timer = old.every(ms=3_600_000, run=old.reset)
    handed = "\n    def on_takeover(self, older): self.timer = older.timer\n"
    exec(cell() + handed + "dev = Lamp(); dev.serve()", notebook)
    dev = notebook["dev"]
    assert list(dev._core.timers) == [dev.timer]
    dev.timer.cancel()
    assert list(dev._core.timers) == []


def test_a_class_is_not_handed_to_a_device_that_was_replaced(notebook):
    kept = [notebook["dev"]]
    kept[0].serve()
    for answer in range(5, 9):
        exec(cell(answer=answer) + "dev = Lamp(); dev.serve()", notebook)
        kept.append(notebook["dev"])
    exec(cell(answer=9), notebook)
    notebook["dev"].bar0.CTRL.write(1)
    assert notebook["dev"].seen == (9, 1)
    assert [hasattr(device, "seen") for device in kept] == [False] * 4 + [True]


def test_an_earlier_hook_is_set_again_where_its_register_is_now(notebook):
    dev = notebook["dev"]
    dev.bar0.CTRL.on_write(lambda device: setattr(device, "seen", "cell"))
    exec(cell().replace("Register(0,", "Register(8,"), notebook)
    dev.hooks.revert("bar0.CTRL.on_write", 2)
    dev.bar0.CTRL.write(4)
    assert dev.seen == "cell"
    exec(cell().replace("CTRL", "OTHER"), notebook)
    with pytest.raises(wb.StateError, match=r"CTRL\.on_write cannot be set again: bar0 has no such register"):
        dev.hooks.revert("bar0.CTRL.on_write", 2)


def test_a_device_that_another_thread_replaced_just_now_does_not_take_its_own_core_over(notebook):
    old, raised = notebook["dev"], []
    old.serve()

    def serve():
        with pytest.raises(wb.StateError, match="Lamp is closed") as caught:
            old.serve()
        raised.append(caught.value)

    thread = threading.Thread(target=serve)
    with wb.Server.starting:
        thread.start()
        thread.join(0.05)
        exec("dev = Lamp(); dev.serve()", notebook)
    thread.join(10)
    ran = threading.Event()
    notebook["dev"].after(ms=1, run=ran.set)
    assert ran.wait(10)
    assert raised


def test_two_threads_that_swap_the_class_of_a_device_do_so_one_after_the_other(notebook):
    dev, first, other, threads = notebook["dev"], notebook["Lamp"], notebook.copy(), []
    exec(cell(answer=2).replace("switch", "other"), other)

    class Between(other["Lamp"]):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name == "class_hooks" and not threads:  # in the middle of the swap
                threads.append(threading.Thread(target=dev.swap, args=(first,)))
                threads[0].start()
                threads[0].join(0.05)
            return found

    dev.swap(Between)
    threads[0].join(10)
    dev.bar0.CTRL.write(4)
    assert (type(dev), dev.seen) == (first, (1, 4))


def test_hooks_that_cells_set_stay_over_a_class_and_go_with_the_instance(notebook):
    dev = notebook["dev"]
    dev.serve()
    dev.bar0.CTRL.on_write(lambda device: setattr(device, "seen", "cell"))
    exec(cell(), notebook)
    with pytest.warns(match="stays <lambda> of test_takeover"):
        exec(cell(answer=5), notebook)
    dev.bar0.CTRL.write(1)
    assert dev.seen == "cell"
    exec("dev = Lamp(); dev.serve()", notebook)
    notebook["dev"].bar0.CTRL.write(1)
    assert notebook["dev"].seen == (5, 1)


@pytest.mark.parametrize("cells", [1, 2])
def test_a_class_whose_hook_waits_behind_a_cells_says_how_it_comes_back(notebook, cells):
    dev = notebook["dev"]
    for _ in range(cells):
        dev.bar0.CTRL.on_write(lambda device: setattr(device, "seen", "cell"))
    with pytest.warns(
        match=r"not switch of the class .*: dev\.hooks\.revert\(.* run the class again"
    ) as told:
        exec(cell(answer=2), notebook)
    exec(cell(answer=2), notebook)  # nothing is new: nothing is said
    exec(re.search(r"dev\.hooks\.revert\(.*\)", str(told[0].message))[0], notebook)
    exec(cell(answer=2), notebook)
    dev.bar0.CTRL.write(3)
    assert dev.seen == (2, 3)


def test_a_slot_that_the_class_never_had_is_given_to_it_by_unhook(notebook):
    dev, reads = notebook["dev"], "\n    @bar0.CTRL.on_read\n    def look(self): self.seen = 'class'"
    dev.bar0.CTRL.on_read(lambda device: setattr(device, "seen", "cell"))
    with pytest.warns(match=r'dev\.bar0\.CTRL\.unhook\("read"\), then run the class again'):
        exec(cell() + reads, notebook)
    dev.bar0.CTRL.unhook("read")
    exec(cell() + reads, notebook)
    dev.bar0.CTRL.read()
    assert dev.seen == "class"


@pytest.mark.parametrize("paused", [False, True])
def test_an_instance_with_another_layout_does_not_throw_out_a_guest(notebook, paused):
    dev = notebook["dev"]
    with dev.connect():
        if paused:
            dev.server.pause()
        with pytest.warns(UserWarning, match="another layout"):
            exec(cell(size=8192) + "other = Lamp()", notebook)
        with pytest.raises(wb.StateError, match="another layout"):
            notebook["other"].serve()
        assert dev.server.running
    dev.server.wait_listening()
    notebook["other"].serve()
    notebook["other"].close()
    assert dev.server.state == "stopped"


def test_swap_from_a_script(notebook):
    dev = notebook["dev"]

    class Other(wb.Device):
        id = wb.PciId(vendor=0x1234, device=7)
        irq = wb.Interrupts(intx=True)

        class bar0(wb.Bar, size=4096):
            CTRL = wb.Register(0, ON=wb.Field(0))

        def hello(self):
            return self.bar0.CTRL.ON.value

    dev.swap(Other)
    assert dev.hello() == 1
    assert len(dev.hooks) == 0


def test_override_puts_back_what_was_there(notebook):
    dev = notebook["dev"]
    with dev.override(
        dev.bar0.CTRL, write=lambda device: setattr(device, "seen", "over"), read=lambda device: 77
    ):
        dev.bar0.CTRL.write(1)
        assert (dev.seen, dev.bar0.CTRL.read()) == ("over", 77)
    dev.bar0.CTRL.write(3)
    assert (dev.seen, dev.bar0.CTRL.read()) == ((1, 3), 3)


def test_override_puts_a_method_of_the_class_back_as_one_and_a_disabled_hook_disabled(notebook):
    dev = notebook["dev"]
    dev.hooks.disable("bar0.CTRL.on_write")
    with dev.override(dev.bar0.CTRL, write=lambda device: None):
        pass
    hook = dev.bar0.CTRL.hook("write")
    assert (hook.described, hook.enabled, hook.cell) == (True, False, dev.hooks.revisions(hook.key)[0].cell)
    exec(cell(answer=6), notebook)
    dev.bar0.CTRL.write(1)
    assert dev.seen == (6, 1)


def test_a_hook_of_a_cell_goes_with_the_name_of_its_register_and_is_never_listed_in_vain(notebook):
    dev = notebook["dev"]
    exec(cell(extra="OTHER = wb.Register(8)"), notebook)
    dev.bar0.OTHER.on_write(lambda device, access: setattr(device, "seen", access.register))
    exec(cell(extra="OTHER = wb.Register(8, ON=wb.Field(0))"), notebook)
    dev.bar0.OTHER.write(1)
    assert "ON" in dev.seen.fields  # it is told of the register as it is described now
    exec(cell(extra="RENAMED = wb.Register(8, ON=wb.Field(0))"), notebook)
    assert [hook.key for hook in dev.hooks] == ["bar0.CTRL.on_write"]
    dev.bar0.RENAMED.write(1)
    assert dev.log[-1].revision == 0


def test_a_module_that_is_loaded_again_as_autoreload_does(tmp_path, monkeypatch):
    file = tmp_path / "lamp_module.py"
    file.write_text("import workbench as wb\n" + cell())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("lamp_module")
    with module.Lamp() as dev:
        file.write_text("import workbench as wb\n" + cell(answer=8))
        importlib.reload(module)
        dev.bar0.CTRL.write(1)
        assert dev.seen == (8, 1)
    del sys.modules["lamp_module"]


def test_the_history_of_a_slot_can_be_reverted_compared_and_switched_off(notebook):
    dev = notebook["dev"]
    name = "bar0.CTRL.on_write"
    dev.bar0.CTRL.on_write(lambda device: setattr(device, "seen", "two"))
    assert [hook.revision for hook in dev.hooks.revisions(name)] == [1, 2]
    assert dev.hooks.revert(name).revision == 3
    dev.bar0.CTRL.write(1)
    assert dev.seen == (1, 1)
    dev.hooks.disable(name)
    dev.bar0.CTRL.write(2)
    assert dev.seen == (1, 1)
    assert dev.log[-1].revision == 0
    dev.hooks.enable(name)
    dev.bar0.CTRL.write(3)
    assert dev.seen == (1, 3)
    assert "two" in dev.hooks.diff(name, 1, 2)
    assert dev.hooks.revert(dev.bar0.CTRL, 2).revision == 4
    dev.bar0.CTRL.on_read(lambda device: None)
    with pytest.raises(
        wb.StateError, match=r"both slots: say which, 'bar0.CTRL.on_write', 'bar0.CTRL.on_read'"
    ):
        dev.hooks.revert(dev.bar0.CTRL)
    for wrong in (lambda: dev.hooks.revert(name, 99), lambda: dev.hooks.disable("nobody"), dev.hooks.skip):
        with pytest.raises(wb.StateError):
            wrong()


def test_values_far_apart_in_a_large_bar_stay():
    class Far(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B18)

        class bar0(wb.Bar, size=1 << 26):
            LOW = wb.Register(0x00)
            HIGH = wb.Register(0x3000000)

    class Further(wb.Device):
        id = Far.id

        class bar0(wb.Bar, size=1 << 26):
            LOW = wb.Register(0x00)
            HIGH = wb.Register(0x3000000)
            NEW = wb.Register(0x3000FFC, reset=9)

    with Far() as device:
        device.bar0.LOW, device.bar0.HIGH = 1, 2
        device.swap(Further)
        assert (device.bar0.LOW, device.bar0.HIGH, device.bar0.NEW) == (1, 2, 9)


@pytest.mark.parametrize("wrong", [3, None, str, wb.Device, "Lamp"])
def test_only_a_device_class_can_be_swapped_in(notebook, wrong):
    dev = notebook["dev"]
    with pytest.raises(TypeError, match=r"swap\(\) takes a class made from wb.Device, with an id, not"):
        dev.swap(wrong)
    with pytest.raises(TypeError, match="not Lamp"):
        dev.swap(dev)
    dev.bar0.CTRL.write(4)
    assert dev.seen == (1, 4)


def test_a_class_that_python_builds_otherwise_is_told_and_nothing_changes(notebook):
    dev = notebook["dev"]
    with pytest.warns(UserWarning, match="goes on as it was: .*layout differs"):
        exec(cell(answer=3).replace("    id =", "    __slots__ = ('more',)\n    id =", 1), notebook)
    dev.bar0.CTRL.write(4)
    assert dev.seen == (1, 4)


def test_override_takes_a_register_of_its_own_device(notebook):
    dev = notebook["dev"]
    for wrong in (5, dev.bar0, dev.bar0.CTRL.description):
        with pytest.raises(TypeError, match=r"takes a register, such as dev\.bar0\.CTRL"):
            dev.override(wrong, write=lambda device: None).__enter__()
    with type(dev)("other") as other, pytest.raises(ValueError, match="register of another device"):
        dev.override(other.bar0.CTRL, write=lambda device: None).__enter__()


class Counting(wb.Device):
    """Counts in an attribute what the guest writes, and tells the newer device."""

    id = wb.PciId(vendor=0x1234, device=0x0B19)

    class bar0(wb.Bar, size=4096):
        CTRL = wb.Register(0x00)

    def __init__(self, name: str | None = None, **options: bool) -> None:
        super().__init__(name, **options)
        self.seen: list[int] = []

    def on_takeover(self, older: "Counting") -> None:
        self.seen = older.seen

    @bar0.CTRL.on_write
    def count(self, access: wb.Access) -> None:
        self.seen.append(access.value)


@pytest.mark.slow
def test_a_newer_device_takes_over_what_attributes_hold_and_no_access_is_without_a_hook():
    devices = [Counting(strict=True)]
    with devices[0].connect() as guest, contextlib.ExitStack() as stack:
        written, stop = [], threading.Event()

        def write() -> None:
            for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                guest.bar0.write32(0, number)
                written.append(number)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(30):
            devices.append(stack.enter_context(Counting(strict=True)))
            devices[-1].serve()
        stop.set()
        writer.join()
        assert len(written) > 30
        assert devices[-1].seen == written


def test_a_takeover_that_raises_leaves_the_older_device_as_it_was():
    class Refusing(Counting):
        def on_takeover(self, older: Counting) -> None:
            raise LookupError("not today")

    with Counting("counter", strict=True) as older, older.connect() as guest:
        with Refusing("counter", strict=True) as newer, pytest.raises(LookupError, match="not today"):
            newer.serve()
        guest.bar0.write32(0, 7)
        assert older.seen == [7]
        assert not older.closed


def test_on_takeover_that_cannot_be_called_is_told_at_class_creation():
    with pytest.raises(wb.DescriptionError, match=r"on_takeover is called as on_takeover\(self, older\)"):

        class Wrong(Counting):
            def on_takeover(self) -> None: ...
