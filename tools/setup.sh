#!/bin/sh
# Installs what building and testing need and this machine lacks: Debian's packages by apt-get, nothing else.
#
#   tools/setup.sh          what `make test` needs
#   tools/setup.sh --check  says what is missing, installs nothing
set -eu

missing=""
need() { # package, command that succeeds where it is there
    package=$1
    shift
    "$@" >/dev/null 2>&1 || case $missing in
    *" $package"*) ;;
    *) missing="$missing $package" ;;
    esac
}

need build-essential cc --version
# V4L2's headers are read by bindgen, which loads libclang and wants clang's own headers.
need libclang-dev sh -c 'ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* 2>/dev/null | grep -q .'
need libclang-dev sh -c 'ls /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h 2>/dev/null | grep -q .'
need linux-libc-dev test -e /usr/include/linux/videodev2.h
need mosquitto sh -c 'command -v mosquitto || test -x /usr/sbin/mosquitto'
need systemd command -v systemd-analyze
need python3-venv python3 -c 'import venv, ensurepip'

if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is missing: install Rust with rustup (https://rustup.rs), then run this again" >&2
    exit 69
fi
[ -n "$missing" ] || exit 0
if [ "${1:-}" = "--check" ]; then
    echo "missing:$missing"
    exit 69
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
fi
if ! command -v apt-get >/dev/null 2>&1 || { [ -n "$as_root" ] && ! command -v sudo >/dev/null 2>&1; }; then
    echo "please install, with this system's package manager:$missing" >&2
    exit 69
fi
echo "installing:$missing"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
