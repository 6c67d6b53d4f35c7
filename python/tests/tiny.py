"""Model files of a few pixels with random numbers, what they say by enumeration of all worlds, and the chi-square test."""

import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import lvd


def saved(path, tensors, **meta):
    """A model file of pictures of 2 x 4 pixels where nothing else is said; None leaves an entry of the metadata out."""
    shape = {name: meta.pop(name, usual) for name, usual in (("height", 2), ("width", 4), ("channels", 1), ("levels", 2))}
    usual = {"format": 2, "protocol": "lossless", "transform": "none", "context": 0, "stage": "soft", "color": "grey"}
    given = usual | {"patch_size": 2, "clusters": 4, "readings": "exact", "shape": json.dumps(shape)} | meta
    texts = {name: str(value) for name, value in given.items() if value is not None}
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, {"lvd": json.dumps(texts)})


def model(tensors, **meta):
    """A model by way of a file in a run folder."""
    with tempfile.TemporaryDirectory() as run:
        (Path(run) / "soft").mkdir()
        saved(Path(run) / "soft" / "model.safetensors", tensors, **meta)
        return lvd.load(run)


def rows(rng, *shape):
    """Random distributions along the last axis, float32."""
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)


def log_rows(rng, *shape):
    """Logarithms of random distributions along the last axis, float64."""
    return np.log(rng.dirichlet(np.ones(shape[-1]), shape[:-1]))


def covariances(rng, k, d):
    """Random covariances [k, d, d]."""
    a = rng.standard_normal((k, d, d + 2))
    return a @ a.transpose(0, 2, 1) / d + 0.1 * np.eye(d)


def prior(rng, kind, clusters, positions=2, hidden=3):
    """Tensors of p(z): independent, tree or hidden."""
    if kind == "independent":
        return {"prior.log_weights": log_rows(rng, clusters)}
    states = hidden if kind == "hidden" else clusters
    edges = rows(rng, 1, positions, states, states)
    edges[0, 0] = 0
    tensors = {"prior.parents": np.arange(positions) - 1, "prior.roots": rows(rng, 1, 1, states), "prior.edges": edges}
    return tensors | ({"prior.emissions": rows(rng, 1, positions, states, clusters)} if kind == "hidden" else {})


def hclt(kind, seed=0, trees=2, heads=2, states=2):
    """Pictures of 2 x 4 pixels of 2 levels in two patches; edges of both trees are cut. Trees of kind "regions" have two regions
    that observe nothing, under a latent tree."""
    rng = np.random.default_rng(seed)
    parents = [[4, 4, 5, 5, -1, 4], [5, 4, 5, 4, 5, -1]] if kind == "regions" else [[-1, 0, 0, 2], [1, 2, -1, 2]]
    kind = "tree" if kind == "regions" else kind
    edges = rows(rng, trees, len(parents[0]), states, states)
    edges[:, 2, 0] = [0, 1]
    tensors = {
        "ranges": np.tile([0, 1], (4, 1)), "patch.trees": np.array(parents),
        "patch.roots": rows(rng, trees, heads, states), "patch.edges": edges,
        "patch.inputs": rows(rng, trees, 4, states, 2).transpose(0, 1, 3, 2),
    }
    sizes = {"height": 2, "width": 4, "channels": 1, "levels": 2}
    clusters = trees * heads
    return model(tensors | prior(rng, kind, clusters), family="hclt", color="grey", patch_size=2, clusters=clusters,
                 readings="exact", **sizes)


def merged(kind, seed=0):
    """Pictures of 1 x 2 pixels in patches of a pixel, colours merged, under two trees of three numbers."""
    rng = np.random.default_rng(seed)
    tensors = {
        "ranges": np.tile([0, 255], (3, 1)), "patch.trees": np.array([[-1, 0, 0], [1, -1, 1]]),
        "patch.roots": rows(rng, 2, 1, 2), "patch.edges": rows(rng, 2, 3, 2, 2),
        "patch.inputs": rows(rng, 2, 3, 2, 256).transpose(0, 1, 3, 2),
    }
    return model(tensors | prior(rng, kind, 2), family="hclt", color="ycbcr_bt709", patch_size=1, clusters=2, readings="exact",
                 height=1, width=2, channels=3, levels=256)


def gaussian(kind="tree", groups=1, low_rank=False, seed=0, width=4, readings="density ordered", **meta):
    """Pictures of 2 x `width` pixels of 4 levels in patches of 2 x 2 under three Gaussians of two scales a group."""
    rng, clusters = np.random.default_rng(seed), 3
    scales = np.array(list(itertools.product([0.7, 1.5], repeat=groups)))
    tensors = {
        "ranges": np.tile([0, 3], (4, 1)), "patch.centre": rng.uniform(1, 3, 4), "patch.order": np.array([2, 0, 3, 1]),
        "patch.group": np.array([0, 0, groups - 1, groups - 1]), "patch.scales": scales,
        "patch.mean": rng.standard_normal((clusters, 4)), "patch.log_weights": log_rows(rng, clusters, len(scales)),
    }
    if low_rank:
        tensors |= {"patch.loadings": rng.standard_normal((clusters, 4, 2)), "patch.noise": rng.uniform(0.2, 1, (clusters, 4))}
    else:
        tensors["patch.shape"] = covariances(rng, clusters, 4)
    sizes = {"height": 2, "width": width, "channels": 1, "levels": 4}
    meta = {"family": "gaussian", "color": "grey", "patch_size": 2, "clusters": clusters, "readings": readings, **sizes} | meta
    return model(tensors | prior(rng, kind, clusters, width // 2), **meta)


def context(gated, seed=0):
    """Pictures of 1 x 2 pixels of three channels and 3 levels, patches of a pixel that see one pixel around them."""
    rng, clusters, scales = np.random.default_rng(seed), 2, np.array(list(itertools.product([0.6, 1.4], repeat=2)))
    tensors = {
        "ranges": np.tile([0, 2], (15, 1)), "patch.centre": np.full(15, 1.5), "patch.order": np.r_[:12, 14, 12, 13],
        "patch.scales": scales, "patch.log_weights": log_rows(rng, clusters, 4),
    }
    for g, size in enumerate((13, 15)):
        tensors |= {f"patch.mean.{g}": rng.standard_normal((clusters, size)) / 2, f"patch.shape.{g}": covariances(rng, clusters, size)}
    if gated:
        widths = [12 + 3 * 3 + 4, 5, 5, clusters + 4]
        for i in (1, 2, 3):
            tensors[f"patch.gate.w{i}"] = rng.standard_normal((widths[i], widths[i - 1])).astype(np.float32)
            tensors[f"patch.gate.b{i}"] = rng.standard_normal(widths[i]).astype(np.float32)
    else:
        tensors["prior.log_weights"] = log_rows(rng, clusters)
    return model(tensors, family="gaussian", color="rgb", patch_size=1, clusters=clusters, readings="density ordered",
                 context=1, height=1, width=2, channels=3, levels=3)


def worlds(m):
    """All pictures that there are."""
    v = m.view
    each = itertools.product(range(v.levels), repeat=v.height * v.width * v.channels)
    return np.array(list(each), np.uint8).reshape(-1, v.height, v.width, v.channels)


def enumerated(m, x):
    """p(x, z) [z_1, .., z_L] of one picture under hidden Chow-Liu trees by the sum over all hidden states."""
    t, patches = m.tensors, m.view.cut(x[None].astype(int))[0]
    heads = t["patch.roots"].shape[1]
    likelihood = np.zeros((len(patches), m.clusters))
    for k in range(m.clusters):
        tree, head = divmod(k, heads)
        parents, inputs, edges = t["patch.trees"][tree], t["patch.inputs"][tree], t["patch.edges"][tree]
        for h in itertools.product(range(inputs.shape[2]), repeat=len(parents)):
            p = np.prod([t["patch.roots"][tree, head, h[d]] if q < 0 else edges[d][h[q], h[d]] for d, q in enumerate(parents)])
            likelihood[:, k] += p * np.prod([inputs[d, patches[:, d], h[d]] for d in range(4)], 0)
    return _codes(t, m.clusters) * np.einsum("a,b->ab", *likelihood)


def explained(m, x, mask):
    """The largest p(z, hidden states, picture) of all pictures that agree with x on a mask, by trying everything: its logarithm,
    its z [z_1, z_2] and its picture."""
    t, patches, seen = m.tensors, m.view.cut(x[None].astype(int))[0], m.view.cut(mask[None, :, :, None])[0]
    values = np.array(list(itertools.product(range(2), repeat=4)))
    best, where = np.zeros((2, m.clusters)), np.zeros((2, m.clusters), int)
    for i, k in itertools.product(range(2), range(m.clusters)):
        tree, head = divmod(k, t["patch.roots"].shape[1])
        parents, inputs, edges = t["patch.trees"][tree], t["patch.inputs"][tree].astype(float), t["patch.edges"][tree].astype(float)
        fits = (values == patches[i])[:, seen[i]].all(1)
        for h in itertools.product(range(inputs.shape[2]), repeat=len(parents)):
            p = np.prod([t["patch.roots"][tree, head, h[d]] if q < 0 else edges[d][h[q], h[d]] for d, q in enumerate(parents)])
            joint = p * fits * np.prod([inputs[d, values[:, d], h[d]] for d in range(4)], 0)
            if joint.max() > best[i, k]:
                best[i, k], where[i, k] = joint.max(), joint.argmax()
    joint = latents(t, m.clusters).max((0, 1)) * np.outer(*best)
    z = np.unravel_index(joint.argmax(), joint.shape)
    completed = values[[where[i, k] for i, k in enumerate(z)]]
    return np.log(joint.max()), np.array(z), m.view.whole(completed[None])[0]


def latents(t, clusters):
    """p(h_1, h_2, z_1, z_2), h the states of the latent tree; without one they have one value."""
    if "prior.log_weights" in t:
        w = np.exp(t["prior.log_weights"])
        return np.outer(w, w)[None, None]
    states = t["prior.roots"][0, 0][:, None].astype(float) * t["prior.edges"][0, 1]  # [h_1, h_2]
    first, second = t["prior.emissions"][0] if "prior.emissions" in t else (np.eye(clusters), np.eye(clusters))
    return np.einsum("gh,ga,hb->ghab", states, first, second)


def _codes(t, clusters):
    """p(z_1, z_2)."""
    return latents(t, clusters).sum((0, 1))


def frequencies_agree(counts, p):
    """Whether counts could come from probabilities p: chi-square within five deviations, rare cells together."""
    expected = counts.sum() * p / p.sum()
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1e-9))
    keep = expected >= 1
    statistic = ((counts - expected)[keep] ** 2 / expected[keep]).sum()
    freedom = keep.sum() - 1
    return statistic < freedom + 5 * np.sqrt(2 * freedom) + 5 and counts[~keep].sum() <= 10


def counted(m, pictures):
    """How often every world is among pictures."""
    flat = pictures.reshape(len(pictures), -1).astype(int)
    return np.bincount(flat @ m.view.levels ** np.arange(flat.shape[1])[::-1], minlength=m.view.levels ** flat.shape[1])
