"""Patch circuits that are Gaussian scale mixtures, in the density reading (docs/format.md, *Patch circuits: gaussian*).

    p(x | k) = sum_s w_ks Normal(y; mean_k, Sigma_ks),    y = (x - centre)[order],    Sigma_ks = diag(sigma_s) shape_k diag(sigma_s)

With v_g = L_k^-1 applied to the entries of group g of y - mean_k (the others 0) and L_k the Cholesky factor of shape_k, the squared
distance under scale s is |sum_g v_g / scales[s, g]|^2: all scales come from G products, whatever their number. For a marginal, rows
and columns of shape_k that were not observed are left out; the rest is regressed on what was observed (Schur complement).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Iterator, Mapping, Optional

import numpy as np

from .logarithm import draw, log_sum, softmax
from .normal import HALF_LOG_TWO_PI

_CHUNK = 4096
# The mask of a patch of which everything was observed.
ALL = b""


class Gaussian:
    """p(x | k) for all K clusters. Patches are float [M, D] in the order of the patch, masks bool [M, D] (None: all observed)."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.least, self.greatest = tensors["ranges"].T
        self.centre, self.order, self.group = (tensors[f"patch.{name}"] for name in ("centre", "order", "group"))
        self.scales, self.mean, self.log_weights = (tensors[f"patch.{name}"] for name in ("scales", "mean", "log_weights"))
        self.shape = _shapes(tensors)  # [K, D, D]
        self.clusters = len(self.mean)
        self._covariance_parameters = _covariance_parameters(tensors)
        self.given = lru_cache(maxsize=8)(self._given)

    @property
    def parameters(self) -> int:
        """Free numbers: means, covariances (factors but for their rotations), weights of scales."""
        return self.clusters * (len(self.order) + self._covariance_parameters + self.scales.shape[0] - 1)

    def log_prob(self, points: np.ndarray, observed: Optional[np.ndarray] = None) -> np.ndarray:
        """log p(observed numbers | k) [M, K] in nats."""
        out = np.empty((len(points), self.clusters))
        for rows, seen in self._alike(points, observed):
            given, y = self.given(seen), self.placed(points[rows])
            for k in range(self.clusters):
                out[rows, k] = log_sum(given.by_scale(k, y))
        return out

    def by_scale(self, points: np.ndarray) -> np.ndarray:
        """log of w_ks times the density [M, K, S] of whole patches in nats."""
        y = self.placed(points)
        return np.stack([self.given(ALL).by_scale(k, y) for k in range(self.clusters)], 1)

    def sample(
        self, clusters: np.ndarray, points: np.ndarray, observed: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Points of which what was not observed is drawn from p(. | observed, cluster of the row): cluster, scale, Gaussian."""
        out = points.copy()
        for rows, seen in self._alike(points, observed):
            given = self.given(seen)
            for k in np.unique(clusters[rows]):
                own = rows[clusters[rows] == k]
                y = self.placed(points[own])
                s = draw(softmax(given.by_scale(k, y)), rng)
                mean = given.mean(k, y, self.scales[s])
                noise = rng.standard_normal(mean.shape) @ given.missing_factor(k).T
                drawn = mean + noise * self.scales[s][:, self.group[given.missing]]
                places = self.order[given.missing]
                out[np.ix_(own, places)] = drawn + self.centre[places]
        return out

    def moments(self, weights: np.ndarray, points: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and mean square [M, D] of the points given the observed numbers, clusters weighed by p(k | x) [M, K]."""
        mean, square = np.zeros(points.shape), np.zeros(points.shape)
        for rows, seen in self._alike(points, observed):
            given = self.given(seen)
            places = self.order[given.missing]
            for k in range(self.clusters):
                own = rows[weights[rows, k] > 0]
                if not len(own) or not len(places):
                    continue
                y = self.placed(points[own])
                share = softmax(given.by_scale(k, y)) * weights[own, k, None]
                variance = (given.missing_factor(k) ** 2).sum(1)
                for s, scales in enumerate(self.scales):
                    m = given.mean(k, y, np.broadcast_to(scales, (len(own), len(scales)))) + self.centre[places]
                    spread = variance * scales[self.group[given.missing]] ** 2
                    mean[np.ix_(own, places)] += share[:, s, None] * m
                    square[np.ix_(own, places)] += share[:, s, None] * (m**2 + spread)
        return mean, square

    def maximum(self, points: np.ndarray, observed: Optional[np.ndarray] = None) -> np.ndarray:
        """log max over scales and missing numbers of the density p(points, scale | k) [M, K] in nats."""
        out = np.empty((len(points), self.clusters))
        for rows, seen in self._alike(points, observed):
            given, y = self.given(seen), self.placed(points[rows])
            for k in range(self.clusters):
                out[rows, k] = given.maximum_by_scale(k, y).max(1)
        return out

    def maximiser(self, clusters: np.ndarray, points: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Points of which what was not observed is most probable, together with the scale, under the cluster of the row."""
        out = points.copy()
        for rows, seen in self._alike(points, observed):
            given = self.given(seen)
            places = self.order[given.missing]
            for k in np.unique(clusters[rows]):
                own = rows[clusters[rows] == k]
                y = self.placed(points[own])
                s = given.maximum_by_scale(k, y).argmax(1)
                out[np.ix_(own, places)] = given.mean(k, y, self.scales[s]) + self.centre[places]
        return out

    def placed(self, points: np.ndarray) -> np.ndarray:
        """y = (x - centre)[order] of points [M, D]."""
        return (points - self.centre)[:, self.order]

    def _given(self, seen: bytes) -> Given:
        mask = np.frombuffer(seen, bool) if seen else np.ones(len(self.order), bool)
        return Given(self, mask[self.order])

    def _alike(self, points: np.ndarray, observed: Optional[np.ndarray]) -> Iterator[tuple[np.ndarray, bytes]]:
        """Rows with the same mask, a chunk at a time, and the mask as bytes (empty for all observed)."""
        if observed is None or observed.all():
            groups = [(np.arange(len(points)), ALL)]
        else:
            masks, which = np.unique(observed, axis=0, return_inverse=True)
            which = which.ravel()
            keys = (ALL if mask.all() else mask.tobytes() for mask in masks)
            groups = [(np.flatnonzero(which == i), key) for i, key in enumerate(keys)]
        for rows, key in groups:
            for start in range(0, len(rows), _CHUNK):
                yield rows[start:start + _CHUNK], key


class Given:
    """The Gaussians' marginals over observed places (bool [D], in the order of the tensors), and the rest given them."""

    def __init__(self, family: Gaussian, seen: np.ndarray):
        self.family = family
        self.observed, self.missing = np.flatnonzero(seen), np.flatnonzero(~seen)
        own = family.shape[:, self.observed[:, None], self.observed]
        lower = np.linalg.cholesky(own)
        self.diagonal = np.diagonal(lower, axis1=1, axis2=2)  # [K, O]
        self.whiten = np.linalg.inv(lower) if len(self.observed) else lower
        group = family.group[self.observed]
        self.groups = [np.flatnonzero(group == g) for g in range(family.scales.shape[1])]
        log_sigma = np.log(family.scales)[:, group].sum(1)  # [S]
        log_det = np.log(self.diagonal).sum(1)[:, None] + log_sigma
        self.log_constant = family.log_weights - log_det - len(self.observed) * HALF_LOG_TWO_PI  # [K, S]
        self._factors: dict[int, np.ndarray] = {}

    def white(self, k: int, y: np.ndarray) -> list[np.ndarray]:
        """v_g [M, O] of every group, of places y [M, D]."""
        apart = y[:, self.observed] - self.family.mean[k][self.observed]
        return [apart[:, own] @ self.whiten[k][:, own].T for own in self.groups]

    def by_scale(self, k: int, y: np.ndarray) -> np.ndarray:
        """log of w_ks times the density of the observed places [M, S] in nats."""
        v, inverse = self.white(k, y), 1 / self.family.scales
        distance = np.zeros((len(y), len(inverse)))
        for g, a in enumerate(v):
            for h, b in enumerate(v[: g + 1]):
                pair = np.einsum("md,md->m", a, b) * (1 if g == h else 2)
                distance += pair[:, None] * (inverse[:, g] * inverse[:, h])
        return self.log_constant[k] - distance / 2

    def maximum_by_scale(self, k: int, y: np.ndarray) -> np.ndarray:
        """log max over the missing places of w_ks times the density [M, S]: a normal density is largest at its mean."""
        log_det = np.log(np.diagonal(self.missing_factor(k))).sum()
        log_sigma = np.log(self.family.scales)[:, self.family.group[self.missing]].sum(1)  # [S]
        return self.by_scale(k, y) - log_det - log_sigma - len(self.missing) * HALF_LOG_TWO_PI

    def mean(self, k: int, y: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Mean [M, missing] of the missing places given the observed ones, for scales [M, G] of the rows."""
        whitened = sum(v / scales[:, g, None] for g, v in enumerate(self.white(k, y)))
        return self.family.mean[k][self.missing] + (whitened @ self._across(k).T) * scales[:, self.family.group[self.missing]]

    def missing_factor(self, k: int) -> np.ndarray:
        """Lower factor of the covariance at scale 1 of the missing places given the observed ones."""
        if k not in self._factors:
            across = self._across(k)
            rest = self.family.shape[k][np.ix_(self.missing, self.missing)] - across @ across.T
            self._factors[k] = np.linalg.cholesky(rest)
        return self._factors[k]

    def _across(self, k: int) -> np.ndarray:
        """shape_MO L^-T: what the missing places have of every whitened observed one."""
        return self.family.shape[k][np.ix_(self.missing, self.observed)] @ self.whiten[k].T


def _shapes(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    if "patch.shape" in tensors:
        return tensors["patch.shape"]
    loadings, noise = tensors["patch.loadings"], tensors["patch.noise"]
    return loadings @ loadings.transpose(0, 2, 1) + noise[:, :, None] * np.eye(noise.shape[1])


def _covariance_parameters(tensors: Mapping[str, np.ndarray]) -> int:
    size = len(tensors["patch.order"])
    if "patch.loadings" not in tensors:
        return size * (size + 1) // 2
    rank = tensors["patch.loadings"].shape[2]
    return size * rank + size - rank * (rank - 1) // 2
