#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes remote files to standard output: cat.py HOST:/PATH..."""
import shutil
import sys

import remofile

for source in sys.argv[1:]:
    with remofile.open(source, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
