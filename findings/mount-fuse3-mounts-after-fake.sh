#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `mount -f -t fuse.TYPE ...` ("fake": do everything but mount) mounts. mount(8) hands -f on to the helper of the type,
# as mount.nfs and others understand it; mount.fuse3, which stands in where there is no mount.fuse.TYPE, drops it and
# starts the file system. So a check of an fstab by `mount -fav` mounts all of its FUSE file systems.
# Seen: mount.fuse3 of fuse3 3.14.0 (Debian 12), util-linux 2.38.1: started, exit status 0.
set -euo pipefail
[ -x /sbin/mount.fuse ] || { echo 'fuse3 is not installed'; exit 1; }
# In a mount namespace, so that what it needs in /usr/local/bin goes with it.
[ -n "${IN_NAMESPACE:-}" ] || IN_NAMESPACE=yes exec unshare --mount --propagation private bash "$0"
mount -t tmpfs tmpfs /usr/local/bin
# A "file system" that only tells that it was started.
printf '#!/bin/sh\necho "$*" >/usr/local/bin/started\n' >/usr/local/bin/tell
chmod +x /usr/local/bin/tell
dpkg-query -W fuse3 mount
mount -f -t fuse.tell source /mnt
if [ -e /usr/local/bin/started ]; then
    echo "with -f it is started: tell $(cat /usr/local/bin/started)"
else
    echo 'changed: with -f nothing is started'
    exit 1
fi
