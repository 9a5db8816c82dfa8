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
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from . import lint as linter
from . import pci
from .blockhandle import BlockHandle
from .capabilities import Capability
from .changes import Changes
from .core import Core
from .description import check_capabilities, check_events, check_names, find_bars, find_blocks, find_hooks
from .engine import lib
from .errors import DescriptionError, StateError
from .handles import RegisterHandle
from .interrupts import Interrupts
from .mistakes import BARS, shown
from .qemuargs import qemu_arguments
from .region import Region
from .registers import Bar, Block, Register
from .snapshot import Snapshot
from .state import DeviceState
from .takeover import layout_changes, refuse_new_layout
from .timers import DeviceTime
from .unseen import unseen

if TYPE_CHECKING:  # the doors, opened on demand below: they know the device, not the other way round
    from .client import Client
    from .dma import DmaMemory
    from .hooks import Hooks
    from .log import AccessLog
    from .poller import Poller
    from .server import Server

__all__ = ["Device"]

LOG_RECORDS = 1 << 18  #: 16 MiB when full

_live: "weakref.WeakSet[Device]" = weakref.WeakSet()  # whose class may be defined again in a notebook


class Device(DeviceTime):
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
            problems.append(f"irq is {cls.irq!r}, expected wb.Interrupts(...)")
        check_capabilities(cls, problems)
        if not isinstance(getattr(cls, "id", None), pci.PciId):
            if hasattr(cls, "id"):
                problems.append(f"id is {cls.id!r}, expected wb.PciId(...)")
        elif not problems:
            cls.blocks = find_blocks(cls, problems)
        cls.class_hooks = find_hooks(cls, problems)
        check_events(cls, problems)
        if problems:
            raise DescriptionError(cls.__name__, problems)
        _defined_again(cls)

    def __init__(
        self, name: str | None = None, *, strict: bool = False, log_records: int = LOG_RECORDS
    ) -> None:
        if not self.blocks:
            raise DescriptionError(
                type(self).__name__, ["it has no id: add id = wb.PciId(vendor=..., device=...)"]
            )
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
        _live.add(self)

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

    def serve(
        self,
        path: "str | os.PathLike[str] | None" = None,
        *,
        trace: bool | None = None,
        switch_interval: float | None = None,
        poll_us: int | None = None,
        poller: "Poller | None" = None,
        users: Sequence[str] | None = None,
    ) -> "Server":
        """Serve on a UNIX socket from a background thread; return the Server, the same if it runs.

        The thread is this process's: one that is forked from it must not use the device.

        ``path`` defaults to a private directory. ``trace=True`` keeps every vfio-user message,
        ``switch_interval`` (seconds) is used while the device has Python hooks: see Server. ``poll_us`` (µs)
        is how long the thread looks for the next message before it sleeps, at first 0; a ``poller`` serves
        this device and others from one thread. ``users`` names who may connect beside you, at a ``path`` that
        they can reach. Raises DescriptionError when the layout is known to crash or hang QEMU, StateError
        when the path is taken or too long, ValueError for ``poll_us`` with ``poller`` or an unknown user.
        """
        from .server import Server

        if poll_us is not None and poller is not None:
            raise ValueError(
                "the poller says for how long it polls: leave poll_us away, or make Poller(poll_us)"
            )
        if self.closed:
            raise StateError(f"{self.name} is closed: make a new one with {type(self).__name__}()")
        with Server.starting:
            previous = Server.serving(self.name)
            if previous is not None and previous.ending:
                previous.stop()  # Ctrl-C ended the call that waited for its thread
                previous = Server.serving(self.name)
            if previous is not None and previous.device is not self:
                self._succeed(previous)
            if self.server is not None and self.server.running:
                self.server.expect(path, trace, switch_interval, poll_us, poller, users)
                return self.server
            problems = self.lint()
            if problems:
                raise DescriptionError(self.name, problems)
            keywords: dict[str, Any] = {} if switch_interval is None else {"switch_interval": switch_interval}
            keywords |= {"poller": poller, "users": users or ()}
            server = Server(self, path, trace=bool(trace), poll_us=poll_us or 0, **keywords)
            server.start()
            return server

    def _succeed(self, server: "Server") -> None:
        """Take over a server that serves an older device of this name: in place if the layout is the same."""
        changes = layout_changes(server.device.blocks, self.blocks)
        if not changes:
            return self._adopt(server)
        if server.state == "attached":
            refuse_new_layout(self.name, changes)
        return server.stop()

    def _adopt(self, server: "Server") -> None:
        older, mine = server.device, [hook for hook in self.hooks if not hook.described]
        self.on_takeover(older)  # what it raises is raised here, and nothing has changed
        own, self._core = self._core, older._core
        with self._core.held():
            self._core.take_over(self, self.blocks, type(self).irq)
            self._core.timers.take(own.timers)
            for hook in self._core.hooks:  # ours replace them one by one: a register is never without
                hook.described = True
            self._bind()
            for hook in mine:
                self.hooks.set_again(hook)
        older.closed, older.server = True, None
        _live.discard(older)  # a cell's output may keep it; the class cell is not to hand it the core back
        self.server, server.device = server, self
        for device in (older, self):  # one maps what is not its own any more, the other what never was
            device._forget_memory()

    def _forget_memory(self) -> None:
        for region in self._regions.values():
            region.forget_memory()

    def swap(self, cls: "type[Device]") -> None:
        """Become an instance of ``cls`` while the guest stays attached: registers, rules, hooks, methods.

        Register values stay; new registers get their reset values; hooks set by cells stay. Running a class
        cell again does this by itself. Raises StateError when the guest would have to see another layout.
        """
        if not (isinstance(cls, type) and issubclass(cls, Device) and cls.blocks):
            raise TypeError(f"swap() takes a class made from wb.Device, with an id, not {shown(cls)}")
        refuse_new_layout(self.name, layout_changes(self.blocks, cls.blocks))
        # A class of the same name is another type to Python, but built alike.
        try:
            self.__class__ = cls
        except TypeError as error:  # Python's own reasons, such as other __slots__
            raise StateError(f"{self.name} goes on as it was: {error}") from error
        with self._core.held():
            self._core.take_over(self, cls.blocks, cls.irq)
            self._bind()
        self.notice = ""

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

    def connect(self, timeout: float = 5.0) -> "Client":
        """Return a software guest connected to this device: be the driver, no VM needed.

        Serves the device first if nobody does. Raises StateError while another client is attached, and
        while the device is paused, which would answer none.
        """
        from .client import Client

        server = self._served()
        server.wait_listening(timeout)
        if server.paused:
            raise StateError(
                f"{self.name} is paused, and a guest that connects waits: dev.server.resume() first,"
                " or Resume in the panel"
            )
        return Client(server.path, timeout=timeout)

    def _served(self) -> "Server":
        # A stopped server is started again where it was asked to be; its private directory is gone.
        if self.server is None or self.server.running:
            return self.serve()
        return self.serve(self.server.wanted, **self.server.manner)

    def qemu_args(
        self, memory: str | None = "256M", patience: float | None = None, *, preload: bool = False
    ) -> list[str]:
        """Return the arguments that plug this device into a QEMU (10.1 or newer) of your own.

        ``patience`` is how many seconds QEMU waits for an answer, pauses included (its default: 5).

        With ``memory`` they include shared guest memory of that size, which DMA needs; with None
        they are the device alone. ``preload``: those for an older QEMU, started with the library that
        ``workbench preload-path`` names in LD_PRELOAD; its patience is WORKBENCH_PRELOAD_TIMEOUT_MS.
        Serves the device first if nobody does.
        """
        return qemu_arguments(self._served().path, memory, patience, preload)

    def view_image(self, source: Any = None, title: str = "") -> Any:
        """Return a live view of a picture: of ``image()``, or of an array, or of what a function returns.

        A picture is an array of uint8: (height, width, 3) of red, green, blue, (height, width) of grey, or
        (height, width, 4) with alpha. While it is on screen ``source`` is called up to ten times a second, on
        a thread of ours: it should only look. Two lambdas in one cell need a ``title`` each. Raises
        StateError without a source for a device that has no ``image()``, ValueError for no picture.
        """
        from .views.pictures import image_view

        return image_view(self, source, title)

    def close(self) -> None:
        """Stop serving, watching and timers, remove the socket; registers and log stay. May be repeated."""
        self.closed = True
        _live.discard(self)
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


def _defined_again(cls: type[Device]) -> None:
    """Hand a class that a cell (or %autoreload) defined again to the devices made of the one before."""
    for device in list(_live):
        before = type(device)
        if before is not cls and (before.__module__, before.__qualname__) == (
            cls.__module__,
            cls.__qualname__,
        ):
            try:
                Device.swap(device, cls)
            except StateError as error:
                device.notice = str(error)
                warnings.warn(device.notice, stacklevel=4)
