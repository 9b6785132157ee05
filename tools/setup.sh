#!/bin/sh
# Installs what building and testing need and this machine lacks: Debian's packages by apt-get, nothing else.
#
#   tools/setup.sh          what `make test` needs
#   tools/setup.sh --check  says what is missing, installs nothing
set -eu
. "$(dirname "$0")/packages.sh"

need build-essential cc --version
# V4L2's headers are read by bindgen, which loads libclang and wants clang's own headers.
need libclang-dev sh -c 'ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* 2>/dev/null | grep -q .'
need libclang-dev sh -c 'ls /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h 2>/dev/null | grep -q .'
need linux-libc-dev test -e /usr/include/linux/videodev2.h
need mosquitto sh -c 'command -v mosquitto || test -x /usr/sbin/mosquitto'
need faketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
need systemd command -v systemd-analyze
need python3-venv python3 -c 'import venv, ensurepip'
install_missing "${1:-}"
