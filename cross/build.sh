#!/bin/sh
# Builds the program for another machine, stripped: `make cross TARGET=aarch64|armv7|x86_64`; with GPU support where GPU is
# cuda or cuda-jetpack6.
set -eu
cd "$(dirname "$0")/.."
. cross/target.sh

# The newest C library that it may ask for: that of Ubuntu 22.04, which Jetsons have; Debian bookworm has 2.36. The package
# depends on it.
oldest=2.35

target="${CARGO_TARGET_DIR:-target}"
if [ -n "$gnu" ]; then
    # Generic code comes out alike for many types: folding what is the same to the byte saves a tenth of the program.
    # shellcheck disable=SC2086 # nothing, or options
    cargo rustc --release --locked --bin constancy $features --target "$triple" $std -- \
        -C link-arg="-B$(dirname "$(command -v ld.mold)")" -C link-arg=-fuse-ld=mold -C link-arg=-Wl,--icf=all
    built="$target/$triple/release/constancy"
else
    # shellcheck disable=SC2086 # as above
    cargo build --release --locked --bin constancy $features
    built="$target/release/constancy"
fi
program="$folder/constancy"
mkdir -p "$folder"
"${gnu:+$gnu-}strip" -o "$program" "$built"

needed=$("${gnu:+$gnu-}objdump" -T "$program" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1)
if [ "$(printf '%s\n' "$needed" "$oldest" | sort -V | tail -1)" != "$oldest" ]; then
    echo "$program needs glibc $needed, boards have $oldest: build it on Debian bookworm, or with cross" >&2
    exit 1
fi
# CUDA is opened at run time, if it is there.
if "${gnu:+$gnu-}readelf" -d "$program" | grep NEEDED | grep -Ei 'cuda|nvrtc|cublas|cudnn' >&2; then
    echo "$program cannot start where these libraries are missing" >&2
    exit 1
fi
echo "$program: $(($(stat -c %s "$program") / 1000000)) MB, stripped, needs glibc $needed"
