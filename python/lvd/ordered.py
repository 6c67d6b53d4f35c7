"""The ordered reading of Gaussian patch circuits: a probability of whole numbers (docs/format.md, *Patch circuits: gaussian*).

With y = (x + 1/2 - centre)[order], L_ks = diag(sigma_s) L_k and w = L_ks^-1 (y - mean_k), number d given the middles before it is
normal with mean y_d - L_dd w_d and deviation L_dd, so its box holds Phi(w_d + h) - Phi(w_d - h) with h = 1 / (2 L_dd); the least and
the greatest value of a number take the tails. Marginals other than of a prefix have no closed form.
"""

from __future__ import annotations

import numpy as np

from .gaussian import ALL, Gaussian, Given
from .logarithm import draw, log_sum
from .normal import log_interval

_CHUNK = 2048


def log_prob(family: Gaussian, patches: np.ndarray, window: float = np.inf) -> np.ndarray:
    """log P(x | k) [M, K] in nats of whole numbers [M, D]. Clusters and scales whose density at y lies more than `window` nats
    below the best one's of the patch count as 0."""
    out = np.full((len(patches), family.clusters), -np.inf)
    for start in range(0, len(patches), _CHUNK):
        rows = slice(start, start + _CHUNK)
        density = family.by_scale(patches[rows] + 0.5)
        alive = density >= density.max((1, 2), keepdims=True) - window
        for k in np.flatnonzero(alive.any((0, 2))):
            own = np.flatnonzero(alive[:, k].any(1))
            masses = np.full((len(own), alive.shape[2]), -np.inf)
            _add_masses(family, k, patches[rows][own], alive[own, k], masses)
            out[start + own, k] = log_sum(masses)
    return out


def _add_masses(family: Gaussian, k: int, patches: np.ndarray, alive: np.ndarray, masses: np.ndarray) -> None:
    given = family.given(ALL)
    x = patches[:, family.order]
    least, greatest = x == family.least[family.order], x == family.greatest[family.order]
    white = given.white(k, family.placed(patches + 0.5))
    for s in np.flatnonzero(alive.any(0)):
        own = np.flatnonzero(alive[:, s])
        w = sum(v[own] / family.scales[s, g] for g, v in enumerate(white))
        half = 0.5 / (given.diagonal[k] * family.scales[s][family.group])
        low, high = np.where(least[own], -np.inf, w - half), np.where(greatest[own], np.inf, w + half)
        masses[own, s] = family.log_weights[k, s] + log_interval(low, high).sum(1)


def sample(family: Gaussian, clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole patches [M, D] of these clusters, number by number in the order of the reading."""
    given: Given = family.given(ALL)
    lower = np.linalg.inv(given.whiten)
    out = np.empty((len(clusters), len(family.order)), np.int64)
    for k in np.unique(clusters):
        own = np.flatnonzero(clusters == k)
        weights = np.exp(family.log_weights[k] - family.log_weights[k].max())
        sigma = family.scales[draw(np.tile(weights, (len(own), 1)), rng)][:, family.group]  # [M, D]
        white = np.zeros((len(own), len(family.order)))
        for d, place in enumerate(family.order):
            step = sigma[:, d] * lower[k, d, d]
            mean = family.mean[k, d] + sigma[:, d] * (white[:, :d] @ lower[k, d, :d])
            drawn = np.floor(mean + step * rng.standard_normal(len(own)) + family.centre[place])
            value = np.clip(drawn, family.least[place], family.greatest[place])
            white[:, d] = (value + 0.5 - family.centre[place] - mean) / step
            out[own, place] = value
    return out
