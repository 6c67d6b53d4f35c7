#!/usr/bin/env python3
"""Bits per dimension and times of lossless codecs on test pictures, every picture coded by itself.

    pip install numpy pillow;  apt-get install libjxl-tools
    python3 scripts/codecs.py FOLDER/cifar-10-batches-bin/test_batch.bin [--limit N] [--run RUN --lvd target/release/lvd]

PNG and WebP (lossless, method 6, quality 100) are written by Pillow, JPEG XL by `cjxl -d 0 -e 9`, which is left out where
there is no cjxl. A file's header counts: this is what storing single pictures costs. With --run, the model of a run folder
codes the same pictures (`lvd compress`): all of them in one container, whose own 65 bytes or so are shared out. Every picture is
decoded and compared. Reads CIFAR-10 batches (.bin), IDX files of grey pictures (.gz or not), npz files of downsampled
ImageNet (array `data`, planes), npy arrays uint8 [N, H, W] or [N, H, W, 3], and folders of PNG and JPEG pictures. These may
differ in size; with --run, a model with context is needed then. A grey picture under a model of colours has the dimensions
of a grey one all the same.

Times are means of one picture on one thread; those of JPEG XL begin and end a process each, those of lvd share out the whole
time of the run's threads (compute.threads) and leave out the reading of the model.
"""
import argparse
import io
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

try:
    import numpy
    from PIL import Image
except ImportError as error:
    sys.exit(f"codecs.py: {error}: pip install numpy pillow")

from common import read, run, seconds


class Pillow:
    def __init__(self, **options):
        self.options = options

    def encode(self, picture):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, **self.options)
        return file.getvalue()

    def decode(self, data):
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return picture


class JpegXl:
    """cjxl and djxl, a process a picture."""

    def encode(self, picture):
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "a.png"), pathlib.Path(folder, "a.jxl")
            Image.fromarray(picture).save(source)
            run(["cjxl", source, target, "-d", "0", "-e", "9", "--num_threads=0", "--quiet"])
            return target.read_bytes()

    def decode(self, data):
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "a.jxl"), pathlib.Path(folder, "a.png")
            source.write_bytes(data)
            run(["djxl", source, target, "--num_threads=0", "--quiet"])
            picture = Image.open(target)
            picture.load()
            return picture


CODECS = {
    "PNG": Pillow(format="PNG", optimize=True),
    "WebP lossless": Pillow(format="WebP", lossless=True, quality=100, method=6),
    "JPEG XL -d 0 -e 9": JpegXl(),
}


def measured(codec, picture):
    """Bits, and seconds of encoding and of decoding."""
    started = time.perf_counter()
    data = codec.encode(picture)
    between = time.perf_counter()
    back = codec.decode(data)
    ended = time.perf_counter()
    back = numpy.asarray(back.convert("L" if picture.ndim == 2 else "RGB"))
    if not numpy.array_equal(back, picture):
        sys.exit("codecs.py: a picture did not come back")
    return 8 * len(data), between - started, ended - between


def lvd(binary, run_folder, stage, pictures):
    """Bits of every picture, and mean seconds a picture by the run's threads."""
    with tempfile.TemporaryDirectory() as folder:
        source, coded, back = (pathlib.Path(folder, name) for name in ("a", "a.lvdz", "b"))
        source.mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(source / f"{number:06}.png")
        chosen = ["--stage", stage] if stage else []
        encoding = seconds(run([binary, "compress", run_folder, source, "-o", coded, *chosen]))
        decoding = seconds(run([binary, "decompress", coded, run_folder, "-o", back]))
        info = json.loads(run([binary, "codec-info", coded, "--json"]))
        for number, picture in enumerate(pictures):
            found = numpy.asarray(Image.open(back / f"{number:06}.png"))
            if found.ndim > picture.ndim:
                picture = numpy.stack(3 * [picture], axis=2)
            if not numpy.array_equal(found, picture):
                sys.exit(f"codecs.py: picture {number} did not come back")
    sizes = numpy.array([picture["bytes"] for picture in info["pictures"]])
    count = len(sizes)
    return 8 * (sizes + (info["bytes"] - sizes.sum()) / count), encoding / count, decoding / count


def show(name, bits, dimensions, encoding, decoding):
    rates = bits / dimensions
    error = rates.std(ddof=1) / math.sqrt(len(rates)) if len(rates) > 1 else 0.0
    print(
        f"{name:<18} {rates.mean():.4f} +- {error:.4f} bits per dimension, {len(rates)} pictures, "
        f"{1000 * encoding:.2f} ms to encode, {1000 * decoding:.2f} ms to decode",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("--first", type=int, default=0, help="leave out the pictures before this one")
    parser.add_argument("--limit", type=int, help="only so many pictures")
    parser.add_argument("--run", type=pathlib.Path, help="run folder whose model codes the pictures too")
    parser.add_argument("--stage", help="stage of that model")
    parser.add_argument("--lvd", default="lvd", help="the program")
    args = parser.parse_args()
    if not args.pictures.exists():
        sys.exit(f"{args.pictures}: there is no such file or folder")
    pictures = [numpy.ascontiguousarray(p) for p in read(args.pictures)[args.first :][: args.limit]]
    if not pictures:
        sys.exit(f"{args.pictures}: no pictures")
    dimensions = numpy.array([picture.size for picture in pictures])
    for name, codec in CODECS.items():
        if isinstance(codec, JpegXl) and not (shutil.which("cjxl") and shutil.which("djxl")):
            print(f"{name:<18} left out: there is no cjxl (Debian, Ubuntu: apt-get install libjxl-tools)", flush=True)
            continue
        with ThreadPoolExecutor() as pool:
            bits, encoding, decoding = map(numpy.array, zip(*pool.map(lambda p: measured(codec, p), pictures)))
        show(name, bits, dimensions, encoding.mean(), decoding.mean())
    if args.run:
        try:
            bits, encoding, decoding = lvd(args.lvd, args.run, args.stage, pictures)
        except subprocess.CalledProcessError as error:
            sys.exit(f"codecs.py: {error.stderr.strip()}")
        show("lvd", bits, dimensions, encoding, decoding)


if __name__ == "__main__":
    main()
