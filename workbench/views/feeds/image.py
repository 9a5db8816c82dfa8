"""The feed ``image``: a picture that the device, or a function of the user's, returns."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..pictures import picture_from
from ..png import Picture, png
from .source import Part, Source

__all__ = ["ImageFeed"]

_TEXT = 400  # letters of an error, the first ones

Box = tuple[int, int, int, int]  # left, top, width, height


class ImageFeed:
    """One picture: whole when it is new or has another size, then the rectangle in which pixels changed."""

    interval = 0.1

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._name = str(parameters.get("source", ""))
        self._last: Picture | None = None
        self._spare: Picture | None = None
        self._error: str | None = None

    def poll(self, source: Source) -> Part | None:
        """Return what changed of the picture, or why there is none."""
        picture, error = self._last, ""
        try:
            picture = self._copied(picture_from(source.device, self._name))
        except Exception as wrong:  # of the user's function: it is told where the picture would be
            error = f"{type(wrong).__name__}: {wrong}"[:_TEXT]
        box = self._changed(picture)
        if box is None and error == self._error:
            return None
        if picture is not self._last:
            self._last, self._spare = picture, self._last
        self._error = error
        height, width = (0, 0) if picture is None else picture.shape[:2]
        json: dict[str, Any] = {"width": width, "height": height, "error": error}
        if picture is None or box is None or not picture.size:
            return Part(json)
        left, top, wide, high = box
        part = png(picture[top : top + high, left : left + wide])
        return Part({**json, "left": left, "top": top, "buffer": 0}, (part,))

    def _copied(self, picture: Picture) -> Picture:
        """Return a copy, since an array may be shared with the guest; in memory that is used again."""
        if self._spare is None or self._spare.shape != picture.shape:
            self._spare = np.empty(picture.shape, np.uint8)
        np.copyto(self._spare, picture)
        return self._spare

    def _changed(self, picture: Picture | None) -> Box | None:
        """Return the rectangle of the changed pixels; None: nothing changed."""
        last = self._last
        if picture is None or picture is last:
            return None
        height, width, samples = picture.shape
        if last is None or last.shape != picture.shape:
            return 0, 0, width, height
        different = (picture != last).reshape(height, width * samples)  # any() is quick along one axis
        rows = np.flatnonzero(different.any(axis=1))
        if not len(rows):
            return None
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(different[top:bottom].any(axis=0)) // samples
        return int(columns[0]), top, int(columns[-1] + 1 - columns[0]), bottom - top
