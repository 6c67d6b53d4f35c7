"""The standard normal distribution: log Phi(z), and the logarithm of what an interval holds.

numpy has no error function. For x = -z / sqrt(2) >= 0 the smooth part of erfc, f(t) = log erfc(x) + x^2 with t = 2 / (2 + x) in
(0, 1], is interpolated at Chebyshev points of which the values come from `math.erfc` and, for x > 6, from the asymptotic series;
the error of the logarithm is about 1e-14.
"""

from __future__ import annotations

import math

import numpy as np

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
_POINTS = 48


def _smooth(x: float) -> float:
    """log erfc(x) + x^2."""
    if x < 6:
        return math.log(math.erfc(x)) + x * x
    term = total = 1.0
    for n in range(1, 18):
        term *= -(2 * n - 1) / (2 * x * x)
        total += term
    return math.log(total / (x * math.sqrt(math.pi)))


def _interpolation() -> np.ndarray:
    """Coefficients of Chebyshev polynomials in 2 t - 1 of f(t) - log t, which is bounded at t = 0."""
    nodes = np.cos((np.arange(_POINTS) + 0.5) * np.pi / _POINTS)
    t = (nodes + 1) / 2
    values = [_smooth(2 / s - 2) - math.log(s) for s in t]
    return np.polynomial.chebyshev.chebfit(nodes, values, _POINTS - 1)


def _polynomial() -> np.ndarray:
    """The interpolation by powers of 2 t - 1, greatest first; what follows the last coefficient above 4e-15 is rounding."""
    series = _interpolation()
    return np.polynomial.chebyshev.cheb2poly(series[: 1 + np.flatnonzero(np.abs(series) > 4e-15)[-1]])[::-1]


_COEFFICIENTS = _polynomial()
_BLOCK = 1 << 13


def log_phi(z: np.ndarray) -> np.ndarray:
    """log Phi(z), by element; -inf and inf are allowed.

    >>> [round(float(v), 4) for v in log_phi(np.array([-np.inf, -40.0, -1.0, 0.0, 3.0, np.inf]))]
    [-inf, -804.6084, -1.841, -0.6931, -0.0014, -0.0]
    """
    z = np.asarray(z, float)
    flat, out = z.ravel(), np.empty(z.size)
    for start in range(0, z.size, _BLOCK):  # so that the polynomial's many passes stay in the cache
        out[start:start + _BLOCK] = _log_phi(flat[start:start + _BLOCK])
    return out.reshape(z.shape)


def _log_phi(z: np.ndarray) -> np.ndarray:
    x = np.minimum(np.abs(z), 1e150) / math.sqrt(2)
    t = 2 / (2 + x)
    u = 2 * t - 1
    left = np.full_like(u, _COEFFICIENTS[0])
    for c in _COEFFICIENTS[1:]:
        left *= u
        left += c
    left += np.log(t) - x * x - math.log(2)
    right = z > 0
    left[right] = np.log1p(-np.exp(np.minimum(left[right], -math.log(2))))
    left[z == -np.inf] = -np.inf
    return left


def log_interval(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """log(Phi(high) - Phi(low)) for low < high. On the right both are mirrored, where their logarithms are exact.

    >>> log_interval(np.array([-np.inf, 30.0]), np.array([np.inf, 31.0])).round(4)
    array([   0.    , -454.3212])
    """
    with np.errstate(invalid="ignore"):
        flip = low + high > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    near, far = log_phi(high), log_phi(low)
    return near + np.log(-np.expm1(np.minimum(far - near, -1e-300)))
