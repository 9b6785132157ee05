#!/bin/bash
# Runs the code that differs between processors on emulated ARM cores: the kernels, where each core must find exactly the
# instruction sets that it has, and on 64-bit cores preprocessing and the renderer, against the same golden numbers as on this
# machine. Shows whether results are right; says nothing about speed.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck disable=SC2086 # $std is nothing, or one option
on() { # core, its instruction sets
    echo "== $1: $2"
    CORE=$1
    . cross/target.sh
    CONSTANCY_EXPECT_ISA="$2" cargo test --quiet --release --locked -p constancy-kernels --lib --target "$triple" $std
    if [ "$TARGET" = aarch64 ]; then
        cargo test --quiet --release --locked -p constancy-core --lib --tests --target "$triple" $std -- preprocess:: workshop::
    fi
}

TARGET=aarch64
on cortex-a53 "portable neon"
on cortex-a76 "portable neon neon-dotprod"
on max "portable neon neon-dotprod neon-i8mm"
# The emulated program and the native one must draw the same pictures.
TARGET=aarch64 cross/build.sh
CONSTANCY_AARCH64_BINARY=$(realpath "${CARGO_TARGET_DIR:-target}/cross/aarch64/constancy") \
    env -u RUSTC_BOOTSTRAP cargo test --quiet --release --locked -p constancy --test it workshop::another_processor
TARGET=armv7
on cortex-a7 "portable armv7-neon"
on cortex-a15 "portable armv7-neon"
