#!/usr/bin/env python3
"""log p(x) from a model file by the package in python/, which was written from docs/format.md: the reader of a stranger.

    format.py MODEL PICTURES.npy NATS.npy READING TOLERANCE SHARE

PICTURES: u8 [N, H, W, C]; for the density floats of the same shape, the model's numbers of every pixel with noise added.
NATS: -log p(x) as the program gives it, [N]. Fails where the two differ by more than TOLERANCE nats and SHARE of NATS.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
import lvd  # noqa: E402


def main(file, pictures, nats, reading, tolerance, share):
    model = lvd.load(file)
    x, expected = np.load(pictures), np.load(nats)
    found = -model.log_prob(x, reading=reading, dequantised=x.dtype != np.uint8, window=np.inf)
    worst, relative = np.abs(found - expected).max(), (np.abs(found - expected) / np.abs(expected)).max()
    bits = (expected / (x[0].size * np.log(2))).mean()
    context = " in context" if model.view.context else ""
    gate = ", with a gate" if "patch.gate.w1" in model.tensors else ""
    print(f"{model.family}{context}{gate}, {reading}: {len(x)} pictures of {x.shape[1:]}, {bits:.4f} bits per dimension, "
          f"largest difference {worst:.2e} nats, {relative:.1e} of them")
    allowed = float(tolerance) + float(share) * np.abs(expected)
    assert (np.abs(found - expected) <= allowed).all(), (worst, relative, tolerance, share)


if __name__ == "__main__":
    main(*sys.argv[1:])
