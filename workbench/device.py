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

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from . import lint as linter
from . import pci
from .capabilities import Capability
from .dma import DmaMemory
from .engine import check, ffi, lib
from .errors import DescriptionError, StateError
from .handles import BlockHandle
from .hooks import Hooks
from .interrupts import InterruptLine, Interrupts
from .log import AccessLog
from .region import Region
from .registers import Bar, Block, Register

if TYPE_CHECKING:  # the doors, opened on demand below: they know the device, not the other way round
    from .client import Client
    from .server import Server

__all__ = ["Device"]

LOG_RECORDS = 1 << 18  #: 16 MiB when full
PLANES = {
    name.removeprefix("WB_").lower(): getattr(lib, name)
    for name in (
        "WB_VALUE", "WB_LATCH", "WB_RESET", "WB_LATCH_RESET", "WB_READABLE", "WB_WRITABLE", "WB_ONCE",
        "WB_W1C", "WB_W1S", "WB_W1T", "WB_W0C", "WB_W0S", "WB_W0T", "WB_WCLR", "WB_WSET", "WB_WO",
        "WB_PULSE", "WB_RC", "WB_RS", "WB_ACCEPT", "WB_KNOWN",
    )
}  # fmt: skip


class Device:
    """A PCI device: describe it by subclassing, then ``serve()`` it.

    Class attributes: ``id`` (PciId), ``irq`` (Interrupts), ``capabilities`` (a sequence), and nested
    classes ``bar0`` to ``bar5`` (Bar). Override ``on_reset(kind)``, ``on_attach()``, ``on_detach()``
    to hear of a reset and of clients; they run on the server's thread.

    An instance has ``bar0`` ..., ``config`` (handles), ``irq``, ``dma``, ``log`` and ``hooks``.
    ``name`` (default: the class's name) names its socket; ``strict=True`` makes the end of a
    ``with`` block raise HookError when a hook raised; ``log_records`` bounds the access log.
    """

    id: ClassVar[pci.PciId]
    irq: Any = Interrupts()
    capabilities: ClassVar[Sequence[Capability]] = ()
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
        cls.bars = _find_bars(cls, problems)
        if not isinstance(cls.irq, Interrupts):
            problems.append(f"irq is {cls.irq!r}, expected wb.Interrupts(...)")
        if not isinstance(getattr(cls, "id", None), pci.PciId):
            if hasattr(cls, "id"):
                problems.append(f"id is {cls.id!r}, expected wb.PciId(...)")
        elif not problems:
            cls.blocks = _blocks(cls, problems)
        cls.class_hooks = _find_hooks(cls, problems)
        if problems:
            raise DescriptionError(cls.__name__, problems)

    def __init__(
        self, name: str | None = None, *, strict: bool = False, log_records: int = LOG_RECORDS
    ) -> None:
        if not self.blocks:
            raise DescriptionError(
                type(self).__name__, ["it has no id: add id = wb.PciId(vendor=..., device=...)"]
            )
        self.name = name or type(self).__name__
        self.strict = strict
        self.logger = logging.getLogger(f"workbench.{self.name}")
        self.server: Server | None = None
        self._serving: Any = None  # the server whose thread the engine calls back on
        self.closed = False
        self._context = ffi.new_handle(self)
        self._handle = _new_engine(self._context, log_records)
        self.log = AccessLog(self._handle, self.blocks)
        self.dma = DmaMemory(self._handle)
        self.hooks = Hooks(self, self._handle, self.blocks, self.logger)
        self.irq = InterruptLine(self._handle, type(self).irq)
        self.irq.origin = self._origin
        for index, count in enumerate(type(self).irq.counts()):
            if count:
                check(lib.wb_irq_add(self._handle, index, count), "interrupts")
        self.config: BlockHandle = self._add_regions()
        for register, slot, function in self.class_hooks:
            self._hook_by_description(register, slot, getattr(type(self), function))

    def _add_regions(self) -> BlockHandle:
        for index, block in self.blocks.items():
            flags = lib.WB_REGION_READ | lib.WB_REGION_WRITE
            check(lib.wb_region_add(self._handle, index, block.size, flags), f"region {block.name}")
            for offset, planes in block.segments():
                for plane, data in planes.items():
                    result = lib.wb_region_set(self._handle, index, PLANES[plane], offset, data, len(data))
                    check(result, f"{block.name} at {offset:#x}")
            vars(self)[block.name] = BlockHandle(Region(self._handle, index, block, self.hooks))
        return self.config

    def _origin(self) -> int:
        return int(lib.WB_DEVICE if self.hooks.running_here else lib.WB_NOTEBOOK)

    def _hook_by_description(self, register: Register, slot: str, function: Callable[..., Any]) -> None:
        for index, block in self.blocks.items():
            if block.registers.get(register.name) is register:
                for element in range(register.count):
                    self.hooks.set(index, register, element, slot, function, logged=False)

    # -- what a person may override --

    def on_reset(self, kind: str) -> None:
        """Run after the registers got their reset values; ``kind`` is "device" or "notebook"."""

    def on_attach(self) -> None:
        """Run when a client has opened the conversation."""

    def on_detach(self) -> None:
        """Run when the client is gone."""

    # -- what the session asks --

    @property
    def region_sizes(self) -> Mapping[int, int]:
        """Bytes of each region there is, by vfio region index."""
        return {index: block.size for index, block in self.blocks.items()}

    @property
    def irq_counts(self) -> Sequence[int]:
        """Vectors of each IRQ index: INTx, MSI, MSI-X, ERR, REQ."""
        return self.irq.description.counts()  # type: ignore[no-any-return]

    def client_reset(self) -> None:
        """Reset because the client asked for it (DEVICE_RESET)."""
        self._reset(lib.WB_RESET_DEVICE, "device")

    # -- verbs --

    def reset(self) -> None:
        """Put every register back to its reset value, let INTx go, and run ``on_reset("notebook")``."""
        self._reset(lib.WB_RESET_NOTEBOOK, "notebook")

    def _reset(self, number: int, kind: str) -> None:
        lib.wb_device_reset(self._handle, number)
        self.hooks.event("on_reset", self.on_reset, kind)

    def lint(self) -> list[str]:
        """Return what in the present config space would crash or hang QEMU, and the fix; [] if nothing."""
        config = self.config.peek(0, len(self.config))
        return linter.lint(config, self.region_sizes, self.irq_counts)

    def serve(self, path: str | None = None, **options: Any) -> "Server":
        """Serve on a UNIX socket from a background thread; return the Server, the same if it runs.

        ``path`` defaults to a private directory. Options: see Server. Raises DescriptionError when
        the layout is known to crash or hang QEMU, StateError when the path is taken or too long.
        """
        from .server import Server

        if self.closed:
            raise StateError(f"{self.name} is closed: make a new one with {type(self).__name__}()")
        if self.server is not None and self.server.running:
            self.server.expect(path, options)
            return self.server
        problems = self.lint()
        if problems:
            raise DescriptionError(self.name, problems)
        self.server = Server(self, path, **options)
        self.server.start()
        return self.server

    def connect(self, timeout: float = 5.0) -> "Client":
        """Return a software guest connected to this device: be the driver, no VM needed.

        Serves the device first if nobody does. Raises StateError while another client is attached.
        """
        from .client import Client

        server = self._served()
        server.wait_listening(timeout)
        return Client(server.path, timeout=timeout)

    def _served(self) -> "Server":
        # A stopped server is started again where it was asked to be; its private directory is gone.
        return self.serve(self.server.wanted if self.server is not None else None)

    def qemu_args(self, memory: str | None = "256M") -> list[str]:
        """Return the arguments that plug this device into a QEMU (10.1 or newer) of your own.

        With ``memory`` they include shared guest memory of that size, which DMA needs; with None
        they are the device alone. Serves the device first if nobody does.
        """
        server = self._served()
        socket = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": server.path}}
        shared = f"memory-backend-memfd,id=ram,size={memory},share=on"
        backed = ["-m", memory, "-object", shared, "-machine", "q35,memory-backend=ram"] if memory else []
        return [*backed, "-device", json.dumps(socket)]

    def wait(self, timeout: float = 5.0, **conditions: Any) -> Any:
        """Wait for an access: ``dev.log.wait`` under a shorter name."""
        return self.log.wait(timeout=timeout, **conditions)

    def close(self) -> None:
        """Stop serving and remove the socket; registers and log stay readable. May be repeated."""
        self.closed = True
        if self.server is not None:
            self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.close()
        if self.strict and kind is None:
            self.hooks.check()

    def __repr__(self) -> str:
        from .views.html import device_text

        return device_text(self)

    def _repr_html_(self) -> str:
        from .views.html import device_card

        return device_card(self)


def _new_engine(context: Any, log_records: int) -> Any:
    upcalls = ffi.new("wb_upcalls *")
    upcalls.context = context
    upcalls.hook = lib.wb_python_hook
    upcalls.message = lib.wb_python_message
    upcalls.trace = lib.wb_python_trace
    handle = lib.wb_device_new(upcalls, log_records)
    if handle == ffi.NULL:
        raise MemoryError(f"no memory for a device with a log of {log_records} records")
    return ffi.gc(handle, lib.wb_device_free)


def _find_bars(cls: type[Device], problems: list[str]) -> dict[int, type[Bar]]:
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


def _blocks(cls: type[Device], problems: list[str]) -> dict[int, Block]:
    blocks = {index: bar.block for index, bar in cls.bars.items()}
    try:
        blocks[lib.WB_CONFIG] = pci.config_block(cls.id, cls.bars, cls.irq.pin, cls.capabilities)
    except DescriptionError as error:
        problems.extend(error.problems)
    return blocks


def _find_hooks(cls: type[Device], problems: list[str]) -> list[tuple[Register, str, str]]:
    """Return (register, slot, method name) of every tagged method, base classes first."""
    own = [register for bar in cls.bars.values() for register in bar.block.registers.values()]
    found: dict[tuple[int, str], tuple[Register, str, str]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            for register, slot in getattr(value, "workbench_hooks", ()):
                if not any(register is mine for mine in own):
                    problems.append(f"{name} hooks {register.name}, which is not a register of this device")
                found[id(register), slot] = (register, slot, name)
    return list(found.values())
