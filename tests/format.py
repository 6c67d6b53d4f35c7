#!/usr/bin/env python3
"""Answers from a model file by the package in python/, which was written from docs/format.md, against the program's.

    format.py nats MODEL PICTURES.npy NATS.npy READING TOLERANCE SHARE

PICTURES: u8 [N, H, W, C]; for the density floats of the same shape, the model's numbers of every pixel with noise added.
NATS: -log p(x) as the program gives it, [N]. Fails where the two differ by more than TOLERANCE nats and SHARE of NATS.

    format.py questions MODEL FOLDER READING SHARE

FOLDER: PICTURES as seen.npy, what is observed of them as masks.npy, u8 [N, h, w], and what the program says of the rest, by picture,
in the model's numbers: log_joint.npy [N] and completed.npy of the most probable explanation, which drawn.npy shows as pixels u8;
mean.npy and variance.npy. Fails where log joints or completions differ by more than 1e-6 of themselves, means by more than SHARE
of the root of the mean square, or variances by more than SHARE of it; deviations then differ by at most the root of that.

    format.py refused MODEL READING

Fails where the package answers a question about parts of pictures that the program refuses.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
import lvd  # noqa: E402
from lvd import color  # noqa: E402

CLOSE = 1e-6


def nats(file, pictures, expected, reading, tolerance, share):
    model = lvd.load(file)
    x, expected = np.load(pictures), np.load(expected)
    found = -model.log_prob(x, reading=reading, dequantised=x.dtype != np.uint8, window=np.inf)
    worst, relative = np.abs(found - expected).max(), (np.abs(found - expected) / np.abs(expected)).max()
    bits = (expected / (x[0].size * np.log(2))).mean()
    context = " in context" if model.view.context else ""
    gate = ", with a gate" if "patch.gate.w1" in model.tensors else ""
    print(f"{model.family}{context}{gate}, {reading}: {len(x)} pictures of {x.shape[1:]}, {bits:.4f} bits per dimension, "
          f"largest difference {worst:.2e} nats, {relative:.1e} of them")
    allowed = float(tolerance) + float(share) * np.abs(expected)
    assert (np.abs(found - expected) <= allowed).all(), (worst, relative, tolerance, share)


def questions(file, folder, reading, share):
    model, read = lvd.load(file), lambda name: np.load(Path(folder) / f"{name}.npy")
    x, masks = read("seen"), read("masks").astype(bool)
    asked = {"observed": masks, "reading": reading, "dequantised": x.dtype != np.uint8}
    explained = model.explain(x, **asked)
    joint = relative(explained.log_joint, read("log_joint"))
    ties = completions_agree(model, explained, read("completed"), read("drawn"), masks)
    found, mean, variance = model.moments(x, **asked), read("mean"), read("variance")
    second = variance + mean**2 + 1
    first = (np.abs(found.mean - mean) / np.sqrt(second)).max()
    spread = (np.abs(found.variance - variance) / second).max()
    deviation = np.abs(np.sqrt(found.variance) - np.sqrt(variance)).max()
    print(f"{model.family}, {reading}: explanations of {len(x)} pictures, largest difference {joint:.1e} of the log joint, "
          f"{ties} completions differ and are as probable; of means {first:.1e} and of variances {spread:.1e} of the numbers' mean "
          f"squares, of deviations {deviation:.1e}")
    assert joint <= CLOSE, joint
    assert max(first, spread) <= float(share), (first, spread, share)


def relative(found, expected):
    return (np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max()


def completions_agree(model, explained, completed, drawn, masks):
    """How many pictures [N, h, w, C] are completed in another way that is as probable; all others must be the same."""
    same = np.isclose(explained.numbers, completed, CLOSE, CLOSE).all((1, 2, 3))
    patches = model.view.cut(completed if "density" in model.readings else completed.astype(np.int64))
    values = model.patch.maximum(patches.reshape(-1, patches.shape[-1])).reshape(*patches.shape[:2], -1)
    again = model.prior.most_probable(values)[1]
    assert relative(again, explained.log_joint) <= CLOSE, (again, explained.log_joint)
    assert np.isclose(explained.numbers, completed)[masks].all()
    if model.view.color not in color.LOSSY:
        # Where a number is whole but for rounding, rounding down may go either way.
        whole = np.abs(completed - np.round(completed))
        clear = ((whole == 0) | (whole > 1e-4)).all(-1) & same[:, None, None] & ~masks
        assert (explained.pixels == drawn)[clear].all()
        assert clear.any()
    return int((~same).sum())


def refused(file, reading):
    model = lvd.load(file)
    height, width = model.view.size
    x, mask = np.zeros((1, height, width, model.view.channels), np.uint8), np.zeros((height, width), bool)
    mask[: height // 2] = True
    for name in ("explain", "moments"):
        try:
            getattr(model, name)(x, mask, reading=reading)
        except lvd.Refusal as refusal:
            print(f"{model.family}, {reading}: refused: {refusal}")
        else:
            raise AssertionError(f"{name} is answered")


if __name__ == "__main__":
    {"nats": nats, "questions": questions, "refused": refused}[sys.argv[1]](*sys.argv[2:])
