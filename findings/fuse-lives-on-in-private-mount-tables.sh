#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umount(8) of a FUSE file system returns at once and without a word, and nothing is mounted there any more; but the
# file system goes on being served as long as a mount table exists that was copied from this one before, with private
# propagation (unshare -m, ip netns exec, a container). Its process gets neither DESTROY nor ENODEV from /dev/fuse until
# the last of them is gone. A test that waits for the process to end after umount(8) fails because of a neighbour that
# has nothing to do with FUSE.
# Seen: Linux 6.18, bindfs 1.14.7, util-linux 2.38.
. "$(dirname "$0")/on_bindfs.sh"
served=$(jobs -p)
mkfifo "$work/go-on"
unshare --mount --propagation private sh -c "read -r _ <'$work/go-on'" &
neighbour=$!
# Until it has its own table.
for _ in $(seq 100); do
    [ "$(readlink "/proc/$neighbour/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ] && break
    sleep 0.1
done
is_served() {
    for _ in $(seq "$1"); do
        kill -0 "$served" 2>/dev/null || break
        sleep 0.1
    done
    if kill -0 "$served" 2>/dev/null; then echo yes; else echo no; fi
}
umount "$mount"
seen="still mounted: $(mountpoint -q "$mount" && echo yes || echo no), served after three seconds: $(is_served 30)"
echo >"$work/go-on"
seen="$seen, once the neighbour has ended: $(is_served 100)"
expect 'after umount' "$seen" 'still mounted: no, served after three seconds: yes, once the neighbour has ended: no'
