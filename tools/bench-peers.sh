#!/usr/bin/env bash
# Installs what the benchmarks compare with, as far as this machine allows. What is missing then is skipped by them,
# with the reason, so nothing here is an error.
#
#   bench-peers.sh PYTHON
set -uo pipefail

python=$1
tools=$(dirname "$0")

missing=()
for package in lttng-tools liblttng-ust-dev python3-lttngust babeltrace2 python3-bt2; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
[ ${#missing[@]} = 0 ] || "$tools/apt-install.sh" "${missing[@]}" || echo "not installed: ${missing[*]}"

# One by one: some need a compiler, or have not come to every Python. Of one that fails, the last line that says why.
log=$(mktemp)
"$python" "$tools/extra.py" bench | while read -r requirement; do
    "$python" -m pip install -q "$requirement" </dev/null >"$log" 2>&1 ||
        echo "not installed: $requirement: $(grep -i '^error' "$log" | tail -1)"
done
rm -f "$log"
