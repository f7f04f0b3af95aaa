#!/usr/bin/env bash
# Prints the path of a CPython to build with.
#
#   find-python.sh          the newest that has all it takes to build, else the newest
#   find-python.sh 3.12     that version; exit status 1 if it is not on this machine
#
# Looks in PATH, /usr/bin, /usr/local/bin and pyenv's versions. Every candidate is run: a pyenv shim may lead nowhere.
set -euo pipefail

SUPPORTED="3.13 3.12 3.11 3.10"

# The interpreter below a virtual environment, so that an activated .venv is never made from itself.
IS_VERSION='
import platform, sys
if platform.python_implementation() != "CPython" or "%d.%d" % sys.version_info[:2] != sys.argv[1]:
    sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)'

CAN_BUILD='
import ensurepip, os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'

find_version() {
    local version=$1 candidate
    for candidate in "python$version" python3 {/usr,/usr/local}/bin/"python$version" \
                     "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/"python$version"; do
        "$candidate" -c "$IS_VERSION" "$version" 2>/dev/null && return
    done
    return 1
}

if [ $# -gt 0 ]; then
    find_version "$1"
    exit
fi

newest=
for version in $SUPPORTED; do
    python=$(find_version "$version") || continue
    newest=${newest:-$python}
    if "$python" -c "$CAN_BUILD" 2>/dev/null; then
        echo "$python"
        exit
    fi
done
if [ -z "$newest" ]; then
    echo "find-python.sh: no CPython among $SUPPORTED found; install one, or say which: make PYTHON=/path/to/python3" >&2
    exit 1
fi
echo "$newest"
