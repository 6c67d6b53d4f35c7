"""Patches with context: the windows that they are seen in, the gate, and the experts' regressions (docs/format.md).

    p(x | c) = sum_k g_k(c) sum_s h_ks(c) p(x | c, k, s)

Every expert k and group g of numbers has the moments m_g, S_g of all numbers up to the group; with the Cholesky factor L of the rows
of S_g that lie in the picture, y = the group's entries of L^-1 (w - m_g) are standard normal times the scale of the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import numpy as np

from .logarithm import log_sum
from .normal import HALF_LOG_TWO_PI


@dataclass(frozen=True)
class Windows:
    """Windows of patches of P x P pixels with t pixels of context, of pictures of any size."""

    patch: int
    context: int
    channels: int

    @property
    def context_numbers(self) -> int:
        return self.context * (2 * self.context + 2 * self.patch) * self.channels

    def corners(self, height: int, width: int) -> list[tuple[int, int]]:
        """The top left pixels of all patches, row by row."""
        return [(row, col) for row in range(0, height, self.patch) for col in range(0, width, self.patch)]

    def padded(self, numbers: np.ndarray) -> np.ndarray:
        """Pictures [N, H, W, C] with zeros around, as far as windows reach."""
        around = (self.context, self.context + self.patch)
        return np.pad(numbers, ((0, 0), around, around, (0, 0)))

    def at(self, padded: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        """The window [N, W] of a patch: t rows above, t columns to its left, the patch itself; each row, column, channel."""
        (row, col), t, p = corner, self.context, self.patch
        above = padded[:, row:row + t, col:col + 2 * t + p]
        left = padded[:, row + t:row + t + p, col:col + t]
        return np.concatenate([part.reshape(len(padded), -1) for part in (above, left, self.own(padded, corner))], 1)

    def own(self, padded: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        """The patch itself [N, P, P, C], a view."""
        row, col = corner[0] + self.context, corner[1] + self.context
        return padded[:, row:row + self.patch, col:col + self.patch]

    def near(self, width: int) -> np.ndarray:
        """Which pixels of the context are at most `width` rows and columns away from the patch, bool."""
        t, p = self.context, self.patch
        above = [(row, col) for row in range(-t, 0) for col in range(-t, t + p)]
        left = [(row, col) for row in range(p) for col in range(-t, 0)]
        return np.array([row >= -width and -width <= col < p + width for row, col in above + left])


class Gate:
    """log g_k(c) + log h_ks(c): constant, by a network of the context, or by the likelihood of the pixels next to the patch."""

    def __init__(self, tensors: Mapping[str, np.ndarray], windows: Windows):
        self.own, self.near = tensors["patch.log_weights"], windows.near(1)
        self.constant = tensors.get("prior.log_weights")
        self.layers = []
        if "patch.gate.w1" in tensors:
            self.layers = [tuple(tensors[f"patch.gate.{name}{i}"].astype(float) for name in "wb") for i in (1, 2, 3)]
        self.ring = Ring(tensors, windows) if "patch.gate.width" in tensors else None

    @property
    def constants(self) -> int:
        """Free numbers of the experts' weights, where no network has taken their place; with those of rings."""
        if self.layers:
            return 0
        return len(self.own) - 1 + (self.ring.parameters if self.ring else 0)

    @property
    def parameters(self) -> int:
        """Free numbers that are not the experts'."""
        return sum(w.size + b.size for w, b in self.layers)

    def log_weights(self, context: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """log of g_k h_ks [N, K, S] for contexts [N, pixels, C] about the centre, of which the pixels `seen` are in the picture."""
        if self.ring:
            return self.ring.log_weights(context, seen)
        if not self.layers:
            return np.broadcast_to(self.constant[:, None] + self.own, (len(context), *self.own.shape))
        x = self._features(context, seen)
        for i, (w, b) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ w.T + b
        v, u = np.split(x, [len(self.own)], 1)
        scales = self.own + u[:, None]
        return (v - log_sum(v)[:, None])[..., None] + scales - log_sum(scales)[..., None]

    def _features(self, context: np.ndarray, seen: np.ndarray) -> np.ndarray:
        n, _, channels = context.shape
        zero = np.zeros((n, channels))
        mean = context[:, seen].mean(1) if seen.any() else zero
        squares = (context - mean[:, None]) ** 2
        contrast = np.sqrt(1 + (squares[:, seen].mean(1) if seen.any() else zero))
        near = seen & self.near
        close = 0.5 * np.log1p(squares[:, near].mean(1)) if near.any() else zero
        numbers = np.where(seen[:, None], (context - mean[:, None]) / contrast[:, None], 0).reshape(n, -1)
        return np.concatenate([numbers, np.log(contrast), close, mean / 64, np.tile(seen.astype(float), (n, 1))], 1)


class Ring:
    """g_k h_ks in proportion to the experts' shares, their scales' weights, and the density of the pixels around the patch."""

    def __init__(self, tensors: Mapping[str, np.ndarray], windows: Windows):
        self.near, self.channels = windows.near(int(tensors["patch.gate.width"])), windows.channels
        self.scales = tensors["patch.scales"]
        self.prior = np.log(np.maximum(tensors["patch.share"], 1e-9))[:, None] + tensors["patch.log_weights"]
        groups = range(self.scales.shape[1])
        self.moments = [(tensors[f"patch.mean.{g}"], tensors[f"patch.shape.{g}"]) for g in groups]

    @property
    def parameters(self) -> int:
        """A mean and a covariance of every expert's ring, which no likelihood of a patch given its context needs."""
        numbers = int(self.near.sum()) * self.channels
        return len(self.prior) * (numbers * (numbers + 3) // 2)

    def log_weights(self, context: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """As those of Gate; pixels of the ring that are not in the picture are left out of its density."""
        pixels, c = np.flatnonzero(seen & self.near), context.reshape(len(context), -1)
        joint, places = np.tile(self.prior, (len(c), 1, 1)), np.zeros(0, int)
        colours = [range(self.channels)] if len(self.moments) == 1 else [[0], [1, 2]]
        for g, ((mean, shape), group) in enumerate(zip(self.moments, colours)):
            before = len(places)
            places = np.concatenate([places, [self.channels * pixel + colour for pixel in pixels for colour in group]]).astype(int)
            scale, count = self.scales[:, g], len(places) - before
            lower = np.linalg.cholesky(shape[:, places[:, None], places])
            about = (c[None, :, places] - mean[:, None, places]).transpose(0, 2, 1)  # [K, E, N]
            distance = (np.linalg.solve(lower, about)[:, before:] ** 2).sum(1).T if count else np.zeros(joint.shape[:2])
            constant = -np.log(np.diagonal(lower, axis1=1, axis2=2)[:, before:]).sum(1) - count * HALF_LOG_TWO_PI
            joint += constant[:, None] - count * np.log(scale) - distance[..., None] / (2 * scale**2)
        return joint - log_sum(joint.reshape(len(c), -1))[:, None, None]


@dataclass(frozen=True)
class Group:
    """Rows of the whitening that belong to one group of numbers, where `places` [E] of windows are in the picture."""

    places: np.ndarray  # [E], into w
    own: np.ndarray  # [d], into w
    mean: np.ndarray  # [K, E]
    whiten: np.ndarray  # [K, d, E]: rows of L^-1
    diagonal: np.ndarray  # [K, d]: of L

    def white(self, w: np.ndarray) -> np.ndarray:
        """y [N, K, d] of windows [N, W] in order: one product for all experts."""
        about = np.einsum("kde,ke->kd", self.whiten, self.mean)
        rows = self.whiten.reshape(-1, len(self.places))
        return (w[:, self.places] @ rows.T).reshape(len(w), *about.shape) - about


class Experts:
    """The regressions of all experts on what of their windows lies in the picture."""

    def __init__(self, tensors: Mapping[str, np.ndarray], windows: Windows):
        self.scales, self.order = tensors["patch.scales"], tensors["patch.order"]
        self.means = [tensors[f"patch.mean.{g}"] for g in range(self.scales.shape[1])]
        self.shapes = [tensors[f"patch.shape.{g}"] for g in range(self.scales.shape[1])]
        self.first = windows.context_numbers
        self._known: dict[bytes, list[Group]] = {}

    @property
    def parameters(self) -> int:
        """Free numbers of all experts: per group a regression on what comes before it, a covariance and means; scale weights."""
        clusters, each, before = len(self.means[0]), len(self.scales) - 1, self.first
        for mean in self.means:
            width = mean.shape[1] - before
            each += width * before + width * (width + 3) // 2
            before += width
        return clusters * each

    def groups(self, seen: np.ndarray) -> list[Group]:
        """The groups of numbers of windows of which `seen` (bool [W], in order) are in the picture; made once a kind of border."""
        key = seen.tobytes()
        if key not in self._known:
            firsts = [self.first, *(mean.shape[1] for mean in self.means)]
            self._known[key] = [_group(*part, seen, first) for *part, first in zip(self.means, self.shapes, firsts)]
        return self._known[key]

    def log_density(self, w: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """log p(x | c, k, s) [N, K, S] in nats of windows [N, W] in order."""
        total = np.zeros((len(w), len(self.means[0]), len(self.scales)))
        for g, group in enumerate(self.groups(seen)):
            scale = self.scales[:, g]
            distance = (group.white(w) ** 2).sum(-1)  # [N, K]
            constant = -np.log(group.diagonal).sum(1) - len(group.own) * HALF_LOG_TWO_PI
            total += constant[:, None] - len(group.own) * np.log(scale) - distance[..., None] / (2 * scale**2)
        return total


def _group(mean: np.ndarray, shape: np.ndarray, seen: np.ndarray, first: int) -> Group:
    places = np.flatnonzero(seen[: mean.shape[1]])
    lower = np.linalg.cholesky(shape[:, places[:, None], places])
    own = np.flatnonzero(places >= first)
    rows = np.linalg.inv(lower)[:, own] if len(places) else np.zeros((len(mean), 0, 0))
    return Group(places, places[own], mean[:, places], rows, np.diagonal(lower, axis1=1, axis2=2)[:, own])
