# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# For the scripts beside it: a directory $disk on the local file system, and $mount, the same through bindfs, a FUSE file
# system that forwards what the kernel sends it and logs each request in $log. All goes when the script ends.
set -euo pipefail
# The latest of Debian 12.
packages=(bindfs=1.14.7-1 libfuse2=2.9.9-6+b1)

work=$(mktemp -d)
disk=$work/disk mount=$work/mount log=$work/requests
clean_up() {
    mountpoint -q "$mount" && umount "$mount"
    rm -rf "$work"
}
trap clean_up EXIT
mkdir "$disk" "$mount"
(cd "$work" && apt-get -q download "${packages[@]}" >/dev/null 2>&1)
for package in "$work"/*.deb; do
    dpkg -x "$package" "$work/root"
done
LD_LIBRARY_PATH=$(dirname "$(find "$work/root" -name 'libfuse.so.2')") \
    "$work/root/usr/bin/bindfs" -f -d --enable-lock-forwarding --multithreaded "$disk" "$mount" >"$log" 2>&1 &
for _ in $(seq 100); do
    mountpoint -q "$mount" && break
    sleep 0.1
done
mountpoint -q "$mount"
echo "${packages[*]}, Linux $(uname -r)"

# Ends the script unless what was seen ($2) is what was seen before ($3).
expect() {
    echo "$1: $2"
    [ "$2" = "$3" ] || {
        echo "changed: it was '$3'"
        exit 1
    }
}
