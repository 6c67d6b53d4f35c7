"""Patch circuits that are hidden Chow-Liu trees (docs/format.md, *Patch circuits: hclt*): p(patch | cluster), exactly.

A patch is D whole numbers, clusters are heads of T trees: k = t E + e. What is not observed is summed out: its inputs are ones,
as are those of the regions behind the first D of a tree, which observe nothing.
"""

from __future__ import annotations

from typing import Iterator, Mapping, Optional

import numpy as np

from .logarithm import draw, log
from .tree import Maximum, Messages, Tree

_CHUNK = 2048


class Hclt:
    """p(x | k) for all K clusters at once. Patches are int [M, D], masks bool [M, D] (None: all observed)."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.least, self.greatest = tensors["ranges"].T
        self.inputs = np.ascontiguousarray(tensors["patch.inputs"].transpose(0, 1, 3, 2), float)  # [T, D, H, V]
        parts = (tensors["patch.trees"], tensors["patch.roots"].astype(float), tensors["patch.edges"].astype(float))
        self.trees = [Tree(*part) for part in zip(*parts)]
        self.heads = parts[1].shape[1]
        self.clusters = len(self.trees) * self.heads

    @property
    def parameters(self) -> int:
        """Free numbers: n - 1 for every row of n probabilities."""
        trees, _, states, _ = self.inputs.shape
        size = len(self.trees[0].parents)
        values = int((self.greatest - self.least).sum())
        return trees * (states - 1) * (self.heads + (size - 1) * states) + trees * values * states

    def log_prob(self, patches: np.ndarray, observed: Optional[np.ndarray] = None) -> np.ndarray:
        """log p(observed numbers | k) [M, K] in nats."""
        out = np.empty((len(patches), self.clusters))
        for t, tree in enumerate(self.trees):
            for rows in _chunks(len(patches)):
                messages = self._upward(t, patches[rows], None if observed is None else observed[rows], keep=False)
                out[rows, t * self.heads:(t + 1) * self.heads] = tree.log_heads(messages)
        return out

    def sample(
        self, clusters: np.ndarray, patches: np.ndarray, observed: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Patches of which what was not observed is drawn from p(. | observed, cluster of the row)."""
        out = patches.copy()
        for t, tree in enumerate(self.trees):
            own = np.flatnonzero(clusters // self.heads == t)
            for part in _chunks(len(own)):
                rows = own[part]
                messages = self._upward(t, patches[rows], observed[rows])
                states = tree.sample(messages, clusters[rows] % self.heads, rng)
                for d in np.flatnonzero(~observed[rows].all(0)):
                    drawn = draw(self.inputs[t, d][states[:, d]], rng) + self.least[d]
                    out[rows, d] = np.where(observed[rows, d], patches[rows, d], drawn)
        return out

    def moments(
        self, weights: np.ndarray, patches: np.ndarray, observed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and mean square [M, D] of the numbers given the observed ones, clusters weighed by p(k | x) [M, K]."""
        mean, square = np.zeros(patches.shape), np.zeros(patches.shape)
        values = self.least[:, None] + np.arange(self.inputs.shape[3])  # [D, V]
        by_state = np.stack([np.einsum("dv,tdhv->tdh", values**power, self.inputs) for power in (0.0, 1.0, 2.0)])
        first, second = by_state[1] / by_state[0], by_state[2] / by_state[0]
        for k in range(self.clusters):
            t, e = divmod(k, self.heads)
            own = np.flatnonzero(weights[:, k] > 0)
            for part in _chunks(len(own)):
                rows = own[part]
                messages = self._upward(t, patches[rows], observed[rows])
                flows = self.trees[t].posteriors(messages, np.full(len(rows), e))
                for d in np.flatnonzero(~observed[rows].all(0)):
                    mean[rows, d] += weights[rows, k] * (first[t, d] @ flows[d])
                    square[rows, d] += weights[rows, k] * (second[t, d] @ flows[d])
        return mean, square

    def maximum(self, patches: np.ndarray, observed: Optional[np.ndarray] = None) -> np.ndarray:
        """log max over states and missing numbers of p(patch, states | k) [M, K] in nats."""
        out = np.empty((len(patches), self.clusters))
        for t in range(len(self.trees)):
            for rows in _chunks(len(patches)):
                maximum = self._maximise(t, patches[rows], None if observed is None else observed[rows], keep=False)
                out[rows, t * self.heads:(t + 1) * self.heads] = maximum.log_heads
        return out

    def maximiser(self, clusters: np.ndarray, patches: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Patches of which what was not observed is most probable, together with the states, under the cluster of the row."""
        out, best = patches.copy(), self.inputs.argmax(3) + self.least[:, None]  # [T, D, H]
        for t, tree in enumerate(self.trees):
            own = np.flatnonzero(clusters // self.heads == t)
            for part in _chunks(len(own)):
                rows = own[part]
                states = tree.maximiser(self._maximise(t, patches[rows], observed[rows]), clusters[rows] % self.heads)
                completed = np.take_along_axis(best[t], states[:, :len(best[t])].T, 1).T
                out[rows] = np.where(observed[rows], patches[rows], completed)
        return out

    def _maximise(self, t: int, patches: np.ndarray, observed: Optional[np.ndarray], keep: bool = True) -> Maximum:
        values = patches - self.least

        def log_evidence(d: int) -> Optional[np.ndarray]:
            if d >= len(self.least):
                return None
            table = log(self.inputs[t, d])
            if observed is None or observed[:, d].all():
                return table.take(values[:, d], 1)
            seen = observed[:, d]
            return np.where(seen, table.take(np.where(seen, values[:, d], 0), 1), table.max(1, keepdims=True))

        return self.trees[t].maximise(log_evidence, len(patches), keep)

    def _upward(self, t: int, patches: np.ndarray, observed: Optional[np.ndarray], keep: bool = True) -> Messages:
        values = patches - self.least

        def evidence(d: int) -> Optional[np.ndarray]:
            if d >= len(self.least):
                return None
            table = self.inputs[t, d]
            if observed is None or observed[:, d].all():
                return table.take(values[:, d], 1)
            seen = observed[:, d]
            return np.where(seen, table.take(np.where(seen, values[:, d], 0), 1), 1.0) if seen.any() else None

        return self.trees[t].upward(evidence, len(patches), keep)


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, rows, _CHUNK))
