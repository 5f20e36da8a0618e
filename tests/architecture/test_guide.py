#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The messages that docs/GUIDE.md quotes are those of the sources."""
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("cli", "remofs", "server", "src")
# Of other programs and of the system, and names of files.
FOREIGN = ("target is busy", "Name or service not known", "option allow_other", "/known_servers", "/authorized_keys")


def literals(text):
    """The string literals of a C++ source, those that stand side by side as one, placeholders as "…"."""
    joined = re.sub(r'(?<!\\)"\s+"', "", text)
    for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"', joined):
        yield re.sub(r"\{[^{}]*\}", "…", literal.replace('\\"', '"'))


def all_literals(root):
    return "\n".join(literal for folder in FOLDERS for path in sorted((root / folder).rglob("*.cpp"))
                     for literal in literals(path.read_text(encoding="utf-8")))


def messages(guide):
    """What is in backticks in the first column of the tables of messages."""
    section = guide.split("## Messages and what to do", 1)[1].split("### What programs say", 1)[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield from re.findall(r"`([^`]+)`", line.split(" | ")[0])


def unknown(guide, said):
    """The pieces of quoted messages, which programs put together, that no source has."""
    for message in messages(guide):
        for piece in re.split(r'[…;:,"]|-o \w+=', message):
            piece = piece.strip()
            known = piece in said or len(piece) < 6 or any(foreign in piece for foreign in FOREIGN)
            if not known:
                yield f"{message}: {piece}"


class Guide(unittest.TestCase):
    def setUp(self):
        self.guide = (ROOT / "docs/GUIDE.md").read_text(encoding="utf-8")
        self.said = all_literals(ROOT)

    def test_quotes_what_is_said(self):
        found = list(unknown(self.guide, self.said))
        self.assertEqual(found, [], "\n".join(found))
        self.assertGreater(len(list(messages(self.guide))), 50)

    def test_the_rule_finds_what_is_not_said(self):
        planted = self.guide.replace("too many sessions`", "too few sessions`")
        self.assertEqual(len(list(unknown(planted, self.said))), 1)


if __name__ == "__main__":
    unittest.main()
