#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# syncfs(2), and so `sync -f FILE`, returns success on a FUSE mount at once, and the file system is not told: the kernel has
# a request for it (FUSE_SYNCFS) that it sends to virtiofs alone. A program that trusts it believes that its data is on
# the disk. fsync(2) is sent.
# Seen: Linux 6.18, bindfs 1.14.7: exit status 0, no request; for fsync one.
. "$(dirname "$0")/on_bindfs.sh"
echo data >"$disk/file"
requests() { grep -c "opcode: $1" "$log" || true; }
sync -f "$mount/file"
expect 'exit status of sync -f' "$?" 0
sync "$mount/file"
for _ in $(seq 50); do
    [ "$(requests 'FSYNC')" -gt 0 ] && break
    sleep 0.1
done
expect 'requests after sync FILE (FSYNC)' "$(requests 'FSYNC')" 1
expect 'requests after sync -f (SYNCFS is number 50)' "$(requests 'SYNCFS\|opcode: 50')" 0
