"""Device: a description bound to an engine device. Subclass it to describe a PCI device.

::

    class Lamp(wb.Device):
        id = wb.PciId(vendor=0x1234, device=0x0B11)
        irq = wb.Interrupts(intx=True)

        class bar0(wb.Bar, size=4096):
            CTRL = wb.Register(0x00, ON=wb.Field(0))

        @bar0.CTRL.on_write
        def switch(self, access): ...

Every mistake in a description is reported at class creation. Names are found by
``__init_subclass__`` alone; nothing is generated at run time.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from . import lint as linter
from . import pci
from .blockhandle import BlockHandle
from .capabilities import Capability
from .changes import Changes
from .core import Core
from .description import (
    NO_ID,
    check_capabilities,
    check_events,
    check_identity,
    check_names,
    find_bars,
    find_blocks,
    find_hooks,
)
from .doors import DeviceDoors
from .engine import lib
from .errors import DescriptionError, StateError
from .handles import RegisterHandle
from .interrupts import Interrupts
from .mistakes import BARS, shown
from .region import Region
from .registers import Bar, Block, Register
from .rom import rom_block
from .snapshot import Snapshot
from .state import DeviceState
from .succession import become, defined_again, live
from .timers import DeviceTime
from .unseen import unseen

if TYPE_CHECKING:
    from .dma import DmaMemory
    from .hooks import Hooks
    from .log import AccessLog
    from .server import Server

__all__ = ["Device"]

LOG_RECORDS = 1 << 18  #: 16 MiB when full


class Device(DeviceDoors, DeviceTime):
    """A PCI device: describe it by subclassing, then ``serve()`` it.

    Class attributes: ``id`` (PciId), ``irq`` (Interrupts), ``capabilities`` (a sequence), ``rom`` (bytes of
    an option ROM), and nested classes ``bar0`` to ``bar5`` (Bar). Override ``on_reset(kind)``,
    ``on_attach()``, ``on_detach()`` to hear of a reset and of clients; they run on the server's thread.
    ``reset_on_detach = True`` resets the device when its client is gone; otherwise its state is kept.

    An instance has ``bar0`` ..., ``config`` (handles), ``irq``, ``dma``, ``log`` and ``hooks``.
    ``name`` (default: the class's name) names its socket; ``strict=True`` makes the end of a
    ``with`` block raise HookError when a hook raised; ``log_records`` bounds the access log.
    """

    id: ClassVar[pci.PciId]
    irq: Any = Interrupts()
    capabilities: ClassVar[Sequence[Capability]] = ()
    rom: Any = None
    reset_on_detach: ClassVar[bool] = False
    bars: ClassVar[Mapping[int, type[Bar]]] = {}
    blocks: ClassVar[Mapping[int, Block]] = {}
    class_hooks: ClassVar[Sequence[tuple[Register, str, str]]] = ()

    bar0: Any
    bar1: Any
    bar2: Any
    bar3: Any
    bar4: Any
    bar5: Any

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        problems: list[str] = []
        check_names(cls, Device, problems)
        cls.bars = find_bars(cls, problems)
        if not isinstance(cls.irq, Interrupts):
            problems.append(f"irq is {shown(cls.irq)}, expected wb.Interrupts(...)")
        check_capabilities(cls, problems)
        check_identity(cls, problems)
        if problems:
            rom_block(cls.rom, problems)
        elif hasattr(cls, "id"):
            cls.blocks = find_blocks(cls, problems)
        cls.class_hooks = find_hooks(cls, problems)
        check_events(cls, problems)
        if problems:
            raise DescriptionError(cls.__name__, problems)
        defined_again(cls)

    def __init__(
        self, name: str | None = None, *, strict: bool = False, log_records: int = LOG_RECORDS
    ) -> None:
        if not self.blocks:
            raise DescriptionError(type(self).__name__, [NO_ID])
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"the name of a device is a text, not {name!r}")
        if name is not None and not name.isprintable():  # it is shown, logged, and sent to the browser
            raise ValueError(f"the name of a device can be printed, {name!r} cannot")
        if "_core" in vars(self):
            raise StateError(
                f"{vars(self)['name']} is made already: make another one with {type(self).__name__}(...)"
            )
        self.name = name or type(self).__name__
        self.strict = strict
        self.logger = logging.getLogger(f"workbench.{self.name}")
        self.server: Server | None = None
        self.closed = False
        self.notice = ""  #: what the panel should say, such as that the layout changed
        self._core = Core(self, self.blocks, type(self).irq, self.logger, log_records)
        self._regions = {
            index: Region(self._core.handle, index, block, self._core.hooks)
            for index, block in self.blocks.items()
        }
        self._bind()
        live.add(self)

    @unseen
    def __getattr__(self, name: str) -> Any:
        if "_core" not in vars(self):
            raise StateError(
                f"{type(self).__name__}.__init__ must call super().__init__() before it uses {name}"
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    if not TYPE_CHECKING:

        def __setattr__(self, name, value):
            if name in FIXED:
                raise AttributeError(_not_assigned(self, name))
            object.__setattr__(self, name, value)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self.name} can neither be copied nor pickled, for it belongs to its guest; another one is made"
            f' with {type(self).__name__}("another name")'
        )

    def _bind(self) -> None:
        """Make the attributes that show the core: handles, log, DMA, interrupts, hooks of the class."""
        core = self._core
        vars(self).update(log=core.log, dma=core.dma, hooks=core.hooks, irq=core.irq)
        for index, block in self.blocks.items():
            region = self._regions[index]
            region.handle, region.block, region.hooks = core.handle, block, core.hooks
            vars(self)[block.name] = BlockHandle(region)
        kept = set()
        for register, slot, function in self.class_hooks:
            kept |= self._hook_by_description(register, slot, getattr(type(self), function))
        self.hooks.keep_described(kept)

    config: BlockHandle
    log: "AccessLog"
    dma: "DmaMemory"
    hooks: "Hooks"

    def _hook_by_description(
        self, register: Register, slot: str, function: Callable[..., Any]
    ) -> set[tuple[int, str, str]]:
        """Hook every element of a register of the class, unless a cell hooked it; return the slots."""
        slots = set()
        for index, block in self.blocks.items():
            if block.registers.get(register.name) is register:
                for element in range(register.count):
                    present = self.hooks.get(index, register, element, slot)
                    if present is None or present.described:
                        self.hooks.set(index, register, element, slot, function, described=True)
                    slots.add((index, register.element_name(element), slot))
        return slots

    # -- what a person may override --

    def on_reset(self, kind: str) -> None:
        """Run after the registers got their reset values, timers were cancelled, and INTx let go.

        ``kind``: "device" (the client asked), "flr" (function-level reset through PCI Express), "d3hot" (back
        to D0 with ``PowerManagement(soft_reset=True)``), "notebook" (``dev.reset()``) or "detach".
        """

    def on_attach(self) -> None:
        """Run when a client has opened the conversation."""

    def on_detach(self) -> None:
        """Run when the client is gone."""

    def on_snapshot(self) -> Any:
        """Return state that is in no register, for a snapshot: bytes, or a dict and the like, as in JSON."""

    def on_restore(self, state: Any) -> None:
        """Run after registers and interrupts were put back; ``state`` is what ``on_snapshot()`` returned."""

    def on_takeover(self, older: Any) -> None:
        """Run when this device is about to continue a served one of its name, the guest attached.

        Register values are kept anyway; take from ``older`` what the guest knows and only attributes hold,
        and share it (lists, dicts), because the older one may still be answering an access.
        """

    # -- verbs --

    def reset(self) -> None:
        """Cycle power: reset every register, sticky ones too, and run ``on_reset("notebook")``."""
        self._core.reset(lib.WB_RESET_NOTEBOOK)

    def snapshot(self) -> Snapshot:
        """Return the state as a value: registers, memory of BARs, interrupts, what ``on_snapshot()`` adds.

        The guest's next access waits meanwhile, and hooks end before. Raises StateError when one does not.
        """
        state: DeviceState = self._core.state
        return state.take()

    def restore(self, snapshot: Snapshot) -> None:
        """Put a snapshot back, of this device or another of the same layout: no rules, no hooks.

        Interrupts settle as they were, then ``on_restore()`` runs. Raises StateError naming what differs
        when the layout is another. Guest memory and the client's eventfds are no part of it.
        """
        self._core.state.put(snapshot)

    def diff(self, old: Snapshot, new: Snapshot | None = None) -> Changes:
        """Return what changed since ``old``, up to now or to ``new``, by register and field.

        Raises StateError when the layout of one is another.
        """
        state: DeviceState = self._core.state
        return state.diff(old, new)

    def lint(self) -> list[str]:
        """Return what in the present config space would crash or hang QEMU, and the fix; [] if nothing."""
        config = self.config.peek(0, self.config.size)
        return linter.lint(config, self._core.region_sizes, self._core.irq_counts)

    def swap(self, cls: "type[Device]") -> None:
        """Become an instance of ``cls`` while the guest stays attached: registers, rules, hooks, methods.

        Register values stay; new registers get their reset values; hooks set by cells stay. Running a class
        cell again does this by itself. Raises StateError when the guest would have to see another layout.
        """
        if not (isinstance(cls, type) and issubclass(cls, Device) and cls.blocks):
            raise TypeError(f"swap() takes a class made from wb.Device, with an id, not {shown(cls)}")
        become(self, cls)

    def _forget_memory(self) -> None:
        for region in self._regions.values():
            region.forget_memory()

    @contextlib.contextmanager
    def override(
        self,
        register: RegisterHandle,
        *,
        read: Callable[..., Any] | None = None,
        write: Callable[..., Any] | None = None,
    ) -> Iterator[None]:
        """Hook a register while the ``with`` block runs; afterwards the hooks before are back.

        ``with dev.override(dev.bar0.CTRL, write=fn): ...``
        """
        if not isinstance(register, RegisterHandle):
            raise TypeError(f"override() takes a register, such as dev.bar0.CTRL, not {shown(register)}")
        if register._region.hooks is not self.hooks:
            raise ValueError(f"{register.name} is a register of another device than {self.name}")
        given = {"read": read, "write": write}
        wanted = {slot: function for slot, function in given.items() if function is not None}
        before = {slot: register.hook(slot) for slot in wanted}
        try:
            for slot, function in wanted.items():
                register.set_hook(slot, function)
            yield
        finally:
            for slot, hook in before.items():
                if hook is None:
                    register.unhook(slot)
                else:
                    self.hooks.set_again(hook, hook.enabled)

    def close(self) -> None:
        """Stop serving, watching and timers, remove the socket; registers and log stay. May be repeated."""
        self.closed = True
        live.discard(self)
        try:
            if self.server is not None:
                self.server.stop()
        finally:
            if self._core.device is self:  # and no newer one has taken the core over
                self._core.close()
                self._forget_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.close()
        if self.strict and kind is None:
            self.hooks.failures.check()

    def __repr__(self) -> str:
        from .views.html import device_text

        return device_text(self)

    def _repr_html_(self) -> str:
        from .views.html import device_card

        return device_card(self)

    def _repr_mimebundle_(self, **keywords: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        from .views.widget import mimebundle

        return mimebundle(self)


#: What is not assigned to on an instance; ``config`` and the BARs have registers that are.
FIXED = frozenset({
    *("id", "capabilities", "bars", "blocks", "class_hooks", "irq", "log", "dma", "hooks", "config"),
    *(f"bar{slot}" for slot in range(BARS)),
})  # fmt: skip


def _not_assigned(device: Device, name: str) -> str:
    """Say why ``name`` cannot be assigned to, and what can."""
    registers = getattr(vars(device).get(name), "_handles", None)
    if registers:
        return f"{name} holds registers: assign to one, as in {name}.{next(iter(registers))} = 1"
    if name.startswith("bar") or name in ("id", "irq", "capabilities"):
        return f"{name} is described in the class: write it there, and run the class again"
    return f"{name} belongs to the device and cannot be assigned to"
