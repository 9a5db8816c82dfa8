"""Succession: a newer device, or a newer class, takes the place of the one before, the guest attached.

What is served belongs to a core (planes, log, hooks, timers) that outlives the Python object: a device of
the same name and layout adopts it from the older one, and running a class cell again makes the devices of
the class before instances of the new one.
"""

import warnings
import weakref
from typing import TYPE_CHECKING, Any

from .cells import place_of, source_of
from .errors import StateError
from .layout import Layout
from .lock import Lock
from .takeover import refuse_new_layout

if TYPE_CHECKING:
    from .device import Device
    from .hook import Hook
    from .server import Server

__all__ = ["become", "defined_again", "layout_changes", "live", "succeed"]

live: "weakref.WeakSet[Device]" = weakref.WeakSet()  #: whose class may be defined again in a notebook
_handing_over = Lock()  # one after another, whichever threads do it; re-entrant: on_takeover() may swap


def layout_changes(old: "type[Device]", new: "type[Device]") -> list[str]:
    """Return what a guest would have to see anew, one line each; [] when it need not notice."""
    before, after = (Layout.of(cls.blocks, cls.irq.counts()) for cls in (old, new))
    return before.differences(after)


def succeed(device: "Device", server: "Server") -> None:
    """Take over a server that serves an older device of this name: in place if the layout is the same.

    Raises StateError when it is another and a guest is attached; otherwise the older server is stopped.
    """
    with _handing_over:
        changes = layout_changes(type(server.device), type(device))
        if not changes:
            _adopt(device, server)
            return
    if server.client is not None:  # paused or not
        refuse_new_layout(device.name, changes)
    server.stop()


def _adopt(device: "Device", server: "Server") -> None:
    older, mine = server.device, [hook for hook in device.hooks if not hook.described]
    device.on_takeover(older)  # what it raises is raised here, and nothing has changed
    own, device._core = device._core, older._core
    core = device._core
    with core.held():
        core.take_over(device, device.blocks, type(device).irq)
        core.timers.take(own.timers)
        for hook in core.hooks:  # ours replace them one by one: a register is never without
            hook.described = True
        device._bind()
        for hook in mine:
            device.hooks.set_again(hook)
    older.closed, older.server = True, None
    live.discard(older)  # a cell's output may keep it; the class cell is not to hand it the core back
    device.server, server.device = server, device
    for one in (older, device):  # one maps what is not its own any more, the other what never was
        one._forget_memory()


def become(device: "Device", cls: "type[Device]") -> None:
    """Make a device an instance of ``cls``: see ``Device.swap()``. Raises StateError."""
    with _handing_over:
        refuse_new_layout(device.name, layout_changes(type(device), cls))
        # A class of the same name is another type to Python, but built alike.
        try:
            device.__class__ = cls
        except TypeError as error:  # Python's own reasons, such as other __slots__
            raise StateError(f"{device.name} goes on as it was: {error}") from error
        with device._core.held():
            device._core.take_over(device, cls.blocks, cls.irq)
            device._bind()
        device.notice = ""


def defined_again(cls: "type[Device]") -> None:
    """Hand a class that a cell (or %autoreload) defined again to the devices made of the one before."""
    for device in list(live):
        before = type(device)
        if before is not cls and (before.__module__, before.__qualname__) == (
            cls.__module__,
            cls.__qualname__,
        ):
            try:
                become(device, cls)
                for line in _overruled(device, before):
                    warnings.warn(line, stacklevel=3)
            except StateError as error:
                device.notice = str(error)
                warnings.warn(device.notice, stacklevel=3)


def _overruled(device: "Device", before: "type[Device]") -> list[str]:
    """Say which hooks of a class are new, and wait behind one that a cell set in their place."""
    told = []
    for hook in device.hooks:
        name = None if hook.described else _described(type(device), hook)
        if name is None:
            continue
        new, former = getattr(type(device), name), _described(before, hook)
        if former is None or _text(getattr(before, former)) != _text(new):
            told.append(
                f"{device.name}: {hook.key} stays {hook.function_name} of {hook.cell}, not {name} of the"
                f" class ({place_of(new)}): {_way_back(device, hook)}, then run the class again"
            )
    return told


def _described(cls: "type[Device]", hook: "Hook") -> str | None:
    """Return the name of a class's own method for the slot of a hook."""
    mine = cls.blocks[hook.region].registers.get(hook.register.name)
    found = (name for register, slot, name in cls.class_hooks if register is mine and slot == hook.slot)
    return next(found, None)


def _text(function: Any) -> object:
    code = getattr(function, "__code__", None)
    return source_of(function) or (code and (code.co_code, code.co_consts, code.co_names))


def _way_back(device: "Device", hook: "Hook") -> str:
    """Return the call after which the class has the slot again."""
    former = device.hooks.revisions(hook.key)[:-1]
    described = [one.revision for one in former if one.described]
    if not described:
        return f'dev.{hook.name}.unhook("{hook.slot}")'
    number = "" if former[-1].described else f", {described[-1]}"
    return f'dev.hooks.revert("{hook.key}"{number})'
