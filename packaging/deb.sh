#!/bin/sh
# Makes the Debian package: `make deb TARGET=aarch64|armv7|x86_64`; constancy-cuda or constancy-cuda-jetpack6 where GPU is
# cuda or cuda-jetpack6. Prints its path last.
set -eu
cd "$(dirname "$0")/.."
. cross/target.sh
cross/build.sh >&2

name=constancy${features:+-$GPU}
# Manual pages and completions come from the program itself, emulated where it is another machine's.
rm -rf "$folder/generated"
${gnu:+$emulator -L /usr/$gnu} "$folder/constancy" generate "$folder/generated"

# The package's assets are named by one path, whatever the target folder is.
ln -sfn "$(realpath "$folder")" packaging/built
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
version=$(cargo pkgid | sed 's/.*[#@]//')
# Debian's form of a change log, which points to the project's own.
printf '%s (%s-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$name" "$version" \
    "$maintainer" "$(date -R)" >"$folder/changelog"
package="$folder/${name}_${version}_$arch.deb"
cargo deb --quiet --no-build --no-strip --locked ${gnu:+--target "$triple"} ${features:+--variant "$GPU"} --output "$package" >&2
lintian --fail-on error "$package" >&2
echo "$package"
