#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ext4 without a journal (cloud images and build machines have it so) gives a new file the first free inode of its directory's
# block group, but for those that were removed within the last minute, or six while their table has not been written. One
# might expect that to cost nothing. Each of them is passed over, one by one, with a look at it, whenever a file is made:
# where 6,000 files have been removed, making one takes ten times the processor's time and more. Nothing is waited for.
# With a journal, or in a directory of another group, it is as fast as ever. Whoever measures the making of files after
# removing some measures this.
# Seen: Linux 6.18, e2fsprogs 1.47.0.
set -euo pipefail
# The latest of Debian 12.
packages=(e2fsprogs=1.47.0-2+b2 python3.11-minimal=3.11.2-6+deb12u9 libpython3.11-minimal=3.11.2-6+deb12u9)

work=$(mktemp -d)
mount=$work/mount
clean_up() {
    mountpoint -q "$mount" && umount "$mount"
    rm -rf "$work"
}
trap clean_up EXIT
mkdir "$mount"
(cd "$work" && apt-get -q download "${packages[@]}" >/dev/null 2>&1)
for package in "$work"/*.deb; do
    dpkg -x "$package" "$work/root"
done
cat >"$work/make_and_remove.py" <<'PYTHON'
import os, sys, time

def make(directory, count):
    """Makes as many empty files; microseconds of the processor for each."""
    start = time.thread_time_ns()
    for i in range(count):
        os.close(os.open(f"{directory}/{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return (time.thread_time_ns() - start) / count / 1000

directory = sys.argv[1] + "/directory"
os.mkdir(directory)
make(directory, 7500)
for name in os.listdir(directory):
    os.unlink(f"{directory}/{name}")
time.sleep(2)  # to the second, what was removed just now is not passed over
print(round(make(directory, 1000)))
PYTHON
measure() { # OPTION: of mkfs
    rm -f "$work/image"
    truncate -s 1G "$work/image"
    "$work/root/sbin/mkfs.ext4" -q -F -E lazy_itable_init=0 -O "$1" "$work/image"
    mount -o loop "$work/image" "$mount"
    PYTHONHOME=$work/root/usr "$work/root/usr/bin/python3.11" -S "$work/make_and_remove.py" "$mount"
    umount "$mount"
}
with=$(measure has_journal)
without=$(measure ^has_journal)
echo "microseconds of the processor for making a file: $with with a journal, $without without"
if ((without < 4 * with)); then
    echo "Removed inodes do not make it slow: this has changed."
    exit 1
fi
