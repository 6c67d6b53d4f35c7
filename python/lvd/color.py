"""How the channels of a pixel are written as whole numbers (docs/format.md, *From pixels to patches*).

`grey`, `rgb`, `ycocg_r` and `ycocg_r_mod` are bijections, so their nats are those of the stored picture. `ycocg_lossy` and
`ycbcr_bt709` merge colours: they have no inverse, and what would need one is refused.
"""

from __future__ import annotations

import numpy as np

AS_STORED = ("grey", "rgb")
LOSSY = ("ycocg_lossy", "ycbcr_bt709")
NAMES = (*AS_STORED, "ycocg_r", "ycocg_r_mod", *LOSSY)

# Weights of R, G, B and the offset of Y, Cb, Cr, in ten-thousandths.
_BT709 = np.array([[2126, 7152, 722, 0], [-1146, -3854, 5000, 1_280_000], [5000, -4542, -458, 1_280_000]])


def forward(color: str, pixels: np.ndarray) -> np.ndarray:
    """Stored pixels [.., C] in this space, int64 [.., C].

    >>> forward("ycocg_r", np.array([255, 0, 0], np.uint8))
    array([  63,  255, -127])
    >>> forward("ycbcr_bt709", np.array([255, 0, 0], np.uint8))
    array([ 54,  99, 255])
    """
    x = pixels.astype(np.int64)
    if color in AS_STORED:
        return x
    red, green, blue = np.moveaxis(x, -1, 0)
    if color == "ycbcr_bt709":
        scaled = x @ _BT709[:, :3].T + _BT709[:, 3]
        return np.clip((scaled + 5000) // 10_000, 0, 255)
    if color == "ycocg_lossy":
        luma, orange, chroma = (red + 2 * green + blue) * 64, (red - blue) * 128, (2 * green - red - blue) * 64
        return np.clip(np.stack([luma // 255, orange // 255 + 128, chroma // 255 + 128], -1), 0, 255)
    wrap = (lambda a: a % 256) if color == "ycocg_r_mod" else (lambda a: a)
    orange = wrap(red - blue)
    middle = wrap(blue + (orange >> 1))
    chroma = wrap(green - middle)
    return np.stack([wrap(middle + (chroma >> 1)), orange, chroma], -1)


def inverse(color: str, numbers: np.ndarray, levels: int) -> np.ndarray:
    """The stored pixels, uint8 [.., C]; what belongs to no pixel is moved to the nearest value of every channel.

    >>> inverse("ycocg_r", np.array([63, 255, -127]), 256)
    array([255,   0,   0], dtype=uint8)
    """
    if color in LOSSY:
        raise ValueError(f"{color} merges colours and cannot be undone: ask for numbers (conditional_mean), not for pictures")
    x = numbers.astype(np.int64)
    if color not in AS_STORED:
        luma, orange, chroma = np.moveaxis(x, -1, 0)
        wrap = (lambda a: a % 256) if color == "ycocg_r_mod" else (lambda a: a)
        middle = wrap(luma - (chroma >> 1))
        blue = wrap(middle - (orange >> 1))
        x = np.stack([wrap(blue + orange), wrap(chroma + middle), blue], -1)
    return np.clip(x, 0, levels - 1).astype(np.uint8)
