#!/bin/sh
# Installs what `make test-arm` needs and this machine lacks: linkers and C libraries for 64- and 32-bit ARM, an emulator, and
# Rust's standard library for both: prebuilt if rustup has it, otherwise its source.
#
#   tools/setup-cross.sh          installs what is missing and prints it
#   tools/setup-cross.sh --check  lists what is missing, installs nothing
set -eu
. "$(dirname "$0")/packages.sh"

need build-essential cc --version
need gcc-aarch64-linux-gnu command -v aarch64-linux-gnu-gcc
need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/lib/libc.so
need gcc-arm-linux-gnueabihf command -v arm-linux-gnueabihf-gcc
need libc6-dev-armhf-cross test -e /usr/arm-linux-gnueabihf/lib/libc.so
need mold command -v ld.mold
need qemu-user-static command -v qemu-aarch64-static
need qemu-user-static command -v qemu-arm-static
install_missing "${1:-}"

rustlib="$(rustc --print sysroot)/lib/rustlib"
source="$rustlib/src/rust/library"
absent=""
for target in aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf; do
    [ -d "$rustlib/$target/lib" ] || absent="$absent $target"
done
[ -n "$absent" ] || exit 0
# If its source is installed, Cargo builds the standard library from it.
[ ! -e "$source/std/Cargo.toml" ] || exit 0
if [ "${1:-}" = "--check" ]; then
    echo "missing: Rust's standard library for$absent"
    exit 69
fi
echo "installing: Rust's standard library for$absent"
if command -v rustup >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # a list
    if timeout 300 rustup target add $absent >/dev/null 2>&1 || timeout 300 rustup component add rust-src >/dev/null 2>&1
    then
        exit 0
    fi
fi

# Debian's backports have the source of many versions. Uses this machine's archive with the suites below, and keeps apt's lists
# in a temporary folder: apt's configuration stays as it is.
version=$(rustc --version | cut -d' ' -f2)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for suite in trixie-backports trixie; do
    cat /etc/apt/sources.list.d/debian.sources 2>/dev/null | awk -v suite="$suite" '
        BEGIN { RS = ""; ORS = "\n\n" }
        /Suites:/ && !/security/ { gsub(/#[^\n]*\n/, ""); sub(/Suites:[^\n]*/, "Suites: " suite); print; exit }
    ' >"$work/debian.sources"
    [ -s "$work/debian.sources" ] || continue
    apt() {
        tool=$1
        shift
        "$tool" -qq -o Dir::Etc::sourcelist="$work/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
            -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
    }
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    apt apt-get update >/dev/null 2>&1 || continue
    package=$(apt apt-cache madison rust-src | awk -v v="$version+" 'index($3, v) == 1 { print $3; exit }')
    [ -n "$package" ] || continue
    (cd "$work" && apt apt-get download "rust-src=$package" >/dev/null && dpkg-deb -x rust-src_*.deb unpacked)
    mkdir -p "$(dirname "$source")"
    cp -r "$work"/unpacked/usr/src/rustc-*/library "$source"
    exit 0
done
echo "Rust's standard library for$absent is not available: neither from rustup nor, in version $version, from Debian's" \
    "package rust-src. Copy library/ from a machine that has it to $source" >&2
exit 69
