"""Core: the engine device behind a Device, and what is bound to it: log, DMA, interrupts, hooks.

The engine calls back into the core, not into the Device, so that a newer Device (a class cell run
again) can take a served core over while the guest stays attached.
"""

import contextlib
import logging
import operator
import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from .dma import DmaMemory
from .doorbells import Doorbell
from .engine import check, ffi, lib
from .hooks import Hooks
from .interrupts import Interrupts
from .log import AccessLog
from .pages import Area
from .pci import function_controls
from .protocol import IoEventfd
from .registers import Block
from .state import DeviceState
from .takeover import describe
from .timers import Timers
from .upcall import ShortWay
from .vectors import InterruptLines
from .watch import Watch

__all__ = ["Core"]

PATIENCE = 5.0  #: seconds

#: What ``on_reset`` is told, by enum wb_reset.
RESETS = {
    lib.WB_RESET_DEVICE: "device",
    lib.WB_RESET_NOTEBOOK: "notebook",
    lib.WB_RESET_FLR: "flr",
    lib.WB_RESET_D3HOT: "d3hot",
    lib.WB_RESET_DETACH: "detach",
}


class Core:
    """An engine device with ``blocks`` described in it; ``device`` owns it now, ``server`` serves it."""

    def __init__(
        self,
        device: Any,
        blocks: Mapping[int, Block],
        irq: Interrupts,
        logger: logging.Logger,
        log_records: int,
    ) -> None:
        self.device = device
        self.server: Any = None
        self.watches: list[Watch] = []  #: of mapped pages, until they are stopped
        self.pictures: dict[str, Callable[[Any], Any]] = {}  #: what views show, by name: of the device
        self.blocks = blocks
        self._context = ffi.new_handle(self)
        short = ShortWay(self._context)
        self.handle = _new_engine(self._context, short.now, log_records)
        for index, count in enumerate(irq.counts()):
            if count:
                check(lib.wb_irq_add(self.handle, index, count), "interrupts")
        for index, block in blocks.items():
            flags = lib.WB_REGION_READ | (0 if index == lib.WB_ROM else lib.WB_REGION_WRITE)
            check(lib.wb_region_add(self.handle, index, block.size, flags), f"region {block.name}")
            for start, size in block.mapped:
                check(lib.wb_region_share(self.handle, index, start, size), f"mmap of {block.name}")
        describe(self.handle, blocks)
        controls = function_controls(blocks[lib.WB_CONFIG])
        check(lib.wb_function_add(self.handle, *controls), "PMCSR and Device Control")
        check(lib.wb_irq_place(self.handle, irq_places(blocks[lib.WB_CONFIG])), "interrupts")
        self.log = AccessLog(self.handle, blocks)
        self.hooks = Hooks(device, self.handle, short, blocks, logger)
        self.dma = DmaMemory(self.handle, self.hooks.origin)
        self.dma.away, self.dma.sharing.logger = self.hooks.away, logger
        self.irq = InterruptLines(self.handle, irq, self.hooks.origin)
        self.timers = Timers(self.handle, self.hooks, lambda: self.device)
        self.state = DeviceState(self.handle, self.hooks, weakref.proxy(self))
        owner = weakref.ref(self)  # whom their views ask for the device; it keeps nobody alive
        self.log.owner = self.hooks.owner = self.dma.owner = self.irq.owner = owner

    # -- what the session asks --

    @property
    def region_sizes(self) -> Mapping[int, int]:
        """Bytes of each region there is, by vfio region index."""
        return {index: block.size for index, block in self.blocks.items()}

    @property
    def irq_counts(self) -> Sequence[int]:
        """Vectors of each IRQ index: INTx, MSI, MSI-X, ERR, REQ."""
        return self.irq.description.counts()

    @property
    def region_areas(self) -> Mapping[int, Sequence[Area]]:
        """What a client may map of each region: (start, size), bytes; all of it or whole pages."""
        return {index: block.mapped for index, block in self.blocks.items()}

    @property
    def port_regions(self) -> Container[int]:
        """The I/O BARs."""
        return {index for index, bar in self.device.bars.items() if bar.kind == "io"}

    def region_fd(self, index: int) -> int:
        """Return the memory file of a region with mapped pages; it stays the engine's."""
        return check(lib.wb_region_fd(self.handle, index), f"the memory of region {index}")

    def doorbells(self, index: int) -> list[IoEventfd]:
        """Return the writes to a region that may be signalled by eventfd, in order of offset."""
        registers = self.blocks[index].registers.values()
        bells = [
            IoEventfd(one.element_offset(element), one.size, one.match)
            for one in registers
            if isinstance(one, Doorbell)
            for element in range(one.count)
        ]
        return sorted(bells, key=lambda bell: bell.offset)

    def open_doorbell(self, index: int, bell: IoEventfd) -> int:
        """Return the eventfd that stands for a write; it stays the engine's, until the client goes."""
        fd = lib.wb_doorbell_open(self.handle, index, bell.offset, bell.size, bell.match or 0)
        return check(fd, f"a doorbell at {bell.offset:#x}")

    def close(self) -> None:
        """Stop timers and watches, close the memory files; the bytes stay. For a core that is served no more.

        Raises StateError naming a timer's function that does not return.
        """
        try:
            self.timers.close()
        finally:
            while self.watches:
                self.watches.pop().stop()
            # Refused when a hook closes its own device: then they go with the engine.
            lib.wb_share_close(self.handle)

    def client_reset(self) -> None:
        """Reset because the client asked for it (DEVICE_RESET)."""
        self.reset(lib.WB_RESET_DEVICE)

    def reset(self, number: int) -> None:
        """Cancel timers, put registers to their reset values, let INTx go, run ``on_reset(kind)``.

        ``number``: enum wb_reset. No hook and no timer runs meanwhile, so none sees half a reset. A notebook
        does not wait for ever: StateError names what does not return.
        """
        if number == lib.WB_RESET_NOTEBOOK:
            self.hooks.expect_end(PATIENCE)
        self.hooks.inside(self._reset, number)

    def _reset(self, number: int) -> None:
        self.timers.reset()
        lib.wb_device_reset(self.handle, number)
        self.hooks.event("on_reset", self.device.on_reset, RESETS[number])

    def take_over(self, device: Any, blocks: Mapping[int, Block], irq: Interrupts) -> None:
        """Belong to ``device`` and be described by ``blocks`` from now on; values stay.

        The layout is the same. To be called while ``held()``.
        """
        describe(self.handle, blocks, old=self.blocks)
        self.device, self.blocks = device, blocks
        self.irq.description = irq
        self.log.redescribe(blocks)
        self.hooks.redescribe(device, blocks)

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Let the guest's next access wait for the end of the ``with`` block."""
        return self.server.gate_closed() if self.server is not None else contextlib.nullcontext()


def irq_places(config: Block) -> Any:
    """Return where MSI, MSI-X, its table and its PBA are, as the config space says it (PCI 3.0, 6.8)."""
    places, registers = ffi.new("wb_irq_places *"), config.registers
    if "MSI_CAP_ID" in registers:
        places.msi = registers["MSI_CAP_ID"].offset
    if "MSIX_CAP_ID" in registers:
        table, pba = registers["MSIX_TABLE"].reset, registers["MSIX_PBA"].reset
        places.msix = registers["MSIX_CAP_ID"].offset
        places.table_region, places.table = table & 7, table & ~7
        places.pba_region, places.pba = pba & 7, pba & ~7
    return places


def _new_engine(context: Any, hooks: Any, log_records: int) -> Any:
    if not 0 <= operator.index(log_records) < 1 << 32:
        raise ValueError(f"log_records is how many the log keeps, below 2**32, not {log_records}")
    upcalls = ffi.new("wb_upcalls *")
    upcalls.context = context
    upcalls.hook = ffi.addressof(lib, "wb_hook_call")
    upcalls.message = lib.wb_python_message
    upcalls.trace = lib.wb_python_trace
    upcalls.reset = lib.wb_python_reset
    handle = lib.wb_device_new(upcalls, log_records)
    if handle == ffi.NULL:
        raise MemoryError(f"no memory for a device with a log of {log_records} records")
    lib.wb_device_hooks(handle, hooks)
    return ffi.gc(handle, lib.wb_device_free)


@ffi.def_extern(error=-1)  # the engine resets the registers then
def wb_python_reset(context: Any, kind: int) -> int:
    """Engine upcall: a config write resets the function."""
    ffi.from_handle(context).reset(kind)
    return 0
