#!/usr/bin/env bash
# Installs Debian packages, where we are root on a system that has apt-get. Elsewhere it only fails:
# the caller knows what to tell the user.
set -euo pipefail

[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 1

echo "installing with apt-get: $*"
export DEBIAN_FRONTEND=noninteractive
apt="apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
$apt update </dev/null || true  # one dead mirror is no reason to give up
$apt install -y --no-install-recommends "$@" </dev/null >/dev/null
