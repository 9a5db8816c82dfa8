"""Pictures as PNG (ISO 15948), written by hand: zlib does the work."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["Picture", "png", "small_png"]

Picture = npt.NDArray[np.uint8]  #: (height, width, samples), 1 to 4 samples: grey or RGB, perhaps alpha

_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # samples of a pixel -> colour type: grey, grey + alpha, RGB, RGBA


def png(picture: Picture, level: int = 1) -> bytes:
    """Return a picture that has pixels as a PNG file, compressed with zlib's ``level``."""
    height, width, samples = picture.shape
    rows = np.zeros((height, 1 + width * samples), np.uint8)  # a row begins with its filter: none
    rows[:, 1:] = picture.reshape(height, width * samples)
    head = struct.pack(">IIBBBBB", width, height, 8, _KINDS[samples], 0, 0, 0)
    # Runs alone are looked for: the text of a console gets smaller with it, and noise is done in a third.
    packer = zlib.compressobj(level, strategy=zlib.Z_RLE if level == 1 else zlib.Z_DEFAULT_STRATEGY)
    data = packer.compress(rows.data) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def small_png(picture: Picture, most: int) -> tuple[bytes, int]:
    """Return a PNG of at most ``most`` bytes, and every how many pixels one was taken for that."""
    every = 1
    while True:
        data = png(picture[::every, ::every], 9)
        if len(data) <= most or max(picture.shape[:2]) <= every:
            return data, every
        every *= 2


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
