#!/usr/bin/env python3
"""Bits per dimension of lossless codecs on test pictures, every picture a file of its own.

    pip install numpy pillow;  apt-get install libjxl-tools
    python3 scripts/codecs.py FOLDER/cifar-10-batches-bin/test_batch.bin [--limit N]

PNG and WebP (lossless, method 6, quality 100) are written by Pillow, JPEG XL by `cjxl -d 0 -e 9`, which is left out where
there is no cjxl. A file's header counts: this is what storing single pictures costs. Reads CIFAR-10 batches (.bin), IDX files
of grey pictures (.gz or not), npz files of downsampled ImageNet (array `data`, planes), npy arrays uint8 [N, H, W] or
[N, H, W, 3], and folders of PNG and JPEG pictures, which may differ in size.
"""
import argparse
import gzip
import io
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
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
    if not args.pictures.exists():
        sys.exit(f"{args.pictures}: there is no such file or folder")
    pictures = [numpy.ascontiguousarray(p) for p in read(args.pictures)[args.first :][: args.limit]]
    if not pictures:
        sys.exit(f"{args.pictures}: no pictures")
    dimensions = numpy.array([picture.size for picture in pictures])
    for name, size in CODECS.items():
        if size is jpeg_xl and shutil.which("cjxl") is None:
            print(f"{name:<18} left out: there is no cjxl (Debian, Ubuntu: apt-get install libjxl-tools)", flush=True)
            continue
        with ThreadPoolExecutor() as pool:
            bits = 8 * numpy.array(list(pool.map(size, pictures))) / dimensions
        error = bits.std(ddof=1) / math.sqrt(len(bits)) if len(bits) > 1 else 0.0
        print(f"{name:<18} {bits.mean():.4f} +- {error:.4f} bits per dimension, {len(bits)} pictures", flush=True)


if __name__ == "__main__":
    main()
