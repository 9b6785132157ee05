#!/bin/sh
# Builds the program for another machine, stripped: `make cross TARGET=aarch64|armv7|x86_64`.
set -eu
cd "$(dirname "$0")/.."
. cross/target.sh

# The newest C library that it may ask for: that of Ubuntu 22.04, which Jetsons have; Debian bookworm has 2.36. The package
# depends on it.
oldest=2.35

target="${CARGO_TARGET_DIR:-target}"
if [ -n "$gnu" ]; then
    # Generic code comes out alike for many types: folding what is the same to the byte saves a tenth of the program.
    # shellcheck disable=SC2086 # nothing, or one option
    cargo rustc --release --locked --bin constancy --target "$triple" $std -- \
        -C link-arg="-B$(dirname "$(command -v ld.mold)")" -C link-arg=-fuse-ld=mold -C link-arg=-Wl,--icf=all
    built="$target/$triple/release/constancy"
else
    cargo build --release --locked --bin constancy
    built="$target/release/constancy"
fi
program="$target/cross/$TARGET/constancy"
mkdir -p "$(dirname "$program")"
"${gnu:+$gnu-}strip" -o "$program" "$built"

needed=$("${gnu:+$gnu-}objdump" -T "$program" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1)
if [ "$(printf '%s\n' "$needed" "$oldest" | sort -V | tail -1)" != "$oldest" ]; then
    echo "$program needs glibc $needed, boards have $oldest: build it on Debian bookworm, or with cross" >&2
    exit 1
fi
echo "$program: $(($(stat -c %s "$program") / 1000000)) MB, stripped, needs glibc $needed"
