# `just` comes with `pip install rust-just` (into a virtual environment where pip asks for one) or `cargo install just`.
# Beside it: Rust (rustup.rs), Python 3 with pip, a C compiler. Nothing is installed outside this folder.
#
# Everything is built in the release profile only, so that libtorch's bindings are compiled once.

set positional-arguments
set shell := ["bash", "-euo", "pipefail", "-c"]

# Spinning threads on busy cores are far slower than sleeping ones.
export OMP_WAIT_POLICY := env("OMP_WAIT_POLICY", "passive")

# List what there is to do.
default:
    @{{ quote(just_executable()) }} --list

# Fetch libtorch into third_party (once); `just setup cuda` brings the CUDA libraries for a machine with a GPU.
setup kind="cpu":
    @scripts/setup-libtorch.sh "$1"

# The whole job: teacher, latents, distillation, evaluation. EXPERIMENT is a YAML file or a name such as `mnist`.
distill experiment="photographs" *args: setup
    @scripts/experiment.sh run "$@"

# Train the teacher alone.
train-teacher experiment="photographs" *args: setup
    @scripts/experiment.sh train-teacher "$@"

# Show stages, sizes and memory; compute nothing.
plan experiment="photographs" *args: setup
    @scripts/experiment.sh plan "$@"

# Evaluate a finished run folder.
eval run *args: setup
    @cargo run --quiet --release -- eval "$@"

# Report on finished run folders: one HTML page (in the first folder), or tables by `--format md`.
report *args: setup
    @cargo run --quiet --release -- report "$@"

# See that the files in weights/ are those of its list.
weights-check:
    cd weights && sha256sum --check --strict SHA256SUMS

# All tests: those in the documentation, then the rest, a process each where cargo-nextest is there, else one by one.
test: setup
    #!/usr/bin/env bash
    set -euo pipefail
    export OMP_NUM_THREADS=1
    cargo test --release --doc
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --release --no-fail-fast
    else
        cargo test --release --no-fail-fast --lib --bins --tests -- --test-threads=1
    fi

# The Python package's own tests and doctests; it wants numpy, safetensors and PyYAML (`pip install ./python`).
test-python:
    cd python && python3 -m unittest discover -q -s tests -t .

# Formatting, clippy (pedantic; what is allowed stands in Cargo.toml), documentation; licences and advisories of the
# dependencies (deny.toml) where cargo-deny is there.
lint: setup
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --document-private-items
    @scripts/dependencies.sh

# Format the sources.
fmt:
    cargo fmt

# Measure speed, as ratios to this machine's matrix products (hclt, gaussian, kmeans, chow_liu, teacher), to a likelihood (query) or to other libraries (peers).
bench name="hclt" *args: setup
    #!/usr/bin/env bash
    set -euo pipefail
    bench=${1:-hclt}
    shift || true
    if [ "$bench" = peers ]; then
        python=${PEERS_PYTHON:-peers/bin/python}
        make="python3 -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt"
        [ -x "$python" ] || { echo "bench peers: there is no $python, the Python with the other libraries: $make" >&2; exit 2; }
        exec "$python" benches/peers/training.py "$@"
    fi
    # One circuit shares every operation out over libtorch's threads; Gaussians have threads of their own.
    if [ "$bench" = hclt ]; then export OMP_WAIT_POLICY=active; fi
    cargo bench --bench "$bench" -- "$@"

# All that needs a GPU, within nine minutes, with one file of results; where there is no GPU, the same in small on the CPU.
gpu-check *args: setup
    @python3 scripts/gpu-check.py "$@"

# Remove everything that was built or fetched here; run folders stay.
clean:
    rm -rf target third_party

# Remove all run folders in runs/, after a question.
[confirm("Remove all run folders in runs/? [y/N]")]
clean-runs:
    rm -rf runs
