"""Core: the engine device behind a Device, and what is bound to it: log, DMA, interrupts, hooks.

The engine calls back into the core, not into the Device, so that a newer Device (a class cell run
again) can take a served core over while the guest stays attached.
"""

import contextlib
import logging
import operator
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from .dma import DmaMemory
from .engine import check, ffi, lib
from .hooks import Hooks
from .interrupts import InterruptLine, Interrupts
from .log import AccessLog
from .registers import Block
from .takeover import describe

__all__ = ["Core"]


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
        self.blocks = blocks
        self._context = ffi.new_handle(self)
        self.handle = _new_engine(self._context, log_records)
        for index, count in enumerate(irq.counts()):
            if count:
                check(lib.wb_irq_add(self.handle, index, count), "interrupts")
        for index, block in blocks.items():
            flags = lib.WB_REGION_READ | lib.WB_REGION_WRITE
            check(lib.wb_region_add(self.handle, index, block.size, flags), f"region {block.name}")
        describe(self.handle, blocks)
        self.log = AccessLog(self.handle, blocks)
        self.hooks = Hooks(device, self.handle, blocks, logger)
        self.dma = DmaMemory(self.handle, self.hooks.origin)
        self.irq = InterruptLine(self.handle, irq, self.hooks.origin)
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

    def client_reset(self) -> None:
        """Reset because the client asked for it (DEVICE_RESET)."""
        self.reset(lib.WB_RESET_DEVICE, "device")

    def reset(self, number: int, kind: str) -> None:
        """Put registers to their reset values, let INTx go, run the device's ``on_reset(kind)``."""
        lib.wb_device_reset(self.handle, number)
        self.hooks.event("on_reset", self.device.on_reset, kind)

    def take_over(self, device: Any, blocks: Mapping[int, Block], irq: Interrupts) -> None:
        """Belong to ``device`` and be described by ``blocks`` from now on; values stay.

        The guest's next access waits meanwhile. The layout must be the same.
        """
        with self.server.gate_closed() if self.server is not None else contextlib.nullcontext():
            describe(self.handle, blocks, old=self.blocks)
            self.device, self.blocks = device, blocks
            self.irq.description = irq
            self.log.redescribe(blocks)
            self.hooks.redescribe(device, blocks)


def _new_engine(context: Any, log_records: int) -> Any:
    if not 0 <= operator.index(log_records) < 1 << 32:
        raise ValueError(f"log_records is how many the log keeps, below 2**32, not {log_records}")
    upcalls = ffi.new("wb_upcalls *")
    upcalls.context = context
    upcalls.hook = lib.wb_python_hook
    upcalls.message = lib.wb_python_message
    upcalls.trace = lib.wb_python_trace
    handle = lib.wb_device_new(upcalls, log_records)
    if handle == ffi.NULL:
        raise MemoryError(f"no memory for a device with a log of {log_records} records")
    return ffi.gc(handle, lib.wb_device_free)
