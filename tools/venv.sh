#!/usr/bin/env bash
# venv.sh PYTHON DIR PACKAGE...: makes a virtual environment that can build ringbuf, or brings it up to date.
# Debian splits Python into packages and most other systems do not, so what is missing is installed where we
# may do so, and otherwise named together with the command that installs it.
set -euo pipefail

python=$1 venv=$2
shift 2
tools=$(dirname "$0")
[ -n "$python" ] || exit 1  # find-python.sh has said why
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
oldest=$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' "$tools/../pyproject.toml")

give_up() {
    echo >&2
    echo "ringbuf: $1 On Debian or Ubuntu, as root:" >&2
    echo "    apt-get install gcc libc6-dev python3 python$version-dev python$version-venv" >&2
    exit 1
}

printf '%s\n' "$oldest" "$version" | sort -CV || {
    echo "ringbuf: $python is Python $version, and $oldest or newer is needed" >&2
    exit 1
}

# Debian's own interpreter takes Debian's packages; a Python from elsewhere brings its headers along.
has_headers() {
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}
has_headers || { "$tools/apt-install.sh" "python$version-dev" && has_headers; } ||
    give_up "$python has no Python.h, which C extensions are built with."

# A compiler alone is not enough: Debian has the C library's headers in a package of their own.
compiles() { echo '#include <pthread.h>' | "${CC:-cc}" -fsyntax-only -xc - 2>/dev/null; }
compiles || { "$tools/apt-install.sh" gcc libc6-dev && compiles; } ||
    give_up "${CC:-cc} does not compile C; a compiler, or the headers of the C library, are missing."

works() { "$venv/bin/python" -m pip --version >/dev/null 2>&1; }
with_venv() { rm -rf "$venv"; "$python" -m venv "$venv" >/dev/null 2>&1 && works; }
with_virtualenv() { rm -rf "$venv"; "$python" -m virtualenv -q "$venv" >/dev/null 2>&1 && works; }
with_pip() {  # a bare environment, filled by the pip outside
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv" >/dev/null 2>&1 &&
        "$python" -m pip --python "$venv/bin/python" install -q pip >/dev/null 2>&1 && works
}
works || with_venv ||
    { "$tools/apt-install.sh" "python$version-venv" && with_venv; } || with_virtualenv || with_pip || {
        rm -rf "$venv"
        give_up "$python cannot make a virtual environment."
    }

"$venv/bin/python" -m pip install -q "$@"
