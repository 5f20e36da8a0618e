#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umount(8) run by root does not call /sbin/umount.fuse.TYPE for a mount of the type fuse.TYPE, but looks for
# /sbin/umount.fuse alone; only where libmount's own table, /run/mount/utab, has a line for the mount does it look for
# both. It asks statfs() for the type then, which knows nothing of the second half. `mount --fake --internal-only` with an
# option that libmount keeps for itself, such as uhelper=, adds the line.
# Seen: util-linux 2.38.1 (Debian 12): without the line umount.fuse, with it umount.fuse.tell.
set -euo pipefail
# In a mount namespace, so that what it puts into /sbin and /run/mount goes with it.
[ -n "${IN_NAMESPACE:-}" ] || IN_NAMESPACE=yes exec unshare --mount --propagation private bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends gcc libfuse3-dev pkgconf strace >/dev/null
dpkg-query -W mount libmount1 libfuse3-3
mkdir -p /run/mount
mount -t tmpfs tmpfs /run/mount
: >/run/mount/utab
cat >"$work/empty.c" <<'END'
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <string.h>
#include <sys/stat.h>
static int look(const char *path, struct stat *to, struct fuse_file_info *info) {
    (void)info;
    if (strcmp(path, "/") != 0)
        return -ENOENT;
    memset(to, 0, sizeof *to);
    to->st_mode = S_IFDIR | 0755;
    to->st_nlink = 2;
    return 0;
}
static const struct fuse_operations operations = {.getattr = look};
int main(int argc, char **argv) { return fuse_main(argc, argv, &operations, NULL); }
END
# shellcheck disable=SC2046
gcc -o "$work/empty" "$work/empty.c" $(pkg-config --cflags --libs fuse3)
mkdir "$work/there"

# The helpers that umount looks for, in /sbin.
looked_for() {
    strace -o "$work/calls" umount "$work/there"
    grep -o '"/sbin/umount\.[^"]*"' "$work/calls" | sort -u | tr '\n' ' '
}
"$work/empty" -o subtype=tell "$work/there"
: >/run/mount/utab
without=$(looked_for)
"$work/empty" -o subtype=tell "$work/there"
mount --fake --internal-only -t fuse.tell -o uhelper=fuse.tell empty "$work/there"
with=$(looked_for)
echo "without a line in utab it looks for: $without"
echo "with one it looks for:               $with"
[ "$without" = '"/sbin/umount.fuse" ' ] || { echo 'changed: without a line'; exit 1; }
[ "$with" = '"/sbin/umount.fuse" "/sbin/umount.fuse.tell" ' ] || { echo 'changed: with a line'; exit 1; }
