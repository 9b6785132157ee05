#!/bin/bash
# Runs on emulated ARM cores what computes there in its own way: the kernels, of which each core must find the instruction
# sets that it has and no other, and on 64-bit ones preprocessing and the renderer against the same golden numbers as here.
# What is right or wrong shows, not what is fast.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck disable=SC2086 # $std is nothing, or one option
on() { # core, its instruction sets
    echo "== $1: $2"
    CORE=$1
    . cross/target.sh
    CONSTANCY_EXPECT_ISA="$2" cargo test --quiet --release --locked -p constancy-kernels --lib --target "$triple" $std
    if [ "$TARGET" = aarch64 ]; then
        cargo test --quiet --release --locked -p constancy-core --target "$triple" $std -- preprocess:: workshop::
    fi
}

TARGET=aarch64
on cortex-a53 "portable neon"
on cortex-a76 "portable neon neon-dotprod"
on max "portable neon neon-dotprod neon-i8mm"
# The program there and the one here must draw the same pictures.
TARGET=aarch64 cross/build.sh
CONSTANCY_AARCH64_BINARY=$(realpath "${CARGO_TARGET_DIR:-target}/cross/aarch64/constancy") \
    env -u RUSTC_BOOTSTRAP cargo test --quiet --release --locked -p constancy --test it workshop::another_processor
TARGET=armv7
on cortex-a7 "portable armv7-neon"
on cortex-a15 "portable armv7-neon"
