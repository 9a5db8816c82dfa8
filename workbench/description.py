"""Reads a Device class: its BARs, the blocks they make with the config space, its hooked methods.

Each function appends what is wrong to ``problems``, one line each, for one DescriptionError.
"""

import inspect
from typing import Any

from . import pci
from .engine import lib
from .errors import DescriptionError
from .registers import Bar, Block, Register

__all__ = ["check_events", "find_bars", "find_blocks", "find_hooks"]


def find_bars(cls: type[Any], problems: list[str]) -> dict[int, type[Bar]]:
    """Return the Bar classes ``bar0`` to ``bar5`` of a class or its bases, by number."""
    bars: dict[int, type[Bar]] = {}
    for name in (f"bar{index}" for index in range(8)):
        bar = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
        if bar is None:
            continue
        if not (isinstance(bar, type) and issubclass(bar, Bar)):
            problems.append(f"{name} is {bar!r}, expected a class {name}(wb.Bar, size=...)")
        elif bar.__name__ != name:
            problems.append(f"{name} is the class {bar.__name__}: write class {name}({bar.__name__}): pass")
        elif int(name[3:]) >= lib.WB_BARS:
            problems.append(f"{name}: a PCI device has BARs 0 to {lib.WB_BARS - 1}")
        else:
            bars[int(name[3:])] = bar
    for name, value in vars(cls).items():
        if isinstance(value, type) and issubclass(value, Bar) and name not in {f"bar{i}" for i in range(8)}:
            problems.append(f"the Bar class {name} is not named bar0 to bar5")
    return bars


def find_blocks(cls: type[Any], problems: list[str]) -> dict[int, Block]:
    """Return the block of each BAR and of the config space, by vfio region index."""
    blocks = {index: bar.block for index, bar in cls.bars.items()}
    try:
        blocks[lib.WB_CONFIG] = pci.config_block(cls.id, cls.bars, cls.irq.pin, cls.capabilities)
    except DescriptionError as error:
        problems.extend(error.problems)
    return blocks


def check_events(cls: type[Any], problems: list[str]) -> None:
    """Say which of on_reset, on_attach, on_detach cannot be called as they will be."""
    for name, arguments in (("on_reset", "self kind"), ("on_attach", "self"), ("on_detach", "self")):
        try:
            inspect.signature(getattr(cls, name)).bind(*arguments.split())
        except TypeError:
            problems.append(f"{name} is called as {name}({arguments.replace(' ', ', ')})")


def find_hooks(cls: type[Any], problems: list[str]) -> list[tuple[Register, str, str]]:
    """Return (register, slot, method name) of every tagged method, base classes first."""
    own = [register for bar in cls.bars.values() for register in bar.block.registers.values()]
    found: dict[tuple[int, str], tuple[Register, str, str]] = {}
    for base in reversed(cls.__mro__):
        seen: dict[tuple[int, str], str] = {}
        for name, value in vars(base).items():
            for register, slot in getattr(value, "workbench_hooks", ()):
                if not any(register is mine for mine in own):
                    problems.append(f"{name} hooks {register.name}, which is not a register of this device")
                if (id(register), slot) in seen:
                    both = f"{seen[id(register), slot]} and {name}"
                    problems.append(f"{both} both hook {register.name}.on_{slot}: only one can run")
                seen[id(register), slot] = name
                found[id(register), slot] = (register, slot, name)
    problems += _overwritten(cls, own)
    return list(found.values())


def _overwritten(cls: type[Any], registers: list[Register]) -> list[str]:
    """Say which hooked methods are gone because another of the same name came later in the class."""
    gone = []
    for register in registers:
        for slot, function in register.tagged:
            class_name, _, name = function.__qualname__.rpartition(".")
            if class_name == cls.__qualname__ and vars(cls).get(name) is not function:
                gone.append(f"two methods are called {name}: the one for {register.name}.on_{slot} is lost")
    return gone
