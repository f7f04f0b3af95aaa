#!/usr/bin/env bash
# Prints the path of a CPython to build with. Which are new enough says requires-python in pyproject.toml.
#
#   find-python.sh          the newest that has all it takes to build, else the newest
#   find-python.sh 3.12     that version (3.14t: the free-threaded build); exit status 1 if it is not on this machine
#   find-python.sh --all    every version found, newest first, a line each: 3.12 /usr/bin/python3.12
#
# Looks in PATH, /usr/bin, /usr/local/bin, and at what pyenv and uv have installed; for a version that is named, also at
# what cpython.sh has built for the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

oldest=$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' pyproject.toml)

# Prints what to sort by, the version, and the interpreter below a virtual environment, so that an activated .venv is
# never made from itself. Releases go before pre-releases, builds with the GIL before those without.
PROBE='
import os, platform, sys, sysconfig
try:
    import ensurepip
except ImportError:
    ensurepip = None
oldest = tuple(int(part) for part in sys.argv[1].split("."))
if platform.python_implementation() != "CPython" or sys.version_info[:2] < oldest:
    sys.exit(1)
can_build = ensurepip and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
rank = bool(can_build), sys.version_info[3] == "final", not free_threaded
version = "%d.%d" % sys.version_info[:2] + "t" * free_threaded
print(*map(int, rank), version, getattr(sys, "_base_executable", None) or sys.executable)'

built=
candidates() {
    local folders folder
    IFS=: read -ra folders <<<"$PATH"
    for folder in "${folders[@]}" /usr/bin /usr/local/bin "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin \
                  "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-${HOME:-}/.local/share}/uv/python}"/*/bin \
                  $built; do
        [ "${folder##*/}" = shims ] && continue  # pyenv's lead to its versions, if anywhere, and are slow
        ls -d "$folder"/python3 "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9] "$folder"/python3.*[0-9]t \
            2>/dev/null || true
    done
}

# A line for each interpreter, the best first: whether it can build, is a release, has the GIL; version; path.
found() {
    local candidate
    candidates | xargs -r -n1 realpath -s | sort -u | while read -r candidate; do
        "$candidate" -c "$PROBE" "$oldest" 2>/dev/null || true
    done | sort -u | sort -k1,1nr -k2,2nr -k3,3nr -k4,4Vr
}

case "${1:-}" in
--all)
    found | awk '!seen[$4]++ { print $4, $5 }' | sort -k1,1Vr
    ;;
"")
    best=$(found | awk 'NR == 1 { print $5 }')
    if [ -z "$best" ]; then
        echo "ringbuf: no CPython $oldest or newer found; install one, or say which: make PYTHON=/path/to/python3" >&2
        exit 1
    fi
    echo "$best"
    ;;
*)
    built=${XDG_CACHE_HOME:-${HOME:-}/.cache}/ringbuf/cpython/$1/bin
    found | awk -v version="$1" '$4 "" == version "" && !n++ { print $5 } END { exit !n }'
    ;;
esac
