"""What every model has: its readings, its size, evidence with noise, and refusals that say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Mapping, NoReturn, Optional

import numpy as np

from .view import View

DENSITY, ORDERED, EXACT = "density", "ordered", "exact"
_PATCHES_AT_ONCE = 8192


class Refusal(ValueError):
    """A question that this model has no exact answer to."""


class Damaged(ValueError):
    """A model file that is cut off, or whose content does not fit together."""


def counted(n: int, least: int = 1) -> int:
    """How many pictures are to be drawn."""
    if n < least:
        raise Refusal(f"n is {n}, expected at least {least}")
    return n


@dataclass(frozen=True)
class Decomposition:
    """log-probabilities of codes z [N, L], all in nats [N]: total = latent + conditional - refund.

    total is -log p(x), latent -log p(z), conditional -log p(x | z), refund -log p(z | x).
    """

    total: np.ndarray
    latent: np.ndarray
    conditional: np.ndarray
    codes: np.ndarray

    @property
    def refund(self) -> np.ndarray:
        return self.latent + self.conditional - self.total


@dataclass(frozen=True)
class Explanation:
    """What explains pictures best: the latents and the missing pixels that are most probable together.

    log_joint [N] is the logarithm of their joint probability (or density) with what was observed, in nats; codes [N, L] are the
    clusters; numbers [N, h, w, C] the completed pictures in the model's own numbers, with noise where the model is a density;
    pixels uint8 [N, h, w, C] the same as pictures, observed pixels unchanged, or None under colours that merge and have no inverse.
    """

    log_joint: np.ndarray
    codes: np.ndarray
    numbers: np.ndarray
    pixels: Optional[np.ndarray]


@dataclass(frozen=True)
class Moments:
    """Mean and variance [N, h, w, C] of every number given the observed pixels, in the model's own numbers.

    Numbers of a density are those with noise, x + u. What was observed is its own mean and has variance 0.
    """

    mean: np.ndarray
    variance: np.ndarray


class Model:
    """A model file. `tensors` are its arrays by name, `view` is how it sees pictures, `stage` is what made it."""

    def __init__(self, meta: Mapping[str, str], tensors: Mapping[str, np.ndarray]):
        self.tensors, self.stage = tensors, meta.get("stage", "")
        self.view = View.of_file(meta)
        self.clusters = int(meta["clusters"])
        self.readings: tuple[str, ...] = tuple(meta["readings"].split())
        self.family = meta["family"]

    @property
    def parameters(self) -> int:
        """How many free numbers the model has (docs/format.md, *Parameters*)."""
        raise NotImplementedError

    @property
    def dimensions(self) -> int:
        """Numbers of a picture that are modelled: bits per dimension are -log_prob(x) / (dimensions * log 2)."""
        height, width = self.view.size
        return height * width * self.view.channels

    def bits_per_dimension(self, log_prob: np.ndarray) -> np.ndarray:
        """Nats log p(x) of whole pictures in bits per dimension."""
        return -log_prob / (self.dimensions * np.log(2))

    def __repr__(self) -> str:
        v = self.view
        return (f"<lvd {self.family} of stage {self.stage}: {v.height} x {v.width} x {v.channels}, {v.levels} levels, {v.color}, "
                f"patches of {v.patch} x {v.patch}, {self.clusters} clusters, readings {', '.join(self.readings)}>")

    def reading(self, name: Optional[str]) -> str:
        """The reading that is meant, the first of `readings` for None."""
        if name is None:
            return self.readings[0]
        if name not in self.readings:
            raise Refusal(f"reading {name}: this model has {', '.join(self.readings)}")
        return name

    def numbers(
        self, x: np.ndarray, reading: str, seed: int, noise: Optional[np.ndarray], dequantised: bool, first: int = 0
    ) -> np.ndarray:
        """What a reading sees of pictures `first`, `first + 1`, ... [N, h, w, C]: whole numbers, or with noise for the density.

        The noise of picture i is `np.random.default_rng([seed, i]).random((h, w, C))`, even in [0, 1), unless it is handed over
        (`noise` [N, h, w, C]) or already in x (`dequantised`: floats, the model's whole numbers of every pixel plus noise).
        """
        x = self.view.stored(x)
        if reading != DENSITY:
            if dequantised or noise is not None:
                raise ValueError(f"noise and dequantised belong to the density reading, not to {reading}")
            return self.view.integers(x)
        if dequantised:
            return self.view.dequantised(x)
        whole = self.view.integers(x)
        if noise is None:
            each = [np.random.default_rng([seed, first + i]).random(x.shape[1:]) for i in range(len(x))]
            noise = np.stack(each) if each else np.zeros(x.shape)
        if np.shape(noise) != whole.shape:
            raise ValueError(f"noise: expected {list(whole.shape)} like the pictures, found {list(np.shape(noise))}")
        return self.view.dequantised(whole + noise)

    def chunks(self, pictures: int, positions: int) -> Iterator[slice]:
        """Slices over pictures, so that a bounded number of patches is worked on at once."""
        step = max(1, _PATCHES_AT_ONCE // positions)
        return (slice(start, min(start + step, pictures)) for start in range(0, pictures, step))

    def refuse(self, what: str, why: str, instead: str) -> NoReturn:
        raise Refusal(f"{what}: {why}: {instead}")


def concatenated(parts: list[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    """Parts along their first axis; zeros of the shape `empty` where there are none."""
    return np.concatenate(parts) if parts else np.zeros(empty)
