#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A file system that writes behind answers write(2) at once, and tells of a failure with the next WRITE that it is sent. One
# might expect the next write(2) to report it. The kernel sends one write(2) in parts, not only where it is large: where it
# begins or ends in the middle of a page that is not in the cache, a part ends with that page. If a later part gets the error,
# write(2) returns what was taken before it, a short count as from a full pipe, and the error is gone: the program writes the
# rest, which succeeds, and so does close(2) unless the file system reports it again there.
# Seen: Linux 6.18, pyfuse3 3.2.1, libfuse 3.14.0: a write of 6,000 bytes at 1,000 is sent as 3,096 and 2,904.
set -euo pipefail
# The latest of Debian 12.
packages=(python3-pyfuse3=3.2.1-2+b2 python3-trio=0.22.0-0.2 python3-attr=22.2.0-1 python3-exceptiongroup=1.1.0-1
    python3-idna=3.3-1+deb12u1 python3-outcome=1.2.0-1 python3-sniffio=1.2.0-1 python3-sortedcontainers=2.4.0-2
    python3-async-generator=1.10-4 libfuse3-3=3.14.0-4)

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
export PYTHONPATH=$work/root/usr/lib/python3/dist-packages
LD_LIBRARY_PATH=$(dirname "$(find "$work/root" -name 'libfuse3.so.3')")
export LD_LIBRARY_PATH
# A file of 1,000 bytes. The second WRITE that it is sent fails, as one that tells of an earlier failure does.
cat >"$work/one_file.py" <<'PYTHON'
import errno, stat, sys
import pyfuse3, trio

class OneFile(pyfuse3.Operations):
    written = []

    def attributes(self, inode):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o644
        entry.st_nlink = 1
        entry.st_size = 1000
        entry.entry_timeout = entry.attr_timeout = 60
        return entry

    async def getattr(self, inode, ctx=None):
        return self.attributes(inode)

    async def lookup(self, parent, name, ctx=None):
        if name != b"file":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self.attributes(2)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=1)

    async def write(self, handle, offset, data):
        self.written.append(len(data))
        print("sent:", len(data), "at", offset, flush=True)
        if len(self.written) == 2:
            raise pyfuse3.FUSEError(errno.ENOSPC)
        return len(data)

    async def flush(self, handle):
        pass

pyfuse3.init(OneFile(), sys.argv[1], {"fsname=one_file"})
trio.run(pyfuse3.main)
pyfuse3.close()
PYTHON
python3 "$work/one_file.py" "$mount" >"$work/log" 2>&1 &
for _ in $(seq 100); do
    mountpoint -q "$mount" && break
    sleep 0.1
done
mountpoint -q "$mount"
echo "${packages[0]}, ${packages[-1]}, Linux $(uname -r)"
seen=$(python3 - "$mount" <<'PYTHON'
import os, sys

fd = os.open(f"{sys.argv[1]}/file", os.O_WRONLY)
print("taken:", taken := os.pwrite(fd, bytes(6000), 1000))
print("the rest:", os.pwrite(fd, bytes(6000 - taken), 1000 + taken))
os.close(fd)
print("closed without an error")
PYTHON
)
cat "$work/log"
echo "$seen"
if ! grep -q "^closed without an error" <<<"$seen" || grep -q "^taken: 6000" <<<"$seen"; then
    echo "changed"
    exit 1
fi
