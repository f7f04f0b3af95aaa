#!/usr/bin/env bash
# Sessions recorded by the LTTng of another release of Debian, in a minimal system of its own, and compared with what
# that release's babeltrace2 prints. As root on a Debian system.
#
#   lttng.sh [--keep] [RELEASE]    sid by default; --keep: leave the sessions there to look at
set -euo pipefail
cd "$(dirname "$0")/.."

keep= release=sid
for argument; do
    case $argument in
    --keep) keep=yes ;;
    *) release=$argument ;;
    esac
done

root=$(mktemp -d "${TMPDIR:-/var/tmp}/ringbuf-lttng.XXXXXX")
trap '[ -n "$keep" ] && echo "left there: $root/system/root/sessions" || rm -rf --one-file-system "$root"' EXIT
system=$root/system
tools/system.sh make "$system" "$release"
tools/system.sh run "$system" sh -c "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
    --no-install-recommends install lttng-tools liblttng-ust-dev gcc libc6-dev babeltrace2 python3" \
    >"$root.log" 2>&1 || { tail -n 20 "$root.log"; exit 1; }
rm -f "$root.log"
cp tests/trace/lttng_* "$system/root/"
tools/system.sh run "$system" sh -c 'lttng --version; babeltrace2 --version; python3 lttng_sessions.py sessions'

# The other system's babeltrace2, for paths of this one.
cat >"$root/babeltrace2" <<END
#!/bin/sh
exec "$PWD/tools/system.sh" run "$system" babeltrace2 "\$1" "\${2#$system}"
END
chmod +x "$root/babeltrace2"
TZ=UTC RINGBUF_BABELTRACE2=$root/babeltrace2 .venv/bin/python tools/suites.py "$system/root/sessions"
