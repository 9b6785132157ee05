# Sourced by the scripts that build for another machine. Translates TARGET for cargo, the linker, bindgen and the emulator, and
# GPU for cargo and the package. Sets triple, gnu (the tools' prefix, empty on the target itself), arch (Debian's name),
# emulator, std (cargo's options if the standard library must be built), features (cargo's options) and folder (for the program
# and its package). Exports cargo's variables.

case "${TARGET:-}" in
aarch64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu arch=arm64 emulator=qemu-aarch64-static ;;
armv7) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf arch=armhf emulator=qemu-arm-static ;;
x86_64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu arch=amd64 emulator=qemu-x86_64-static ;;
*)
    echo "TARGET is '${TARGET:-}'; set TARGET=aarch64, armv7 or x86_64" >&2
    exit 64
    ;;
esac
# shellcheck disable=SC2034 # for the scripts that source this file
std=""

folder="${CARGO_TARGET_DIR:-target}/cross/$TARGET"
case "${GPU:=none}-$TARGET" in
none-*) features="" ;;
cuda*-armv7)
    echo "there is no CUDA for armv7; set GPU=none" >&2
    exit 64
    ;;
# shellcheck disable=SC2034 # as above
cuda-* | cuda-jetpack6-*) features="--features $GPU" folder="$folder/$GPU" ;;
*)
    echo "GPU is '$GPU'; set GPU=none, cuda or cuda-jetpack6" >&2
    exit 64
    ;;
esac

if [ "$(rustc -vV | sed -n 's/^host: //p')" = "$triple" ]; then
    gnu=""
else
    upper=$(echo "$triple" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc"
    export "CARGO_TARGET_${upper}_RUNNER=$emulator -L /usr/$gnu${CORE:+ -cpu $CORE}"
    # bindgen's libclang must read the target's V4L2 headers.
    export "BINDGEN_EXTRA_CLANG_ARGS_$(echo "$triple" | tr - _)=--sysroot=/usr/$gnu -I/usr/$gnu/include"
    # Without a prebuilt standard library for the target, cargo builds it with an option that stable cargo refuses. The program
    # itself uses nothing unstable.
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; then
        export RUSTC_BOOTSTRAP=1
        std="-Zbuild-std=std,panic_unwind,test"
    fi
fi
