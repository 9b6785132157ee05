# Read by the scripts that build for another machine: what TARGET is to cargo, the linker, bindgen and the emulator, and
# what GPU is to cargo and the package. Sets triple, arch (Debian's name), std (cargo's options where the standard library
# must be built), features (cargo's options) and folder (where the program and its package go), and exports what cargo
# reads.

case "${TARGET:-}" in
aarch64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu arch=arm64 emulator=qemu-aarch64-static ;;
armv7) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf arch=armhf emulator=qemu-arm-static ;;
x86_64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu arch=amd64 emulator=qemu-x86_64-static ;;
*)
    echo "TARGET is '${TARGET:-}'; say TARGET=aarch64, armv7 or x86_64" >&2
    exit 64
    ;;
esac
# shellcheck disable=SC2034 # read by those who source this
std=""

folder="${CARGO_TARGET_DIR:-target}/cross/$TARGET"
case "${GPU:=none}-$TARGET" in
none-*) features="" ;;
cuda*-armv7)
    echo "there is no CUDA for armv7: say GPU=none" >&2
    exit 64
    ;;
# shellcheck disable=SC2034 # as above
cuda-* | cuda-jetpack6-*) features="--features $GPU" folder="$folder/$GPU" ;;
*)
    echo "GPU is '$GPU'; say GPU=none, cuda or cuda-jetpack6" >&2
    exit 64
    ;;
esac

if [ "$(rustc -vV | sed -n 's/^host: //p')" = "$triple" ]; then
    gnu=""
else
    upper=$(echo "$triple" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc"
    export "CARGO_TARGET_${upper}_RUNNER=$emulator -L /usr/$gnu${CORE:+ -cpu $CORE}"
    # V4L2's headers are read by libclang, which must look at the target's.
    export "BINDGEN_EXTRA_CLANG_ARGS_$(echo "$triple" | tr - _)=--sysroot=/usr/$gnu -I/usr/$gnu/include"
    # Without the target's standard library it is built, by what only a nightly would allow: the program is not.
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; then
        export RUSTC_BOOTSTRAP=1
        std="-Zbuild-std=std,panic_unwind,test"
    fi
fi
