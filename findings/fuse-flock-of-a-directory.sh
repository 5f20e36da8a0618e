#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# flock(2) of a file on a FUSE mount is forwarded to a file system that asks for it; flock(2) of a directory never is: the
# kernel keeps it to itself. So two machines, or a mount and the disk below it, both get an exclusive lock of one directory.
# Seen: Linux 6.18, bindfs 1.14.7 with --enable-lock-forwarding.
. "$(dirname "$0")/on_bindfs.sh"
echo data >"$disk/file"
mkdir "$disk/directory"
# Holds the lock of $1, and says whether $2 can be locked meanwhile.
second() { flock --exclusive "$1" flock --exclusive --nonblock "$2" echo had || echo refused; }
expect 'a file, locked on the mount, then on the disk' "$(second "$mount/file" "$disk/file")" refused
expect 'a directory, locked on the mount, then on the disk' "$(second "$mount/directory" "$disk/directory")" had
expect 'a directory, locked on the disk twice' "$(second "$disk/directory" "$disk/directory")" refused
