#!/bin/sh
# Checks licences, banned crates and sources of all dependencies (deny.toml) where cargo-deny is installed.
set -eu
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED: licences and sources; install cargo-deny (cargo install cargo-deny --locked) to check them"
    exit 0
fi
# Advisories need the network.
cargo deny --locked --offline check licenses bans sources
