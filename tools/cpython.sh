#!/usr/bin/env bash
# Gets a CPython that tests can use, and prints where it is.
#
#   cpython.sh VERSION [SOURCE...]      3.14, 3.15, 3.14t (free-threaded)
#
# The first there is of
#   - one on this machine, also of pyenv, of uv, or built here before: the path of the interpreter;
#   - a package of Debian: the directory of a minimal system that has it (system.sh runs commands there);
#   - SOURCE, archives of CPython's source, or folders of them: the path of the interpreter, which is built once, into the cache.
#
# Says on stderr what it does. As root for the second. Exit status 3: there is none here; 1: what there is does not build.
set -euo pipefail
tools=$(realpath "$(dirname "$0")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ringbuf
version=$1
shift

on_this_machine() { "$tools/find-python.sh" "$version"; }

# Debian has no free-threaded builds; its release with the newest of everything has all the others, sooner or later.
from_debian() {
    [ "$version" = "${version%t}" ] || return 3
    local root=$cache/systems/python$version packages=(gcc git libc6-dev make "python$version-dev" "python$version-venv")
    if [ ! -e "$root/.has-python" ]; then
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 3
        echo "ringbuf: CPython $version from Debian's unstable release, into $root" >&2
        rm -rf --one-file-system "$root"
        { "$tools/system.sh" make "$root" sid >&2 &&
            "$tools/system.sh" run "$root" sh -c "apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
                apt-get install -qq -y --no-install-recommends ${packages[*]}" >"$root.log" 2>&1 </dev/null; } ||
            { rm -rf --one-file-system "$root"; return 3; }
        touch "$root/.has-python"
    fi
    echo "$root"
}

# Without its tests, and without what makes CPython faster and its build several times as long.
from_source() {
    local archive="" prefix=$cache/cpython/$version options=(--disable-test-modules)
    [ $# = 0 ] || archive=$(find "$@" -maxdepth 1 -name "*${version%t}.[0-9]*.tar.*" 2>/dev/null | sort -V | tail -n 1)
    [ -n "$archive" ] || return 3
    [ "$version" = "${version%t}" ] || options+=(--disable-gil)
    echo "ringbuf: CPython $version from ${archive##*/}, into $prefix" >&2
    rm -rf "$prefix.build"
    mkdir -p "$prefix.build"
    tar -xf "$archive" -C "$prefix.build" --strip-components=1
    (cd "$prefix.build" && ./configure -q --prefix="$prefix" "${options[@]}" CFLAGS=-O2 &&
        make -s -j"$(nproc)" && make -s install DESTDIR="$PWD/there") >"$prefix.log" 2>&1 ||
        { tail -n 5 "$prefix.log" >&2; return 1; }
    mv "$prefix.build/there$prefix" "$prefix"  # whole, or not at all
    rm -rf "$prefix.build"
    on_this_machine
}

mkdir -p "$cache"
exec 9>"$cache/python$version.lock"
flock 9  # two at a time would build in one place
on_this_machine || from_debian || from_source "$@" || {
    status=$?
    [ $status != 3 ] ||
        echo "ringbuf: no CPython $version on this machine, in Debian, or among these archives: ${*:-none}" >&2
    exit $status
}
