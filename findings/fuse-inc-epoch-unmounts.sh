#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# FUSE_NOTIFY_INC_EPOCH (Linux 6.16) tells the kernel that all names of a FUSE mount are void. One might expect that it looks
# them up again, as after FUSE_NOTIFY_INVAL_ENTRY with EXPIRE_ONLY or when their time has run out. But a name of an earlier
# epoch is dropped without a look-up at its next use, and what is mounted there is unmounted.
# Seen: Linux 6.18, bindfs 1.14.7.
. "$(dirname "$0")/on_bindfs.sh"
within=$mount/within
mkdir "$disk/within"
echo below >"$disk/within/file"
trap 'mountpoint -q "$within" && umount "$within"; clean_up' EXIT
mount -t tmpfs none "$within"
echo above >"$within/file"
# The name's time is one second.
sleep 2
expect 'after its time, what is mounted on it shows' "$(cat "$within/file")" above
# Through the descriptor of /dev/fuse that bindfs has.
python3 - "$(pgrep -f "bindfs -f -d .* $disk")" <<'PYTHON'
import ctypes, os, struct, sys

process, pidfd_getfd, inc_epoch = int(sys.argv[1]), 438, 8
descriptors = f"/proc/{process}/fd"
number = next(int(n) for n in os.listdir(descriptors) if os.readlink(f"{descriptors}/{n}") == "/dev/fuse")
device = ctypes.CDLL(None).syscall(pidfd_getfd, os.pidfd_open(process), number, 0)
os.write(device, struct.pack("<IiQ", 16, inc_epoch, 0))
PYTHON
expect 'after the notification, what lies below it' "$(cat "$within/file")" below
expect 'mounted there' "$(mountpoint -q "$within" && echo yes || echo no)" no
