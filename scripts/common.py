"""What the scripts share: readers of pictures, and calls of programs."""
import gzip
import math
import re
import subprocess
import sys

import numpy
from PIL import Image, ImageOps


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


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def seconds(line):
    """What `lvd compress` and `lvd decompress` say of the time from the first picture to the last."""
    return float(re.search(r"([0-9.]+) s, [0-9.]+ MB/s", line).group(1))
