#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# On a file system that several machines change, a name may stand for another directory by the time that rmdir(2) of it is
# sent, though the kernel may still believe what it was told. The file system removes what the name stands for. One might
# expect the kernel to ask what became of the directory that it had in mind. It marks that one as removed: where a program
# has it open, or works in it, nothing can be made in it any more by any name. mkdir(2) is ENOENT without the file system
# being asked, however fresh the attributes are that it gives out.
# Seen: Linux 6.18, pyfuse3 3.2.1, libfuse 3.14.0.
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
# Two directories, 2 and 3. "Another machine" renames and makes some as soon as the first name has been looked up.
cat >"$work/two_directories.py" <<'PYTHON'
import errno, os, stat, sys
import pyfuse3, trio

class TwoDirectories(pyfuse3.Operations):
    names = {b"first": 2}

    def attributes(self, inode, believed):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = stat.S_IFDIR | 0o755
        entry.st_nlink = 2
        entry.entry_timeout = entry.attr_timeout = believed
        return entry

    async def getattr(self, inode, ctx=None):
        return self.attributes(inode, 0)

    async def lookup(self, parent, name, ctx=None):
        if parent != pyfuse3.ROOT_INODE or name not in self.names:
            raise pyfuse3.FUSEError(errno.ENOENT)
        if name == b"first":
            TwoDirectories.names = {b"moved": 2, b"first": 3}
            return self.attributes(2, 60)
        return self.attributes(self.names[name], 0)

    async def rmdir(self, parent, name, ctx):
        print("removed by the file system:", self.names.pop(name), flush=True)

    async def mkdir(self, parent, name, mode, ctx):
        print("asked to make a directory", flush=True)
        return self.attributes(4, 0)

pyfuse3.init(TwoDirectories(), sys.argv[1], {"fsname=two_directories"})
trio.run(pyfuse3.main)
pyfuse3.close()
PYTHON
python3 "$work/two_directories.py" "$mount" >"$work/log" 2>&1 &
for _ in $(seq 100); do
    mountpoint -q "$mount" && break
    sleep 0.1
done
mountpoint -q "$mount"
echo "${packages[0]}, ${packages[-1]}, Linux $(uname -r)"
seen=$(python3 - "$mount" <<'PYTHON'
import errno, os, sys

mount = sys.argv[1]
held = os.open(f"{mount}/first", os.O_PATH)
os.rmdir(f"{mount}/first")
try:
    os.mkdir(f"{mount}/moved/new")
    print("made in the other one")
except OSError as error:
    print("in the other one:", errno.errorcode[error.errno])
PYTHON
)
seen+=", $(cat "$work/log")"
echo "$seen"
[ "$seen" = "in the other one: ENOENT, removed by the file system: 3" ] || {
    echo "changed"
    exit 1
}
