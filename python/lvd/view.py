"""How a model sees pictures: colour space, transform, part of the picture, patches (docs/format.md, *From pixels to patches*)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Mapping, Optional

import numpy as np

from . import color, wavelet


@dataclass(frozen=True)
class View:
    """Sizes in pixels; `height` and `width` are those of stored pictures, of which `quarter` models the top left one."""

    color: str
    transform: str
    patch: int
    context: int
    height: int
    width: int
    channels: int
    levels: int
    quarter: bool

    @staticmethod
    def of_file(meta: Mapping[str, str]) -> View:
        shape = json.loads(meta["shape"])
        if meta["color"] not in color.NAMES or meta["transform"] not in ("none", "cdf53", "cdf53_integer"):
            raise ValueError(f"color {meta['color']} with transform {meta['transform']} is not known: is this package too old?")
        sizes = {name: int(shape[name]) for name in ("height", "width", "channels", "levels")}
        patch, context = int(meta["patch_size"]), int(meta.get("context", 0))
        return View(meta["color"], meta["transform"], patch, context, **sizes, quarter=meta["protocol"] == "paper")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the part of a picture that is modelled."""
        return (self.height // 2, self.width // 2) if self.quarter else (self.height, self.width)

    def stored(self, x: np.ndarray) -> np.ndarray:
        """Checked pictures [N, h, w, C], h and w of the part that is modelled; a missing axis of one channel is added."""
        found = np.asarray(x)
        x = found[..., None] if found.ndim == 3 and self.channels == 1 else found
        expected = (self.height, self.width, self.channels)
        of_any_size = self.context > 0 and x.ndim == 4 and x.shape[-1] == self.channels
        if not of_any_size and (x.ndim != 4 or x.shape[1:] not in (expected, (*self.size, self.channels))):
            raise ValueError(f"expected pictures [N, {', '.join(map(str, expected))}], found an array {list(found.shape)}")
        height, width = x.shape[1:3] if self.context > 0 else self.size
        return x[:, :height, :width]

    def integers(self, x: np.ndarray) -> np.ndarray:
        """Stored pixels uint8 [N, h, w, C] as whole numbers of the model, int64, before they are cut into patches."""
        if x.dtype != np.uint8:
            raise ValueError(f"expected pictures of type uint8, found {x.dtype}: use x.astype(np.uint8), or dequantised=True "
                             "for the model's numbers with noise")
        if x.size and int(x.max()) >= self.levels:
            raise ValueError(f"expected values below {self.levels}, the model's levels, found {int(x.max())}: scale the pictures")
        numbers = color.forward(self.color, x)
        return wavelet.forward(numbers, self._scales()) if self.transform == "cdf53_integer" else numbers

    def dequantised(self, points: np.ndarray) -> np.ndarray:
        """What the density reading sees of whole numbers with noise, float64 [N, h, w, C]."""
        points = points.astype(float)
        return wavelet.forward(points, self._scales()) if self.transform == "cdf53" else points

    def pixels(self, numbers: np.ndarray) -> np.ndarray:
        """Stored pixels uint8 [N, h, w, C] of what a model draws: real numbers are those with noise, so they are rounded down."""
        if self.transform == "cdf53":
            numbers = wavelet.inverse(numbers, self._scales())
        whole = np.floor(numbers).astype(np.int64)
        if self.transform == "cdf53_integer":
            whole = wavelet.inverse(whole, self._scales())
        return color.inverse(self.color, whole, self.levels)

    def cut(self, numbers: np.ndarray) -> np.ndarray:
        """Patches [N, L, D] of pictures [N, h, w, C], row by row.

        >>> view = View("grey", "none", 2, 0, 4, 4, 1, 256, False)
        >>> view.cut(np.arange(16).reshape(1, 4, 4, 1))[0, :2]
        array([[0, 1, 4, 5],
               [2, 3, 6, 7]])
        """
        n, channels, (rows, columns), p = len(numbers), numbers.shape[-1], self._grid(), self.patch
        cut = numbers.reshape(n, rows, p, columns, p, channels).transpose(0, 1, 3, 2, 4, 5)
        return cut.reshape(n, rows * columns, p * p * channels)

    def whole(self, patches: np.ndarray) -> np.ndarray:
        """Pictures [N, h, w, C] of patches [N, L, D]."""
        n, (rows, columns), p = len(patches), self._grid(), self.patch
        cut = patches.reshape(n, rows, columns, p, p, self.channels).transpose(0, 1, 3, 2, 4, 5)
        return cut.reshape(n, rows * p, columns * p, self.channels)

    def mask(self, observed: np.ndarray, pictures: int) -> np.ndarray:
        """Which pixels were observed, checked, bool [N, h, w]; a mask [H, W] holds for every picture."""
        observed = np.asarray(observed)
        if observed.dtype != bool:
            raise ValueError(f"observed: expected a mask of type bool (True: observed), found {observed.dtype}")
        sizes = ((self.height, self.width), self.size)
        if observed.ndim not in (2, 3) or observed.shape[-2:] not in sizes or (observed.ndim == 3 and len(observed) != pictures):
            raise ValueError(f"observed: expected a mask [{self.height}, {self.width}] or [{pictures}, {self.height}, "
                             f"{self.width}], found {list(observed.shape)}")
        height, width = self.size
        return np.broadcast_to(observed[..., :height, :width], (pictures, height, width))

    def cut_mask(self, mask: Optional[np.ndarray]) -> Optional[np.ndarray]:
        """Masks [N, h, w] by number of every patch [N, L, D]."""
        return None if mask is None else self.cut(np.repeat(mask[..., None], self.channels, -1))

    def _grid(self) -> tuple[int, int]:
        return self.size[0] // self.patch, self.size[1] // self.patch

    def _scales(self) -> int:
        return self.patch.bit_length() - 1
