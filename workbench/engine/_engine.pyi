"""Types of the extension module that build.py makes from wb.h; a test compares the names.

C data is Any: cffi checks it at run time, and struct members have no static type.
"""

from collections.abc import Callable
from typing import Any, TypeVar

CData = Any
_F = TypeVar("_F", bound=Callable[..., Any])

class _FFI:
    NULL: CData
    def new(self, cdecl: str, init: object = ...) -> CData: ...
    def new_handle(self, value: object) -> CData: ...
    def from_handle(self, handle: CData) -> Any: ...
    def from_buffer(self, cdecl: str, python_buffer: object, require_writable: bool = ...) -> CData: ...
    def buffer(self, cdata: CData, size: int = ...) -> Any: ...
    def unpack(self, cdata: CData, length: int) -> Any: ...
    def memmove(self, dest: object, src: object, n: int) -> None: ...
    def cast(self, cdecl: str, value: object) -> CData: ...
    def gc(self, cdata: CData, destructor: Callable[[CData], object] | None, size: int = ...) -> CData: ...
    def release(self, cdata: CData) -> None: ...
    def sizeof(self, cdecl: object) -> int: ...
    def typeof(self, cdecl: object) -> Any: ...
    def addressof(self, cdata: CData, *fields: str | int) -> CData: ...
    def string(self, cdata: CData, maxlen: int = ...) -> bytes: ...
    def def_extern(
        self, name: str = ..., error: object = ..., onerror: Callable[..., Any] | None = ...
    ) -> Callable[[_F], _F]: ...

class _Lib:
    WB_BAR0: int
    WB_BARS: int
    WB_ROM: int
    WB_CONFIG: int
    WB_VGA: int
    WB_REGIONS: int
    WB_REGION_READ: int
    WB_REGION_WRITE: int
    WB_INTX: int
    WB_MSI: int
    WB_MSIX: int
    WB_ERR: int
    WB_REQ: int
    WB_IRQS: int
    WB_MAX_TRANSFER: int
    WB_MAX_FDS: int
    WB_MAX_VECTORS: int
    WB_MAX_MAPS: int
    WB_VALUE: int
    WB_LATCH: int
    WB_SPENT: int
    WB_RESET: int
    WB_LATCH_RESET: int
    WB_READABLE: int
    WB_WRITABLE: int
    WB_ONCE: int
    WB_W1C: int
    WB_W1S: int
    WB_W1T: int
    WB_W0C: int
    WB_W0S: int
    WB_W0T: int
    WB_WCLR: int
    WB_WSET: int
    WB_WO: int
    WB_PULSE: int
    WB_RC: int
    WB_RS: int
    WB_ACCEPT: int
    WB_KNOWN: int
    WB_HOOKS: int
    WB_PLANES: int
    WB_HOOK_READ: int
    WB_HOOK_WRITE: int
    WB_KIND_READ: int
    WB_KIND_WRITE: int
    WB_KIND_POKE: int
    WB_KIND_IRQ: int
    WB_KIND_UNMASK: int
    WB_KIND_DMA_READ: int
    WB_KIND_DMA_WRITE: int
    WB_KIND_MAP: int
    WB_KIND_UNMAP: int
    WB_KIND_RESET: int
    WB_KIND_SWAP: int
    WB_KIND_ATTACH: int
    WB_KIND_DETACH: int
    WB_KIND_ERROR: int
    WB_KINDS: int
    WB_GUEST: int
    WB_NOTEBOOK: int
    WB_DEVICE: int
    WB_ORIGINS: int
    WB_UNMAPPED: int
    WB_VIOLATION: int
    WB_HOOK_RAN: int
    WB_HOOK_FAILED: int
    WB_LONG: int
    WB_REFUSED: int
    WB_RESET_DEVICE: int
    WB_RESET_NOTEBOOK: int
    WB_IRQ_DELIVERED: int
    WB_IRQ_PENDING: int
    WB_IRQ_MASKED: int
    WB_IRQ_DISABLED: int
    WB_IRQ_NOBODY: int
    WB_IRQ_RELEASED: int
    WB_DMA_READABLE: int
    WB_DMA_WRITABLE: int
    WB_DMA_HAS_FD: int

    def wb_device_new(self, upcalls: CData, log_capacity: int) -> CData: ...
    def wb_device_free(self, device: CData) -> None: ...
    def wb_device_reset(self, device: CData, kind: int) -> None: ...
    def wb_region_add(self, device: CData, region: int, size: int, flags: int) -> int: ...
    def wb_region_set(
        self, device: CData, region: int, plane: int, offset: int, data: CData, size: int
    ) -> int: ...
    def wb_region_get(
        self, device: CData, region: int, plane: int, offset: int, data: CData, size: int
    ) -> int: ...
    def wb_region_poke(
        self,
        device: CData,
        region: int,
        plane: int,
        offset: int,
        value: int,
        mask: int,
        size: int,
        origin: int,
    ) -> int: ...
    def wb_region_hook(
        self, device: CData, region: int, offset: int, size: int, bits: int, on: int
    ) -> int: ...
    def wb_region_read(
        self, device: CData, region: int, offset: int, data: CData, size: int, origin: int
    ) -> int: ...
    def wb_region_write(
        self, device: CData, region: int, offset: int, data: CData, size: int, origin: int
    ) -> int: ...
    def wb_clock(self) -> int: ...
    def wb_log_add(self, device: CData, record: CData) -> None: ...
    def wb_log_copy(self, device: CData, since: CData, records: CData, room: int) -> int: ...
    def wb_log_count(self, device: CData) -> int: ...
    def wb_log_dropped(self, device: CData) -> int: ...
    def wb_log_wait(self, device: CData, seen: int, timeout_ms: int) -> int: ...
    def wb_irq_add(self, device: CData, index: int, vectors: int) -> int: ...
    def wb_irq_set(self, device: CData, payload: CData, size: int, fds: CData, nfds: int) -> int: ...
    def wb_irq_trigger(self, device: CData, index: int, vector: int, origin: int) -> int: ...
    def wb_irq_level(self, device: CData, level: int, origin: int) -> int: ...
    def wb_irq_get(self, device: CData, index: int, vector: int, status: CData) -> int: ...
    def wb_irq_clear(self, device: CData) -> None: ...
    def wb_dma_map(self, device: CData, wanted: CData, fd: int) -> int: ...
    def wb_dma_unmap(self, device: CData, iova: int, size: int, everything: int) -> int: ...
    def wb_dma_read(self, device: CData, iova: int, data: CData, size: int, origin: int) -> int: ...
    def wb_dma_write(self, device: CData, iova: int, data: CData, size: int, origin: int) -> int: ...
    def wb_dma_peek(self, device: CData, iova: int, data: CData, size: int) -> int: ...
    def wb_dma_poke(self, device: CData, iova: int, data: bytes, size: int, origin: int) -> int: ...
    def wb_dma_list(self, device: CData, ranges: CData, room: int) -> int: ...
    def wb_gate_pause(self, device: CData, on: int) -> None: ...
    def wb_gate_step(self, device: CData, accesses: int) -> None: ...
    def wb_gate_waiting(self, device: CData) -> int: ...
    def wb_gate_abandon(self, device: CData, on: int) -> None: ...
    def wb_serve(self, device: CData, socket: int) -> int: ...
    def wb_serve_accept(self, device: CData, max_transfer: int, write_multiple: int) -> None: ...
    def wb_serve_trace(self, device: CData, on: int) -> None: ...
    wb_python_hook: CData
    wb_python_message: CData
    wb_python_trace: CData

ffi: _FFI
lib: _Lib
