"""Models whose patches see themselves alone: p(x) = sum over z of p(z) prod_i p(x_i | z_i) (docs/format.md, *The model*).

Every question is one upward pass over the patches' log p(x_i | k), the prior's answer to it, and draws or moments downward.
"""

from __future__ import annotations

from typing import Iterator, Mapping, Optional

import numpy as np

from . import color, ordered, prior
from .gaussian import Gaussian
from .hclt import Hclt
from .model import DENSITY, ORDERED, Decomposition, Explanation, Model, Moments, concatenated, counted


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

        def best(log_patch: np.ndarray) -> np.ndarray:
            return self.prior.most_probable(log_patch)[0] if joint else self.prior.posterior(log_patch).argmax(-1)

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
        reading, n = self.reading(reading), counted(n, 0)
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
            out.append(self._pictures(patches.reshape(count, self.positions, -1)))
        height, width = self.view.size
        return concatenated(out, (0, height, width, self.view.channels)).astype(np.uint8)

    def inpaint(self, x: np.ndarray, mask: np.ndarray, n: int = 1, seed: int = 0) -> np.ndarray:
        """n pictures for each of x, uint8 [N, n, h, w, C]: what is not in the mask drawn given what is, which stays as it is."""
        reading, n = self._with_marginals("inpaint", None), counted(n)
        x = self.view.stored(x)
        rng = np.random.default_rng(seed)
        masks, out = self.view.mask(mask, len(x)), []
        for part, patches, observed in self._parts(x, masks, reading, seed, copies=n):
            log_patch = np.repeat(self._log_patch(reading, 20.0, patches, observed), n, 0)
            z = self.prior.sample(log_patch, rng)
            patches, observed = np.repeat(patches, n, 0), np.repeat(observed, n, 0)
            drawn = self.patch.sample(z.ravel(), _flat(patches), _flat(observed), rng)
            pixels = self._pictures(drawn.reshape(patches.shape))
            kept = np.repeat(masks[part], n, 0)[..., None]
            out.append(np.where(kept, np.repeat(x[part], n, 0), pixels).reshape(-1, n, *x.shape[1:]))
        return concatenated(out, (0, n, *x.shape[1:])).astype(np.uint8)

    def moments(
        self, x: np.ndarray, observed: np.ndarray, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False,
    ) -> Moments:
        """Mean and variance of every number given the observed pixels, exactly, in the model's own numbers (`Moments`).

        By the law of total expectation over clusters, scales and states. The other arguments are those of `log_prob`.
        """
        reading = self._with_marginals("moments", reading)
        x = self.view.stored(x)
        masks, out = self.view.mask(observed, len(x)), []
        for _, patches, seen in self._parts(x, masks, reading, seed, noise, dequantised):
            weights = self.prior.posterior(self._log_patch(reading, 20.0, patches, seen))
            found = self.patch.moments(_flat(weights), _flat(patches), _flat(seen))
            mean, square = (moment.reshape(patches.shape) for moment in found)
            variance = np.where(seen, 0.0, np.maximum(square - mean**2, 0))
            out.append((self.view.whole(np.where(seen, patches, mean)), self.view.whole(variance)))
        return Moments(*(concatenated([parts[i] for parts in out], x.shape) for i in (0, 1)))

    def conditional_mean(self, x: np.ndarray, mask: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [N, h, w, C] of every number given the observed pixels, to look at: those of `moments`,
        but the mean of the noise of a density, 1/2, is taken off the mean, and observed numbers are the whole ones."""
        reading = self._with_marginals("conditional_mean", None)
        x = self.view.stored(x)
        found = self.moments(x, mask, seed=seed)
        kept = self.view.mask(mask, len(x))[..., None]
        mean = found.mean - (0.5 if reading == DENSITY else 0.0)
        return np.where(kept, self.view.integers(x), mean), np.sqrt(found.variance)

    def explain(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False,
    ) -> Explanation:
        """The most probable explanation of the observed pixels (None: of all): clusters, hidden states of the latent tree, states
        or scales inside the patches and missing pixels, maximised together, exactly, by max-product.

        With the latents summed out, the most probable pixels cannot be found in polynomial time; these are an approximation of
        them. The other arguments are those of `log_prob`.
        """
        reading = self._with_marginals("explain", reading)
        x = self.view.stored(x)
        masks = np.ones(x.shape[:3], bool) if observed is None else self.view.mask(observed, len(x))
        out = []
        for _, patches, seen in self._parts(x, masks, reading, seed, noise, dequantised):
            values = self.patch.maximum(_flat(patches), _flat(seen)).reshape(*patches.shape[:2], -1)
            codes, log_joint = self.prior.most_probable(values)
            completed = self.patch.maximiser(codes.ravel(), _flat(patches), _flat(seen)).reshape(patches.shape)
            out.append((log_joint, codes, self.view.whole(completed)))
        shapes = ((0,), (0, self.positions), x.shape)
        log_joint, codes, numbers = (concatenated([parts[i] for parts in out], shape) for i, shape in enumerate(shapes))
        pixels = None
        if self.view.color not in color.LOSSY:
            pixels = self._pictures(self.view.cut(numbers))
            pixels = pixels if dequantised else np.where(masks[..., None], x, pixels)
        return Explanation(log_joint, codes.astype(np.int64), numbers, pixels)

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
            self._with_marginals("observed", reading)
            masks = self.view.mask(observed, len(x))
        parts = self._parts(x, masks, reading, seed, noise, dequantised)
        return concatenated([answer(patches, seen) for _, patches, seen in parts], empty)

    def _parts(
        self, x: np.ndarray, masks: Optional[np.ndarray], reading: str, seed: int, noise: Optional[np.ndarray] = None,
        dequantised: bool = False, copies: int = 1,
    ) -> Iterator[tuple[slice, np.ndarray, Optional[np.ndarray]]]:
        """A chunk of pictures after another, `copies` of each being worked on at once: which ones, their patches [n, L, D] as the
        reading sees them, and which numbers of these were observed."""
        for part in self.chunks(len(x), self.positions * copies):
            own = None if noise is None else np.asarray(noise)[part]
            patches = self.view.cut(self.numbers(x[part], reading, seed, own, dequantised, part.start))
            yield part, patches, None if masks is None else self.view.cut_mask(masks[part])

    def _pictures(self, patches: np.ndarray) -> np.ndarray:
        """Pictures uint8 [N, h, w, C] of what the model draws of patches [N, L, D]; without a transform, numbers beyond their
        range are moved to its end."""
        if self.view.transform == "none":
            patches = np.clip(np.floor(patches), self.patch.least, self.patch.greatest)
        return self.view.pixels(self.view.whole(patches))

    def _with_marginals(self, what: str, reading: Optional[str]) -> str:
        """The reading that is meant, where it has marginals of any pixels; a refusal where it has none."""
        if self.view.transform != "none":
            self.refuse(what, f"transform {self.view.transform} mixes pixels, and this model has marginals of coefficients only",
                        "use a model with transform: none")
        reading = self.reading(reading)
        if reading == ORDERED:
            self.refuse(what, "the ordered reading goes number by number and has no marginal of the others",
                        "use reading='density'")
        return reading


def _flat(patches: np.ndarray) -> np.ndarray:
    """Patches [N, L, D] one below another, [N L, D]."""
    return patches.reshape(-1, patches.shape[-1])
