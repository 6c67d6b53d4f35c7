#!/usr/bin/env bash
# Run the binary on an experiment that may be named in short: `digits` is experiments/digits/default.yaml.
#
#   scripts/experiment.sh COMMAND [EXPERIMENT] [OPTIONS...]      without EXPERIMENT: the embedded default
set -euo pipefail
cd "$(dirname "$0")/.."

command=$1
shift
experiment=photographs
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    experiment=$1
    shift
fi
if [ ! -e "$experiment" ] || [ -d "$experiment" ]; then
    short=experiments/$experiment/default.yaml
    if [ ! -e "$short" ]; then
        echo "no experiment '$experiment': expected a YAML file, or one of these names:" >&2
        for file in experiments/*/default.yaml; do [ -e "$file" ] && echo "  $(basename "$(dirname "$file")")" >&2; done
        exit 2
    fi
    experiment=$short
fi
exec cargo run --release -- "$command" "$experiment" "$@"
