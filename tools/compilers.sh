#!/usr/bin/env bash
# Compiles the headers and the C tests, without a warning, by every gcc from 12 and clang from 14 on that Debian's
# releases have: as C by gnu11, and the headers as C++17, 20 and 23.
#
#   compilers.sh [RELEASE...]        in a minimal Debian system for each (bookworm, trixie, sid), as root
#   compilers.sh --here CC...        by these compilers, on this system
#
# LEVELS: of gcc's optimisation, each with warnings of its own (-O0 -O1 -O2 -O3 -Os); clang warns before it optimises.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=(-Wall -Wextra -Werror -Iinclude -pthread)

compile() { "$@" -c -o /dev/null || { echo "failed: $*"; return 1; }; }
export -f compile

here() {
    local cc cxx standard source levels level
    for cc; do
        cxx=${cc/gcc/g++} cxx=${cxx/clang/clang++}
        for standard in c++17 c++20 c++2b; do
            echo "$cxx -x c++ -std=$standard ${flags[*]} include/ringbuf/ringbuf.h"
        done
        levels=${LEVELS:--O0 -O1 -O2 -O3 -Os}
        [ "${cc%-*}" = gcc ] || levels=-O2
        for source in tests/c/*.c; do
            for level in $levels; do
                echo "$cc -std=gnu11 $level ${flags[*]} -Itests/c $source"
            done
        done
    done | xargs -P "$(nproc)" -I{} bash -c 'compile {}' || return 1
    echo "without a warning: $*"
}

wanted='^(gcc-1[2-9]|gcc-[2-9][0-9]|clang-1[4-9]|clang-[2-9][0-9])$'

in_release() {
    local release=$1 root=$2 compilers packages cc
    tools/system.sh make "$root" "$release"
    inside() { tools/system.sh run "$root" "$@" </dev/null; }
    inside apt-get -qq update
    compilers=$(inside apt-cache search --names-only "$wanted" | cut -d " " -f 1)
    packages=(libc6-dev)
    for cc in $compilers; do
        packages+=("$cc")
        [ "${cc%-*}" = clang ] || packages+=("${cc/gcc/g++}")
    done
    inside sh -c "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ${packages[*]}" \
        >"$root.log" 2>&1 || { tail -n 5 "$root.log"; return 1; }
    git clone -q . "$root/root/ringbuf"
    inside env LEVELS="${LEVELS:-}" ringbuf/tools/compilers.sh --here $compilers
}

if [ "${1:-}" = --here ]; then
    shift
    here "$@"
    exit
fi
[ $# -gt 0 ] || set -- bookworm trixie sid
failed=
for release; do
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/ringbuf-compilers.XXXXXX")
    echo "$release"
    in_release "$release" "$root/system" || failed=yes
    rm -rf --one-file-system "$root"
done
[ -z "$failed" ]
