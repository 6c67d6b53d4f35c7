#!/usr/bin/env python3
"""Make the pictures and numbers of docs/queries.md: completions, one set scored by another's model, a patch that is found.

    pip install numpy pillow
    python3 scripts/gallery.py DATA_ROOT --lvd target/release/lvd [--work DIR] [--figures docs/figures]

Four small models are trained first, on 4,096 pictures each (some minutes on two cores): HCLTs on MNIST, Fashion-MNIST
and CIFAR-10, Gaussians on CIFAR-10. They are kept in --work, and the same command goes on where it was broken off. DATA_ROOT holds
the folders mnist, fashion-mnist and cifar-10-batches-bin. The numbers go to stdout.
"""
import argparse
import csv
import json
import pathlib
import subprocess
import sys

try:
    import numpy
    from PIL import Image
    from common import read, run
except ImportError as error:
    sys.exit(f"gallery.py: {error}: pip install numpy pillow")

SMALL = ["data.train_limit=4096", "baselines={}", "compute.watched=500"]
# Experiment and what is changed beside SMALL.
MODELS = {
    "mnist": ("mnist/default.yaml", ["teacher={kind: pixel, patch: 4}", "distill.joint.epochs=4"]),
    "fashion": ("fashion_mnist/default.yaml", ["teacher={kind: pixel, patch: 4}", "distill.joint.epochs=4"]),
    "cifar_hclt": ("cifar10/pixel.yaml", []),
    "cifar_gaussian": ("cifar10/gaussian_apart.yaml", ["latents.clusters=32", "distill.soft.epochs=4", "distill.soft.batch=1024"]),
}
# Row, column and side of the pasted patch.
PASTED = (12, 12, 8)


def train(args, name):
    experiment, changes = MODELS[name]
    path = pathlib.Path(__file__).parent.parent / "experiments" / experiment
    sets = [part for change in [f"data.root={args.root}", *SMALL, *changes] for part in ("--set", change)]
    print(f"gallery.py: {name}", file=sys.stderr)
    subprocess.run([args.lvd, "distill", path, "--run-dir", args.work / name, *sets], check=True, stdout=subprocess.DEVNULL)


def complete(args, name, observed, figure, first=4, count=5):
    run([args.lvd, "inpaint", args.work / name, "--observed", observed, "--first", str(first), "--count", str(count),
         "--out", args.figures / figure, "--data-root", args.root])


def scores(args, name, pictures):
    """Bits per dimension of every picture of an IDX file."""
    out = args.work / "scores.csv"
    run([args.lvd, "score", args.work / name, "--data", pictures, "--first", str(args.scored), "--out", out])
    with out.open() as file:
        return numpy.array([float(row["bits_per_dimension"]) for row in csv.DictReader(file)])


def auroc(inside, outside):
    """The probability that a picture of the other set has a higher score than one of the model's own (ties count half)."""
    both = numpy.concatenate([inside, outside])
    _, inverse, counts = numpy.unique(both, return_inverse=True, return_counts=True)
    ranks = (numpy.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(inside), len(outside)
    return (ranks[n:].sum() - m * (m + 1) / 2) / (n * m)


def against(args, name, own, other):
    """AUROC of bits, and of how far bits are from the mean of the validation pictures (typicality)."""
    model = args.work / name
    said = json.loads(run([args.lvd, "score", model, "--split", "valid", "--first", str(args.scored), "--data-root", args.root,
                           "--out", args.work / "valid.csv", "--json"]))
    typical = said["bits_per_dimension"]
    inside, outside = (scores(args, name, files(args, place)) for place in (own, other))
    return {
        "model": name,
        "own": round(float(inside.mean()), 4),
        "other": round(float(outside.mean()), 4),
        "auroc_bits": round(float(auroc(inside, outside)), 4),
        "auroc_distance_from_typical": round(float(auroc(abs(inside - typical), abs(outside - typical))), 4),
    }


def files(args, place):
    name = "t10k-images-idx3-ubyte"
    return next(path for path in (args.root / place / name, args.root / place / f"{name}.gz") if path.exists())


def pasted(args):
    """CIFAR-10 test pictures with a patch of another one in them."""
    pictures = numpy.stack(read(args.root / "cifar-10-batches-bin/test_batch.bin")[:8]).copy()
    row, column, side = PASTED
    inside = numpy.s_[:, row : row + side, column : column + side]
    pictures[inside] = numpy.roll(pictures, 3, axis=0)[:, :side, :side]
    path = args.work / "pasted.npy"
    numpy.save(path, pictures)
    run([args.lvd, "score", args.work / "cifar_gaussian", "--data", path, "--out", args.work / "pasted.csv",
         "--map", args.figures / "pasted_patch.png"])


def found(figure):
    """Of every picture on the sheet, the bits per dimension of the four patches that the square cuts and of the others, in the mean,
    and how many of the four are among the four brightest."""
    sheet = numpy.asarray(Image.open(figure).convert("L")).astype(float) * 8 / 255
    cell, patches = 64 + 4, 4
    rows = []
    for top in range(0, sheet.shape[0], cell):
        for left in range(cell, sheet.shape[1], 2 * cell):
            bits = sheet[top : top + 64, left : left + 64].reshape(patches, 16, patches, 16).mean((1, 3))
            cut = numpy.zeros_like(bits, bool)
            cut[1:3, 1:3] = True
            brightest = bits >= numpy.sort(bits.ravel())[-4]
            rows.append([round(float(bits[cut].mean()), 2), round(float(bits[~cut].mean()), 2), int((cut & brightest).sum())])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--lvd", default="lvd", help="the program")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("runs/gallery"))
    parser.add_argument("--scored", type=int, default=2000, help="test pictures of each set that are scored")
    parser.add_argument("--figures", type=pathlib.Path, default=pathlib.Path("docs/figures"))
    args = parser.parse_args()
    for folder in (args.work, args.figures):
        folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        train(args, name)
    complete(args, "mnist", "top", "mnist_completions.png")
    complete(args, "cifar_hclt", "left", "cifar10_completions_hclt.png")
    complete(args, "cifar_gaussian", "random:0.25", "cifar10_completions_gaussian.png")
    pasted(args)
    print(json.dumps(found(args.figures / "pasted_patch.png")))
    print(json.dumps([against(args, "fashion", "fashion-mnist", "mnist"), against(args, "mnist", "mnist", "fashion-mnist")], indent=2))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"gallery.py: {error.stderr or error}")
    except KeyboardInterrupt:
        sys.exit("gallery.py: broken off; the same command goes on")
