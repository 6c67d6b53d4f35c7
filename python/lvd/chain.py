"""Models whose patches see the pixels around them: p(picture) = prod_i p(x_i | c_i) (docs/format.md, *Patches with context*).

Patches go row by row, and every one is conditioned on pixels before it. So the model has the likelihood of whole pictures and of
raster prefixes, samples, and completions of prefixes; marginals of other pixels have no closed form and are refused.
"""

from __future__ import annotations

from typing import Iterator, Mapping, NoReturn, Optional

import numpy as np

from .context import Experts, Gate, Group, Windows
from .logarithm import draw, log_sum, softmax
from .model import DENSITY, ORDERED, Decomposition, Explanation, Model, Moments, concatenated, counted
from .normal import log_interval

_PICTURES_AT_ONCE = 250
_WHY = "a product of conditionals has no closed marginal of pixels behind which others were observed"


class Chain(Model):
    """Pictures x are uint8 [N, H, W, C] or [N, H, W] of any height and width; masks are raster prefixes of whole patches."""

    def __init__(self, meta: Mapping[str, str], tensors: Mapping[str, np.ndarray]):
        super().__init__(meta, tensors)
        self.windows = Windows(self.view.patch, self.view.context, self.view.channels)
        self.gate, self.experts = Gate(tensors, self.windows), Experts(tensors, self.windows)
        self.centre, self.order = tensors["patch.centre"], tensors["patch.order"]
        self.ranges = tensors["ranges"][self.order]

    @property
    def parameters(self) -> int:
        return self.experts.parameters + self.gate.parameters + self.gate.constants

    def log_prob(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False, window: float = 20.0,
    ) -> np.ndarray:
        """log p [N] in nats of pictures, or of the patches before the first that is not in `observed` (a raster prefix).

        For the noise of the density reading, and `window` of the ordered one, see Mixture.log_prob.
        """
        reading, x = self.reading(reading), self.view.stored(x)
        known = self._prefix("observed", x, observed)
        out = []
        for part in self._parts(len(x)):
            own = None if noise is None else np.asarray(noise)[part]
            numbers = self.numbers(x[part], reading, seed, own, dequantised, part.start)
            total = np.zeros(len(numbers))
            for gate, states in self._patches(numbers, reading, window, known):
                total += log_sum((gate + states).reshape(len(total), -1))
            out.append(total)
        return concatenated(out, (0,))

    def posterior(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False,
    ) -> np.ndarray:
        """p(z_i = k | c_i, x_i) [N, L, K] of whole pictures; the z of a picture are independent given it."""
        if observed is not None:
            self.refuse("posterior of a part", _WHY, "leave `observed` out")
        reading, x = self.reading(reading), self.view.stored(x)
        out = []
        for part in self._parts(len(x)):
            own = None if noise is None else np.asarray(noise)[part]
            numbers = self.numbers(x[part], reading, seed, own, dequantised, part.start)
            out.append(np.stack([softmax(log_sum(g + s)) for g, s in self._patches(numbers, reading, 20.0)], 1))
        return concatenated(out, (0, 0, self.clusters))

    def latents(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, joint: bool = False, reading: Optional[str] = None,
        seed: int = 0,
    ) -> np.ndarray:
        """The most probable expert of every patch [N, L], which are together the most probable ones too."""
        return self.posterior(x, observed, reading, seed).argmax(-1)

    def decompose(
        self, x: np.ndarray, codes: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0
    ) -> Decomposition:
        """-log p(x) = latent + conditional - refund; latent is - sum_i log g_{z_i}(c_i), codes the most probable ones if not given."""
        reading, x = self.reading(reading), self.view.stored(x)
        found = []
        for part in self._parts(len(x)):
            numbers = self.numbers(x[part], reading, seed, None, False, part.start)
            terms = []
            for i, (gate, states) in enumerate(self._patches(numbers, reading, np.inf)):
                each, latent = log_sum(gate + states), log_sum(gate)
                z = each.argmax(-1) if codes is None else np.asarray(codes)[part, i]
                own = np.arange(len(z))
                terms.append((-log_sum(each), -latent[own, z], latent[own, z] - each[own, z], z))
            total, latent, conditional, z = (np.stack([term[j] for term in terms], 1) for j in range(4))
            found.append((total.sum(1), latent.sum(1), conditional.sum(1), z))
        return Decomposition(*(concatenated([f[j] for f in found], (0,)) for j in range(4)))

    def sample(
        self, n: int, seed: int = 0, reading: Optional[str] = None, size: Optional[tuple[int, int]] = None
    ) -> np.ndarray:
        """n pictures uint8 [n, H, W, C] of any size (None: the training pictures'), patch by patch."""
        height, width = size or self.view.size
        blank = np.zeros((counted(n, 0), height, width, self.view.channels), np.uint8)
        return self._continued(blank, 0, self.reading(reading or self._whole_reading()), np.random.default_rng(seed))

    def inpaint(self, x: np.ndarray, mask: np.ndarray, n: int = 1, seed: int = 0) -> np.ndarray:
        """n completions of raster prefixes, uint8 [N, n, H, W, C]; the patches in the mask stay as they are."""
        x, n = self.view.stored(x), counted(n)
        known = self._prefix("inpaint", x, mask)
        drawn = self._continued(np.repeat(x, n, 0), known, self._whole_reading(), np.random.default_rng(seed))
        return np.where(np.asarray(mask)[..., None], np.repeat(x, n, 0), drawn).reshape(len(x), n, *x.shape[1:])

    def conditional_mean(self, x: np.ndarray, mask: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Refused: contexts are seen through a network, so what follows a prefix has no closed mean."""
        self._refuse_moments("conditional_mean")

    def moments(
        self, x: np.ndarray, observed: np.ndarray, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False,
    ) -> Moments:
        """Refused, as `conditional_mean`."""
        self._refuse_moments("moments")

    def explain(
        self, x: np.ndarray, observed: Optional[np.ndarray] = None, reading: Optional[str] = None, seed: int = 0,
        noise: Optional[np.ndarray] = None, dequantised: bool = False,
    ) -> Explanation:
        """Refused: what is filled in of one patch changes the weights and the means of those after it."""
        self.refuse("explain", "patches with context have no most probable picture in closed form, since each patch changes what "
                    "the next ones see", "draw completions with `inpaint(x, mask, n)`")

    def _refuse_moments(self, what: str) -> NoReturn:
        self.refuse(what, "what follows a raster prefix has no closed mean", "average over `inpaint(x, mask, n)`")

    def _whole_reading(self) -> str:
        return ORDERED if ORDERED in self.readings else self.readings[0]

    def _parts(self, pictures: int) -> Iterator[slice]:
        return (slice(i, min(i + _PICTURES_AT_ONCE, pictures)) for i in range(0, pictures, _PICTURES_AT_ONCE))

    def _prefix(self, what: str, x: np.ndarray, observed: Optional[np.ndarray]) -> Optional[int]:
        """How many patches a mask [H, W] holds, which must be the first ones; None for no mask."""
        if observed is None:
            return None
        observed = np.asarray(observed)
        if observed.dtype != bool or observed.shape != x.shape[1:3]:
            raise ValueError(f"{what}: expected a mask bool {list(x.shape[1:3])}, found {observed.dtype} {list(observed.shape)}")
        left = observed.copy()
        p, corners = self.windows.patch, self.windows.corners(*observed.shape)
        for known, (row, col) in enumerate(corners):
            if not observed[row:row + p, col:col + p].all():
                break
            left[row:row + p, col:col + p] = False
        else:
            known = len(corners)
        if left.any():
            self.refuse(what, _WHY, f"observe the first patches of {p} x {p} pixels, row by row, whole, and nothing else")
        return known

    def _patches(
        self, numbers: np.ndarray, reading: str, window: float, known: Optional[int] = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """log g_k h_ks and log p(x_i | c_i, k, s), both [N, K, S], of the first `known` patches (None: of all)."""
        padded, inside = self.windows.padded(numbers), self._inside(numbers)
        for corner in self.windows.corners(*numbers.shape[1:3])[:known]:
            raw, seen = self.windows.at(padded, corner), self.windows.at(inside, corner)[0]
            w = raw + (0.5 if reading == ORDERED else 0.0) - self.centre
            gate = self._gate(w, seen)
            w, raw, seen = w[:, self.order], raw[:, self.order], seen[self.order]
            states = self.experts.log_density(w, seen)
            yield gate, states if reading == DENSITY else self._masses(w, raw, seen, gate + states, window)

    def _inside(self, numbers: np.ndarray) -> np.ndarray:
        return self.windows.padded(np.ones((1, *numbers.shape[1:]), bool))

    def _gate(self, w: np.ndarray, seen: np.ndarray) -> np.ndarray:
        first, channels = self.windows.context_numbers, self.windows.channels
        return self.gate.log_weights(w[:, :first].reshape(len(w), -1, channels), seen[:first].reshape(-1, channels)[:, 0])

    def _masses(self, w: np.ndarray, raw: np.ndarray, seen: np.ndarray, density: np.ndarray, window: float) -> np.ndarray:
        """log P(x | c, k, s) [N, K, S] of whole numbers; -inf where the density is `window` nats below the best one."""
        alive = density >= density.max((1, 2), keepdims=True) - window
        total = np.where(alive, 0.0, -np.inf)
        for g, group in enumerate(self.experts.groups(seen)):
            white = group.white(w)  # [N, K, d]
            least, greatest = (raw[:, group.own] == self.ranges[group.own, end] for end in (0, 1))
            for scale in np.unique(self.experts.scales[:, g]):
                with_it = np.flatnonzero(self.experts.scales[:, g] == scale)
                rows, experts = np.nonzero(alive[:, :, with_it].any(2))
                y, half = white[rows, experts], 0.5 / group.diagonal[experts]
                low = np.where(least[rows], -np.inf, (y - half) / scale)
                high = np.where(greatest[rows], np.inf, (y + half) / scale)
                total[rows[:, None], experts[:, None], with_it] += log_interval(low, high).sum(1)[:, None]
        return total

    def _continued(self, x: np.ndarray, known: Optional[int], reading: str, rng: np.random.Generator) -> np.ndarray:
        """Pictures with all patches from number `known` on drawn, uint8 [N, H, W, C]."""
        numbers = self.numbers(x, reading, int(rng.integers(1 << 31)), None, False).astype(float)
        padded, inside = self.windows.padded(numbers), self._inside(numbers)
        for corner in self.windows.corners(*numbers.shape[1:3])[known:]:
            w = self.windows.at(padded, corner) + (0.5 if reading == ORDERED else 0.0) - self.centre
            seen = self.windows.at(inside, corner)[0]
            drawn = self._drawn(w, seen, reading, rng)[:, self.windows.context_numbers:]
            own, there = self.windows.own(padded, corner), self.windows.own(inside, corner)
            own[...] = np.where(there, drawn.reshape(own.shape), 0)
        t, (height, width) = self.windows.context, numbers.shape[1:3]
        return self.view.pixels(padded[:, t:t + height, t:t + width])

    def _drawn(self, w: np.ndarray, seen: np.ndarray, reading: str, rng: np.random.Generator) -> np.ndarray:
        """Windows [N, W] in their own order with the patch drawn given the context: expert, scale, group by group."""
        weights = softmax(self._gate(w, seen).reshape(len(w), -1))
        expert, s = np.divmod(draw(weights, rng), len(self.experts.scales))
        w, seen = w[:, self.order], seen[self.order]
        for g, group in enumerate(self.experts.groups(seen)):
            for k in np.unique(expert):
                rows = np.flatnonzero(expert == k)
                scale = self.experts.scales[s[rows], g]
                w[rows] = self._drawn_group(w[rows], group, k, scale, reading, rng)
        out = np.empty_like(w)
        out[:, self.order] = w
        return out + self.centre - (0.5 if reading == ORDERED else 0.0)

    def _drawn_group(
        self, w: np.ndarray, group: Group, k: int, scale: np.ndarray, reading: str, rng: np.random.Generator
    ) -> np.ndarray:
        """Rows of windows in order with a group's numbers drawn one after another given those before them."""
        first = len(group.places) - len(group.own)
        centre = self.centre[self.order]
        for i, place in enumerate(group.own):
            before = group.places[: first + i]
            row, inverse = group.whiten[k, i], group.diagonal[k, i]
            ahead = (w[:, before] - group.mean[k, : first + i]) @ row[: first + i]
            # y = (row of L^-1)(w - m): the number is normal about what makes y 0, with deviation scale * L_dd.
            mean = group.mean[k, first + i] - ahead * inverse
            drawn = mean + scale * inverse * rng.standard_normal(len(w))
            if reading == ORDERED:
                drawn = np.clip(np.floor(drawn + centre[place]), *self.ranges[place]) + 0.5 - centre[place]
            w[:, place] = drawn
        return w
