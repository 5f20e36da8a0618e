#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The ioctl FIBMAP (which block of the disk holds block N of the file) succeeds on a FUSE mount without a block device and
# answers 0, its word for a hole, for a file that is full of data. Other file systems that have no answer refuse it with
# EINVAL. A program that asks FIBMAP where data is takes every file for empty.
# Seen: Linux 6.18, bindfs 1.14.7.
. "$(dirname "$0")/on_bindfs.sh"
head -c 8192 /dev/urandom >"$disk/file"
sync "$disk/file"
fibmap() {
    python3 -c '
import fcntl, os, struct, sys
block = bytearray(struct.pack("i", 0))
try:
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 1, block)
    print("block", *struct.unpack("i", block))
except OSError as error:
    print(error.strerror)' "$1"
}
expect 'FIBMAP on the mount' "$(fibmap "$mount/file")" 'block 0'
on_tmpfs=$(mktemp -p /dev/shm)
head -c 8192 /dev/urandom >"$on_tmpfs"
answer=$(fibmap "$on_tmpfs")
rm "$on_tmpfs"
expect 'FIBMAP on tmpfs' "$answer" 'Invalid argument'
