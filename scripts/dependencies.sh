#!/usr/bin/env bash
# Licences, sources and advisories of the dependencies against deny.toml, as far as this machine can tell.
# cargo-deny comes with `cargo install cargo-deny`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "lint: cargo-deny is not installed: licences and advisories of dependencies are not checked"
    exit 0
fi
checks=(bans licenses sources)
if cargo deny fetch db >/dev/null 2>&1; then
    checks+=(advisories)
else
    echo "lint: the list of advisories cannot be fetched: advisories are not checked"
fi
cargo deny --locked check "${checks[@]}"
