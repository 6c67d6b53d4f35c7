"""Models whose patches see themselves alone: p(x) = sum over z of p(z) prod_i p(x_i | z_i) (docs/format.md, *The model*).

Every question is one upward pass over the patches' log p(x_i | k), the prior's answer to it, and draws or moments downward.
"""

from __future__ import annotations

from typing import Mapping, Optional

import numpy as np

from . import ordered, prior
from .gaussian import Gaussian
from .hclt import Hclt
from .model import DENSITY, ORDERED, Decomposition, Model, concatenated


class Mixture(Model):
    """Pictures x are uint8 [N, H, W, C] or [N, H, W]; masks are bool [H, W] or [N, H, W], True where observed."""

    def __init__(self, meta: Mapping[str, str], tensors: Mapping[str, np.ndarray]):
        super().__init__(meta, tensors)
        if self.family not in ("hclt", "gaussian"):
            raise ValueError(f"family {self.family} is not known: expected hclt or gaussian")
        self.patch = Gaussian(tensors) if self.family == "gaussian" else Hclt(tensors)
        self.prior = prior.of_file(tensors)
        if self.patch.clusters != self.clusters:
            raise ValueError(f"the file says {self.clusters} clusters and holds {self.patch.clusters}: it is damaged")

    @property
    def parameters(self) -> int:
        return self.patch.parameters + self.prior.parameters

    @property
    def positions(self) -> int:
        """Patches of a picture: L."""
        height, width = self.view.size
        return (height // self.view.patch) * (width // self.view.patch)

    def log_prob(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False, window: float = 20.0,
    ) -> np.ndarray:
        """log p of the observed pixels [N] in nats, all others summed (or integrated) out exactly.

        The density reading is log p(x + u) of one draw of the noise u (`numbers` says which): its mean bounds log P(x) from
        below. In the ordered reading clusters and scales whose density lies more than `window` nats below the best one's of a
        patch count as 0 (np.inf: none do), which is a bound from below too.
        """
        reading = self.reading(reading)
        return self._by_chunk(
            lambda *part: self.prior.log_prob(self._log_patch(reading, window, *part)),
            x, observed, reading, seed, noise, dequantised, (0,))

    def posterior(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False,
    ) -> np.ndarray:
        """p(z_i = k | observed pixels) [N, L, K]; noise and dequantised as in `log_prob`."""
        reading = self.reading(reading)
        return self._by_chunk(
            lambda *part: self.prior.posterior(self._log_patch(reading, 20.0, *part)),
            x, observed, reading, seed, noise, dequantised, (0, self.positions, self.clusters))

    def latents(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, joint: bool = False, reading: Optional[str] = None,
        seed: int = 0,
    ) -> np.ndarray:
        """The most probable cluster of every patch [N, L]: each by itself, or with `joint` all together (max-product).

        With hidden states in the latent tree the joint one is most probable together with these states.
        """
        reading = self.reading(reading)
        best = self.prior.most_probable if joint else lambda log_patch: self.prior.posterior(log_patch).argmax(-1)
        return self._by_chunk(
            lambda *part: best(self._log_patch(reading, 20.0, *part)),
            x, observed, reading, seed, None, False, (0, self.positions)).astype(np.int64)

    def decompose(
        self, x: np.ndarray, codes: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0
    ) -> Decomposition:
        """-log p(x) = latent + conditional - refund, for given codes [N, L] or else every patch's most probable one (`latents`)."""
        reading = self.reading(reading)
        found = []
        x = self.view.stored(x)
        for part in self.chunks(len(x), self.positions):
            patches = self.view.cut(self.numbers(x[part], reading, seed, None, False, part.start))
            log_patch = self._log_patch(reading, np.inf, patches, None)
            z = self.prior.posterior(log_patch).argmax(-1) if codes is None else np.asarray(codes)[part]
            conditional = -np.take_along_axis(log_patch, z[..., None], -1)[..., 0].sum(1)
            found.append((-self.prior.log_prob(log_patch), -self.prior.log_codes(z), conditional, z))
        empty = ((0,), (0,), (0,), (0, self.positions))
        return Decomposition(*(concatenated([f[i] for f in found], shape) for i, shape in enumerate(empty)))

    def sample(self, n: int, seed: int = 0, reading: Optional[str] = None) -> np.ndarray:
        """n pictures uint8 [n, h, w, C] drawn from the model. What a density draws is rounded down, the noise taken away."""
        reading = self.reading(reading)
        rng = np.random.default_rng(seed)
        size = len(self.tensors["ranges"])
        out = []
        for part in self.chunks(n, self.positions):
            count = part.stop - part.start
            z = self.prior.sample(np.zeros((count, self.positions, self.clusters)), rng).ravel()
            if reading == ORDERED:
                patches = ordered.sample(self.patch, z, rng)
            else:
                nothing = np.zeros((len(z), size), bool)
                blank = np.tile(self.patch.least, (len(z), 1)).astype(float if reading == DENSITY else np.int64)
                patches = self.patch.sample(z, blank, nothing, rng)
            out.append(self.view.pixels(self.view.whole(patches.reshape(count, self.positions, -1))))
        height, width = self.view.size
        return concatenated(out, (0, height, width, self.view.channels)).astype(np.uint8)

    def inpaint(self, x: np.ndarray, mask: np.ndarray, n: int = 1, seed: int = 0) -> np.ndarray:
        """n pictures for each of x, uint8 [N, n, h, w, C]: what is not in the mask drawn given what is, which stays as it is."""
        self._refuse_marginals("inpaint")
        x = self.view.stored(x)
        rng, reading = np.random.default_rng(seed), self.readings[0]
        masks, out = self.view.mask(mask, len(x)), []
        for part in self.chunks(len(x), self.positions * n):
            patches = self.view.cut(self.numbers(x[part], reading, seed, None, False, part.start))
            observed = self.view.cut_mask(masks[part])
            log_patch = np.repeat(self._log_patch(reading, 20.0, patches, observed), n, 0)
            z = self.prior.sample(log_patch, rng)
            patches, observed = np.repeat(patches, n, 0), np.repeat(observed, n, 0)
            size = patches.shape[-1]
            drawn = self.patch.sample(z.ravel(), patches.reshape(-1, size), observed.reshape(-1, size), rng)
            pixels = self.view.pixels(self.view.whole(drawn.reshape(patches.shape)))
            kept = np.repeat(masks[part], n, 0)[..., None]
            out.append(np.where(kept, np.repeat(x[part], n, 0), pixels).reshape(-1, n, *x.shape[1:]))
        return concatenated(out, (0, n, *x.shape[1:])).astype(np.uint8)

    def conditional_mean(self, x: np.ndarray, mask: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [N, h, w, C] of every number given the observed pixels, in the model's own colour numbers.

        Observed numbers are their own mean. A density speaks of x + u: the mean of the noise, 1/2, is taken off the mean, and
        the deviation is that of x + u.
        """
        self._refuse_marginals("conditional_mean")
        x = self.view.stored(x)
        reading, masks, out = self.readings[0], self.view.mask(mask, len(x)), []
        for part in self.chunks(len(x), self.positions):
            patches = self.view.cut(self.numbers(x[part], reading, seed, None, False, part.start))
            observed = self.view.cut_mask(masks[part])
            weights = self.prior.posterior(self._log_patch(reading, 20.0, patches, observed))
            flat = [a.reshape(-1, a.shape[-1]) for a in (weights, patches, observed)]
            mean, square = (self.view.whole(a.reshape(patches.shape)) for a in self.patch.moments(*flat))
            deviation = np.sqrt(np.maximum(square - mean**2, 0))
            mean -= 0.5 if reading == DENSITY else 0.0
            kept = masks[part][..., None]
            out.append((np.where(kept, self.view.integers(x[part]), mean), np.where(kept, 0.0, deviation)))
        return concatenated([o[0] for o in out], x.shape), concatenated([o[1] for o in out], x.shape)

    def _log_patch(self, reading: str, window: float, patches: np.ndarray, observed: Optional[np.ndarray]) -> np.ndarray:
        """log p(observed numbers of patch i | k) [N, L, K] of patches [N, L, D]."""
        flat = patches.reshape(-1, patches.shape[-1])
        if reading == ORDERED:
            found = ordered.log_prob(self.patch, flat, window)
        else:
            found = self.patch.log_prob(flat, None if observed is None else observed.reshape(flat.shape))
        return found.reshape(*patches.shape[:2], -1)

    def _by_chunk(self, answer, x, observed, reading, seed, noise, dequantised, empty) -> np.ndarray:
        """`answer(patches, observed)` of a chunk of pictures after another."""
        x = self.view.stored(x)
        masks = None
        if observed is not None:
            self._refuse_marginals("observed", reading)
            masks = self.view.mask(observed, len(x))
        out = []
        for part in self.chunks(len(x), self.positions):
            own = None if noise is None else np.asarray(noise)[part]
            patches = self.view.cut(self.numbers(x[part], reading, seed, own, dequantised, part.start))
            out.append(answer(patches, None if masks is None else self.view.cut_mask(masks[part])))
        return concatenated(out, empty)

    def _refuse_marginals(self, what: str, reading: Optional[str] = None) -> None:
        if self.view.transform != "none":
            self.refuse(what, f"transform {self.view.transform} mixes pixels, and this model has marginals of coefficients only",
                        "use a model with transform: none")
        if (reading or self.readings[0]) == ORDERED:
            self.refuse(what, "the ordered reading goes number by number and has no marginal of the others", "use reading='density'")
