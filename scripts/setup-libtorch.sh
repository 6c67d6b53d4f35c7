#!/usr/bin/env bash
# Put the pinned libtorch into third_party/libtorch, from Python wheels checked by SHA-256.
#
#   scripts/setup-libtorch.sh         the part that lvd links to (CPU; about 500 MB on disk)
#   scripts/setup-libtorch.sh cuda    the full CUDA libraries beside it, for a machine with a GPU (about 5 GB)
#
# Nothing is written outside this folder. A folder that is complete is left alone, so a second call costs milliseconds.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-cpu}
version=2.11.0
target=third_party/libtorch
python=${PYTHON:-python3}

fail() {
    printf 'setup: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '       %s\n' "$hint" >&2; done
    exit 1
}

case $kind in cpu | cuda) ;; *) fail "unknown kind '$kind'" "expected: cpu (default) or cuda" ;; esac

if [ -n "${LIBTORCH:-}" ] && [ "$(readlink -f "$LIBTORCH")" != "$(readlink -f "$target")" ]; then
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "LIBTORCH=$LIBTORCH holds no lib/libtorch_cpu.so" \
        "point it at a libtorch or Python torch folder of version $version, or unset it"
    echo "setup: using your own libtorch in $LIBTORCH" >&2
    exit 0
fi

# What a set-up that was killed has left is of no use; one that is at work holds the lock.
mkdir -p third_party
exec 9>third_party/.setup.lock
stamp=$target/.complete-$kind
if ! flock -n 9; then
    [ -e "$stamp" ] && exit 0
    fail "another set-up is at work in third_party" "wait for it, or end it"
fi
rm -rf third_party/setup.*
[ -e "$stamp" ] && exit 0

command -v "$python" >/dev/null || fail "$python not found" "install Python 3 (Debian, Ubuntu: apt-get install python3 python3-pip)" "or name one: PYTHON=/path/to/python3"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip" "Debian, Ubuntu: apt-get install python3-pip"
command -v cc >/dev/null || fail "no C compiler (cc)" "Debian, Ubuntu: apt-get install build-essential"
[ "$(uname -m)" = x86_64 ] || fail "the pinned wheels are for x86_64, this is $(uname -m)" "set LIBTORCH to a libtorch $version of your own"
need_mb=1300
[ "$kind" = cuda ] && need_mb=12000
mkdir -p third_party
free_mb=$(df -Pm third_party | awk 'NR==2 {print $4}')
[ "$free_mb" -ge "$need_mb" ] || fail "$free_mb MB free in third_party, $need_mb MB needed" "free some space, or set LIBTORCH to a libtorch $version of your own"

work=$(mktemp -d third_party/setup.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
export TMPDIR=$PWD/$work

# The options that make any Python 3 fetch the same wheels, whatever its own version.
wheels=(--only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi none --platform manylinux1_x86_64
    --platform manylinux2014_x86_64 --platform linux_x86_64)
for minor in 12 17 18 24 25 26 27 28 31 34; do wheels+=(--platform "manylinux_2_${minor}_x86_64"); done
hint=("is the network up? pip must reach a package index (its own settings and proxies apply)"
    "without a network: set LIBTORCH to a libtorch $version that is already on this machine")

echo "setup: fetching libtorch $version (about 540 MB, once) into $target" >&2
"$python" -m pip download --quiet --no-deps --require-hashes --no-cache-dir "${wheels[@]}" -d "$work" \
    -r scripts/requirements-libtorch.txt || fail "pip could not fetch the wheels" "${hint[@]}"
"$python" - "$work" <<'PY' || fail "the wheels could not be unpacked" "is the disk full?"
import pathlib, shutil, sys, zipfile
work = pathlib.Path(sys.argv[1])
keep = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
for wheel in work.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            base = name.rsplit("/", 1)[-1]
            if not base:
                continue
            if base in keep:
                out = work / "libtorch/lib" / base
            elif name.startswith("torch/include/"):
                out = work / "libtorch" / name[len("torch/"):]
            else:
                continue
            out.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, out.open("wb") as copy:
                shutil.copyfileobj(source, copy)
PY
# torch-sys always links -ltorch; the wheel's own is an empty shell that pulls in CUDA, so an empty library takes its place.
echo 'void lvd_empty_libtorch(void) {}' >"$work/empty.c"
cc -shared -fPIC -Wl,-soname,libtorch.so -o "$work/libtorch/lib/libtorch.so" "$work/empty.c" || fail "cc could not link an empty library"
echo "$version" >"$work/libtorch/build-version"
touch "$work/libtorch/.complete-cpu"
rm -rf "$target"
mv "$work/libtorch" "$target"

if [ "$kind" = cuda ]; then
    echo "setup: fetching the CUDA libraries (about 3 GB, once) into third_party/cuda" >&2
    "$python" -m pip install --quiet --no-deps --require-hashes --no-cache-dir --upgrade "${wheels[@]}" --target "$work/cuda" \
        -r scripts/requirements-cuda.txt || fail "pip could not fetch the CUDA libraries" "${hint[@]}"
    rm -rf third_party/cuda
    mv "$work/cuda" third_party/cuda
    touch "$stamp"
    echo "setup: run lvd with --libtorch-cuda third_party/cuda/torch/lib on this machine" >&2
fi
echo "setup: libtorch $version is ready in $target" >&2
