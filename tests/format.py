#!/usr/bin/env python3
"""log p(x) from a model file, with numpy alone, as docs/format.md says it: the reader of a stranger.

    format.py MODEL PICTURES.npy NATS.npy READING TOLERANCE

PICTURES: u8 [N, H, W, C], or floats [N, L, D] (points) for the density. NATS: -log p(x) as the program gives it, [N].
Fails where they differ by more than TOLERANCE nats.
"""

import json
import math
import sys

import numpy as np
from safetensors import safe_open


def load(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["lvd"]), {name: file.get_tensor(name) for name in file.keys()}


def to_integers(meta, pixels):
    x = pixels.astype(np.int64)
    if meta["color"] in ("grey", "rgb"):
        return x
    assert meta["color"] == "ycocg_r", meta["color"]
    red, green, blue = np.moveaxis(x, -1, 0)
    orange = red - blue
    middle = blue + (orange >> 1)
    chroma = green - middle
    return np.stack([middle + (chroma >> 1), orange, chroma], -1)


def to_patches(meta, pixels):
    assert meta["transform"] == "none" and meta["protocol"] == "lossless"
    x, side = to_integers(meta, pixels), int(meta["patch_size"])
    rows, cols = x.shape[1] // side, x.shape[2] // side
    cut = [x[:, r * side:(r + 1) * side, c * side:(c + 1) * side] for r in range(rows) for c in range(cols)]
    return np.stack([patch.reshape(len(x), -1) for patch in cut], 1)  # [N, L, D]


def log_sum(a, axis):
    top = a.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(a - top).sum(axis)) + np.squeeze(top, axis)


def log_tree(parents, leaves, edges, roots):
    """Heads' log-likelihoods [N, E] of a tree with log-leaves [N, V, H], tables [V, H, H] and [E, H]."""
    children = {v: [c for c, p in enumerate(parents) if p == v] for v in range(len(parents))}
    message = {}

    def order(v):
        for c in children[v]:
            yield from order(c)
        yield v

    root = list(parents).index(-1)
    for v in order(root):
        m = leaves[:, v].astype(np.float64)
        for c in children[v]:
            with np.errstate(divide="ignore"):
                m = m + log_sum(message.pop(c)[:, None, :] + np.log(edges[c].astype(np.float64)), -1)
        message[v] = m
    with np.errstate(divide="ignore"):
        return log_sum(message[root][:, None, :] + np.log(roots.astype(np.float64)), -1)


def hclt(t, patches):
    trees, least = t["patch.trees"], t["ranges"][:, 0]
    sys.setrecursionlimit(10_000)
    heads = []
    for k, parents in enumerate(trees):
        tables = t["patch.inputs"][k].astype(np.float64)
        values = patches - least
        with np.errstate(divide="ignore"):
            leaves = np.stack([np.log(tables[d][values[:, d]]) for d in range(len(parents))], 1)
        heads.append(log_tree(parents, leaves, t["patch.edges"][k], t["patch.roots"][k]))
    return np.concatenate(heads, 1)


def density(t, points):
    y = (points - t["patch.centre"])[:, t["patch.order"]]
    sigma = t["patch.scales"][:, t["patch.group"]]  # [S, D]
    out = []
    for mean, shape, log_weights in zip(t["patch.mean"], t["patch.shape"], t["patch.log_weights"]):
        by_scale = []
        for s, log_weight in zip(sigma, log_weights):
            lower = np.linalg.cholesky(shape * np.outer(s, s))
            white = np.linalg.solve(lower, (y - mean).T)
            log_det = np.log(np.diag(lower)).sum()
            by_scale.append(log_weight - 0.5 * (white**2).sum(0) - log_det - 0.5 * y.shape[1] * math.log(2 * math.pi))
        out.append(log_sum(np.stack(by_scale, 1), 1))
    return np.stack(out, 1)


def log_phi(z):
    """log of the standard normal distribution function."""
    def one(z):
        if z > -30:
            return math.log(max(0.5 * math.erfc(-z / math.sqrt(2)), 5e-324))
        series = 1 - 1 / z**2 + 3 / z**4 - 15 / z**6 + 105 / z**8
        return -0.5 * z * z - math.log(-z) - 0.5 * math.log(2 * math.pi) + math.log(series)
    return np.vectorize(one, otypes=[float])(z)


def log_interval(low, high):
    """log(Phi(high) - Phi(low)); on the right both are mirrored, where their logarithms are exact."""
    flip = low + high > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    near = np.where(np.isinf(high), 0.0, log_phi(np.where(np.isinf(high), 0.0, high)))
    far = np.where(np.isinf(low), -np.inf, log_phi(np.where(np.isinf(low), 0.0, low)))
    return near + np.log(-np.expm1(np.minimum(far - near, -1e-300)))


def ordered(t, patches):
    order = t["patch.order"]
    x, ranges = patches[:, order], t["ranges"][order]
    y = (patches + 0.5 - t["patch.centre"])[:, order]
    sigma = t["patch.scales"][:, t["patch.group"]]
    out = []
    for mean, shape, log_weights in zip(t["patch.mean"], t["patch.shape"], t["patch.log_weights"]):
        by_scale = []
        for s, log_weight in zip(sigma, log_weights):
            covariance, total = shape * np.outer(s, s), np.full(len(y), log_weight)
            for d in range(y.shape[1]):
                before = slice(0, d)
                gain = np.linalg.solve(covariance[before, before], covariance[before, d])
                m = mean[d] + (y[:, before] - mean[before]) @ gain
                deviation = math.sqrt(covariance[d, d] - covariance[d, before] @ gain)
                low = np.where(x[:, d] == ranges[d, 0], -np.inf, (y[:, d] - 0.5 - m) / deviation)
                high = np.where(x[:, d] == ranges[d, 1], np.inf, (y[:, d] + 0.5 - m) / deviation)
                total = total + log_interval(low, high)
            by_scale.append(total)
        out.append(log_sum(np.stack(by_scale, 1), 1))
    return np.stack(out, 1)


def picture(t, log_patch):
    """log p(x) [N] from log p(x_i | k) [N, L, K]."""
    if "prior.log_weights" in t:
        return log_sum(log_patch + t["prior.log_weights"], -1).sum(1)
    leaves = log_patch
    if "prior.emissions" in t:
        with np.errstate(divide="ignore"):
            leaves = log_sum(log_patch[:, :, None, :] + np.log(t["prior.emissions"][0].astype(np.float64)), -1)
    return log_tree(t["prior.parents"], leaves, t["prior.edges"][0], t["prior.roots"][0])[:, 0]


def main(model, pictures, nats, reading, tolerance):
    meta, t = load(model)
    assert meta["format"] == "2", meta
    pictures, expected = np.load(pictures), np.load(nats)
    patches = to_patches(meta, pictures) if pictures.dtype == np.uint8 else pictures
    n, positions, size = patches.shape
    of = {"exact": hclt, "density": density, "ordered": ordered}[reading]
    log_patch = of(t, patches.reshape(-1, size)).reshape(n, positions, -1)
    assert log_patch.shape[-1] == int(meta["clusters"]), log_patch.shape
    found = -picture(t, log_patch)
    worst = np.abs(found - expected).max()
    bits = expected.mean() / (positions * size * math.log(2))
    print(f"{meta['family']} {reading}: {n} pictures, {bits:.4f} bits per dimension, largest difference {worst:.2e} nats")
    assert worst <= float(tolerance), (worst, tolerance)


if __name__ == "__main__":
    main(*sys.argv[1:])
