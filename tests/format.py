#!/usr/bin/env python3
"""log p(x) from a model file, with numpy alone, as docs/format.md says it: the reader of a stranger.

    format.py MODEL PICTURES.npy NATS.npy READING TOLERANCE SHARE

PICTURES: u8 [N, H, W, C]; for the density floats of the same shape, the model's numbers of every pixel with noise added.
NATS: -log p(x) as the program gives it, [N]. Fails where the two differ by more than TOLERANCE nats and SHARE of NATS.
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


def to_patches(meta, x):
    side = int(meta["patch_size"])
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


def windows(meta, x):
    """For every patch of pictures [N, H, W, C]: its window [N, W] with zeros outside of the picture, and what lies inside [W]."""
    side, t = int(meta["patch_size"]), int(meta["context"])
    n, height, width, channels = x.shape
    around = ((t, t + side), (t, t + side))
    x = np.pad(x, ((0, 0), *around, (0, 0)))
    inside = np.pad(np.ones((1, height, width, channels), bool), ((0, 0), *around, (0, 0)))
    for row in range(0, height, side):
        for col in range(0, width, side):
            above = np.s_[:, row:row + t, col:col + 2 * t + side]
            left = np.s_[:, row + t:row + t + side, col:col + t]
            own = np.s_[:, row + t:row + t + side, col + t:col + t + side]
            window, seen = [[a[part].reshape(len(a), -1) for part in (above, left, own)] for a in (x, inside)]
            yield np.concatenate(window, 1), np.concatenate(seen, 1)[0]


def near(meta, width):
    """Which pixels of the context are at most `width` rows and columns away from the patch, in the order of the context."""
    side, t = int(meta["patch_size"]), int(meta["context"])
    above = [(row, col) for row in range(-t, 0) for col in range(-t, t + side)]
    left = [(row, col) for row in range(side) for col in range(-t, 0)]
    return np.array([row >= -width and -width <= col < side + width for row, col in above + left])


def features(meta, context, seen):
    """What the gate sees of contexts [N, pixels, C] about the centre, of which the pixels `seen` lie in the picture."""
    def mean_square(deviations, pixels):
        return (deviations[:, pixels] ** 2).mean(1) if pixels.any() else np.zeros(deviations[:, 0].shape)

    mean = context[:, seen].mean(1) if seen.any() else np.zeros(context[:, 0].shape)
    deviations = context - mean[:, None]
    contrast = np.sqrt(1 + mean_square(deviations, seen))
    beside = 0.5 * np.log(1 + mean_square(deviations, seen & near(meta, 1)))
    numbers = np.where(seen[:, None], deviations / contrast[:, None], 0).reshape(len(context), -1)
    return np.concatenate([numbers, np.log(contrast), beside, mean / 64, np.tile(seen, (len(context), 1))], 1)


def log_softmax(a):
    return a - log_sum(a, -1)[..., None]


def ring(meta, t, context, seen):
    """log of g_k h_ks [N, K, S] by the likelihoods of the pixels next to the patch."""
    seen = np.flatnonzero(seen & near(meta, int(t["patch.gate.width"])))
    channels, scales = context.shape[2], t["patch.scales"]
    colours = [range(channels)] if scales.shape[1] == 1 else [[0], [1, 2]]
    c, own = context.reshape(len(context), -1), t["patch.log_weights"]
    joint = np.tile(np.log(np.maximum(t["patch.share"], 1e-9))[:, None] + own, (len(c), 1, 1))
    for k in range(len(own)):
        places = np.zeros(0, int)
        for g, group in enumerate(colours):
            before = len(places)
            places = np.concatenate([places, [channels * pixel + colour for pixel in seen for colour in group]]).astype(int)
            mean, shape = t[f"patch.mean.{g}"][k], t[f"patch.shape.{g}"][k]
            lower = np.linalg.cholesky(shape[np.ix_(places, places)])
            y = np.linalg.solve(lower, (c[:, places] - mean[places]).T).T[:, before:]
            for s, scale in enumerate(scales[:, g]):
                joint[:, k, s] += log_density(y, np.diag(lower)[before:], scale)
    return joint - log_sum(joint.reshape(len(c), -1), 1)[:, None, None]


def log_weights(meta, t, context, seen):
    """log of g_k h_ks [N or 1, K, S], for contexts [N, pixels, C] about the centre."""
    own = t["patch.log_weights"]
    if "patch.gate.width" in t:
        return ring(meta, t, context, seen)
    if "patch.gate.w1" not in t:
        return (t["prior.log_weights"][:, None] + own)[None]
    assert "prior.log_weights" not in t
    x = features(meta, context, seen)
    for layer in (1, 2, 3):
        w, b = (t[f"patch.gate.{name}{layer}"].astype(np.float64) for name in "wb")
        x = (np.maximum(x, 0) if layer > 1 else x) @ w.T + b
    v, u = np.split(x, [len(own)], 1)
    return log_softmax(v)[:, :, None] + log_softmax(own + u[:, None])


def regressions(t, k, w, seen, first):
    """For every group of expert k: the diagonal of L [d], y [N, d] and the places [d] in w of the group's numbers."""
    for g in range(t["patch.scales"].shape[1]):
        mean, shape = t[f"patch.mean.{g}"][k], t[f"patch.shape.{g}"][k]
        places = np.flatnonzero(seen[:len(mean)])
        lower = np.linalg.cholesky(shape[np.ix_(places, places)])
        y = np.linalg.solve(lower, (w[:, places] - mean[places]).T).T
        own = places >= first
        yield np.diag(lower)[own], y[:, own], places[own]
        first = len(mean)


def log_density(y, diagonal, scale):
    """Log-densities [N] of a group's numbers."""
    return -(math.log(scale) + np.log(diagonal) + y**2 / (2 * scale**2) + 0.5 * math.log(2 * math.pi)).sum(1)


def log_mass(y, diagonal, scale, least, greatest):
    """Log-masses [N] of a group's numbers, of which some are the least or the greatest [N, d]."""
    half = 0.5 / diagonal
    low = np.where(least, -np.inf, (y - half) / scale)
    high = np.where(greatest, np.inf, (y + half) / scale)
    return log_interval(low, high).sum(1)


def chain(meta, t, x, reading):
    """log p [N] of pictures [N, H, W, C] whose patches see the pixels around them."""
    order, ranges = t["patch.order"], t["ranges"][t["patch.order"]]
    first, channels = len(order) - int(meta["patch_size"]) ** 2 * x.shape[3], x.shape[3]
    assert len(t["patch.log_weights"]) == int(meta["clusters"])
    total = np.zeros(len(x))
    for window, seen in windows(meta, x):
        w = window + (0.5 if reading == "ordered" else 0.0) - t["patch.centre"]
        context, pixels = w[:, :first].reshape(len(w), -1, channels), seen[:first].reshape(-1, channels)[:, 0]
        by_state = np.zeros((len(x), *t["patch.log_weights"].shape)) + log_weights(meta, t, context, pixels)
        w, window, seen = w[:, order], window[:, order], seen[order]
        for k in range(by_state.shape[1]):
            for g, (diagonal, y, places) in enumerate(regressions(t, k, w, seen, first)):
                least, greatest = (window[:, places] == ranges[places, end] for end in (0, 1))
                for s, scale in enumerate(t["patch.scales"][:, g]):
                    ends = (least, greatest) if reading == "ordered" else ()
                    by_state[:, k, s] += (log_mass if ends else log_density)(y, diagonal, scale, *ends)
        total += log_sum(by_state.reshape(len(x), -1), 1)
    return total


def alone(meta, t, x, reading):
    """log p [N] of pictures [N, H, W, C] whose patches see themselves alone."""
    patches = to_patches(meta, x)
    n, positions, size = patches.shape
    of = {"exact": hclt, "density": density, "ordered": ordered}[reading]
    log_patch = of(t, patches.reshape(-1, size)).reshape(n, positions, -1)
    assert log_patch.shape[-1] == int(meta["clusters"]), log_patch.shape
    return picture(t, log_patch)


def main(model, pictures, nats, reading, tolerance, share):
    meta, t = load(model)
    assert meta["format"] == "2" and meta["transform"] == "none" and meta["protocol"] == "lossless", meta
    assert reading in meta["readings"].split(), (reading, meta)
    pictures, expected = np.load(pictures), np.load(nats)
    x = to_integers(meta, pictures) if pictures.dtype == np.uint8 else pictures
    seen_alone = int(meta["context"]) == 0
    found = -(alone if seen_alone else chain)(meta, t, x, reading)
    worst, relative = np.abs(found - expected).max(), (np.abs(found - expected) / np.abs(expected)).max()
    bits = (expected / (x[0].size * math.log(2))).mean()
    gates = {"patch.gate.w1": " with a gate network", "patch.gate.width": " with a ring gate"}
    kind = meta["family"] + ("" if seen_alone else " in context") + "".join(gates[name] for name in gates if name in t)
    print(f"{kind}, {reading}: {len(x)} pictures of {x.shape[1:]}, {bits:.4f} bits per dimension, "
          f"largest difference {worst:.2e} nats, {relative:.1e} of them")
    allowed = float(tolerance) + float(share) * np.abs(expected)
    assert (np.abs(found - expected) <= allowed).all(), (worst, relative, tolerance, share)


if __name__ == "__main__":
    main(*sys.argv[1:])
