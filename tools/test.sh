#!/usr/bin/env bash
# What `make test` runs: the tests in .venv, and the Python tests also under every other CPython on this machine; then
# what was not run and why, and a line of counts for each run.
#
#   test.sh                     that
#   test.sh VERSION...          the Python tests under these, which cpython.sh gets if they are missing (`make test-others`)
#   test.sh --here VERSION      the Python tests under one, in .venv (what the line above does within a minimal system)
#
# LIMIT of one run's time (30m), SUITES at a time (one more than processors: tests mostly wait), SOURCES for cpython.sh.
# CHOSEN=1: some of the Python tests.
set -uo pipefail
cd "$(dirname "$0")/.."

unset MAKEFLAGS  # the calls of make below choose their own number of jobs
VENV=${VENV:-.venv}
LIMIT=${LIMIT:-30m}  # a test that hangs is stopped long before, see pyproject.toml
SUITES=${SUITES:-$(($(nproc) + 1))}

# Once, under one interpreter: what has little to do with it, or takes long.
once=()
for path in c deploy differential fuzz guard kill model packaging stress test_aarch64.py test_docs.py test_examples.py \
    test_musl.py test_needs.py kernel/test_tracefs.py test_ordering_tags.py test_sanitizers.py test_site.py; do
    once+=("tests/$path")
done
# In a process of their own, for the same: what clusters leave in a process, threads above all, is not for tests that fork.
apart=(tests/fleet)
python_tests=(tests "${once[@]/#/--ignore=}" "${apart[@]/#/--ignore=}")

# CHOSEN=1: what differs most between interpreters, in a fifth of the time: calls, values, references, threads, ends.
if [ -n "${CHOSEN:-}" ]; then
    python_tests=(tests/test_{channel,core_stub,errors,event,imports,interpreters,interruptions,reader,reservation,values}.py
        tests/lifetime/test_{closing,leaks,threads,views}.py tests/metrics/test_counting.py
        tests/record/test_{contexts,functions,logging_handler,recorder,span,strands,tracer}.py
        tests/trace/test_{decode,trace}.py)
fi

export RINGBUF_NOT_RUN=$PWD/build/not-run.txt  # tests/conftest.py appends to these two
export RINGBUF_COUNTS=$PWD/build/counts.txt
not_run() { echo "$*" >>"$RINGBUF_NOT_RUN"; }

# The tests themselves skip what needs a missing tool, or fail where CI=true.
install_tools() {
    local packages
    read -ra packages < <("$VENV/bin/python" tests/needs.py)
    [ ${#packages[@]} = 0 ] || tools/apt-install.sh "${packages[@]}" ||
        not_run "everything that needs: ${packages[*]} (missing; apt-get install ${packages[*]})"
}

pytest() {
    timeout --foreground --signal=INT --kill-after=1m "$LIMIT" "$@"
    local status=$?
    [ $status = 0 ] || echo "pytest ended with status $status"
    return $status
}

# suite NAME PYTHON: the Python tests. Those that fail are kept, for `again`.
suite() {
    rm -rf "build/failed-$1"
    pytest "$2" -m pytest -o cache_dir="$PWD/build/failed-$1" "${python_tests[@]}"
}

# again NAME PYTHON: what failed in a suite once more, with nothing beside it, if it is little. A test that passes now
# depends on how busy the machine is: a fault of the test, which is named at the end, but none of the product.
again() {
    local kept=build/failed-$1/v/cache/lastfailed ids
    [[ $2 == "$VENV"/* ]] || local -x RINGBUF_OTHER=1
    ids=$("$2" -c 'import json, sys; print(*json.load(open(sys.argv[1])), sep="\n")' "$kept") || return
    [ "$(wc -l <<<"$ids")" -le 3 ] || return
    echo
    echo "CPython $1, what failed, alone"
    pytest "$2" -m pytest -o cache_dir="$PWD/build/failed-$1" --last-failed --last-failed-no-failures none \
        "${python_tests[@]}" || return
    flaky+=("${ids//$'\n'/ }")
}

# start NAME COMMAND...: beside the others, as many as may be. As a job of its own, for others ignore SIGINT, which
# tests send themselves.
names=() pids=() clones=() flaky=()
declare -A suites  # by name, the interpreter of those that `again` is for
start() {
    local name=$1
    shift
    while [ "$(jobs -pr | wc -l)" -ge "$SUITES" ]; do wait -n; done
    set -m
    "$@" >"build/test-$name.log" 2>&1 &
    set +m
    names+=("$name") pids+=($!)
}
end() {
    local pid
    for pid in $(jobs -pr); do kill -- "-$pid"; done 2>/dev/null
    [ ${#clones[@]} = 0 ] || rm -rf "${clones[@]}"
}
trap end EXIT

# Prints each run as it was, in their order.
failed=
finish() {
    local i name unsure=()
    for i in "${!pids[@]}"; do
        name=${names[$i]}
        wait "${pids[$i]}"
        case $? in
        0) ;;
        1) [ -n "${suites[$name]:-}" ] && unsure+=("$name") || failed="$failed $name" ;;  # tests failed, no more
        *) failed="$failed $name" ;;
        esac
        echo
        echo "CPython $name"
        cat "build/test-$name.log"
    done
    for name in "${unsure[@]}"; do
        again "$name" "${suites[$name]}" || failed="$failed $name"
    done
    for i in "${clones[@]}"; do
        cat "$i/build/not-run.txt" >>"$RINGBUF_NOT_RUN"
        cat "$i/build/counts.txt" >>"$RINGBUF_COUNTS"
    done 2>/dev/null
    echo
    if [ -s "$RINGBUF_NOT_RUN" ]; then
        echo "Not run:"
        sort -u "$RINGBUF_NOT_RUN" | sed 's/^/  /'
    fi
    sort -V "$RINGBUF_COUNTS" 2>/dev/null
    for i in "${flaky[@]}"; do echo "failed beside other suites, passed alone: $i"; done
    [ -z "$failed" ] || echo "failed:$failed"
    [ -z "$failed" ]
}

# An environment for each, built two at a time.
prepare() {
    local version builds=()
    for version; do
        if make --no-print-directory "build/py$version/.python"; then
            builds+=("build/py$version/.installed")
        else
            not_run "CPython $version: found, but no environment could be made with it (its message is above)"
            [ "${CI:-}" != true ] || failed="$failed $version"
        fi
    done
    [ ${#builds[@]} = 0 ] || make --no-print-directory -j2 -k --output-sync "${builds[@]}"
}

start_other() {
    if [ -e "build/py$1/.installed" ]; then
        suites[$1]=build/py$1/bin/python
        RINGBUF_OTHER=1 start "$1" suite "$1" "${suites[$1]}"
    else
        failed="$failed $1"
        not_run "CPython $1: ringbuf did not build (its message is above)"
    fi
}

version_of() { "$1" -c 'import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))'; }

all_found() {
    local version primary others=()
    primary=$(version_of "$VENV/bin/python")
    for version in $(tools/find-python.sh --all | cut -d " " -f 1); do
        [ "$version" = "$primary" ] || others+=("$version")
    done
    install_tools
    prepare "${others[@]}"
    start "$primary-once" pytest "$VENV/bin/python" -m pytest "${once[@]}" $([ -d bench ] && echo bench --benchmark-disable)
    suites[$primary]=$VENV/bin/python
    start "$primary" suite "$primary" "${suites[$primary]}"
    start "$primary-apart" pytest "$VENV/bin/python" -m pytest "${apart[@]}"
    for version in "${others[@]}"; do start_other "$version"; done
}

# In the minimal system, from a clone: it shares nothing with the tree but what is committed.
start_in_system() {
    local version=$1 system=$2 clone
    clone=$(mktemp -d "$system/root/ringbuf.XXXXXX")
    clones+=("$clone")
    git clone -q . "$clone"
    start "$version" tools/system.sh run "$system" \
        env "CHOSEN=${CHOSEN:-}" "LIMIT=$LIMIT" "${clone##*/}/tools/test.sh" --here "$version"
}

these() {
    export RINGBUF_OTHER=1
    local version where found=()
    declare -A systems
    for version; do
        # shellcheck disable=SC2086
        where=$(tools/cpython.sh "$version" ${SOURCES:-})
        case $? in
        0) ;;
        3) not_run "CPython $version: it cannot be had here (its message is above)"; continue ;;
        *) failed="$failed $version"; continue ;;
        esac
        [ -d "$where" ] && systems[$version]=$where || found+=("$version")
    done
    for version in "${!systems[@]}"; do start_in_system "$version" "${systems[$version]}"; done
    install_tools
    prepare "${found[@]}"
    for version in "${found[@]}"; do start_other "$version"; done
}

here() {
    export RINGBUF_OTHER=1
    make --no-print-directory PYTHON="$(tools/find-python.sh "$1")" "$VENV/.built" || return
    "$VENV/bin/python" -m pip install -q $("$VENV/bin/python" tools/extra.py test) || return
    install_tools
    suite "$1" "$VENV/bin/python" || { [ $? = 1 ] && again "$1" "$VENV/bin/python"; }
}

mkdir -p build
rm -f "$RINGBUF_NOT_RUN" "$RINGBUF_COUNTS"
case ${1:-} in
"") all_found && finish ;;
--here) here "$2" ;;
*) these "$@" && finish ;;
esac
