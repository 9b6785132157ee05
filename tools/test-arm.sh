#!/bin/bash
# Runs the kernels' tests on emulated ARM cores: each must find the instruction sets that it has, and no other.
# What is right or wrong shows here, not what is fast.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc

rustlib="$(rustc --print sysroot)/lib/rustlib"

on() { # core, its instruction sets
    echo "== $1: $2"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu $1"
    export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUNNER="qemu-arm-static -L /usr/arm-linux-gnueabihf -cpu $1"
    # Without the target's standard library it is built, by what only a nightly would allow: the kernels are not.
    local std=()
    if [ ! -d "$rustlib/$target/lib" ]; then
        export RUSTC_BOOTSTRAP=1
        std=(-Z build-std=std,panic_unwind,test)
    fi
    CONSTANCY_EXPECT_ISA="$2" cargo test --quiet --release --locked -p constancy-kernels --lib --target "$target" "${std[@]}"
}

target=aarch64-unknown-linux-gnu
on cortex-a53 "portable neon"
on cortex-a76 "portable neon neon-dotprod"
on max "portable neon neon-dotprod neon-i8mm"
target=armv7-unknown-linux-gnueabihf
on cortex-a7 "portable armv7-neon"
on cortex-a15 "portable armv7-neon"
