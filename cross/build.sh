#!/bin/sh
# Builds the program for another machine and strips it: `make cross TARGET=aarch64|armv7|x86_64`. GPU=cuda and
# GPU=cuda-jetpack6 build it with GPU support.
set -eu
cd "$(dirname "$0")/.."
. cross/target.sh

# The newest glibc that the program may require: Jetsons have Ubuntu 22.04's 2.35, Debian bookworm has 2.36. The package depends
# on this version.
oldest=2.35

target="${CARGO_TARGET_DIR:-target}"
if [ -n "$gnu" ]; then
    # Generic code compiles to identical functions for many types: folding them makes the program a tenth smaller.
    # shellcheck disable=SC2086 # empty, or options
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
    echo "$program needs glibc $needed, boards have $oldest: build on Debian bookworm, or with cross" >&2
    exit 1
fi
# The program opens CUDA at run time, if it is installed.
if "${gnu:+$gnu-}readelf" -d "$program" | grep NEEDED | grep -Ei 'cuda|nvrtc|cublas|cudnn' >&2; then
    echo "$program is linked to these libraries and cannot start without them" >&2
    exit 1
fi
echo "$program: $(($(stat -c %s "$program") / 1000000)) MB, stripped, needs glibc $needed"
