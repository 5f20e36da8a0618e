#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# FUSE's LOOKUP says for how long the kernel may believe a name. RENAME says nothing of the sort, so that one might expect
# that the kernel asks for the new name at its next use, or never believes it. But it takes along what it was told of the
# old name: the new one is believed for as long, though the last answer about it was that there is no such name. A file
# system that promises to tell of changes in a directory must count names that were moved into it from another.
# Seen: Linux 6.18, bindfs 1.14.7.
. "$(dirname "$0")/on_bindfs.sh"
mkdir "$disk/from" "$disk/to"
seen=$(python3 - "$mount" "$disk" <<'PYTHON'
import os, sys, time

mount, disk = sys.argv[1:]
for name in ("first", "second"):
    open(f"{disk}/from/{name}", "w").close()

def is_believed(path):
    try:
        os.close(os.open(path, os.O_PATH))
        return "is there"
    except FileNotFoundError:
        return "is not there"

# bindfs says one second of each name.
os.stat(f"{mount}/from/first")
os.rename(f"{mount}/from/first", f"{mount}/to/first")
os.unlink(f"{disk}/to/first")
print("moved, and removed behind the kernel's back:", is_believed(f"{mount}/to/first"))
os.stat(f"{mount}/from/second")
os.rename(f"{mount}/from/second", f"{mount}/to/second")
time.sleep(1.2)
os.unlink(f"{disk}/to/second")
print("the same after the old name's time:", is_believed(f"{mount}/to/second"))
PYTHON
)
expect 'what the kernel believes' "$seen" "moved, and removed behind the kernel's back: is there
the same after the old name's time: is not there"
