#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds each manual page to its program's --help: every option, mount option and command is in both.

usage: test_manuals.py PROGRAM PAGE [PROGRAM PAGE]... [-- unittest's arguments]
"""
import re
import subprocess
import sys
import unittest
from pathlib import Path

PAIRS = []  # (program, page)

OPTION_LINE = re.compile(r"^ {1,8}(-{1,2}[a-zA-Z].*)$", re.M)
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
WORD_LINE = re.compile(r"^  ([a-z][\w-]*)(?:, [a-z]+)*(?:\[?=|\s{2,}|$)", re.M)


def options_of_help(text):
    found = set()
    for line in OPTION_LINE.findall(text):
        # The options come first; two blanks, or a placeholder in capitals, end them.
        found.update(OPTION.findall(re.split(r"\s{2,}| [A-Z]", line)[0]))
    for usage in re.findall(r"^Usage:(.*)$", text, re.M):
        found.update(OPTION.findall(usage))
    return found


def words_of_help(text):
    """Mount options and commands: lower-case words that begin a line of a list."""
    return set(WORD_LINE.findall(text))


def items_of_page(text):
    """(options, words) of the page's synopsis and lists, as mdoc(7) writes them: .Op Fl -option, .It Cm word"""
    options, words = set(), set()
    synopsis = re.search(r"^\.Sh SYNOPSIS$(.*?)^\.Sh ", text, re.M | re.S)
    lines = re.findall(r"^\.It (.*)$", text, re.M)
    for line in lines + (synopsis[1].splitlines() if synopsis else []):
        options.update("-" + name for name in re.findall(r"\bFl (-?[a-zA-Z][\w-]*)", line))
    words.update(line.split()[1] for line in lines if line.startswith("Cm "))
    return options, words


def help_of(program):
    texts = [subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout]
    if re.search(r"^(Subc|C)ommands:?$", texts[0], re.M | re.I):
        for command in sorted(words_of_help(texts[0])):
            run = subprocess.run([program, command, "--help"], capture_output=True, text=True, check=True)
            texts.append(run.stdout)
    return texts


def differences(help_texts, page):
    options = set().union(*(options_of_help(text) for text in help_texts))
    page_options, page_words = items_of_page(page)
    yield from (f"{name} is in --help only" for name in sorted(options - page_options))
    yield from (f"{name} is in the manual only" for name in sorted(page_options - options))
    words = words_of_help(help_texts[0])
    yield from (f"{name} is in --help only" for name in sorted(words - page_words))
    yield from (f"{name} is in the manual only" for name in sorted(page_words - words))


class Manuals(unittest.TestCase):
    def test_say_what_help_says(self):
        for program, page in PAIRS:
            with self.subTest(page):
                found = list(differences(help_of(program), Path(page).read_text(encoding="utf-8")))
                self.assertEqual(found, [], "\n".join(found))

    def test_the_rule_finds_what_is_missing(self):
        help_text = "Options:\n  -f, --foreground  stay\n  --level LEVEL  how much\n\nMount options:\n  soft     give up\n  wait[=S]   wait\n"
        page = ".It Fl f , Fl -foreground\n.It Fl -level Ns = Ns Ar level\n.It Cm soft\n.It Cm wait Ns Op = Ns Ar s\n"
        self.assertEqual(list(differences([help_text], page)), [])
        for gone in ("Fl f , ", ", Fl -foreground", "-level", ".It Cm soft\n", "wait"):
            self.assertNotEqual(list(differences([help_text], page.replace(gone, ""))), [], gone)
        for gone in ("-f, ", "--foreground", "  --level LEVEL", "  soft", "  wait[=S]"):
            self.assertNotEqual(list(differences([help_text.replace(gone, "")], page)), [], gone)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    PAIRS = list(zip(arguments[:end:2], arguments[1:end:2]))
    unittest.main(argv=sys.argv[:1] + arguments[end + 1 :])
