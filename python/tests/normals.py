"""Pictures of two Gaussian patches as one mixture of normals over all pixels, with plain formulas for what is known given some."""

import math
from dataclasses import dataclass

import numpy as np

from tests import tiny


@dataclass
class Normals:
    """Components J, one for every pair of clusters and scales: log_weights [J] (summed over the hidden states of the latent tree),
    log_largest [J] (the largest over them), codes [J, 2], mean [J, n] and covariance [J, n, n] of the pixels row by row."""

    log_weights: np.ndarray
    log_largest: np.ndarray
    codes: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    def given(self, points, seen):
        """log weight times density of the seen pixels [J], and mean [J, missing] and covariance of the others given them."""
        o, m = np.flatnonzero(seen), np.flatnonzero(~seen)
        own, across = self.covariance[:, o[:, None], o], self.covariance[:, m[:, None], o]
        gain = across @ np.linalg.inv(own)
        apart = points[o] - self.mean[:, o]
        density = -0.5 * (np.einsum("jo,jop,jp->j", apart, np.linalg.inv(own), apart) + np.linalg.slogdet(2 * np.pi * own)[1])
        mean = self.mean[:, m] + np.einsum("jmo,jo->jm", gain, apart)
        return density, mean, self.covariance[:, m[:, None], m] - gain @ across.transpose(0, 2, 1)

    def moments(self, points, seen):
        """Mean [missing] and covariance [missing, missing] of the pixels that were not seen."""
        density, mean, covariance = self.given(points, seen)
        share = np.exp(self.log_weights + density - np.logaddexp.reduce(self.log_weights + density))
        total = share @ mean
        apart = mean - total
        return total, np.einsum("j,jmn->mn", share, covariance + apart[:, :, None] * apart[:, None])

    def cells(self, points, seen, levels):
        """p(pixel rounded down = v) [missing, levels], all that lies beyond a level's end being put to it."""
        density, mean, covariance = self.given(points, seen)
        share = np.exp(self.log_weights + density - np.logaddexp.reduce(self.log_weights + density))
        sigma = np.sqrt(np.einsum("jmm->jm", covariance))
        below = [np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)))((v - mean) / sigma) for v in range(1, levels)]
        cumulative = np.stack([np.zeros_like(mean), *below, np.ones_like(mean)])
        return np.einsum("j,vjm->mv", share, np.diff(cumulative, axis=0))

    def largest(self, points, seen):
        """The largest log density of all latents and missing pixels together, its clusters [2] and the missing pixels."""
        density, mean, covariance = self.given(points, seen)
        total = self.log_largest + density - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
        return total.max(), self.codes[total.argmax()], mean[total.argmax()]


def of_pairs(m):
    """All components of a model of two patches of 2 x 2 pixels."""
    t = m.tensors
    shapes = t.get("patch.shape")
    if shapes is None:
        shapes = [a @ a.T + np.diag(b) for a, b in zip(t["patch.loadings"], t["patch.noise"])]
    places = m.view.cut(np.arange(8).reshape(1, 2, 4, 1))[0][:, t["patch.order"]]  # of a patch's numbers among the pixels
    latents = tiny.latents(t, m.clusters)
    each = [(k, s) for k in range(m.clusters) for s in range(len(t["patch.scales"]))]
    found = []
    for first in each:
        for second in each:
            mean, covariance = np.zeros(8), np.zeros((8, 8))
            for place, (k, s) in zip(places, (first, second)):
                sigma = t["patch.scales"][s, t["patch.group"]]
                mean[place] = t["patch.mean"][k] + t["patch.centre"][t["patch.order"]]
                covariance[np.ix_(place, place)] = shapes[k] * np.outer(sigma, sigma)
            own = latents[:, :, first[0], second[0]]
            scales = t["patch.log_weights"][first] + t["patch.log_weights"][second]
            found.append((np.log(own.sum()) + scales, np.log(own.max()) + scales, (first[0], second[0]), mean, covariance))
    return Normals(*(np.array(part) for part in zip(*found)))
