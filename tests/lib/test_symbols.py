#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the shared library shows to the world: its own names and no others.

usage: test_symbols.py LIBRARY HEADER
"""
import re
import subprocess
import sys
from pathlib import Path


def lines_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def main():
    library, header = sys.argv[1:]
    names = {line.split()[-1] for line in lines_of("nm", "-D", "--defined-only", library)}
    own = re.compile(r"remofile_\w+|_Z(N|NK|T[VTIS]N|v0_n\d+_N)11libremofile\w+|_ZTv0_n\d+_N11libremofile\w+")
    faults = [f"{name} is exported" for name in sorted(names) if not own.fullmatch(name)]

    declared = set(re.findall(r"REMOFILE_API [^;]*?\b(remofile_\w+)\(", Path(header).read_text()))
    exported = {name for name in names if name.startswith("remofile_")}
    faults += [f"{name} is declared, but not exported" for name in sorted(declared - exported)]
    faults += [f"{name} is exported, but not declared" for name in sorted(exported - declared)]

    dynamic = "\n".join(lines_of("readelf", "-d", library))
    if "[libremofile.so.0]" not in dynamic:
        faults.append("the soname is not libremofile.so.0")
    if len(declared) < 25:
        faults.append("the header was not understood")
    print("\n".join(faults) or f"{len(names)} names, {len(declared)} of them of C")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
