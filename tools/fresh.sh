#!/usr/bin/env bash
# The README's two commands on a new machine: in a minimal Debian system for each release, with what the README says to
# install and nothing else, and a fresh clone of this tree. As root on a Debian system.
#
#   fresh.sh [--demo] [--keep] [RELEASE...]    --demo: without `make test`; --keep: leave the system there to look at
#
# Exit status 3: nothing failed, but a system could not be made here.
set -uo pipefail
cd "$(dirname "$0")/.."

targets=(demo test) keep= releases=()
for argument; do
    case $argument in
    --demo) targets=(demo) ;;
    --keep) keep=yes ;;
    *) releases+=("$argument") ;;
    esac
done
[ ${#releases[@]} -gt 0 ] || releases=(bookworm trixie testing)

install=$(sed -n 's/^ *\(apt-get install [a-z0-9 +.-]*[a-z0-9]\).*/\1/p' README.md)
[ -z "$(git status --porcelain)" ] || echo "ringbuf: what is not committed is not tested" >&2

try() {
    local release=$1 root=$2 target
    tools/system.sh make "$root" "$release" || return 3
    inside() { tools/system.sh run "$root" "$@" </dev/null; }
    inside sh -c "apt-get -qq update && DEBIAN_FRONTEND=noninteractive $install -qq --no-install-recommends -y" \
        >"$root.log" 2>&1 || { cat "$root.log"; return 1; }
    git clone -q . "$root/root/ringbuf" || return 1
    for target in "${targets[@]}"; do
        echo
        echo "$release: make $target"
        inside make -C ringbuf "$target" || return 1
    done
}

passed=() failed=() missing=()
mkdir -p build
for release in "${releases[@]}"; do
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/ringbuf-$release.XXXXXX")
    try "$release" "$root/system"
    case $? in
    0) passed+=("$release") ;;
    3) missing+=("$release") ;;
    *) failed+=("$release") ;;
    esac
    [ -n "$keep" ] && echo "left there: $root/system" || rm -rf --one-file-system "$root"
done
echo
[ ${#passed[@]} = 0 ] || echo "passed: ${passed[*]}"
[ ${#missing[@]} = 0 ] || echo "not run: ${missing[*]} (no minimal system could be made)"
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
[ ${#missing[@]} = 0 ] || exit 3
