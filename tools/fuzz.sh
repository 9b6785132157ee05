#!/bin/bash
# Builds the fuzz targets and runs each for a while; fails if one panics, hangs for 10 s or takes more than 1 GB.
#
#   tools/fuzz.sh SECONDS [TARGET…]
#
# New inputs that reach new code are kept in TARGET-FOLDER/fuzz/corpus, findings in TARGET-FOLDER/fuzz/findings. Run one again with
#   CONSTANCY_FUZZ=TARGET TARGET-FOLDER/release/constancy-fuzz FILE
set -euo pipefail
cd "$(dirname "$0")/.."
duration=${1:-60}
shift || true
target=${CARGO_TARGET_DIR:-target}
home=$(mkdir -p "$target/fuzz" && cd "$target/fuzz" && pwd)

# libFuzzer itself, in C++.
cargo build --quiet --release --locked --manifest-path fuzz/engine/Cargo.toml --target-dir "$home/engine"
library=$(ls -t "$home"/engine/release/build/libfuzzer-sys-*/out/libfuzzer.a | head -n 1)
# Less optimisation of our own crates, which are compiled for this alone. Every dependency is the one of `make test`.
fast=()
for crate in constancy constancy-core constancy-engine constancy-kernels; do
    fast+=(--config "profile.release.package.$crate.opt-level=1")
done
LIBFUZZER=$library RUSTC_WORKSPACE_WRAPPER=$PWD/tools/fuzz-rustc.sh \
    cargo build --quiet --release --locked -p constancy-fuzz "${fast[@]}"
program=$home/../release/constancy-fuzz

# Files of the project that are seeds, beside fuzz/seeds/TARGET.
seeds() {
    case $1 in
    config) ls config/*.toml ;;
    jpeg) ls tests/fixtures/preprocess/*.jpg ;;
    manifest) ls models/*.toml models/pocket/*.toml tests/fixtures/encoder/*.toml ;;
    onnx) ls tests/fixtures/encoder/wrong-shape.onnx ;;
    tensors) ls tests/fixtures/projection/*.safetensors ;;
    tokenizer) ls tests/fixtures/encoder/tokenizer.json ;;
    *) ;;
    esac
}

fuzz() {
    local name=$1 folder=$home/corpus/$1 given=$home/given/$1 log=$home/$1.log file chance=()
    # In CI the same inputs each time: a finding belongs to the change, not to luck.
    if [ -n "${CI:-}" ]; then
        folder=$home/ci/$1
        rm -rf "$folder"
        chance=(-seed=1)
    fi
    mkdir -p "$folder" "$home/findings" "$given"
    for file in $(seeds "$name"); do cp "$file" "$given/"; done
    if CONSTANCY_FUZZ=$name RUST_BACKTRACE=0 "$program" "${chance[@]}" -max_total_time="$duration" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$home/findings/$name-" -verbosity=0 "$folder" "$given" "fuzz/seeds/$name" >"$log" 2>&1; then
        mark="ok  "
    else
        mark=FAIL
    fi
    local runs peak
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
    echo "$mark  $name  ${runs:-?} inputs, ${peak:-?} MB at most"
    if [ "$mark" = FAIL ]; then
        tail -n 40 "$log" | cut -c 1-300
        return 1
    fi
}

names=("$@")
[ ${#names[@]} -gt 0 ] || mapfile -t names < <(ls fuzz/seeds)
export -f fuzz seeds
export home program duration
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'fuzz {}'
