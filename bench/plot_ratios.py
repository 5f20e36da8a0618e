#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An SVG of how many times as fast as sshfs remofs is, from what beside_sshfs.py --json writes: one bar a work.

usage: plot_ratios.py FIGURES.json LINK > PLOT.svg

docs/speed.svg is plot_ratios.py figures/20ms-100mbit.json '20 ms, 100 Mbit/s'; those figures are medians from docs/PERFORMANCE.md.
"""
import json
import statistics
import sys
from html import escape

from report import number

# The works that are shown, in this order, if there are figures of both file systems.
SHOWN = {
    "git-status": "git status",
    "tar": "tar c",
    "find": "find -ls",
    "git-clone": "git clone",
    "read": "read one large file",
    "write": "write it, and fsync",
}
LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH, ROW_HEIGHT, TOP = 160, 380, 240, 30, 56


def medians(figures, link):
    """(work, unit, remofs, sshfs) of each row that is shown."""
    rows = {}
    for row in figures["rows"]:
        both = [row["values"].get(name) for name in ("remofs", "sshfs")]
        if row["link"] == link and row["workload"] in SHOWN and row["unit"] in ("files/s", "MiB/s") and all(both):
            rows[row["workload"]] = (row["unit"], *(statistics.median(values) for values in both))
    return [(SHOWN[name], *rows[name]) for name in SHOWN if name in rows]


def svg(figures, link):
    rows = medians(figures, link)
    scale = BAR_WIDTH / max(remofs / sshfs for _, _, remofs, sshfs in rows)
    width, height = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, TOP + ROW_HEIGHT * len(rows) + 12
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
             ' font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(f"remofs: how many times as fast as sshfs, {link}")}</text>',
             '<text x="12" y="42" fill="#555555">in grey: the figures of remofs and of sshfs</text>']
    for row, (work, unit, remofs, sshfs) in enumerate(rows):
        top = TOP + row * ROW_HEIGHT
        length = remofs / sshfs * scale
        parts += [f'<text x="{LABEL_WIDTH - 8}" y="{top + 17}" text-anchor="end">{escape(work)}</text>',
                  f'<rect x="{LABEL_WIDTH}" y="{top + 3}" width="{length:.1f}" height="20" fill="#2a6f97"/>',
                  f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{top + 17}"><tspan font-weight="bold">{number(remofs / sshfs)}</tspan>'
                  f'<tspan dx="10" fill="#555555">{number(remofs)} and {number(sshfs)} {escape(unit)}</tspan></text>']
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        sys.stdout.write(svg(json.load(file), sys.argv[2]))
