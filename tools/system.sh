#!/usr/bin/env bash
# Minimal Debian systems, in which nothing is installed that nobody has asked for: for what a used machine hides.
#
#   system.sh make DIR RELEASE       debootstraps one; from the machine's own mirror, and at most once a week
#   system.sh run DIR COMMAND...     runs a command in it, with mounts of its own, in /root
#
# As root on a Debian system; debootstrap is installed if it is missing.
set -euo pipefail
tools=$(realpath "$(dirname "$0")")
certificates=/etc/machine-certificates.crt
bases=${XDG_CACHE_HOME:-$HOME/.cache}/ringbuf/systems

# How this machine reaches its package registries is no part of the system, and comes along.
connect() {
    local root=$1
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    apt-config dump --format '%F "%v";%n' Acquire::http Acquire::https >"$root/etc/apt/apt.conf.d/90machine"
    # A mirror may be some weeks behind, which apt takes for an attack on releases that change every day.
    echo 'Acquire::Check-Valid-Until "false";' >>"$root/etc/apt/apt.conf.d/90machine"
    cp -L "${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}" "$root$certificates"
}

bootstrap() {
    local root=$1 release=$2 mirror
    command -v debootstrap >/dev/null || "$tools/apt-install.sh" debootstrap || {
        echo "ringbuf: debootstrap is missing, which makes the minimal system (apt-get install debootstrap)" >&2
        return 1
    }
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    rm -rf "$root" "$root.new"
    debootstrap --variant=minbase "$release" "$root.new" $mirror >"$root.log" 2>&1 || {
        tail -n 5 "$root.log" >&2
        return 1
    }
    mv "$root.new" "$root"
}

case $1 in
make)
    root=$2 base=$bases/$3
    mkdir -p "$(dirname "$root")" "$bases"
    (
        flock 9  # two runs at a time would take the base away from each other
        [ -n "$(find "$base" -maxdepth 0 -mtime -7 2>/dev/null)" ] || bootstrap "$base" "$3"
        cp -a "$base" "$root"
    ) 9>"$base.lock"
    connect "$root"
    ;;
run)
    root=$(realpath "$2")
    shift 2
    environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8)
    environment+=("PIP_CERT=$certificates")
    for name in CI SEED TERM PIP_INDEX_URL PIP_DEFAULT_TIMEOUT \
        http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || environment+=("$name=${!name}")
    done
    # Processes are those of the machine: the kernel's traces, which tests read, call them by its numbers.
    exec unshare --mount bash -c '
        set -e
        root=$1
        shift
        mount --bind "$root" "$root"  # a root is a mount: programs look it up, and make others below it
        cd "$root"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/dev/shm"
        exec chroot "$root" env -i --chdir=/root "$@"' system "$root" "${environment[@]}" "$@"
    ;;
esac
