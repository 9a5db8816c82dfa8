"""What is wrong in a description comes as one DescriptionError, whatever the types; hooks of classes."""

import enum
import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.fields import Field
from workbench.mistakes import shown
from workbench.registers import Block, Register


class Odd:
    """A value of a class that nothing expects; its ``repr`` is the same in every process."""

    def __repr__(self) -> str:
        return "<odd>"


WRONG = [None, "1", 1.5, 1.0, b"1", True, Decimal(1), [1], {}, Odd(), int, 1 << 64, np.float64(1)]
WHO = wb.PciId(vendor=1, device=2)


def problems_of(make: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(wb.DescriptionError) as caught:
        make()
    return caught.value.problems


def bar(**options: Any) -> Callable[[], object]:
    def make() -> object:
        class bar0(wb.Bar, **options):
            pass

        return bar0

    return make


# -- types --


@pytest.mark.parametrize("value", WRONG, ids=shown)
@pytest.mark.parametrize("name", ["offset", "width", "count", "stride", "reset"])
def test_a_register_says_which_number_is_none(name: str, value: object) -> None:
    if name == "stride" and value is None:
        return
    register = Register(**{"offset": 0, name: value})  # type: ignore[arg-type]
    (problem,) = Block("b", 64, {"R": register}).problems
    assert problem.startswith(f"R: {name} ")
    assert "expected a whole number" in problem or "does not fit 64 bits" in problem


@pytest.mark.parametrize("value", WRONG, ids=shown)
@pytest.mark.parametrize("name", ["lsb", "width", "reset", "enum", "doc", "mode"])
def test_a_field_alone_never_raises_and_its_bar_says_what_is_wrong(name: str, value: object) -> None:
    field = Field(**{"lsb": 0, name: value})  # type: ignore[arg-type]
    assert repr(field)
    assert field.mask >= 0
    problems = Block("b", 64, {"R": Register(0, F=field)}).problems
    fine = (name in ("reset", "enum", "mode") and value is None) or (name == "reset" and value is True)
    fine = fine or (name in ("doc", "mode") and isinstance(value, str)) or (name == "enum" and value == {})
    if name == "mode" and value == "1":
        fine = False
    assert (not problems) == fine
    assert all(problem.startswith(f"R: field F: {name} ") for problem in problems if name not in ("mode",))


class Plain(enum.Enum):
    ON = "on"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (Plain, "enum value ON = <Plain.ON: 'on'>, expected a whole number"),
        ({"ON": 1.5}, "enum value ON = 1.5, expected a whole number"),
        ({1: 1}, "enum name 1, expected text"),
        (["ON"], "enum ['ON'], expected an IntEnum class or a dict of names and numbers"),
    ],
)
def test_an_enum_that_names_no_numbers_is_a_mistake(names: Any, problem: str) -> None:
    assert Register(0, F=Field(0, enum=names)).problems == (f"field F: {problem}",)


def test_numpy_integers_become_plain_ones_and_work() -> None:
    i = np.int64

    class Chip(wb.Device):
        id = wb.PciId(vendor=np.uint16(0x1234), device=i(2), class_code=np.uint32(0xFF0000))

        class bar0(wb.Bar, size=i(4096), bits=i(32)):
            CTRL = wb.Register(i(4), i(32), F=wb.Field(i(8), i(8), reset=np.uint8(7), enum={"SEVEN": i(7)}))
            CH = wb.Register(i(0x100), i(16), reset=i(3), count=i(4), stride=i(8))

    with Chip() as chip:
        assert (chip.bar0.CTRL.read(), chip.bar0.CH[3].read(), chip.bar0.CH[3].offset) == (0x700, 3, 0x118)
        assert {type(n) for n in vars(Chip.id).values()} == {int}
        assert type(Chip.bar0.size) is int
        assert "F=SEVEN" in repr(chip.bar0.CTRL)


@pytest.mark.parametrize("value", [v for v in WRONG if v is not None], ids=shown)
@pytest.mark.parametrize("name", ["size", "bits", "prefetchable", "kind", "doc"])
def test_a_bar_says_which_option_is_none(name: str, value: object) -> None:
    if (name, value) in (("prefetchable", True), ("doc", "1")):
        return
    problems = problems_of(bar(**{"size": 4096, name: value}))
    assert len(problems) == 1
    assert problems[0].startswith(f"{name} ")


def test_what_a_bar_does_not_know_or_would_overlook_is_a_mistake() -> None:
    def make() -> None:
        class bar0(wb.Bar, size=4096, sise=1):  # type: ignore[call-arg]
            A = (wb.Register(0),)
            B = wb.Field(0)
            C = wb.Register

    assert problems_of(make) == (
        "A is a tuple with a Register in it: take the comma away",
        "B is a Field: it belongs into a Register, as in Register(0, B=Field(0))",
        "C is the class Register: call it, as in Register(0)",
        "sise=1 is no option; options: size, kind, bits, prefetchable, mmap, doc",
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "its size is missing: class bar0(Bar, size=4096)"),
        ({"size": 1 << 41, "bits": 64}, "size 0x20000000000 is above 0x10000000000 (1 TiB)"),
        ({"size": 1 << 63, "bits": 64}, "size 0x8000000000000000 is above 0x10000000000 (1 TiB)"),
        ({"size": 1 << 40, "bits": 64}, "0x4000000 register elements, more than 0x100000"),
    ],
)
def test_a_huge_bar_or_array_is_refused_at_once(options: dict[str, Any], problem: str) -> None:
    def make() -> None:
        class bar0(wb.Bar, **options):
            MEM = wb.Register(0, count=1 << 26)

    assert problems_of(make)[0].startswith(problem)


def test_the_largest_bars_can_be_made() -> None:
    class Huge(wb.Device):
        id = WHO

        class bar0(wb.Bar, size=1 << 40, bits=64):
            LAST = wb.Register((1 << 40) - 4, reset=7)

        class bar2(wb.Bar, size=1 << 40, bits=64):
            pass

        class bar4(wb.Bar, size=1 << 40, bits=64):
            pass

    with Huge(log_records=1024) as device:
        assert device.bar0.LAST.read() == 7


def test_pci_numbers_are_named_with_their_own_limits() -> None:
    wrong: Any = {"vendor": -1, "device": 0x10000, "class_code": 1.5, "revision": -2, "subsystem": "x"}
    assert problems_of(lambda: wb.PciId(**wrong)) == (
        "vendor -0x1 is out of range (0 to 0xffff)",
        "device 0x10000 is out of range (0 to 0xffff)",
        "class_code 1.5, expected a whole number",
        "revision -0x2 is out of range (0 to 0xff)",
        "subsystem 'x', expected a whole number",
    )


@pytest.mark.parametrize("pin", ["AB", "", "a", 1, 0, 1.5, b"A", None, np.array([1, 2]), ["A"]])
def test_an_interrupt_pin_is_true_or_a_letter(pin: Any) -> None:
    (problem,) = problems_of(lambda: wb.Interrupts(intx=pin))
    assert problem.startswith('intx is True, False or one of "A", "B", "C", "D", not ')


@pytest.mark.parametrize(
    ("capabilities", "problem"),
    [
        (wb.PowerManagement(), "capabilities is one PowerManagement: write capabilities = "),
        (None, "capabilities is None, expected a tuple such as (wb.PowerManagement(),)"),
        ("PM", "capabilities is 'PM', expected a tuple"),
        ((wb.PowerManagement,), "capabilities[0] is the class PowerManagement: call it, wb.Power"),
        ([wb.PowerManagement(), 5], "capabilities[1] is 5, expected a wb.Capability"),
        ([wb.Capability("x", {}, None)], "CAP: capability id 'x', expected a whole number"),  # type: ignore[arg-type]
        ([wb.Capability(9, None, 4)], "CAP: registers None, expected a dict of names and Registers"),  # type: ignore[arg-type]
        ([wb.Capability(9, {"A": 5}, 4)], "CAP: registers: 'A' is 5, expected a Register"),  # type: ignore[dict-item]
        ([wb.Capability(9, {"A": Register("2")}, 4)], "CAP: A: offset '2', expected a whole number"),  # type: ignore[arg-type]
        ([wb.Capability(9, {}, 4, at=1.5)], "CAP: at 1.5, expected a whole number"),  # type: ignore[arg-type]
        ([wb.Capability(9, {}, 4, name=None)], "CAP: name None, expected text"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_wrong_capabilities_are_named_with_what_else_is_wrong(capabilities: Any, problem: str) -> None:
    def make() -> None:
        type("Card", (wb.Device,), {"id": WHO, "capabilities": capabilities})

    assert problems_of(make)[0].startswith(problem)


@pytest.mark.parametrize(
    "make",
    [
        lambda: wb.PowerManagement(d1="yes"),  # type: ignore[arg-type]
        lambda: wb.PowerManagement(pme="D0"),
        lambda: wb.PowerManagement(pme=None),  # type: ignore[arg-type]
        lambda: wb.PowerManagement(pme=[["D0"]]),  # type: ignore[list-item]
        lambda: wb.VendorSpecific(5),  # type: ignore[arg-type]
        lambda: wb.VendorSpecific("data"),  # type: ignore[arg-type]
    ],
)
def test_a_ready_made_capability_refuses_other_types(make: Callable[[], object]) -> None:
    assert len(problems_of(make)) == 1


def test_everything_is_told_at_once() -> None:
    def make() -> None:
        class Wrong(wb.Device):
            id = 7
            irq = None
            capabilities = None
            STRAY = wb.Register(0)

            async def on_reset(self, kind: str) -> None: ...

            def on_attach(self, what: object) -> None: ...

            on_detach = 3

    text = "\n".join(problems_of(make))
    for part in (
        "id is 7", "irq is None", "capabilities is None", "STRAY is a Register outside of a Bar",
        "on_reset: a hook is called, not awaited", "on_attach is called as on_attach(self)",
        "on_detach: a hook must be a function, not 3",
    ):  # fmt: skip
        assert part in text


# -- hooks --


class Base(wb.Device):
    id = WHO

    class bar0(wb.Bar, size=4096):
        A = wb.Register(0)
        B = wb.Register(4)
        CH = wb.Register(0x10, count=4)

    ran: str = ""


def hooked(function: Any) -> type[Base]:
    """Return a subclass of Base in whose body ``function`` is hooked to A's writes and called ``go``."""

    class Device(Base):
        go = Base.bar0.A.on_write(function)

    return Device


def defined(kind: str) -> Any:
    """Return a function of that kind, as if from the body of a class Device."""
    space: dict[str, Any] = {}
    source = {
        "async": "async def f(self, access): ...",
        "generator": "def f(self, access): yield",
        "async generator": "async def f(self, access): yield",
        "too many": "def f(self, access, third): ...",
    }[kind]
    exec(f"class Device:\n {source}", space)
    return vars(space["Device"])["f"]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("async", "a hook is called, not awaited"),
        ("async generator", "a hook is called, not awaited"),
        ("generator", "a hook is called, not iterated over"),
        ("too many", "a hook takes (device, access) or (device)"),
    ],
)
def test_a_hook_that_cannot_be_called_is_refused_by_class_and_by_instance(kind: str, problem: str) -> None:
    function = defined(kind)
    with Base() as device:
        assert problems_of(lambda: device.bar0.B.on_write(function))[0].startswith(problem)
    assert problems_of(lambda: hooked(function))[0].startswith(f"go: {problem}")


class Callable_:
    async def __call__(self, device: object) -> None: ...


@pytest.mark.parametrize("function", [None, 5, int, Base, Callable_(), dict.update, iter, max, property(len)])
def test_what_is_no_function_is_refused_on_an_instance(function: Any) -> None:
    with Base() as device:
        (problem,) = problems_of(lambda: device.bar0.A.on_read(function))
        assert "hook" in problem or "does not say its arguments" in problem


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (property(lambda self: 1), "on_write hooks a plain method (self, access): leave @property out"),
        (staticmethod(len), "on_write hooks a plain method (self, access): leave @staticmethod out"),
        (classmethod(len), "on_write hooks a plain method (self, access): leave @classmethod out"),
        (functools.partial(print), "on_write hooks a method (self, access), not functools.par"),
        (print, "on_write hooks a method (self, access), not <built-in function print>"),
        (Base, "on_write hooks a method (self, access), not <class 'test_"),
        (None, "on_write hooks a method (self, access), not None"),
    ],
)
def test_what_is_no_method_is_refused_in_a_class(function: Any, problem: str) -> None:
    before = list(Base.bar0.A.tagged)
    assert problems_of(lambda: Base.bar0.A.on_write(function))[0].startswith(problem)
    assert Base.bar0.A.tagged == before


def test_a_decorator_above_the_hook_that_makes_no_method_is_a_mistake() -> None:
    def make() -> None:
        class Device(Base):
            @staticmethod
            @Base.bar0.A.on_write
            def go(device: object, access: object) -> None: ...

    assert problems_of(make) == ("go: a hook is a plain method (self, access): leave @staticmethod out",)


def test_a_function_outside_of_a_class_is_sent_to_an_instance() -> None:
    def go(device: object) -> None: ...

    for function in (go, eval("lambda device: None")):
        (problem,) = problems_of(lambda function=function: Base.bar0.A.on_write(function))  # type: ignore[misc]
        assert problem.endswith("is no method of a class: hook an instance, as in @dev.bar0.A.on_write")


def test_cells_executed_as_text_behave_like_any_other_code() -> None:
    cell = (
        "class Device(Base):\n"
        "    @Base.bar0.A.on_write\n"
        "    def go(self, access):\n"
        "        self.ran = 'cell'\n"
    )
    for _ in range(2):  # running the cell again leaves no trace of the class before
        space: dict[str, Any] = {"Base": Base, "__name__": "cell"}
        exec(compile(cell, "<ipython-input-1>", "exec"), space)
        with space["Device"]() as device:
            device.bar0.A.write(1)
            assert device.ran == "cell"
    with pytest.raises(wb.DescriptionError, match="is no method of a class"):
        exec("@Base.bar0.A.on_write\ndef go(device): ...", {"Base": Base})


def test_a_class_body_that_failed_half_way_does_not_spoil_the_next_run() -> None:
    cell = "class Device(Base):\n @Base.bar0.A.on_write\n def go(self): ...\n missing\n"
    space: dict[str, Any] = {"Base": Base, "__name__": "cell"}
    with pytest.raises(NameError):
        exec(compile(cell, "<cell>", "exec"), space)
    space["missing"] = 1
    exec(compile(cell, "<cell>", "exec"), space)
    assert not any(function.__module__ == "cell" for _, function in Base.bar0.A.tagged)


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(self: Any, access: Any) -> None:
        self.ran += "traced "
        function(self, access)

    return wrapper


def test_lambdas_wrappers_arrays_and_stacks_of_hooks_run() -> None:
    class Device(Base):
        quick = Base.bar0.A.on_write(lambda self, access: setattr(self, "ran", self.ran + "quick "))

        @traced
        @Base.bar0.B.on_write
        @Base.bar0.CH.on_write
        @Base.bar0.A.on_read
        def go(self, access: Any) -> None:
            self.ran += f"{access.register.element_name(access.index)} "

    with Device() as device:
        device.bar0.A.write(1)
        device.bar0.A.read()
        device.bar0.B.write(1)
        device.bar0.CH[2].write(1)
        assert device.ran == "quick traced A traced B traced CH[2] "


@pytest.mark.parametrize(
    "body",
    [
        "@A.on_write\n def go(self): ...\n @B.on_write\n def go(self): ...",
        "@A.on_write\n def go(self): ...\n go = None",
        "@lambda f: lambda self: None\n @A.on_write\n def go(self): ...",
        "A.on_write(lambda self: None)",
    ],
)
def test_a_hook_that_is_not_in_the_class_in_the_end_is_a_mistake(body: str) -> None:
    cell = f"class Device(Base):\n {body}"
    space = {"Base": Base, "A": Base.bar0.A, "B": Base.bar0.B, "__name__": "cell"}
    (problem,) = problems_of(lambda: exec(cell, space))
    assert "the hook of A.on_write, is not in the class any more" in problem


def test_two_methods_cannot_share_a_slot_but_may_be_one_under_two_names() -> None:
    def make() -> None:
        class Device(Base):
            @Base.bar0.A.on_write
            def one(self) -> None: ...

            @Base.bar0.A.on_write
            def other(self) -> None: ...

    assert problems_of(make) == ("one and other both hook A.on_write: one of them would never run",)

    class Twice(Base):
        @Base.bar0.A.on_write
        def one(self) -> None: ...

        other = one

    Twice().close()


def test_a_subclass_may_hook_a_register_anew_under_another_name() -> None:
    class First(Base):
        @Base.bar0.A.on_write
        def one(self) -> None:
            self.ran = "first"

    class Second(First):
        @Base.bar0.A.on_write
        def other(self) -> None:
            self.ran = "second"

    class Third(Second):
        def one(self) -> None: ...

    for cls, said in ((First, "first"), (Second, "second"), (Third, "second")):
        with cls() as device:
            device.bar0.A.write(1)
            assert device.ran == said


def test_a_method_that_replaces_a_hooked_one_must_be_callable_as_well() -> None:
    class First(Base):
        @Base.bar0.A.on_write
        def one(self) -> None: ...

    def make() -> None:
        class Second(First):
            async def one(self) -> None: ...  # type: ignore[override]

    assert problems_of(make) == ("one: a hook is called, not awaited: leave async out",)


def test_events_may_be_static_or_lambdas_if_they_can_be_called() -> None:
    class Device(Base):
        on_reset = staticmethod(lambda kind: None)
        on_attach = lambda self: None  # noqa: E731
        on_detach = functools.partial(print, end="")

    Device().close()

    def make() -> None:
        class Wrong(Base):
            @staticmethod
            def on_reset(self: object, kind: object) -> None: ...

            @property
            def on_attach(self) -> None: ...

            on_detach = dict.update

    assert len(problems_of(make)) == 3


def test_attributes_that_answer_everything_are_left_alone() -> None:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            return 5

    class Device(Base):
        helper = Anything()

    Device().close()
