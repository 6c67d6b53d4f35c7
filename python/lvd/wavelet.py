"""The 5/3 lifting of whole pictures (docs/format.md, *Transforms*), linear or in whole numbers, and its inverse.

    d[n] = x[2n+1] - (x[2n] + x[2n+2]) / 2,    s[n] = x[2n] + (d[n-1] + d[n]) / 4

first along columns of pixels, then along rows, again on the s of both, `levels` times. Coefficients stay where their pixel was.
The linear form has determinant 1, the whole form (the quotients as floor(a / 2) and floor((b + 2) / 4)) is a bijection.
"""

from __future__ import annotations

import numpy as np


def forward(pictures: np.ndarray, levels: int) -> np.ndarray:
    """Coefficients of pictures [N, H, W, C]; whole where the pictures are whole.

    >>> forward(np.array([1, 5, 3, 2]).reshape(1, 1, 4, 1).repeat(2, 1), 1)[0, 0, :, 0]
    array([ 3,  3,  4, -1])
    """
    out = pictures.copy()
    for level in range(levels):
        coarse = out[:, :: 2**level, :: 2**level]
        for axis in (1, 2):
            even, odd = _halves(coarse, axis)
            odd -= _prediction(even)
            even += _update(odd)
    return out


def inverse(coefficients: np.ndarray, levels: int) -> np.ndarray:
    """The pictures [N, H, W, C] of these coefficients.

    >>> x = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3))
    >>> bool((inverse(forward(x, 3), 3) == x).all()), bool(np.allclose(inverse(forward(x + 0.5, 3), 3), x + 0.5))
    (True, True)
    """
    out = coefficients.copy()
    for level in reversed(range(levels)):
        coarse = out[:, :: 2**level, :: 2**level]
        for axis in (2, 1):
            even, odd = _halves(coarse, axis)
            even -= _update(odd)
            odd += _prediction(even)
    return out


def _halves(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Even and odd entries along an axis, as views with that axis first."""
    x = np.moveaxis(x, axis, 0)
    return x[::2], x[1::2]


def _prediction(even: np.ndarray) -> np.ndarray:
    """The mean of both even neighbours; the last one counts twice at the border."""
    total = even + np.concatenate([even[1:], even[-1:]])
    return total >> 1 if np.issubdtype(total.dtype, np.integer) else total / 2


def _update(odd: np.ndarray) -> np.ndarray:
    """A quarter of both details; the first one counts twice at the border."""
    total = odd + np.concatenate([odd[:1], odd[:-1]])
    return (total + 2) >> 2 if np.issubdtype(total.dtype, np.integer) else total / 4
