#!/usr/bin/env python3
"""Bits per dimension and times of lossless codecs on test pictures, every picture coded by itself.

    pip install numpy pillow;  apt-get install libjxl-tools
    python3 scripts/codecs.py FOLDER/cifar-10-batches-bin/test_batch.bin [--limit N] [--run RUN --lvd target/release/lvd]

PNG and WebP (lossless, method 6, quality 100) are written by Pillow, JPEG XL by `cjxl -d 0 -e 9`, which is left out where
there is no cjxl. A file's header counts: this is what storing single pictures costs. With --run, the model of a run folder
codes the same pictures (`lvd compress`): all of them in one container, whose own 65 bytes or so are shared out. Every picture is
decoded and compared. Reads CIFAR-10 batches (.bin), IDX files of grey pictures (.gz or not), npz files of downsampled
ImageNet (array `data`, planes), npy arrays uint8 [N, H, W] or [N, H, W, 3], and folders of PNG and JPEG pictures, which may
differ in size (not with --run).

Times are means of one picture on one thread; those of JPEG XL begin and end a process each, those of lvd share out the whole
time of the run's threads (compute.threads) and leave out the reading of the model.
"""
import argparse
import gzip
import io
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

try:
    import numpy
    from PIL import Image, ImageOps
except ImportError as error:
    sys.exit(f"codecs.py: {error}: pip install numpy pillow")


def read(path):
    """Pictures uint8, [H, W] or [H, W, 3] each."""
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in {".png", ".jpg", ".jpeg"})
        return [numpy.asarray(open_picture(file)) for file in files]
    if path.suffix == ".bin":
        rows = numpy.frombuffer(path.read_bytes(), numpy.uint8).reshape(-1, 3073)[:, 1:]
        return list(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    if path.suffix == ".npy":
        array = numpy.load(path, mmap_mode="r")
        if array.dtype != numpy.uint8 or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
            sys.exit(f"{path}: expected uint8 [N, H, W] or [N, H, W, 3], found {array.dtype} {list(array.shape)}")
        return list(array[..., 0] if array.ndim == 4 and array.shape[3] == 1 else array)
    if path.suffix == ".npz":
        planes = numpy.load(path)["data"]
        side = math.isqrt(planes.shape[1] // 3)
        return list(planes.reshape(-1, 3, side, side).transpose(0, 2, 3, 1))
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if raw[:4] != b"\0\0\x08\x03":
        sys.exit(f"{path}: not an IDX file of pictures, nor .bin, .npy, .npz or a folder")
    n, h, w = numpy.frombuffer(raw, ">u4", 3, 4)
    return list(numpy.frombuffer(raw, numpy.uint8, offset=16).reshape(n, h, w))


def open_picture(file):
    """A picture of 8 bits, grey or RGB, turned as its EXIF orientation says."""
    picture = ImageOps.exif_transpose(Image.open(file))
    if picture.mode == "P":
        picture = picture.convert("RGB")
    if picture.mode not in ("L", "RGB"):
        sys.exit(f"{file}: mode {picture.mode}, expected L or RGB (8 bits a channel, no transparency)")
    return picture


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


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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
    if len({picture.shape for picture in pictures}) > 1:
        sys.exit("codecs.py: --run needs pictures of one size")
    seconds = lambda line: float(re.search(r"([0-9.]+) s, [0-9.]+ MB/s", line).group(1)) / len(pictures)
    with tempfile.TemporaryDirectory() as folder:
        source, coded, back = (pathlib.Path(folder, name) for name in ("a.npy", "a.lvdz", "b.npy"))
        numpy.save(source, numpy.stack(pictures))
        chosen = ["--stage", stage] if stage else []
        encoding = seconds(run([binary, "compress", run_folder, source, "-o", coded, *chosen]))
        decoding = seconds(run([binary, "decompress", coded, run_folder, "-o", back]))
        info = json.loads(run([binary, "codec-info", coded, "--json"]))
        if not numpy.array_equal(numpy.load(back), numpy.stack(pictures)):
            sys.exit("codecs.py: a picture did not come back")
    sizes = numpy.array([picture["bytes"] for picture in info["pictures"]])
    return 8 * (sizes + (info["bytes"] - sizes.sum()) / len(sizes)), encoding, decoding


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
