"""p(z) of the clusters z_1 .. z_L of a picture's patches, and what it says given log p(x_i | z_i) (docs/format.md, *The model*)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional

import numpy as np

from .logarithm import draw, largest, log, log_sum, softmax
from .tree import Messages, Tree


@dataclass(frozen=True)
class Independent:
    """Every z_i by itself: log p(z_i = k) = log_weights[k]."""

    log_weights: np.ndarray

    @property
    def parameters(self) -> int:
        """Free numbers."""
        return len(self.log_weights) - 1

    def log_prob(self, log_patch: np.ndarray) -> np.ndarray:
        """log p(x) [N] in nats, from log p(x_i | k) [N, L, K]."""
        return log_sum(log_patch + self.log_weights).sum(1)

    def posterior(self, log_patch: np.ndarray) -> np.ndarray:
        """p(z_i = k | x) [N, L, K]."""
        return softmax(log_patch + self.log_weights)

    def sample(self, log_patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Clusters [N, L] drawn given the evidence."""
        return draw(self.posterior(log_patch), rng)

    def most_probable(self, log_patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clusters [N, L] that are most probable together, and the logarithm [N] of their joint probability with the evidence.

        >>> Independent(np.log([0.75, 0.25])).most_probable(np.log([[[0.1, 0.1], [0.1, 0.9]]]))
        (array([[0, 1]]), array([-4.08192204]))
        """
        joint = log_patch + self.log_weights
        return joint.argmax(-1), joint.max(-1).sum(1)

    def log_codes(self, codes: np.ndarray) -> np.ndarray:
        """log p(z) [N] of clusters [N, L]."""
        return self.log_weights[codes].sum(1)


@dataclass(frozen=True)
class LatentTree:
    """A tree over the patches; its states are the clusters, or hidden ones with emissions p(k | h) [L, H, K]."""

    tree: Tree
    emissions: Optional[np.ndarray]

    @property
    def parameters(self) -> int:
        """Free numbers: n - 1 for every row of n probabilities."""
        positions, states = self.tree.edges.shape[:2]
        rows = 0 if self.emissions is None else positions * states * (self.emissions.shape[2] - 1)
        return (states - 1) * (1 + (positions - 1) * states) + rows

    def log_prob(self, log_patch: np.ndarray) -> np.ndarray:
        """log p(x) [N] in nats, from log p(x_i | k) [N, L, K]."""
        return self.tree.log_heads(self._upward(log_patch, keep=False))[:, 0]

    def posterior(self, log_patch: np.ndarray) -> np.ndarray:
        """p(z_i = k | x) [N, L, K]."""
        messages = self._upward(log_patch)
        states = np.stack(self.tree.posteriors(messages, np.zeros(len(log_patch), int))).transpose(2, 0, 1)
        if self.emissions is None:
            return states
        patch = np.exp(log_patch - log_patch.max(-1, keepdims=True))
        each = np.matmul(patch.transpose(1, 0, 2), self.emissions.transpose(0, 2, 1)).transpose(1, 0, 2)
        share = np.divide(states, each, out=np.zeros_like(states), where=each > 0)
        return patch * np.matmul(share.transpose(1, 0, 2), self.emissions).transpose(1, 0, 2)

    def sample(self, log_patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Clusters [N, L] drawn given the evidence."""
        states = self.tree.sample(self._upward(log_patch), np.zeros(len(log_patch), int), rng)
        if self.emissions is None:
            return states
        return draw(softmax(log(self.emissions[np.arange(states.shape[1]), states]) + log_patch), rng)

    def most_probable(self, log_patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clusters [N, L] that are most probable together, and the logarithm [N] of their joint probability with the evidence;
        hidden states are maximised with them, not summed out."""
        values, rows = log_patch.transpose(1, 2, 0), np.arange(len(log_patch))  # [L, K, N]
        if self.emissions is None:
            maximum = self.tree.maximise(values.__getitem__, len(rows))
            return self.tree.maximiser(maximum, np.zeros(len(rows), int)), maximum.log_heads[:, 0]
        pairs = [largest(log(table), value) for table, value in zip(self.emissions, values)]  # by hidden state
        maximum = self.tree.maximise(lambda i: pairs[i][0], len(rows))
        states = self.tree.maximiser(maximum, np.zeros(len(rows), int))
        codes = np.stack([clusters[states[:, i], rows] for i, (_, clusters) in enumerate(pairs)], 1)
        return codes, maximum.log_heads[:, 0]

    def log_codes(self, codes: np.ndarray) -> np.ndarray:
        """log p(z) [N] of clusters [N, L]."""
        clusters = (self.tree.edges if self.emissions is None else self.emissions).shape[-1]
        return self.log_prob(log(np.eye(clusters)[codes]))

    def _upward(self, log_patch: np.ndarray, keep: bool = True) -> Messages:
        top = np.maximum(log_patch.max(-1), -1e300)  # [N, L]
        patch = np.exp(log_patch - top[..., None])
        evidence = patch.transpose(1, 2, 0)
        if self.emissions is not None:
            evidence = np.matmul(self.emissions, evidence)
        messages = self.tree.upward(evidence.__getitem__, len(log_patch), keep)
        messages.log_scale += top.sum(1)
        return messages


def of_file(tensors: Mapping[str, np.ndarray]) -> Independent | LatentTree:
    """The prior of a model file."""
    if "prior.log_weights" in tensors:
        return Independent(tensors["prior.log_weights"])
    roots, edges = (tensors[f"prior.{name}"][0].astype(float) for name in ("roots", "edges"))
    emissions = tensors.get("prior.emissions")
    return LatentTree(Tree(tensors["prior.parents"], roots, edges), None if emissions is None else emissions[0].astype(float))
