"""Reads a Device class: its BARs, the blocks they make with the config space, its hooked methods.

Each function appends what is wrong to ``problems``, one line each, for one DescriptionError.
"""

import inspect
from typing import Any

from . import msi, pci
from .capabilities import Capability
from .engine import lib
from .errors import DescriptionError
from .hook import accepted_arguments
from .interrupts import Interrupts
from .mistakes import call_problem, flag, misplaced, shown
from .pages import unhookable
from .registers import Bar, Block, Register
from .rom import rom_block

__all__ = [
    "NO_ID",
    "check_capabilities",
    "check_events",
    "check_identity",
    "check_names",
    "find_bars",
    "find_blocks",
    "find_hooks",
]

#: What an instance of every device has, or a class is given.
OWN = frozenset({
    *("name", "strict", "logger", "server", "closed", "notice", "log", "dma", "hooks", "config"),
    *("bars", "blocks", "class_hooks", "_core", "_regions"),
})  # fmt: skip
NO_ID = "it has no id: add id = wb.PciId(vendor=..., device=...)"
#: Where an instance of each is looked for in a class.
PLACES = {pci.PciId: "id", Interrupts: "irq", Capability: "capabilities"}
EVENTS = {
    "on_reset": ("self", "kind"),
    "on_attach": ("self",),
    "on_detach": ("self",),
    "on_takeover": ("self", "older"),
}


def find_bars(cls: type[Any], problems: list[str]) -> dict[int, type[Bar]]:
    """Return the Bar classes ``bar0`` to ``bar5`` of a class or its bases, by number."""
    bars: dict[int, type[Bar]] = {}
    for name in (f"bar{index}" for index in range(8)):
        bar = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
        if bar is None:
            continue
        if not (isinstance(bar, type) and issubclass(bar, Bar)):
            problems.append(f"{name} is {shown(bar)}, expected a class {name}(wb.Bar, size=...)")
        elif bar.__name__ != name:
            problems.append(f"{name} is the class {bar.__name__}: write class {name}({bar.__name__}): pass")
        elif int(name[3:]) >= lib.WB_BARS:
            problems.append(f"{name}: a PCI device has BARs 0 to {lib.WB_BARS - 1}")
        else:
            bars[int(name[3:])] = bar
    for name, value in vars(cls).items():
        if isinstance(value, type) and issubclass(value, Bar) and name not in {f"bar{i}" for i in range(8)}:
            problems.append(f"the Bar class {name} is not named bar0 to bar5")
        elif isinstance(value, Register):
            problems.append(f"{name} is a Register outside of a Bar: move it into a class bar0(wb.Bar)")
    problems += misplaced(vars(cls))
    return bars


def check_identity(cls: type[Any], problems: list[str]) -> None:
    """Say what is wrong with ``id``, and which parts of a description stand under a name nobody looks at.

    A class may have no ``id``, for classes made from it to have one; it is missed when more is wrong.
    """
    own = {id(part) for part in (cls.irq, getattr(cls, "id", None))}
    if isinstance(cls.capabilities, (tuple, list)):
        own |= {id(one) for one in cls.capabilities}
    for name, value in vars(cls).items():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            place = next((place for kind, place in PLACES.items() if isinstance(part, kind)), name)
            if name != place and id(part) not in own:
                problems.append(f"{name} holds wb.{type(part).__name__}: only {place} is looked at for that")
                break
    if not hasattr(cls, "id"):
        problems += [NO_ID] if problems else []
    elif not isinstance(cls.id, pci.PciId):
        problems.append(f"id is {shown(cls.id)}, expected wb.PciId(...)")


def check_names(cls: type[Any], device: type[Any], problems: list[str]) -> None:
    """Say which names of a class body, or of a mixin, the attributes that every device has would hide.

    ``device`` is wb.Device itself: what is private to it, and to its own parts, would be replaced.
    """
    theirs = {name: value for part in reversed(device.__mro__[:-1]) for name, value in vars(part).items()}
    private = {name for name in theirs if name.startswith("_") and not name.startswith("__")}
    mixins = [one for one in cls.__mro__ if one not in device.__mro__ and not issubclass(one, device)]
    for base in (cls, *mixins):
        for name, value in vars(base).items():
            verb = inspect.isfunction(theirs.get(name)) and name not in EVENTS
            if name in OWN or name in private or (verb and not callable(value) and value is not None):
                problems.append(f"{name}: every device has that already; choose another name")
    if cls.__hash__ is None:
        problems.append(
            "__eq__: devices are told apart by what they are; leave it out, or define __hash__ too"
        )


def check_capabilities(cls: type[Any], problems: list[str]) -> None:
    """Say what is wrong with ``capabilities`` as a sequence, and with its elements' types."""
    found = cls.capabilities
    if isinstance(found, Capability):
        name = type(found).__name__
        problems.append(f"capabilities is one {name}: write capabilities = (wb.{name}(...),), with the comma")
    elif not isinstance(found, (tuple, list)):
        problems.append(f"capabilities is {shown(found)}, expected a tuple such as (wb.PowerManagement(),)")
    else:
        for number, one in enumerate(found):
            if isinstance(one, type) and issubclass(one, Capability):
                name = one.__name__
                problems.append(f"capabilities[{number}] is the class {name}: call it, wb.{name}()")
            elif not isinstance(one, Capability):
                problems.append(f"capabilities[{number}] is {shown(one)}, expected a wb.Capability")


def find_blocks(cls: type[Any], problems: list[str]) -> dict[int, Block]:
    """Return the block of each BAR and of the config space, by vfio region index.

    For a class whose ``id``, ``irq`` and ``capabilities`` are what they should be. A BAR that MSI-X needs
    for itself is added to the class's ``bars``.
    """
    irq, layout = cls.irq, None
    if irq.msix:
        layout = msi.place_msix(cls.bars, irq.msix, irq.msix_table, irq.msix_pba, problems)
    if layout and layout.own is not None:
        cls.bars = {**cls.bars, layout.own: msi.own_bar(layout.own, layout)}
    blocks = {index: bar.block for index, bar in cls.bars.items()}
    rom = rom_block(cls.rom, problems)
    if rom is not None:
        blocks[lib.WB_ROM] = rom
    if layout:
        for index in {layout.table.slot, layout.pba.slot} - {layout.own}:
            blocks[index] = msi.with_msix(blocks[index], layout, index, problems)
    brought: list[Capability] = [msi.MessageSignaledInterrupts(irq.msi)] if irq.msi else []
    brought += [msi.MsixCapability(layout)] if layout else []
    problems += msi.repeated(cls.capabilities, brought)
    try:
        capabilities, size = [*cls.capabilities, *brought], rom.size if rom else 0
        blocks[lib.WB_CONFIG] = pci.config_block(cls.id, cls.bars, irq.pin, capabilities, size)
    except DescriptionError as error:
        problems.extend(error.problems)
    return blocks


def check_events(cls: type[Any], problems: list[str]) -> None:
    """Say which of on_reset, on_attach ... cannot be called as they will be."""
    flag(cls.reset_on_detach, "reset_on_detach", problems)
    for name, arguments in EVENTS.items():
        function = getattr(cls, name)
        if problem := call_problem(function):
            problems.append(f"{name}: {problem}")
            continue
        try:
            inspect.signature(function).bind(*arguments[0 if _binds(cls, name) else 1 :])
        except (TypeError, ValueError):
            problems.append(f"{name} is called as {name}({', '.join(arguments)})")


def _binds(cls: type[Any], name: str) -> bool:
    """Tell whether a class's function still wants the instance."""
    stored = inspect.getattr_static(cls, name)
    return hasattr(stored, "__get__") and not isinstance(stored, (staticmethod, classmethod))


def find_hooks(cls: type[Any], problems: list[str]) -> list[tuple[Register, str, str]]:
    """Return (register, slot, method name) of every tagged method, base classes first."""
    own = [register for bar in cls.bars.values() for register in bar.block.registers.values()]
    found: dict[tuple[int, str], tuple[Register, str, str]] = {}
    for base in reversed(cls.__mro__):
        seen: dict[tuple[int, str], str] = {}
        for name, value in vars(base).items():
            for register, slot in _tags(value):
                key = id(register), slot
                if not any(register is mine for mine in own):
                    which = register.name or "a register without a name"
                    problems.append(f"{name} hooks {which}, which is not a register of this device")
                elif register.block and register.block.mapped_area(register.offset):
                    problems.append(f"{name} hooks {register.name}: {unhookable(register.offset)}")
                elif vars(base).get(seen.setdefault(key, name)) is not value:
                    both = f"{seen[key]} and {name} both hook {register.name}.on_{slot}"
                    problems.append(f"{both}: one of them would never run")
                found[key] = (register, slot, name)
    for name in dict.fromkeys(name for _, _, name in found.values()):
        if problem := _hook_problem(inspect.getattr_static(cls, name)):
            problems.append(f"{name}: {problem}")
    problems += _lost(cls, own)
    return list(found.values())


def _tags(value: object) -> list[tuple[Register, str]]:
    """Return the registers and slots that a method was decorated for, seen through outer decorators."""
    for layer in _layers(value):
        if tags := getattr(layer, "__dict__", {}).get("workbench_hooks"):
            return list(tags)
    return []


def _layers(value: object) -> list[object]:
    """Return a class's value and what its decorators wrapped, outermost first."""
    layers = [value]
    for _ in range(32):  # a wrapper may lead back to itself
        inner = getattr(value, "__dict__", {}).get("__wrapped__")
        if isinstance(value, (staticmethod, classmethod)):
            inner = value.__func__
        elif isinstance(value, property):
            inner = value.fget
        if inner is None:
            break
        value = inner
        layers.append(value)
    return layers


def _hook_problem(value: object) -> str | None:
    """Say why a hooked method cannot be called with (self, access) or (self), or None."""
    if hasattr(value, "workbench_native"):
        return None
    if isinstance(value, (staticmethod, classmethod, property)):
        return f"a hook is a plain method (self, access): leave @{type(value).__name__} out"
    try:
        accepted_arguments("", value)  # type: ignore[arg-type]
    except DescriptionError as error:
        return error.problems[0]
    return None


def _lost(cls: type[Any], registers: list[Register]) -> list[str]:
    """Say which tagged methods the class does not have in the end, and forget those that were looked at."""
    kept = {id(layer) for value in vars(cls).values() for layer in _layers(value)}
    lost = []
    for register in registers:
        mine = [tag for tag in register.tagged if _stood_in(tag[1], cls)]
        # A class body that raised half-way left its tags behind: where it stands, the newest counts.
        newest = {(slot, *_place(function)): (slot, function) for slot, function in mine}
        register.tagged = [tag for tag in register.tagged if tag not in mine]
        lost += [
            f"{function.__name__}, the hook of {register.name}.on_{slot}, is not in the class any more:"
            " another of the same name came later, a decorator above it does not use functools.wraps,"
            " or it never had a name"
            for slot, function in newest.values()
            if id(function) not in kept
        ]
    return lost


def _stood_in(function: Any, cls: type[Any]) -> bool:
    """Tell whether a method was defined in the body of a class, by their names."""
    body = function.__qualname__.rpartition(".")[0]
    return (function.__module__, body) == (cls.__module__, cls.__qualname__)


def _place(function: Any) -> tuple[str, int]:
    if hasattr(function, "workbench_native"):
        where: tuple[str, int] = function.where
        return where
    return function.__code__.co_filename, function.__code__.co_firstlineno
