# Sourced by the setup scripts: finds out which Debian packages are missing, and installs them.

missing=""
need() { # package, command that succeeds if the package is installed
    package=$1
    shift
    "$@" >/dev/null 2>&1 || case $missing in
    *" $package"*) ;;
    *) missing="$missing $package" ;;
    esac
}

# Installs what `need` found missing; with --check only lists it.
install_missing() {
    [ -n "$missing" ] || return 0
    if [ "${1:-}" = "--check" ]; then
        echo "missing:$missing"
        exit 69
    fi
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        as_root=sudo
    fi
    if ! command -v apt-get >/dev/null 2>&1 || { [ -n "$as_root" ] && ! command -v sudo >/dev/null 2>&1; }; then
        echo "missing:$missing; install them with this system's package manager" >&2
        exit 69
    fi
    echo "installing:$missing"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is missing: install Rust with rustup (https://rustup.rs), then run this again" >&2
    exit 69
fi
