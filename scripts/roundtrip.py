#!/usr/bin/env python3
"""Compress a split of a run's pictures, decompress it, and compare every picture with the data files.

    pip install numpy pillow pyyaml
    python3 scripts/roundtrip.py RUN --lvd target/release/lvd [--data-root DIR] [--split test] [--first N] [--out report.json]

The pictures are read by numpy from the files that the run's config.yaml names, not by lvd; their SHA-256 must be the one that the
run has noted in manifest.json. They are coded in chunks, each a container of its own, so that hours of work can be broken off:
what is known of chunks that are done lies in the folder --keep, and they are not coded again unless models, pictures or threads
are others. Progress goes to stderr; one JSON object with the sums goes to stdout, and to --out.

bytes: of the containers, headers included. model_bits_per_dimension: what the model's probabilities ask for, to the four digits
that `lvd compress` tells. Seconds leave out the reading of the model. kB: 1,000 bytes of raw pixels.
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import numpy
    import yaml
    from common import read, run, seconds
except ImportError as error:
    sys.exit(f"roundtrip.py: {error}: pip install numpy pillow pyyaml")

# The files of the training, validation and test parts by their usual names (docs/data.md).
USUAL = {
    "idx": ("train-images-idx3-ubyte", {"last": 5000}, "t10k-images-idx3-ubyte"),
    "cifar10": ("data_batch_*.bin", {"files": ["data_batch_5.bin"]}, "test_batch.bin"),
    "npz": ("train_data_batch_*.npz", {"last": 5000}, "val_data.npz"),
    "npy": ("train.npy", {"files": ["valid.npy"]}, "test.npy"),
    "folder": ("train", {"files": ["valid"]}, "test"),
}


def find(place, names):
    found = []
    for name in names:
        paths = [path for path in (place / name, place / f"{name}.gz") if path.exists()][:1]
        paths = paths or sorted(place.glob(name), key=lambda path: (len(path.name), path.name))
        if not paths:
            sys.exit(f"{place}: no file {name}")
        found += paths
    return found


def part(config, split, root):
    """The pictures of a split, uint8 [N, H, W] or [N, H, W, 3]."""
    data = config["data"]
    if data["format"] not in USUAL or data.get("resize") not in (None, "exact") or data.get("alpha") not in (None, "refuse"):
        sys.exit("roundtrip.py: reads only pictures of files, as they are")
    train, valid, test = USUAL[data["format"]]
    place = pathlib.Path(root or data.get("root") or os.environ.get("LVD_DATA", "."), data.get("dir") or "")
    rules = {"test": data.get("test") or {"files": [test]}, "valid": data.get("validation") or valid}
    own = {name: find(place, rule["files"]) for name, rule in rules.items() if "files" in rule}
    files = own.get(split) or [f for f in find(place, data.get("train") or [train]) if f not in sum(own.values(), [])]
    pictures = numpy.stack([picture for file in files for picture in read(file)])
    if split in own:
        return pictures
    # Test pictures are carved out of the training pictures before those of validation.
    for name in ("test", "valid"):
        if name not in own:
            if "last" not in rules[name]:
                sys.exit(f"roundtrip.py: the {name} pictures are drawn at random, which only lvd can do again")
            pictures, carved = numpy.split(pictures, [-rules[name]["last"]])
            if name == split:
                return carved
    return pictures[: data.get("train_limit")]


def check_same(folder, split, pictures, levels):
    height, width, channels = (*pictures.shape[1:], 1)[:3]
    digest = hashlib.sha256(numpy.array([height, width, channels, levels], "<u8").tobytes())
    digest.update(numpy.ascontiguousarray(pictures))
    if digest.hexdigest() != json.loads((folder / "manifest.json").read_text())["data"][split]:
        sys.exit(f"{folder}: the {split} pictures are not those of the run (SHA-256 in manifest.json)")


def round_trip(args, pictures, start):
    """What one chunk took; ends the program where a picture did not come back."""
    chosen = ["--stage", args.stage] if args.stage else []
    with tempfile.TemporaryDirectory() as folder:
        source, coded, back = (pathlib.Path(folder, name) for name in ("a.npy", "a.lvdz", "b.npy"))
        numpy.save(source, pictures)
        encoded = run([args.lvd, "compress", args.run, source, "-o", coded, *chosen])
        source.unlink()
        decoded = run([args.lvd, "decompress", coded, args.run, "-o", back])
        info = json.loads(run([args.lvd, "codec-info", coded, "--json"]))
        found, size = numpy.load(back), coded.stat().st_size
    if found.shape != pictures.shape:
        sys.exit(f"roundtrip.py: from picture {start} on, {pictures.shape} came back as {found.shape}")
    wrong = numpy.flatnonzero((found != pictures).reshape(len(pictures), -1).any(axis=1))
    if len(wrong):
        sys.exit(f"roundtrip.py: {len(wrong)} pictures did not come back, the first is {start + wrong[0]}")
    by_model = float(re.search(r"bits per dimension, ([0-9.]+) by the model", encoded).group(1))
    return {
        "stage": info["stage"],
        "model": info["model"],
        "pictures": len(pictures),
        "dimensions": pictures.size,
        "bytes": size,
        "model_bits": by_model * pictures.size,
        "encode_s": seconds(encoded),
        "decode_s": seconds(decoded),
    }


def kept(args, key, pictures, start):
    """The same, from the folder where it is known already."""
    name = hashlib.sha256(key + str(pictures.shape).encode() + pictures.tobytes()).hexdigest()
    path = args.keep / f"{name[:32]}.json"
    if not path.exists():
        found = round_trip(args, pictures, start)
        path.with_suffix(".tmp").write_text(json.dumps(found))
        path.with_suffix(".tmp").rename(path)
    return json.loads(path.read_text())


def report(args, chunks, threads):
    total = {key: sum(chunk[key] for chunk in chunks) for key in list(chunks[0])[2:]}
    dimensions, rate = total["dimensions"], lambda seconds: total["dimensions"] / 1000 / max(seconds, 1e-9) / threads
    return {
        "run": str(args.run),
        "stage": chunks[0]["stage"],
        "model": chunks[0]["model"],
        "split": args.split,
        "pictures": total["pictures"],
        "dimensions": dimensions,
        "bytes": total["bytes"],
        "bits_per_dimension": round(8 * total["bytes"] / dimensions, 5),
        "model_bits_per_dimension": round(total["model_bits"] / dimensions, 5),
        "excess_percent": round(100 * (8 * total["bytes"] / total["model_bits"] - 1), 3),
        "threads": threads,
        "encode_s": round(total["encode_s"], 1),
        "decode_s": round(total["decode_s"], 1),
        "encode_kB_per_s_and_thread": round(rate(total["encode_s"]), 2),
        "decode_kB_per_s_and_thread": round(rate(total["decode_s"]), 2),
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="run folder")
    parser.add_argument("--lvd", default="lvd", help="the program")
    parser.add_argument("--stage", help="stage whose model codes")
    parser.add_argument("--split", default="test", choices=["train", "valid", "test"])
    parser.add_argument("--data-root", help="root folder of the data sets, instead of the one that the run used")
    parser.add_argument("--first", type=int, help="only so many pictures")
    parser.add_argument("--chunk", type=int, default=500, help="pictures of a container")
    parser.add_argument("--keep", type=pathlib.Path, help="folder of finished chunks (OUT.chunks, else one for temporary files)")
    parser.add_argument("--out", type=pathlib.Path, help="write the JSON object there too")
    args = parser.parse_args()
    temporary = pathlib.Path(tempfile.gettempdir(), "lvd-roundtrip")
    args.keep = args.keep or (args.out.with_name(args.out.name + ".chunks") if args.out else temporary)
    args.keep.mkdir(parents=True, exist_ok=True)
    return args


def main():
    args = arguments()
    config = yaml.safe_load((args.run / "config.yaml").read_text())
    # Where the run names no number of threads, this is the one that libtorch takes.
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    threads = config["compute"].get("threads") or int(os.environ["OMP_NUM_THREADS"])
    pictures = part(config, args.split, args.data_root)
    check_same(args.run, args.split, pictures, config["data"].get("levels", 256))
    pictures = pictures[: args.first]
    # What makes a chunk another one beside its pictures: the models of the run, the stage, the threads.
    records = [path.read_bytes() for path in sorted(args.run.glob("*/record.json"))]
    key = b"".join(records) + f"{args.stage} {threads}".encode()
    chunks = []
    for start in range(0, len(pictures), args.chunk):
        chunks.append(kept(args, key, pictures[start : start + args.chunk], start))
        found = report(args, chunks, threads)
        print(
            f"{found['pictures']} of {len(pictures)} pictures came back, {found['bits_per_dimension']:.4f} bits per "
            f"dimension, {found['encode_s'] + found['decode_s']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"roundtrip.py: {error.stderr.strip()}")
    except OSError as error:
        sys.exit(f"roundtrip.py: {error}")
    except KeyboardInterrupt:
        sys.exit("roundtrip.py: broken off; the same command goes on")
