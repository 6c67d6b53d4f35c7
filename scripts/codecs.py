#!/usr/bin/env python3
"""Bits per dimension of lossless codecs on test pictures, every picture a file of its own.

    pip install numpy pillow;  apt-get install libjxl-tools
    python3 scripts/codecs.py FOLDER/cifar-10-batches-bin/test_batch.bin [--limit N]

PNG and WebP (lossless, method 6, quality 100) are written by Pillow, JPEG XL by `cjxl -d 0 -e 9`. A file's header counts:
this is what storing single pictures costs. Reads CIFAR-10 batches (.bin), IDX files of grey pictures (.gz or not) and
npz files of downsampled ImageNet (array `data`, planes).
"""
import argparse
import gzip
import io
import math
import pathlib
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy
from PIL import Image


def read(path):
    """Pictures uint8 [N, H, W] or [N, H, W, 3]."""
    if path.suffix == ".bin":
        rows = numpy.frombuffer(path.read_bytes(), numpy.uint8).reshape(-1, 3073)[:, 1:]
        return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if path.suffix == ".npz":
        planes = numpy.load(path)["data"]
        side = math.isqrt(planes.shape[1] // 3)
        return planes.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert raw[:4] == b"\0\0\x08\x03", f"{path}: not an IDX file of pictures"
    n, h, w = numpy.frombuffer(raw, ">u4", 3, 4)
    return numpy.frombuffer(raw, numpy.uint8, offset=16).reshape(n, h, w)


def pillow(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **options)
    return file.tell()


def jpeg_xl(picture):
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "a.png"), pathlib.Path(folder, "a.jxl")
        Image.fromarray(picture).save(source)
        command = ["cjxl", source, target, "-d", "0", "-e", "9", "--num_threads=0", "--quiet"]
        subprocess.run(command, check=True, capture_output=True)
        return target.stat().st_size


CODECS = {
    "PNG": lambda picture: pillow(picture, format="PNG", optimize=True),
    "WebP lossless": lambda picture: pillow(picture, format="WebP", lossless=True, quality=100, method=6),
    "JPEG XL -d 0 -e 9": jpeg_xl,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("--first", type=int, default=0, help="leave out the pictures before this one")
    parser.add_argument("--limit", type=int, help="only so many pictures")
    args = parser.parse_args()
    pictures = numpy.ascontiguousarray(read(args.pictures)[args.first :][: args.limit])
    dimensions = pictures[0].size
    for name, size in CODECS.items():
        with ThreadPoolExecutor() as pool:
            bits = 8 * numpy.array(list(pool.map(size, pictures))) / dimensions
        error = bits.std(ddof=1) / math.sqrt(len(bits))
        print(f"{name:<18} {bits.mean():.4f} +- {error:.4f} bits per dimension, {len(bits)} pictures", flush=True)


if __name__ == "__main__":
    main()
