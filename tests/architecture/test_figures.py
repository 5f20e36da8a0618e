#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The plot in README.md shows the figures of docs/PERFORMANCE.md, and no others."""
import json
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
sys.dont_write_bytecode = True

import plot_ratios  # noqa: E402
from report import number  # noqa: E402

LINK = "20 ms, 100 Mbit/s"
# How the lines of the document that hold a work's figures begin.
LINES = {
    "git-status": "| `git status` |",
    "tar": "| `tar c` |",
    "find": "| `find -ls` |",
    "git-clone": "`untar` at 20 ms goes at one of two speeds",
    "read": "| sequential read, random data |",
    "write": "| sequential write and fsync, random data |",
}


def figures():
    return json.loads((ROOT / "bench/figures/20ms-100mbit.json").read_text(encoding="utf-8"))


class Figures(unittest.TestCase):
    def test_are_those_of_the_document(self):
        document = (ROOT / "docs/PERFORMANCE.md").read_text(encoding="utf-8").splitlines()
        for row in figures()["rows"]:
            self.assertEqual(row["link"], LINK)
            text = "\n".join(line for line in document if line.startswith(LINES[row["workload"]]))
            for values in row["values"].values():
                for value in values:
                    self.assertRegex(text, r"(?<![\d.,])" + re.escape(number(value)) + r"(?![\d,]|\.\d)", row["workload"])

    def test_are_in_the_plot(self):
        self.assertEqual((ROOT / "docs/speed.svg").read_text(encoding="utf-8"), plot_ratios.svg(figures(), LINK))
        self.assertEqual(len(plot_ratios.medians(figures(), LINK)), len(plot_ratios.SHOWN))

    def test_are_those_of_the_readme(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        said = re.findall(r"`(git status|tar c)`[^`]*? (\d+) times", readme)
        ratios = {work: number(remofs / sshfs) for work, _, remofs, sshfs in plot_ratios.medians(figures(), LINK)}
        self.assertEqual(dict(said), {work: ratios[work] for work in ("git status", "tar c")})


if __name__ == "__main__":
    unittest.main()
