"""Pictures in memory: rows of pixels as a frame buffer holds them, made an array that people can look at.

The formats are named as Linux names them (``drm_fourcc.h``): components from the highest bit of a
little-endian number down, so a pixel of "XRGB8888" is the bytes blue, green, red, nothing.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

__all__ = ["FORMATS", "picture_of", "picture_size"]

#: Bytes of a pixel, then (lowest bit, number of bits) of red, green and blue.
FORMATS: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "XRGB8888": (4, ((16, 8), (8, 8), (0, 8))),
    "XBGR8888": (4, ((0, 8), (8, 8), (16, 8))),
    "RGBX8888": (4, ((24, 8), (16, 8), (8, 8))),
    "BGRX8888": (4, ((8, 8), (16, 8), (24, 8))),
    "RGB888": (3, ((16, 8), (8, 8), (0, 8))),
    "BGR888": (3, ((0, 8), (8, 8), (16, 8))),
    "RGB565": (2, ((11, 5), (5, 6), (0, 5))),
    "XRGB1555": (2, ((10, 5), (5, 5), (0, 5))),
    "R8": (1, ((0, 8), (0, 8), (0, 8))),
}


def picture_size(width: int, height: int, pixel_format: str, stride: int | None) -> tuple[int, int]:
    """Return the bytes from one row to the next (default: no gap) and those of the whole picture.

    Raises ValueError for an unknown format, a negative size or a stride in which no row fits.
    """
    if pixel_format not in FORMATS:
        raise ValueError(f"no pixels are called {pixel_format!r}; there are {', '.join(FORMATS)}")
    row = width * FORMATS[pixel_format][0]
    stride = row if stride is None else stride
    if width < 0 or height < 0:
        raise ValueError(f"a picture of {width} × {height} pixels: a size is 0 or more")
    if stride < row:
        raise ValueError(f"stride {stride}: a row of {width} pixels of {pixel_format} has {row} bytes")
    return stride, (height - 1) * stride + row if width and height else 0


def picture_of(
    memory: npt.NDArray[np.uint8], width: int, height: int, pixel_format: str, stride: int
) -> npt.NDArray[np.uint8]:
    """Return a copy of the picture at the start of ``memory``: (height, width, 3), red, green, blue."""
    size, components = FORMATS[pixel_format]
    made = np.empty((height, width, 3), np.uint8)
    if not made.size:
        return made
    bytes_ = as_strided(memory, (height, width, size), (stride, size, 1), writeable=False)
    number = bytes_[..., 0] | bytes_[..., 1].astype(np.uint16) << 8 if size == 2 else None
    for channel, (lsb, bits) in enumerate(components):
        # One component at a time: five times as fast as all three of each pixel.
        made[..., channel] = bytes_[..., lsb // 8] if number is None else _widened(number >> lsb, bits)
    return made


def _widened(part: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Return numbers of so many bits as 0 to 255."""
    most = (1 << bits) - 1
    return ((part & most) * 255 + most // 2) // most
