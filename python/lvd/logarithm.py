"""Sums and maxima of probabilities that are written as natural logarithms, and draws from them."""

from __future__ import annotations

import numpy as np

# Numbers that a maximum looks at in one go, so that they stay in the cache.
_MOST = 1 << 16


def log(a: np.ndarray) -> np.ndarray:
    """Natural logarithms, -inf of 0, without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(a)


def log_sum(a: np.ndarray, axis: int = -1) -> np.ndarray:
    """log sum exp along an axis.

    >>> log_sum(np.array([-np.inf, -1000.0, -1000.0])).round(4), log_sum(np.array([-np.inf]))
    (np.float64(-999.3069), np.float64(-inf))
    """
    top = a.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return log(np.exp(a - top).sum(axis)) + np.squeeze(top, axis)


def largest(log_table: np.ndarray, message: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """max over h of log_table[j, h] + message[h, n], and the first h where it is taken: both [J, N].

    >>> largest(np.array([[0.0, -1.0], [-3.0, -1.0]]), np.array([[0.0], [-0.5]]))
    (array([[ 0. ],
           [-1.5]]), array([[0],
           [1]]))
    """
    step = max(1, _MOST // max(1, message.size))
    values, places = [], []
    for start in range(0, len(log_table), step):
        joint = log_table[start:start + step, :, None] + message
        values.append(joint.max(1))
        places.append(joint.argmax(1))
    return np.concatenate(values), np.concatenate(places)


def softmax(a: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp(a) over its sum along an axis."""
    with np.errstate(invalid="ignore"):
        return np.exp(a - np.expand_dims(log_sum(a, axis), axis))


def draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An index for every row of weights [.., n], which need not sum to 1; rows of zeros are refused.

    >>> draw(np.array([[0.0, 2.0], [1.0, 0.0]]), np.random.default_rng(0))
    array([1, 0])
    """
    below = weights.cumsum(-1)
    if not (below[..., -1] > 0).all():
        raise ValueError("the observed pixels have probability 0 under the model: nothing can be drawn given them")
    u = rng.random(below.shape[:-1]) * below[..., -1]
    return np.minimum((below <= u[..., None]).sum(-1), weights.shape[-1] - 1)
