#!/usr/bin/env bash
# What `make test` runs: the tests in .venv, then the Python tests under every other CPython on this machine.
# Ends with what was not run and why, then one line of counts for each run.
set -uo pipefail
cd "$(dirname "$0")/.."

export RINGBUF_NOT_RUN=$PWD/build/not-run.txt  # tests/conftest.py appends to these two
export RINGBUF_COUNTS=$PWD/build/counts.txt
unset MAKEFLAGS  # the calls of make below choose their own number of jobs
mkdir -p build
rm -f "$RINGBUF_NOT_RUN" "$RINGBUF_COUNTS"

LIMIT=${LIMIT:-25m}  # of one run; a test that hangs is stopped long before, see pyproject.toml
failed=

not_run() { echo "$*" >>"$RINGBUF_NOT_RUN"; }

# The tests themselves skip what needs a missing tool, or fail where CI=true.
VENV=${VENV:-.venv}
read -ra packages < <("$VENV/bin/python" tests/needs.py)
[ ${#packages[@]} = 0 ] || tools/apt-install.sh "${packages[@]}" ||
    not_run "everything that needs: ${packages[*]} (missing; apt-get install ${packages[*]})"

run() {
    local name=$1 python=$2
    shift 2
    echo
    echo "CPython $name"
    timeout --foreground --signal=INT --kill-after=1m "$LIMIT" "$python" -m pytest "$@"
    local status=$?
    [ $status = 0 ] && return
    failed=yes
    echo "CPython $name: pytest ended with status $status" >&2
}

primary=$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
others=() builds=()
for version in $(tools/find-python.sh --all | cut -d " " -f 1); do
    [ "$version" = "$primary" ] && continue
    if make --no-print-directory "build/py$version/.python"; then
        others+=("$version") builds+=("build/py$version/.installed")
    else
        not_run "CPython $version: found, but no environment could be made with it (its message is above)"
        [ "${CI:-}" = true ] && failed=yes
    fi
done

# Built together, two at a time.
[ ${#builds[@]} = 0 ] || make --no-print-directory -j2 -k --output-sync "${builds[@]}" || failed=yes

# Only once: what has little to do with the interpreter, or takes long.
once=()
for path in c differential fuzz guard kill model packaging stress test_aarch64.py test_docs.py test_examples.py \
    kernel/test_tracefs.py test_ordering_tags.py test_sanitizers.py; do once+=("--ignore=tests/$path"); done

run_others() {
    for version in "${others[@]}"; do
        if [ -e "build/py$version/.installed" ]; then
            RINGBUF_OTHER=1 run "$version" "build/py$version/bin/python" tests "${once[@]}"
        else
            not_run "CPython $version: ringbuf did not build (its message is above)"
        fi
    done
    [ -z "$failed" ]
}

# Beside the first, which mostly waits: for the end of children, of compilers, of periods.
set -m # a job of its own: others ignore SIGINT, which tests send themselves
run_others >build/others.log 2>&1 &
set +m
trap 'kill -- -$! 2>/dev/null' EXIT
run "$primary" "$VENV/bin/python" tests $([ -d bench ] && echo bench --benchmark-disable)
wait $! || failed=yes
cat build/others.log

echo
if [ -s "$RINGBUF_NOT_RUN" ]; then
    echo "Not run:"
    sort -u "$RINGBUF_NOT_RUN" | sed 's/^/  /'
fi
cat "$RINGBUF_COUNTS" 2>/dev/null
[ -z "$failed" ]
