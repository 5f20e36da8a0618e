#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes the Debian source package of this tree, and from it the packages, and has lintian look at them: ./dev package
#
# usage: build.sh [--source] DIRECTORY      --source: no more than the source package
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

source_only=''
if [ "${1:-}" = --source ]; then
    source_only=yes
    shift
fi
[ $# -eq 1 ] || fail 'usage: build.sh [--source] DIRECTORY'
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$(sed -n "s/.*version : '\([0-9.]*\)',\$/\1/p" meson.build | head -n 1)
[ -n "$version" ] || fail 'meson.build names no version'
name=remofs-$version

# What belongs to the project: what git has or would take; without git all but what was built.
list_files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard --deduplicate
    else
        find . -path './build*' -prune -o -name __pycache__ -prune -o '(' -type f -o -type l ')' -printf '%P\0'
    fi | while IFS= read -r -d '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
    done
}

rm -rf --one-file-system "${out:?}/$name"
rm -f "$out"/*.deb "$out"/*.changes "$out"/*.buildinfo "$out"/*.dsc "$out"/*.tar.xz "$out"/lintian.txt
list_files | tar --null -T - --transform "s,^,$name/," --owner=0 --group=0 --numeric-owner --sort=name -cJf "$out/remofs_$version.orig.tar.xz"
tar -xJf "$out/remofs_$version.orig.tar.xz" -C "$out"
cp -r packaging/debian "$out/$name/debian"
cd "$out/$name"
if [ -n "$source_only" ]; then
    exec dpkg-buildpackage --build=source -d -us -uc
fi
dpkg-buildpackage -us -uc
lintian --fail-on error,warning "$out"/*.changes | tee "$out/lintian.txt"
