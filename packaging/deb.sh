#!/bin/sh
# Makes the Debian package: `make deb TARGET=aarch64|armv7|x86_64`. GPU=cuda makes constancy-cuda, GPU=cuda-jetpack6 makes
# constancy-cuda-jetpack6. The last line that it prints is the package's path.
set -eu
cd "$(dirname "$0")/.."
. cross/target.sh
cross/build.sh >&2

name=constancy${features:+-$GPU}
# The program itself writes its manual pages and completions, in the emulator if it is for another machine.
rm -rf "$folder/generated"
${gnu:+$emulator -L /usr/$gnu} "$folder/constancy" generate "$folder/generated"

# A link, so that Cargo.toml can name the assets by the same path for every target folder.
ln -sfn "$(realpath "$folder")" packaging/built
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
version=$(cargo pkgid | sed 's/.*[#@]//')
# A change log in Debian's format that refers to the project's own.
printf '%s (%s-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$name" "$version" \
    "$maintainer" "$(date -R)" >"$folder/changelog"
package="$folder/${name}_${version}_$arch.deb"
cargo deb --quiet --no-build --no-strip --locked ${gnu:+--target "$triple"} ${features:+--variant "$GPU"} --output "$package" >&2
lintian --fail-on error "$package" >&2
echo "$package"
