#!/usr/bin/env bash
# Look at the report of a run folder in a real browser: the page is drawn, has the size asked for and is not blank.
#
#   scripts/report-screenshot.sh RUN [PICTURE.png]
#
# Where no Chromium is there and none can be installed (Debian, as root), this says so and passes.
set -euo pipefail
run=$1
picture=${2:-$run/report.png}

browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if ! browser >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 || true
    fi
fi
if ! browser >/dev/null; then
    echo "report: no Chromium here and none could be installed: the page was not looked at"
    exit 0
fi

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
timeout 120 "$(browser)" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
    --disable-background-networking --disable-component-update --disable-sync --window-size=1100,2400 \
    --screenshot="$picture" "file://$(readlink -f "$run/report.html")" >/dev/null 2>&1
python3 - "$picture" <<'PYTHON'
import struct, sys, zlib

data = open(sys.argv[1], "rb").read()
width, height = struct.unpack(">II", data[16:24])
assert (width, height) == (1100, 2400), f"the screenshot is {width} x {height}, expected 1100 x 2400"
pixels, place = b"", 8
while place < len(data):
    length, kind = struct.unpack(">I4s", data[place : place + 8])
    if kind == b"IDAT":
        pixels += data[place + 8 : place + 8 + length]
    place += length + 12
rows = zlib.decompress(pixels)
stride = len(rows) // height
drawn = sum(len(set(rows[y * stride + 1 : (y + 1) * stride])) > 3 for y in range(height))
assert drawn > height // 4, f"only {drawn} of {height} rows have something drawn on them: the page is blank"
print(f"report: drawn by a browser, {drawn} of {height} rows with something on them")
PYTHON
