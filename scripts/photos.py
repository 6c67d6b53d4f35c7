#!/usr/bin/env python3
"""Write the photographs that come with scikit-image as PNG files into a folder, for `codecs.py FOLDER --run RUN`.

    pip install scikit-image;  python3 scripts/photos.py FOLDER

They are colour and grey, and of different sizes; of what is larger than 512 x 512 the middle is taken. Nothing is downloaded: a
picture that the installed package does not hold is left out and named.
"""
import pathlib
import sys

try:
    import numpy
    import skimage
    from PIL import Image
except ImportError as error:
    sys.exit(f"photos.py: {error}: pip install scikit-image")

NAMES = """astronaut.png brick.png camera.png cell.png chelsea.png coffee.png coins.png grass.png gravel.png
hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png page.png retina.jpg rocket.jpg""".split()
MOST = 512


def middle(pixels):
    top, left = ((size - MOST) // 2 if size > MOST else 0 for size in pixels.shape[:2])
    return pixels[top : top + MOST, left : left + MOST]


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out, data = pathlib.Path(sys.argv[1]), pathlib.Path(skimage.__file__).parent / "data"
    out.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if not (data / name).exists():
            print(f"{name}: is not in scikit-image {skimage.__version__}", file=sys.stderr)
            continue
        picture = Image.open(data / name)
        pixels = middle(numpy.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB")))
        target = (out / name).with_suffix(".png")
        Image.fromarray(pixels).save(target)
        print(f"{target}: {' x '.join(map(str, pixels.shape))}")


if __name__ == "__main__":
    main()
