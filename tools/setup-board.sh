#!/bin/sh
# Installs what `make deb` and `make board` need besides cross compilers and this machine lacks: an emulator, tools that make
# its disk, mosquitto and its clients, cargo-deb, lintian.
#
#   tools/setup-board.sh          installs what is missing and prints it
#   tools/setup-board.sh --check  lists what is missing, installs nothing
set -eu
. "$(dirname "$0")/packages.sh"

need qemu-system-arm command -v qemu-system-aarch64
# QEMU's network cards need its boot files.
need ipxe-qemu test -e /usr/lib/ipxe/qemu
need cpio command -v cpio
need kmod sh -c 'command -v depmod || test -x /usr/sbin/depmod'
need e2fsprogs sh -c 'command -v mke2fs || test -x /usr/sbin/mke2fs'
need mosquitto sh -c 'command -v mosquitto || test -x /usr/sbin/mosquitto'
need mosquitto-clients command -v mosquitto_sub
need systemd command -v systemd-sysusers
need python3 command -v python3
need lintian command -v lintian
install_missing "${1:-}"

if ! cargo deb --version >/dev/null 2>&1; then
    if [ "${1:-}" = "--check" ]; then
        echo "missing: cargo-deb"
        exit 69
    fi
    echo "installing: cargo-deb"
    cargo install --quiet --locked cargo-deb
fi
