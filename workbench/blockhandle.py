"""Bars and the config space seen through one device: ``dev.bar0``, whose attributes are its registers."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from .engine import check, ffi, lib
from .handles import RegisterHandle
from .pages import covering
from .picture import picture_of, picture_size
from .region import Region
from .registerarray import RegisterArray
from .registers import Block
from .unseen import unseen
from .watch import Watch

__all__ = ["BlockHandle"]


class BlockHandle:
    """A BAR (or the config space) of one device; its registers are attributes.

    ``read(offset, n)``/``write(offset, data)`` act as the guest, ``peek``/``poke`` as the workbench;
    offsets and sizes in bytes. OSError (EINVAL) outside the block.
    """

    def __init__(self, region: Region) -> None:
        block = region.block
        handles: dict[str, RegisterHandle | RegisterArray] = {}
        for name, register in block.registers.items():
            make = RegisterArray if register.is_array else RegisterHandle
            handles[name] = make(region, register)
        vars(self).update(handles, description=block, _region=region, _handles=handles)

    description: Block
    _region: Region
    _handles: dict[str, RegisterHandle | RegisterArray]

    @unseen
    def __getattr__(self, name: str) -> Any:
        block = vars(self).get("description")
        if block is None:
            raise AttributeError(name)
        near = get_close_matches(name, block.registers, 3)
        there = f"there are {', '.join(list(block.registers)[:8])}"
        hint = f"did you mean {' or '.join(near)}?" if near else there
        raise AttributeError(f"{block.name} has no register {name!r}; {hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        handle = self._handles.get(name)
        if isinstance(handle, RegisterHandle):
            handle.poke(value)
        elif handle is None:
            self.__getattr__(name)
        else:
            way = f"assign to {name}[0], or a value for each element to {name}[:]"
            raise AttributeError(f"{handle.name} is an array: {way}")

    def registers(self) -> Iterator[RegisterHandle]:
        """Iterate over every register, array elements one by one, in order of offset."""
        for handle in self._handles.values():
            yield from [handle] if isinstance(handle, RegisterHandle) else handle

    def __iter__(self) -> Iterator[RegisterHandle]:
        return self.registers()

    @property
    def size(self) -> int:
        """Bytes."""
        return self.description.size

    def view(self, kind: str = "registers") -> Any:
        """Return a live view of the block: of its "registers", or as "memory"."""
        from .views.doors import view_of

        return view_of(self._region.hooks.owner, kind, block=self.description.name)

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """The mapped pages as a writable array of bytes, shared with the guest: see ``array()``."""
        return self.array()

    def array(
        self, dtype: npt.DTypeLike = np.uint8, offset: int | None = None, count: int | None = None
    ) -> npt.NDArray[Any]:
        """Return mapped pages as a writable NumPy array: no rules, no log, the guest sees each store.

        ``offset`` in bytes (default: the only mapped area's start), ``count`` elements (default: to the
        area's end). It stays valid when the device is gone. Raises StateError when nothing, or not one
        thing, is mapped; ValueError when it would reach outside.
        """
        return self._region.array(dtype, offset, count)

    def picture(
        self,
        width: int,
        height: int,
        pixel_format: str = "XRGB8888",
        *,
        offset: int = 0,
        stride: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Return a copy of the picture that lies at ``offset``: (height, width, 3) of red, green, blue.

        ``pixel_format`` is a little-endian DRM format such as "RGB565"; ``stride`` is the bytes from a row to
        the next (default: no gap). Peeks. Raises ValueError when it does not fit, or for an unknown format.
        """
        stride, size = picture_size(width, height, pixel_format, stride)
        if not 0 <= offset <= self.size - size:
            raise ValueError(
                f"{width} × {height} pixels of {pixel_format} at {offset:#x}, {stride} bytes a row, end at "
                f"{offset + size:#x}; {self.description.name} ends at {self.size:#x}"
            )
        mapped = size and covering(self.description.mapped, offset, size)
        memory = self.array(np.uint8, offset, size) if mapped else self._bytes(offset, size)
        return picture_of(memory, width, height, pixel_format, stride)

    def _bytes(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.peek(offset, size), np.uint8)

    def watch(self, offset: int | None = None, size: int | None = None, period: float = 0.01) -> Watch:
        """Log what the guest changes in mapped pages, sampled every ``period`` seconds: see Watch.

        ``offset`` and ``size`` in bytes (default: the only mapped area). Raises StateError, ValueError.
        """
        return self._region.watch(offset, size, period)

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes as the guest would."""
        return self._region.read(offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` as the guest would."""
        self._region.write(offset, bytes(memoryview(data)))  # an int is no data

    def peek(self, offset: int, size: int) -> bytes:
        """Return ``size`` stored bytes: no rules, no hooks."""
        self._region.may_hold(offset, size)
        into = ffi.new("uint8_t[]", max(size, 1))
        result = lib.wb_region_get(self._region.handle, self._region.index, lib.WB_VALUE, offset, into, size)
        check(result, self._region.where(offset, size))
        return bytes(ffi.buffer(into, size))

    def poke(self, offset: int, data: bytes) -> None:
        """Store ``data``, all of it or, past the end, nothing: no rules, no hooks; logged by 8 bytes."""
        data = bytes(memoryview(data))
        self.peek(offset, len(data))
        for start in range(0, len(data), 8):
            part = data[start : start + 8]
            value = int.from_bytes(part, "little")
            self._region.poke(offset + start, len(part), value, (1 << 8 * len(part)) - 1)

    def __repr__(self) -> str:
        from .views.html import block_text

        return block_text(self)

    def _repr_html_(self) -> str:
        from .views.html import block_card

        return block_card(self)
