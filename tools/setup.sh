#!/bin/sh
# Installs the Debian packages that building and testing need and this machine lacks.
#
#   tools/setup.sh          installs what `make test` needs
#   tools/setup.sh --check  lists what is missing, installs nothing
set -eu
. "$(dirname "$0")/packages.sh"

need build-essential cc --version
# bindgen reads V4L2's headers. It loads libclang and needs clang's own headers.
need libclang-dev sh -c 'ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* 2>/dev/null | grep -q .'
need libclang-dev sh -c 'ls /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h 2>/dev/null | grep -q .'
need linux-libc-dev test -e /usr/include/linux/videodev2.h
need mosquitto sh -c 'command -v mosquitto || test -x /usr/sbin/mosquitto'
# mosquitto_sub and mosquitto_pub, which the pages in docs/ show.
need mosquitto-clients command -v mosquitto_sub
need faketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
need systemd command -v systemd-analyze
need python3-venv python3 -c 'import venv, ensurepip'
install_missing "${1:-}"
